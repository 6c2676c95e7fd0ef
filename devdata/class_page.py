"""The class page: each student's text, words and time on task, live, from the external states of the reducers.

``/`` is the page, ``/class`` its data as JSON, ``/class/changes`` a stream of it: everything once, then only changes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from aiohttp import web

import learning_observer_kvs
from devdata.reducers import document_list, reconstruct, time_on_task
from learning_observer_kvs import queries
from learning_observer_kvs.debug.offload.frames import CHUNK
from learning_observer_kvs.debug.sending import send
from learning_observer_kvs.queries.changes import StateChanges
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, KeyStateType, make_key, parse_key

FILES = {'/': 'class.html', '/class.css': 'class.css', '/class.js': 'class.js'}

HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
}

MESSAGE_INTERVAL = 0.2
"""Seconds between two messages to a page; changes within them are sent together."""

KEEP_ALIVE = 15.0
"""Seconds without a change after which an empty comment is sent, to notice a closed connection."""

MAX_PAGES = 32
"""How many pages follow the changes at once."""

SEND_SECONDS = 10.0
"""How long a page may take for a message; one that does not read is disconnected."""

RETRY = b'retry: 1000\n\n'
"""Makes a browser reconnect one second after it lost the stream."""

Row = dict[str, Any]
"""Of one student: ``{'student', 'seconds', 'current': doc_id, 'documents': {doc_id: {'title', 'text', 'words'}}}``."""


SHOWN = (time_on_task, document_list, reconstruct)
"""The reducers whose states the page shows."""


class ClassPage:
    """The page and its data, as routes of an application that has the key-value store.

    Open pages are sent what changes, whichever process writes it.

    Args:
        app: the application to which the routes are added.
    """

    def __init__(self, app: web.Application) -> None:
        self._open: set[StateChanges] = set()
        for path, name in FILES.items():
            app.router.add_get(path, _file(name))
        app.router.add_get('/class', self.everything)
        app.router.add_get('/class/changes', self.changes, allow_head=False)
        app.on_shutdown.append(self._stop)

    async def everything(self, request: web.Request) -> web.StreamResponse:
        """Serve ``/class``: the data of all students as JSON.

        Args:
            request: the request.

        Returns:
            A list of :data:`Row`.
        """
        store = _store(request)
        text = await asyncio.to_thread(json.dumps, await rows(store, await students(store)))
        headers = {**HEADERS, 'Content-Type': 'application/json; charset=utf-8'}
        return await send(request, [text.encode()], status=200, headers=headers)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Serve ``/class/changes``: server-sent events, ``everything`` once, then ``changed`` at every change.

        Args:
            request: the request.

        Returns:
            The stream, when the page was closed or the server stops.

        Raises:
            web.HTTPServiceUnavailable: too many pages are open.
        """
        if len(self._open) >= MAX_PAGES:
            raise web.HTTPServiceUnavailable(text=f'{MAX_PAGES} class pages are open. Close some of them.')
        store = _store(request)
        changes = queries.changes(store, SHOWN)
        self._open.add(changes)
        try:
            async with changes:  # before the first read, so that no change is missed
                stream = web.StreamResponse(headers={**HEADERS, 'Content-Type': 'text/event-stream'})
                await stream.prepare(request)
                await _write(stream, RETRY)
                await self._follow(stream, store, changes)
        except (ConnectionResetError, StopAsyncIteration):
            pass  # the page was closed, or the server stops
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # the page does not read
        finally:
            self._open.discard(changes)
        return stream

    async def _follow(self, stream: web.StreamResponse, store: Store, changes: StateChanges) -> None:
        """Send everything, then what changes, until the server stops."""
        seen = {row['student']: row for row in await rows(store, await students(store))}
        await _send(stream, 'everything', list(seen.values()))
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    some = await changes.together()
            except TimeoutError:
                await _write(stream, b':\n\n')
                continue
            names = {change.student for change in some if change.student is not None}
            if any(change.kind == 'resync' for change in some):
                names = {*seen, *await students(store)}
            fresh = await rows(store, names)
            if changed := [part for row in fresh if (part := difference(seen.get(row['student']), row))]:
                await _send(stream, 'changed', changed)
            seen.update((row['student'], row) for row in fresh)
            await asyncio.sleep(MESSAGE_INTERVAL)

    async def _stop(self, app: web.Application) -> None:
        await asyncio.gather(*(changes.aclose() for changes in self._open))


async def students(store: Store) -> list[str]:
    """List the students who have a state, sorted.

    Args:
        store: where the states are.

    Returns:
        Their ids.
    """
    prefix = make_key(time_on_task, {}, KeyStateType.EXTERNAL) + ','
    parsed = [parse_key(key) for key in await store.keys(prefix)]
    return sorted(key.fields['STUDENT'] for key in parsed if key is not None)


async def rows(store: Store, names: Iterable[str]) -> list[Row]:
    """Read what the page shows of some students, in two round trips.

    Args:
        store: where the states are.
        names: the students' ids.

    Returns:
        A row for each of them, in their order.
    """
    names = list(names)
    keys = [
        make_key(reducer, {KeyField.STUDENT: name}, KeyStateType.EXTERNAL)
        for name in names
        for reducer in (time_on_task, document_list)
    ]
    states = await store.multiget(keys)
    found = [_row(*parts) for parts in zip(names, states[::2], states[1::2], strict=True)]
    documents = [(row['student'], doc_id, document) for row in found for doc_id, document in row['documents'].items()]
    keys = [
        make_key(reconstruct, {KeyField.STUDENT: name, EventField('doc_id'): doc_id}, KeyStateType.EXTERNAL)
        for name, doc_id, _ in documents
    ]
    for (_, _, document), state in zip(documents, await store.multiget(keys), strict=True):
        document['text'] = state['text'] if state else ''
        document['words'] = len(document['text'].split())
    return found


def _row(student: str, time: Any, documents: Any) -> Row:
    listed = documents or {'documents': {}, 'current': None}
    titles = {doc_id: {'title': document['title']} for doc_id, document in listed['documents'].items()}
    seconds = time['seconds'] if time else 0
    return {'student': student, 'seconds': seconds, 'current': listed['current'], 'documents': titles}


def difference(old: Row | None, new: Row) -> Row | None:
    """Return what must be sent to a page that has an old row.

    Args:
        old: the row that the page has; ``None`` if it has none of the student.
        new: the row now.

    Returns:
        The new row with only the documents that changed; ``None`` if nothing changed.
    """
    if old is None:
        return new
    if old == new:
        return None
    known = old['documents']
    return {**new, 'documents': {key: value for key, value in new['documents'].items() if known.get(key) != value}}


def _store(request: web.Request) -> Store:
    return request.config_dict[learning_observer_kvs.KVS_KEY]()


async def _send(stream: web.StreamResponse, kind: str, data: list[Row]) -> None:
    text = await asyncio.to_thread(json.dumps, data)
    await _write(stream, f'event: {kind}\ndata: {text}\n\n'.encode())


async def _write(stream: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        for start in range(0, len(data), CHUNK):
            await stream.write(data[start : start + CHUNK])


def _file(name: str) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    path = Path(__file__).with_name(name)

    async def handler(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=HEADERS)

    return handler
