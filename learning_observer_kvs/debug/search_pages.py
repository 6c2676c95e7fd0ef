"""The pages that search the keys of stores: by a name, by what a state is of, by reducer."""

from __future__ import annotations

import functools
from typing import Literal

from aiohttp import web

from learning_observer_kvs.debug import answers, find, parameters, states
from learning_observer_kvs.debug.answering import Answering
from learning_observer_kvs.debug.answers import Failure, Page, Parameters, in_time
from learning_observer_kvs.debug.keys import facets
from learning_observer_kvs.debug.reducer_facts import reducer_facts


class SearchPages(Answering):
    """The handlers of these pages."""

    async def find(self, request: web.Request) -> web.StreamResponse:
        """Serve what has a text in its name: students, documents, reducers and keys of all stores.

        Args:
            request: ``GET /debug/kvs/stores/find?text=&cursor=``.

        Returns:
            :func:`~learning_observer_kvs.debug.find.find_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', self._find)

    async def _find(self, request: web.Request, query: Parameters, allowed: list[str], refused: list[str]) -> Page:
        text = parameters.text_in(query, 'text')
        async with in_time(f'The stores did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await find.find(self._router, allowed, text, query.get('cursor') or None)
        self._seen(request, 'find', text=text, keys=len(found.keys))
        return Page('find.html', lambda: find.find_view(found, refused))

    async def student(self, request: web.Request) -> web.StreamResponse:
        """Serve what all stores have of a student.

        Args:
            request: ``GET /debug/kvs/stores/student?student=&cursor=&limit=``.

        Returns:
            :func:`~learning_observer_kvs.debug.states.student_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', functools.partial(self._states_with, 'student'))

    async def document(self, request: web.Request) -> web.StreamResponse:
        """Serve what all stores have of a document.

        Args:
            request: ``GET /debug/kvs/stores/document?document=&cursor=&limit=``.

        Returns:
            :func:`~learning_observer_kvs.debug.states.document_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', functools.partial(self._states_with, 'document'))

    async def _states_with(
        self,
        field: Literal['student', 'document'],
        request: web.Request,
        query: Parameters,
        allowed: list[str],
        refused: list[str],
    ) -> Page:
        value, limit = parameters.text_in(query, field), parameters.limit_in(query)
        async with in_time(f'The stores did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await states.states_with(self._router, allowed, field, value, query.get('cursor') or None, limit)
        self._seen(request, field, **{field: value}, keys=found.shown)
        view = states.student_view if field == 'student' else states.document_view
        return Page('states.html', lambda: view(value, found, refused), {'field': field, 'value': value})

    async def reducer(self, request: web.Request) -> web.StreamResponse:
        """Serve the states of a reducer in one store.

        Args:
            request: ``GET /debug/kvs/{store}/reducer?reducer=&cursor=&limit=``.

        Returns:
            :func:`~learning_observer_kvs.debug.states.reducer_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', self._reducer)

    async def _reducer(self, request: web.Request, query: Parameters) -> Page:
        store, name, limit = (
            request.match_info['store'],
            parameters.text_in(query, 'reducer'),
            parameters.limit_in(query),
        )
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await states.states_by(self._router, store, name, query.get('cursor') or None, limit)
        if found.search.failed:
            raise Failure(503, found.search.failed[store])
        self._seen(request, 'reducer', store=store, reducer=name, keys=found.shown)
        facts = reducer_facts(self._router[store], name)
        return Page(
            'states.html', lambda: states.reducer_view(store, name, facts, found), {'field': 'reducer', 'value': name}
        )

    async def reducers(self, request: web.Request) -> web.StreamResponse:
        """Serve the reducers of a store, with the counts of their states.

        Args:
            request: ``GET /debug/kvs/{store}/reducers?cursor=``.

        Returns:
            :func:`~learning_observer_kvs.debug.keys.facets.facets_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', self._reducers)

    async def _reducers(self, request: web.Request, query: Parameters) -> Page:
        store = request.match_info['store']
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await facets.facets(self._router, store, query.get('cursor') or None)
        if found.search.failed:
            raise Failure(503, found.search.failed[store])
        self._seen(request, 'reducers', store=store)
        return Page('reducers.html', lambda: facets.facets_view(found))
