"""Streams of server-sent events that say when a key changes; the page then reads the value again, as at first.

A stream has no data: what is shown is authorized, masked and noted each time. Streams are few, end when the server
stops, and end by themselves after a while: the browser comes again, and is authorized again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack

from aiohttp import web

from learning_observer_kvs.debug import answers
from learning_observer_kvs.debug.answers import in_time
from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.changes import Changes

MAX_STREAMS = 200
"""How many streams there are at once."""

MAX_STREAMS_OF_ONE_CLIENT = 50
"""Behind a proxy all viewers are one client."""

STREAM_SECONDS = 300.0
"""How long a stream lasts."""

PAUSE_SECONDS = 0.2
"""How long after an event the next one is sent at the earliest; what changes meanwhile is one event."""

BUSY_PAUSE_SECONDS = 0.5
"""The same while the event loop is busy: each event has the page read the value again."""

LOOK_SECONDS = 2.0
"""How often a stream looks whether its reader has gone, while nothing changes."""

BEAT_SECONDS = 15.0
"""How often something is sent while nothing changes, so that no proxy takes the connection for a dead one."""

SEND_SECONDS = 5.0
"""How long a reader may take for an event."""


class Streams:
    """The streams that are open.

    Args:
        is_busy: whether the event loop has much to do besides pages.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._open: dict[asyncio.Timeout, str] = {}
        self._has_ended = False

    async def end(self, app: web.Application) -> None:
        """End all streams; an ``on_shutdown`` handler.

        Args:
            app: the application that stops.
        """
        self._has_ended = True
        for stream in self._open:
            stream.reschedule(asyncio.get_running_loop().time())

    async def serve(
        self,
        request: web.Request,
        store: Store,
        prefixes: Collection[str],
        is_meant: Callable[[str], bool],
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Send an event whenever a key changes: until the reader goes, the server stops, or ``STREAM_SECONDS`` end.

        Args:
            request: the request, authorized.
            store: the store.
            prefixes: what the keys begin with.
            is_meant: whether a key that begins so is one of them.
            headers: the headers of the response.

        Returns:
            The response, sent.

        Raises:
            Overloaded: there are too many streams.
            InvalidKey: no store accepts such a key.
            StoreUnavailable: the changes cannot be seen.
            Failure: the store did not answer.
        """
        client = request.remote or ''
        if len(self._open) >= MAX_STREAMS or Counter(self._open.values())[client] >= MAX_STREAMS_OF_ONE_CLIENT:
            raise Overloaded('Too many pages are open that show changes. Close some, or reload the page later.')
        if self._has_ended:
            raise StoreUnavailable('The server stops.', retry=True)
        response = web.StreamResponse(headers=headers)
        stream = asyncio.timeout(STREAM_SECONDS)
        try:
            async with stream, AsyncExitStack() as until_end:
                self._open[stream] = client
                async with in_time(
                    f'Store {request.match_info["store"]!r} did not answer within {answers.PAGE_SECONDS:g} s.'
                ):
                    changes = await until_end.enter_async_context(store.changes(prefixes))
                await response.prepare(request)
                await self._send_all(request, response, changes, is_meant)
        except TimeoutError:
            if not stream.expired() and request.transport is not None:
                request.transport.abort()  # the reader does not read
        except ConnectionResetError:
            pass  # the reader has gone
        finally:
            del self._open[stream]
        return response

    async def _send_all(
        self, request: web.Request, response: web.StreamResponse, changes: Changes, is_meant: Callable[[str], bool]
    ) -> None:
        await _send(response, b'retry: 1000\nevent: opened\ndata:\n\n')
        beat = time.monotonic()
        while request.transport is not None:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    some = await changes.together()
                has_changed = any(change.kind == 'resync' or is_meant(change.key) for change in some)
            except TimeoutError:
                if time.monotonic() - beat < BEAT_SECONDS:
                    continue
                await _send(response, b':\n\n')
            except StopAsyncIteration:
                return  # the store was closed
            except StoreUnavailable:
                await _send(response, b'event: lost\ndata:\n\n')
                return
            else:
                if not has_changed:
                    continue
                await _send(response, b'event: changed\ndata:\n\n')
                await asyncio.sleep(BUSY_PAUSE_SECONDS if self._is_busy() else PAUSE_SECONDS)
            beat = time.monotonic()


async def _send(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await response.write(text)
