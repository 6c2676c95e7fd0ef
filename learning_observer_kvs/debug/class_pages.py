"""The page of a class: chosen reducers and fields of its students, as they change."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from learning_observer_kvs.debug import answers, class_table, class_view, parameters, views
from learning_observer_kvs.debug.access import is_allowed
from learning_observer_kvs.debug.answers import Failure, Page, Parameters, in_time, wants_html
from learning_observer_kvs.debug.class_table import Chosen
from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.debug.streaming import Streaming, Watched


class ClassPages(Streaming):
    """The handlers of the page of a class."""

    async def class_table(self, request: web.Request) -> web.StreamResponse:
        """Serve the table of a class.

        Args:
            request: ``GET /debug/kvs/{store}/class?reducers=&fields=&state=&limit=&cursor=``.

        Returns:
            :func:`~learning_observer_kvs.debug.class_view.class_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', self._class)

    async def _class(self, request: web.Request, query: Parameters) -> Page:
        store, chosen, limit = request.match_info['store'], Chosen.of(query), parameters.limit_in(query)
        slow = f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'
        async with in_time(slow):
            table = await class_table.find_rows(self._router, store, chosen, query.get('cursor') or None, limit)
        if table.search.failed:
            raise Failure(503, table.search.failed[store])
        allowed = await self._readable(request, store, table.keys())
        async with in_time(slow):
            await class_table.read_states(views.store_of(self._router, store), table, allowed)
        self._seen(request, 'class', store=store, reducers=chosen.reducers, keys=list(table.texts))
        texts = table.texts
        values = await self._computed(request, texts.values(), class_view.values_of, texts, chosen.fields, self._mask)

        def view() -> dict[str, Any]:
            data = class_view.class_view(store, table, values)
            if wants_html(request, query):
                return data | {'columns': class_view.columns(data)}
            return class_view.as_json(data)

        return Page('class.html', view)

    async def _readable(self, request: web.Request, store: str, keys: list[str]) -> set[str]:
        async with self._authorizing():
            return {key for key in keys if await is_allowed(self._authorize, request, 'read', store, key)}

    async def class_changes(self, request: web.Request) -> web.StreamResponse:
        """Serve a stream of server-sent events that says when a state of a class changes.

        Args:
            request: ``GET /debug/kvs/{store}/class/changes?reducers=&state=``.

        Returns:
            The stream, see :class:`~learning_observer_kvs.debug.live.Streams`; or an error as JSON.
        """
        return await self._stream(request, 'list', _watched)


def _watched(query: Parameters) -> Watched:
    chosen = Chosen.of(query)
    if not chosen.reducers:
        raise BadParameters('reducers is empty; give the reducers to look for.')
    return chosen.prefixes, chosen.has
