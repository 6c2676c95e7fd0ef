"""The demo server: processes events of students who write, and shows the states to their teacher.

    python -m devdata.server

Browsers send events to ``/wsapi/in/``; the class page is at ``/``, every key at ``/debug/kvs``. The states are kept in
``.lo_kvs`` in the working directory. There is no log-in, so it serves this machine only.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Handler

import learning_observer_kvs
from devdata import protocol
from devdata.class_page import ClassPage
from devdata.reducers import REDUCERS
from learning_observer_kvs import failed_events
from learning_observer_kvs.debug.access import is_local
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.event_pipeline import EventPipeline, Outcome, event_pipeline
from learning_observer_kvs.stream_analytics.helpers import Pipeline, fully_qualified_function_name

log = logging.getLogger(__name__)

CREDS = Path(__file__).with_name('creds.yaml')
STATE = Path('.lo_kvs')
"""The directory in which ``creds.yaml`` keeps everything, relative to the working directory."""

MAX_MESSAGE_BYTES = 32 << 20
"""The largest message; the whole history of a document is sent in one."""


def make_app(
    config: str | os.PathLike[str] | Mapping[str, Any] = CREDS,
    *,
    reducers: Sequence[Pipeline] = REDUCERS,
) -> web.Application:
    """Make the server's application.

    Args:
        config: the settings of the key-value store.
        reducers: the reducers that process every event.

    Returns:
        The application, not started.
    """
    app = web.Application(middlewares=[this_machine_only])
    learning_observer_kvs.setup(app, config)
    app.cleanup_ctx.append(learning_observer_kvs.calm_collector)
    ClassPage(app)
    intake = Intake(reducers, app[learning_observer_kvs.KVS_KEY])
    app.router.add_get('/wsapi/in/', intake.connection, allow_head=False)
    app.on_shutdown.append(intake.close)
    return app


@web.middleware
async def this_machine_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Reject requests of other machines, and of pages of other sites: a browser lets any page open a WebSocket.

    Args:
        request: the request.
        handler: handles it.

    Returns:
        The handler's response.

    Raises:
        web.HTTPForbidden: the request is not from this machine, or from a page of another site.
    """
    if not is_local(request):
        raise web.HTTPForbidden(text='The demo serves this machine only, and no pages of other sites.')
    return await handler(request)


class Intake:
    """Receives the events of browsers and gives them to the reducers.

    Args:
        reducers: the reducers that process every event.
        router: the stores; the default one says where events are kept that a reducer failed on.
    """

    def __init__(self, reducers: Sequence[Pipeline], router: KVSRouter) -> None:
        self._reducers = reducers
        self._router = router
        self._open: set[web.WebSocketResponse] = set()

    async def connection(self, request: web.Request) -> web.WebSocketResponse:
        """Serve ``/wsapi/in/``: process the events of one browser, one after the other.

        Args:
            request: the request.

        Returns:
            The websocket, closed.
        """
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        self._open.add(socket)
        try:
            await self._listen(socket, request)
            await socket.close()
        except protocol.BadMessage as error:
            log.warning('A connection was closed because of an invalid message: %s', error)
            await socket.close(code=WSCloseCode.INVALID_TEXT, message=str(error).encode()[:120])
        except OSError as error:
            log.critical('An event could be neither processed nor kept; its connection was closed: %s', error)
            await socket.close(code=WSCloseCode.INTERNAL_ERROR, message=b'The event could not be stored.')
        finally:
            self._open.discard(socket)
        return socket

    async def _listen(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        locked: dict[str, Any] = {}  # the first value of a field stays
        student: str | None = None
        pipeline: EventPipeline | None = None
        async for message in socket:
            client = protocol.read(message)
            if client['event'] == 'terminate':
                return
            if client['event'] == 'lock_fields':
                locked = {**client.get('fields', {}), **locked}
                continue
            event = protocol.full_event({**client, **locked, 'event': client['event']}, request)
            if pipeline is None or student != protocol.student_of(event):
                student = protocol.student_of(event)
                pipeline = await event_pipeline(self._reducers, event['metadata'], router=self._router)
            await self._process(event, student, pipeline)

    async def _process(self, event: dict[str, Any], student: str, pipeline: EventPipeline) -> None:
        """Take an event through the reducers; if one fails, keep the event for a replay of that reducer."""
        for outcome in await pipeline.outcomes(event):
            if outcome.error is not None:
                self._keep(event, student, outcome, outcome.error)

    def _keep(self, event: dict[str, Any], student: str, outcome: Outcome, error: Exception) -> None:
        name, folder = outcome.reducer_name, self._router().failed_events
        path = failed_events.record(event, error, reducer=name, keys=outcome.keys, folder=folder)
        reducer = next(each for each in self._reducers if fully_qualified_function_name(each) == name)
        log.error(
            'The reducer %s failed on an event of %s. The event is kept in %s. When the reducer is fixed, run '
            'lo-kvs replay %s --reducer %s:%s --config creds.yaml.',
            *(name, student, path, folder, reducer.__module__, reducer.__qualname__),
            exc_info=error,
        )

    async def close(self, app: web.Application) -> None:
        """Close all connections, with the code "going away"; an ``on_shutdown`` handler.

        Args:
            app: the application.
        """
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open))


if __name__ == '__main__':
    web.run_app(make_app(), host='127.0.0.1', port=8888)
