"""The routes of ``/debug/kvs``: each authorizes the request and serves a view, as JSON or HTML by the same URL."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from aiohttp import web

from learning_observer_kvs import audit
from learning_observer_kvs.config.layers import option_in
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.debug import answers, facets, find, overview, parameters, states, views
from learning_observer_kvs.debug.access import VIEWER_KEY, Authorize, is_allowed
from learning_observer_kvs.debug.answers import (
    HEADERS,
    HTML,
    Failure,
    Page,
    Parameters,
    Resource,
    error_page,
    headers_of,
    in_time,
    static_file,
    status_of,
    wants_html,
)
from learning_observer_kvs.debug.live import Streams
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.rendering import Templates, as_json
from learning_observer_kvs.debug.sending import Viewers, send
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, run_mode
from learning_observer_kvs.stores.keys import check_key

log = logging.getLogger('learning_observer_kvs')

MAX_VIEWERS = 8
"""How many pages are made and sent at once; an answer that fits ``SMALL_BYTES`` only while it is made."""

MAX_VIEWERS_OF_ONE_CLIENT = 4

SMALL_BYTES = 1 << 16
"""The largest answer that is sent without counting its reader: a connection buffers as much."""

FORBIDDEN = (
    'You may not read this page. Without an authorize function these pages are served to this machine only, in '
    'run_mode: dev. To allow others, give one: learning_observer_kvs.setup(app, config, authorize=...).'
)

STATIC = {'kvs.css': 'text/css', 'live.js': 'text/javascript', 'icon.svg': 'image/svg+xml'}
"""The content type of each file that pages load."""

SHOWING = ('GET', 'HEAD')
SHOWING_AND_POST = (*SHOWING, 'POST')
"""Of pages whose parameters may be too long for a URL."""

BUSY = 'Too many pages are being read. Retry in a few seconds.'

Handler = Callable[[web.Request, Parameters], Awaitable[Page]]


class Pages:
    """The routes and their handlers. Until :meth:`open` every request to them is answered with 404.

    Args:
        app: the application to which the routes are added; it must not be frozen.
        router: the stores that the pages show.

    Attributes:
        is_open: whether the pages are served.

    Raises:
        RuntimeError: the application is frozen; one that is mounted below another is frozen before it starts.
    """

    def __init__(self, app: web.Application, router: KVSRouter) -> None:
        self._app = app
        self._router = router
        self._templates = Templates(self._url)
        self._viewers = Viewers(MAX_VIEWERS, MAX_VIEWERS_OF_ONE_CLIENT)
        self._thread = ThreadPoolExecutor(1, 'kvs-debug')  # one decoded value in memory at a time
        self._streams = Streams()
        app.on_shutdown.append(self._streams.end)
        app.on_cleanup.append(self._close)
        self._authorize: Authorize | None = None
        self._audit = contextlib.ExitStack()
        self._mask = Mask()
        self.is_open = False
        for path, name, handler, methods in (
            ('/debug/kvs', 'kvs_debug', self.stores, SHOWING),
            ('/debug/kvs/stores/find', 'kvs_debug_find', self.find, SHOWING_AND_POST),
            ('/debug/kvs/stores/student', 'kvs_debug_student', self.student, SHOWING_AND_POST),
            ('/debug/kvs/stores/document', 'kvs_debug_document', self.document, SHOWING_AND_POST),
            ('/debug/kvs/{store}', 'kvs_debug_store', self.keys, SHOWING_AND_POST),
            ('/debug/kvs/{store}/reducers', 'kvs_debug_reducers', self.reducers, SHOWING_AND_POST),
            ('/debug/kvs/{store}/reducer', 'kvs_debug_reducer', self.reducer, SHOWING_AND_POST),
            ('/debug/kvs/{store}/key', 'kvs_debug_key', self.value, SHOWING_AND_POST),
        ):
            self._add(path, name, handler, methods)
            with_slash = Resource(lambda: self.is_open, path + '/', name=name + '_slash')
            app.router.register_resource(with_slash)
            with_slash.add_route('*', functools.partial(self.without_slash, name))
        self._add('/debug/kvs/{store}/changes', 'kvs_debug_changes', self.changes, ('GET',))
        for file in STATIC:
            self._add(f'/debug/kvs/static/{file}', f'kvs_debug_{file}', functools.partial(self.static, file), SHOWING)

    def open(self, authorize: Authorize | None, settings: Settings) -> None:
        """Serve the pages from now on, if access to them is restricted; else log a warning.

        Args:
            authorize: decides who may read them. Without it they are served in ``run_mode: dev`` only, to this
                machine only.
            settings: the settings, for the run mode, ``kvs_debug.masked`` and ``privacy.audit``.

        Raises:
            OSError: the file of the audit cannot be opened.
        """
        self._authorize = authorize
        self._mask = Mask.of(settings)
        self._templates.server = overview.server_view(settings)
        self.is_open = authorize is not None or run_mode(settings) == 'dev'
        if self.is_open and (path := option_in(settings, 'privacy', 'audit')):
            self._audit.enter_context(audit.kept_in(absolute(path)))
        if not self.is_open:
            log.warning(
                '/debug/kvs is not served: outside run_mode: dev it needs an authorize function that decides who may '
                'read it. Give one to learning_observer_kvs.setup(app, config, authorize=...), or name it in '
                'kvs_debug.authorize.'
            )

    async def stores(self, request: web.Request) -> web.StreamResponse:
        """Serve the list of stores.

        Args:
            request: ``GET /debug/kvs``.

        Returns:
            :func:`~learning_observer_kvs.debug.overview.stores_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, self._stores)

    async def _stores(self, request: web.Request, query: Parameters) -> Page:
        allowed, refused = await self._listable(request)
        async with in_time(f'The stores did not answer within {answers.PAGE_SECONDS:g} s.'):
            data = await overview.stores_view(self._router, self._templates.server, allowed, refused)
        return Page('stores.html', lambda: data)

    async def keys(self, request: web.Request) -> web.StreamResponse:
        """Serve a page of keys.

        Args:
            request: ``GET /debug/kvs/{store}?prefix=&cursor=&limit=``; the limit is 100 by default.

        Returns:
            :func:`~learning_observer_kvs.debug.views.keys_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, self._keys)

    async def _keys(self, request: web.Request, query: Parameters) -> Page:
        store = request.match_info['store']
        await self._authorized(request, 'list', store, None)
        limit = parameters.limit_in(query)
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            page = await views.read_keys(
                self._router, store, query.get('prefix', ''), query.get('cursor') or None, limit
            )
        self._seen(request, 'keys', store=store, prefix=query.get('prefix', ''), keys=len(page.keys))
        return Page('keys.html', functools.partial(views.keys_view, page))

    async def value(self, request: web.Request) -> web.StreamResponse:
        """Serve a value.

        Args:
            request: ``GET /debug/kvs/{store}/key?key=``.

        Returns:
            :func:`~learning_observer_kvs.debug.views.value_view`, masked, as JSON or HTML, or an error.
        """
        return await self._answer(request, self._value)

    async def _value(self, request: web.Request, query: Parameters) -> Page:
        store, key = request.match_info['store'], query.get('key', '')
        await self._authorized(request, 'read', store, key)
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await views.read_value(self._router, store, key)
        self._seen(request, 'value', store=store, key=key)
        return Page('value.html', lambda: self._mask.applied_to(views.value_view(found)))

    async def find(self, request: web.Request) -> web.StreamResponse:
        """Serve what has a text in its name: students, documents, reducers and keys of all stores.

        Args:
            request: ``GET /debug/kvs/stores/find?text=&cursor=``.

        Returns:
            :func:`~learning_observer_kvs.debug.find.find_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, self._find)

    async def _find(self, request: web.Request, query: Parameters) -> Page:
        text = parameters.text_in(query, 'text')
        allowed, refused = await self._listable(request)
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
        return await self._answer(request, functools.partial(self._states_with, 'student'))

    async def document(self, request: web.Request) -> web.StreamResponse:
        """Serve what all stores have of a document.

        Args:
            request: ``GET /debug/kvs/stores/document?document=&cursor=&limit=``.

        Returns:
            :func:`~learning_observer_kvs.debug.states.document_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, functools.partial(self._states_with, 'document'))

    async def _states_with(
        self, field: Literal['student', 'document'], request: web.Request, query: Parameters
    ) -> Page:
        value, limit = parameters.text_in(query, field), parameters.limit_in(query)
        allowed, refused = await self._listable(request)
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
        return await self._answer(request, self._reducer)

    async def _reducer(self, request: web.Request, query: Parameters) -> Page:
        store, name, limit = (
            request.match_info['store'],
            parameters.text_in(query, 'reducer'),
            parameters.limit_in(query),
        )
        await self._authorized(request, 'list', store, None)
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await states.states_by(self._router, store, name, query.get('cursor') or None, limit)
        if found.search.failed:
            raise Failure(503, found.search.failed[store])
        self._seen(request, 'reducer', store=store, reducer=name, keys=found.shown)
        return Page('states.html', lambda: states.reducer_view(store, name, found), {'field': 'reducer', 'value': name})

    async def reducers(self, request: web.Request) -> web.StreamResponse:
        """Serve the reducers of a store, with the counts of their states.

        Args:
            request: ``GET /debug/kvs/{store}/reducers?cursor=``.

        Returns:
            :func:`~learning_observer_kvs.debug.facets.facets_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, self._reducers)

    async def _reducers(self, request: web.Request, query: Parameters) -> Page:
        store = request.match_info['store']
        await self._authorized(request, 'list', store, None)
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            found = await facets.facets(self._router, store, query.get('cursor') or None)
        if found.search.failed:
            raise Failure(503, found.search.failed[store])
        self._seen(request, 'reducers', store=store)
        return Page('reducers.html', lambda: facets.facets_view(found))

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Serve a stream of server-sent events that says when a value changes.

        Args:
            request: ``GET /debug/kvs/{store}/changes?key=``.

        Returns:
            The stream, see :class:`~learning_observer_kvs.debug.live.Streams`; or an error as JSON.
        """
        try:
            query = await parameters.read(request)
            store, key = request.match_info['store'], query.get('key', '')
            await self._authorized(request, 'read', store, key)
            stream = headers_of('text/event-stream')
            return await self._streams.serve(request, views.store_of(self._router, store), check_key(key), stream)
        except web.HTTPException:
            raise
        except Exception as error:
            status, text = _noted(request, error)
            busy = {'Retry-After': '10'} if status == 503 else {}
            return await send(
                request, as_json({'error': text}), status=status, headers=headers_of('application/json') | busy
            )

    async def static(self, name: str, request: web.Request) -> web.StreamResponse:
        """Serve a file that pages load, which has no data in it, to any client.

        Args:
            name: the file's name.
            request: ``GET /debug/kvs/static/…``.

        Returns:
            The file.
        """
        return await send(request, static_file(name), status=200, headers=headers_of(STATIC[name]))

    async def without_slash(self, name: str, request: web.Request) -> web.StreamResponse:
        """Redirect a URL with a slash at its end to the one without.

        Args:
            name: the name of the route that is meant.
            request: the request.

        Returns:
            The redirect, with the query.
        """
        query = request.rel_url.raw_query_string
        location = self._url(name, request.match_info.get('store')) + ('?' + query if query else '')
        return await send(request, b'', status=308, headers={**headers_of('text/plain'), 'Location': location})

    async def other_method(self, methods: Sequence[str], request: web.Request) -> web.StreamResponse:
        """Reject a request with a method that a page does not have.

        Args:
            methods: those that it has.
            request: the request.

        Returns:
            An error.
        """
        text = f'The pages only show: send {" or ".join(methods)}, not {request.method}.'
        headers = {**headers_of('application/json'), 'Allow': ', '.join(methods)}
        return await send(request, as_json({'error': text}), status=405, headers=headers)

    def _add(
        self,
        path: str,
        name: str,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        methods: Sequence[str],
    ) -> None:
        resource = Resource(lambda: self.is_open, path, name=name)
        self._app.router.register_resource(resource)
        for method in methods:
            resource.add_route(method, handler)
        resource.add_route('*', functools.partial(self.other_method, methods))

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        query: Parameters | None = None
        async with contextlib.AsyncExitStack() as admitted:
            try:
                async with in_time(BUSY):
                    await admitted.enter_async_context(self._viewers.admit(request.remote or ''))
                async with in_time(f'The body of the request did not arrive within {answers.PAGE_SECONDS:g} s.'):
                    query = await parameters.read(request)
                if request.method == 'POST' and wants_html(request, query):
                    location = f'{request.rel_url.raw_path}?{parameters.query_of(query)}'
                    if len(location) <= parameters.MAX_URL:
                        return await send(request, b'', status=303, headers={**headers_of(HTML), 'Location': location})
                page = await handler(request, query)
                status, body = 200, await self._rendered(page, wants_html(request, query))
                del page  # and with it the value, of which the body has all that is sent
            except web.HTTPException as error:  # of authorize: a redirect to the application's own page
                for header in HEADERS.keys() - {'Content-Security-Policy'}:
                    error.headers.setdefault(header, HEADERS[header])
                raise
            except Exception as error:
                status, text = _noted(request, error)
                body = await self._rendered(error_page(status, text), wants_html(request, query))
            if len(body) <= SMALL_BYTES:
                await admitted.aclose()
            content_type = HTML if wants_html(request, query) else 'application/json'
            headers = headers_of(content_type) | ({'Retry-After': '1'} if status == 503 else {})
            return await send(request, body, status=status, headers=headers)

    async def _authorized(self, request: web.Request, action: str, store: str, key: str | None) -> None:
        if not await is_allowed(self._authorize, request, action, store, key):
            raise Failure(403, FORBIDDEN)

    async def _listable(self, request: web.Request) -> tuple[list[str], list[str]]:
        """The stores whose keys a request may list, and those whose keys it may not."""
        await self._authorized(request, 'list', '', None)
        names = self._router.names()
        allowed = [name for name in names if await is_allowed(self._authorize, request, 'list', name, None)]
        return allowed, [name for name in names if name not in allowed]

    def _seen(self, request: web.Request, page: str, **what: Any) -> None:
        """Note who is shown what, for the audit."""
        viewer = request.get(VIEWER_KEY)
        named = {} if viewer is None else {'viewer': str(viewer)}
        audit.record('seen', request.remote or 'unknown', **named, page=page, **what)

    async def _rendered(self, page: Page, as_html: bool) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._render, page, as_html)

    def _render(self, page: Page, as_html: bool) -> bytes:
        data = page.view()
        return self._templates.render(page.template, {**data, **page.only_html}) if as_html else as_json(data)

    async def _close(self, app: web.Application) -> None:
        self._audit.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _url(self, name: str, store: str | None = None, **query: Any) -> str:
        """The URL of a route, wherever the application is mounted."""
        resource = self._app.router[name]
        url = resource.url_for() if store is None else resource.url_for(store=store)
        text = parameters.query_of({key: str(value) for key, value in query.items() if value is not None})
        return f'{url}?{text}' if text else str(url)


def _noted(request: web.Request, error: Exception) -> tuple[int, str]:
    """The status and the message of an error; one that was not expected is logged."""
    status, text = status_of(error)
    if status == 500:
        log.exception('%s could not be shown.', request.rel_url.raw_path)
    return status, text
