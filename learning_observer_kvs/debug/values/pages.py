"""The pages of one value: it, beside the other state of its reducer; its parts; what is found in it; its JSON alone."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from aiohttp import web

from learning_observer_kvs.debug import answers, parameters, paths, views
from learning_observer_kvs.debug.access import is_allowed
from learning_observer_kvs.debug.answers import File, Page, Parameters, in_time, wants_html
from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.debug.streaming import Streaming, Watched
from learning_observer_kvs.debug.values import views as value_views
from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.keys import check_key


class ValuePages(Streaming):
    """The handlers of the pages of one value."""

    async def value(self, request: web.Request) -> web.StreamResponse:
        """Serve a value.

        Args:
            request: ``GET /debug/kvs/{store}/key?key=``.

        Returns:
            :func:`~learning_observer_kvs.debug.values.views.json_body` as JSON, or
            :func:`~learning_observer_kvs.debug.values.views.page_view` as HTML, or an error.
        """
        return await self._answer(request, 'read', self._value)

    async def _value(self, request: web.Request, query: Parameters) -> Page | File:
        found = await self._with_counterpart(request, await self._read(request, query, True))
        if not wants_html(request, query):
            return File('application/json', lambda: value_views.json_body(found, self._mask))
        other = await self._other(request, found)
        return Page('value.html', lambda: value_views.page_view(found, other, self._mask))

    async def part(self, request: web.Request) -> web.StreamResponse:
        """Serve a part of a value: the next of its items, or of its characters.

        Args:
            request: ``GET /debug/kvs/{store}/part?key=&path=&start=&beside=``.

        Returns:
            :func:`~learning_observer_kvs.debug.values.views.part_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'read', self._part)

    async def _part(self, request: web.Request, query: Parameters) -> Page:
        path, start = paths.path_in(query.get('path', '')), _start_in(query)
        is_beside = wants_html(request, query) and query.get('beside') == '1'
        found = await self._read(request, query, is_beside, path=paths.shown(path)[:200])
        other = await self._other(request, await self._with_counterpart(request, found)) if is_beside else None

        def view() -> dict[str, Any]:
            part = value_views.part_view(found, other, path, start, self._mask)
            return part if wants_html(request, query) else part | {'node': part['node'].as_json()}

        return Page('part.html', view, {'is_compared': other is not None})

    async def matches(self, request: web.Request) -> web.StreamResponse:
        """Serve where a value has a text.

        Args:
            request: ``GET /debug/kvs/{store}/matches?key=&text=``.

        Returns:
            :func:`~learning_observer_kvs.debug.values.views.matches_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'read', self._matches)

    async def _matches(self, request: web.Request, query: Parameters) -> Page:
        text = parameters.text_in(query, 'text')
        found = await self._read(request, query, text=text)
        return Page('matches.html', lambda: value_views.matches_view(found, text, self._mask))

    async def raw(self, request: web.Request) -> web.StreamResponse:
        """Serve the JSON text of a value, or of a part of it, and nothing else; or the same as a file to save.

        Args:
            request: ``GET /debug/kvs/{store}/raw?key=&path=&download=``.

        Returns:
            :func:`~learning_observer_kvs.debug.values.views.raw`, or an error.
        """
        return await self._answer(request, 'read', self._raw)

    async def _raw(self, request: web.Request, query: Parameters) -> File:
        path = paths.path_in(query.get('path', ''))
        found = await self._read(request, query, path=paths.shown(path)[:200])
        name = f'{found.key}.json' if query.get('download') == '1' else ''
        return File('application/json', lambda: value_views.raw(found, path, self._mask), name)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Serve a stream of server-sent events that says when a value changes.

        Args:
            request: ``GET /debug/kvs/{store}/changes?key=``.

        Returns:
            The stream, see :class:`~learning_observer_kvs.debug.live.Streams`; or an error as JSON.
        """
        return await self._stream(request, 'read', _watched)

    async def _read(
        self, request: web.Request, query: Parameters, with_counterpart: bool = False, **what: str
    ) -> views.Found:
        """The value that a request is about, noted for the audit."""
        store, key = request.match_info['store'], query.get('key', '')
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await views.read_value(self._router, store, key, with_counterpart=with_counterpart)
        self._seen(request, 'value', store=store, key=key, **what)
        return found

    async def _with_counterpart(self, request: web.Request, found: views.Found) -> views.Found:
        """The value; without its counterpart where the request may not read that, nor learn that it is there."""
        if found.counterpart is not None:
            with contextlib.suppress(web.HTTPException, answers.Failure):  # a redirect is for a page of its own
                async with self._authorizing():
                    if await is_allowed(self._authorize, request, 'read', found.name, found.counterpart):
                        return found
        return found._replace(counterpart=None)

    async def _other(self, request: web.Request, found: views.Found) -> views.Found | None:
        """The other state of the same reducer; ``None`` where there is none, or none that can be read."""
        if found.counterpart is None:
            return None
        try:
            async with in_time(f'Store {found.name!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
                other = await views.read_counterpart(found)
        except (views.NotFound, KVSError, answers.Failure):
            return None  # it has a page of its own, which says why
        self._seen(request, 'value', store=found.name, key=other.key)
        return other


def _start_in(query: Parameters) -> int:
    text = query.get('start', '0')
    if not re.fullmatch('[0-9]{1,9}', text):
        raise BadParameters('start is not a position; give a number from 0.')
    return int(text)


def _watched(query: Parameters) -> Watched:
    key = check_key(query.get('key', ''))
    return [key], lambda changed: changed == key
