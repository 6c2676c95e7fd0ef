"""The class page: each student's text, words and time on task, from the external states, while they write.

``/`` is the page, ``/class`` what it shows as JSON, ``/class/changes`` a stream of it: everything once, then only what
changed.
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

PACE = 0.2
"""Seconds between two messages to a page: what happens meanwhile goes in one."""

QUIET = 15.0
"""Seconds after which a page is sent an empty line, so that one that is gone is noticed."""

RETRY = b'retry: 1000\n\n'
"""Tells a browser to come back a second after it lost the stream."""

Row = dict[str, Any]
"""A student: ``{'student', 'seconds', 'current': doc_id, 'documents': {doc_id: {'title', 'text', 'words'}}}``."""


class Watcher:
    """A page that is open, and the students it has to be told of."""

    def __init__(self) -> None:
        self.students: set[str] = set()
        self.awake = asyncio.Event()


class ClassPage:
    """The page and its data, as routes of an application that has the key-value store.

    Pages that are open are told what this process takes in; what other processes write to the same store is there when
    a page is loaded.
    """

    def __init__(self, app: web.Application) -> None:
        self._watchers: set[Watcher] = set()
        self._stopped = False
        for path, name in FILES.items():
            app.router.add_get(path, _file(name))
        app.router.add_get('/class', self.everything)
        app.router.add_get('/class/changes', self.changes)
        app.on_shutdown.append(self._stop)

    def changed(self, student: str) -> None:
        """Tell every open page that a student has written."""
        for watcher in self._watchers:
            watcher.students.add(student)
            watcher.awake.set()

    async def everything(self, request: web.Request) -> web.Response:
        """``/class``: all students."""
        store = _store(request)
        return web.json_response(await rows(store, await students(store)), headers=HEADERS)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """``/class/changes``: server-sent events, ``everything`` once, then ``changed`` whenever something did."""
        store, watcher = _store(request), Watcher()
        self._watchers.add(watcher)  # before the first look, so that nothing is missed in between
        try:
            stream = web.StreamResponse(headers={**HEADERS, 'Content-Type': 'text/event-stream'})
            await stream.prepare(request)
            await stream.write(RETRY)
            seen = {row['student']: row for row in await rows(store, await students(store))}
            await _send(stream, 'everything', list(seen.values()))
            while not self._stopped:
                try:
                    await asyncio.wait_for(watcher.awake.wait(), QUIET)
                except TimeoutError:
                    await stream.write(b':\n\n')
                    continue
                watcher.awake.clear()
                named, watcher.students = watcher.students, set()
                fresh = await rows(store, named)
                if changed := [part for row in fresh if (part := difference(seen.get(row['student']), row))]:
                    await _send(stream, 'changed', changed)
                seen.update((row['student'], row) for row in fresh)
                await asyncio.sleep(PACE)
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            self._watchers.discard(watcher)
        return stream

    async def _stop(self, app: web.Application) -> None:
        self._stopped = True
        for watcher in self._watchers:
            watcher.awake.set()


async def students(store: Store) -> list[str]:
    """Everybody who has written, sorted."""
    prefix = make_key(time_on_task, {}, KeyStateType.EXTERNAL) + ','
    parsed = [parse_key(key) for key in await store.keys(prefix)]
    return sorted(key.fields['STUDENT'] for key in parsed if key is not None)


async def rows(store: Store, names: Iterable[str]) -> list[Row]:
    """What the page shows of some students, in two round trips."""
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
    """What a page that knows the old row has to be told: only the documents that changed; ``None`` for nothing."""
    if old is None:
        return new
    if old == new:
        return None
    known = old['documents']
    return {**new, 'documents': {key: value for key, value in new['documents'].items() if known.get(key) != value}}


def _store(request: web.Request) -> Store:
    return request.config_dict[learning_observer_kvs.KVS_KEY]()


async def _send(stream: web.StreamResponse, kind: str, data: list[Row]) -> None:
    await stream.write(f'event: {kind}\ndata: {json.dumps(data)}\n\n'.encode())


def _file(name: str) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    path = Path(__file__).with_name(name)

    async def handler(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=HEADERS)

    return handler
