"""The pages of one value: it, beside the other state of its reducer; its parts; what is found in it; its JSON alone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiohttp import web

from learning_observer_kvs.debug import answers, parameters, paths, views
from learning_observer_kvs.debug.access import is_allowed
from learning_observer_kvs.debug.answers import File, Page, Parameters, in_time, wants_html
from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.debug.streaming import Streaming, Watched
from learning_observer_kvs.debug.values import computing
from learning_observer_kvs.debug.values import views as value_views
from learning_observer_kvs.errors import CorruptValue, KVSError
from learning_observer_kvs.stores.keys import check_key

T = TypeVar('T')


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
        mask = self._mask
        if not wants_html(request, query):
            shown: tuple[list[bytes], bool] | CorruptValue
            try:
                [text] = _texts(found)
                shown = await self._computed(request, [text], computing.masked_json, found.key, text, mask)
            except CorruptValue as error:
                shown = error
            return File('application/json', lambda: value_views.json_body(found, shown, mask))
        other = await self._other(request, found)
        sides = [found] if other is None else [found, other]
        stored = [(side.key, side.shown) for side in sides if side.shown is not None]
        nodes, is_compared = await self._computed(request, [text for _, text in stored], computing.opened, stored, mask)
        roots = [value_views.too_large(side) or nodes.pop(0) for side in sides]
        beside = None if other is None else (other, roots[1])
        return Page(
            'value.html', lambda: value_views.page_view(found, roots[0], beside, mask), {'is_compared': is_compared}
        )

    async def part(self, request: web.Request) -> web.StreamResponse:
        """Serve a part of a value: the next of its items, or of its characters.

        Args:
            request: ``GET /debug/kvs/{store}/part?key=&path=&start=&beside=``.

        Returns:
            ``{'store', 'key', 'path', 'node'}`` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'read', self._part)

    async def _part(self, request: web.Request, query: Parameters) -> Page:
        path, start = paths.path_in(query.get('path', '')), _start_in(query)
        is_html = wants_html(request, query)
        is_beside = is_html and query.get('beside') == '1'
        found = await self._read(request, query, is_beside, path=paths.shown(path)[:200])
        other = await self._other(request, await self._with_counterpart(request, found)) if is_beside else None
        texts = _texts(found)
        beside = None
        if other is not None and other.shown is not None:
            beside = other.key, other.shown
            texts.append(other.shown)
        node = await self._located(found, request, texts, computing.part, (found.key, texts[0]), beside, path, start)
        view = {'store': found.name, 'key': found.key, 'path': list(path)}
        return Page(
            'part.html',
            lambda: view | {'node': node if is_html else node.as_json()},
            {'is_compared': other is not None},
        )

    async def matches(self, request: web.Request) -> web.StreamResponse:
        """Serve where a value has a text.

        Args:
            request: ``GET /debug/kvs/{store}/matches?key=&text=``.

        Returns:
            ``{'store', 'key', 'text', 'matches', 'is_complete'}`` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'read', self._matches)

    async def _matches(self, request: web.Request, query: Parameters) -> Page:
        text = parameters.text_in(query, 'text')
        found = await self._read(request, query, text=text)
        [stored] = _texts(found)
        some, is_complete = await self._located(found, request, [stored], computing.matches, (found.key, stored), text)
        view = {'store': found.name, 'key': found.key, 'text': text, 'matches': some, 'is_complete': is_complete}
        return Page('matches.html', lambda: view)

    async def raw(self, request: web.Request) -> web.StreamResponse:
        """Serve the JSON text of a value, or of a part of it, and nothing else; or the same as a file to save.

        Args:
            request: ``GET /debug/kvs/{store}/raw?key=&path=&download=``.

        Returns:
            :func:`~learning_observer_kvs.debug.values.computing.raw`, or an error.
        """
        return await self._answer(request, 'read', self._raw)

    async def _raw(self, request: web.Request, query: Parameters) -> File:
        path = paths.path_in(query.get('path', ''))
        found = await self._read(request, query, path=paths.shown(path)[:200])
        name = f'{found.key}.json' if query.get('download') == '1' else ''
        [text] = _texts(found)
        chunks = await self._located(found, request, [text], computing.raw, (found.key, text), path)
        return File('application/json', lambda: chunks, name)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Serve a stream of server-sent events that says when a value changes.

        Args:
            request: ``GET /debug/kvs/{store}/changes?key=``.

        Returns:
            The stream, see :class:`~learning_observer_kvs.debug.live.Streams`; or an error as JSON.
        """
        return await self._stream(request, 'read', _watched)

    async def _located(
        self,
        found: views.Found,
        request: web.Request,
        texts: Sequence[bytes],
        function: Callable[..., T],
        *arguments: Any,
    ) -> T:
        """What is computed of a value and the mask; an error with where the value is stored."""
        try:
            return await self._computed(request, texts, function, *arguments, self._mask)
        except CorruptValue as error:
            raise value_views.located(found, error) from None

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


def _texts(found: views.Found) -> list[bytes]:
    """The text of a value, in a list; an error if it is too large."""
    if (error := value_views.too_large(found)) is not None:
        raise error
    return [] if found.shown is None else [found.shown]


def _start_in(query: Parameters) -> int:
    text = query.get('start', '0')
    if not re.fullmatch('[0-9]{1,9}', text):
        raise BadParameters('start is not a position; give a number from 0.')
    return int(text)


def _watched(query: Parameters) -> Watched:
    key = check_key(query.get('key', ''))
    return [key], lambda changed: changed == key
