"""The routes of ``/debug/kvs``, each of which serves a view as JSON or HTML; and the handlers of stores and keys."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from learning_observer_kvs.debug import answers, overview, parameters
from learning_observer_kvs.debug.access import Authorize
from learning_observer_kvs.debug.answers import Page, Parameters, Resource, headers_of, in_time, static_file
from learning_observer_kvs.debug.class_pages import ClassPages
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.keys import pages as key_pages
from learning_observer_kvs.debug.keys.census import Censuses
from learning_observer_kvs.debug.keys.prefixes import Trees
from learning_observer_kvs.debug.rendering import Templates
from learning_observer_kvs.debug.search_pages import SearchPages
from learning_observer_kvs.debug.sending import send
from learning_observer_kvs.debug.student_export import ExportPages
from learning_observer_kvs.debug.value_pages import ValuePages
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, run_mode

log = logging.getLogger('learning_observer_kvs')

STATIC = {
    'kvs.css': 'text/css',
    'browse.css': 'text/css',
    'value.css': 'text/css',
    'class.css': 'text/css',
    'class.js': 'text/javascript',
    'print.css': 'text/css',
    'keyboard.css': 'text/css',
    'keys.js': 'text/javascript',
    'keyboard.js': 'text/javascript',
    'value.js': 'text/javascript',
    'tree.js': 'text/javascript',
    'live.js': 'text/javascript',
    'versions.js': 'text/javascript',
    'icon.svg': 'image/svg+xml',
}
"""The content type of each file that pages load."""

SHOWING = ('GET', 'HEAD')
SHOWING_AND_POST = (*SHOWING, 'POST')
"""Of pages whose parameters may be too long for a URL."""


class Pages(SearchPages, ValuePages, ClassPages, ExportPages):
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
        self._path = functools.lru_cache(1000)(self._path_of)  # a page has hundreds of links
        super().__init__(router, Templates(self._url))
        self._censuses = Censuses(router, self._pace)
        self._trees = Trees(router)
        self._overview = overview.Overview(router, self._censuses)
        app.on_shutdown.append(self._streams.end)
        app.on_shutdown.append(self._censuses.end)
        app.on_shutdown.append(self._offload.end)
        app.on_cleanup.append(self._close)
        self.is_open = False
        for path, name, handler, methods in (
            ('/debug/kvs', 'kvs_debug', self.stores, SHOWING),
            ('/debug/kvs/stores/find', 'kvs_debug_find', self.find, SHOWING_AND_POST),
            ('/debug/kvs/stores/student', 'kvs_debug_student', self.student, SHOWING_AND_POST),
            ('/debug/kvs/stores/document', 'kvs_debug_document', self.document, SHOWING_AND_POST),
            ('/debug/kvs/stores/export', 'kvs_debug_export', self.export, ('GET', 'POST')),
            ('/debug/kvs/{store}', 'kvs_debug_store', self.keys, SHOWING_AND_POST),
            ('/debug/kvs/{store}/reducers', 'kvs_debug_reducers', self.reducers, SHOWING_AND_POST),
            ('/debug/kvs/{store}/reducer', 'kvs_debug_reducer', self.reducer, SHOWING_AND_POST),
            ('/debug/kvs/{store}/key', 'kvs_debug_key', self.value, SHOWING_AND_POST),
            ('/debug/kvs/{store}/class', 'kvs_debug_class', self.class_table, SHOWING_AND_POST),
            ('/debug/kvs/{store}/part', 'kvs_debug_part', self.part, SHOWING_AND_POST),
            ('/debug/kvs/{store}/matches', 'kvs_debug_matches', self.matches, SHOWING_AND_POST),
            ('/debug/kvs/{store}/raw', 'kvs_debug_raw', self.raw, SHOWING_AND_POST),
        ):
            self._add(path, name, handler, methods)
            with_slash = Resource(lambda: self.is_open, path + '/', name=name + '_slash')
            app.router.register_resource(with_slash)
            with_slash.add_route('*', functools.partial(self.without_slash, name))
        self._add('/debug/kvs/{store}/changes', 'kvs_debug_changes', self.changes, ('GET',))
        self._add('/debug/kvs/{store}/class/changes', 'kvs_debug_class_changes', self.class_changes, ('GET',))
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
        self._templates.server = overview.server_view(settings)
        self.is_open = authorize is not None or run_mode(settings) == 'dev'
        if self.is_open:
            self._decide_by(authorize, settings)
        else:
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
            :func:`~learning_observer_kvs.debug.overview.Overview.view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', self._stores)

    async def _stores(self, request: web.Request, query: Parameters, allowed: list[str], refused: list[str]) -> Page:
        async with in_time(f'The stores did not answer within {answers.PAGE_SECONDS:g} s.'):
            data = await self._overview.view(self._templates.server, allowed, refused)
        return Page('stores.html', lambda: data)

    async def keys(self, request: web.Request) -> web.StreamResponse:
        """Serve a page of keys.

        Args:
            request: ``GET /debug/kvs/{store}``, with the parameters of
                :class:`~learning_observer_kvs.debug.keys.wanted.Wanted`.

        Returns:
            :meth:`~learning_observer_kvs.debug.keys.pages.KeysPage.view` as JSON or HTML, or an error.
        """
        return await self._answer(request, 'list', self._keys)

    async def _keys(self, request: web.Request, query: Parameters) -> Page:
        store = request.match_info['store']
        viewer = self._viewer_of(request)
        async with in_time(f'Store {store!r} did not answer within {answers.PAGE_SECONDS:g} s.'):
            page = await key_pages.read(self._router, self._censuses, self._trees, store, query, viewer)
        values = {'values': page.previewed} if page.previewed else {}
        asked = page.wanted.filter.query() | {'prefix': page.wanted.filter.prefix}
        self._seen(request, 'keys', store=store, **asked, keys=len(page.found.rows), **values)
        return Page('keys.html', lambda: page.view(viewer), page.links())

    async def static(self, name: str, request: web.Request) -> web.StreamResponse:
        """Serve a file that pages load, which has no data in it, to any client.

        Args:
            name: the file's name.
            request: ``GET /debug/kvs/static/…``.

        Returns:
            The file.
        """
        return await send(request, [static_file(name)], status=200, headers=headers_of(STATIC[name]))

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
        return await send(request, [], status=308, headers={**headers_of('text/plain'), 'Location': location})

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
        return await send(request, [as_json({'error': text})], status=405, headers=headers)

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

    def _url(self, name: str, store: str | None = None, **query: Any) -> str:
        """The URL of a route, wherever the application is mounted."""
        text = parameters.query_of({key: str(value) for key, value in query.items() if value is not None})
        url = self._path(name, store)
        return f'{url}?{text}' if text else url

    def _path_of(self, name: str, store: str | None) -> str:
        resource = self._app.router[name]
        return str(resource.url_for() if store is None else resource.url_for(store=store))
