"""The routes of ``/debug/kvs``: each authorizes the request and serves a view, as JSON or HTML by the same URL."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, NamedTuple

from aiohttp import web

from learning_observer_kvs import audit
from learning_observer_kvs.config.layers import option_in
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.debug import parameters, views
from learning_observer_kvs.debug.access import VIEWER_KEY, Authorize, is_allowed
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.rendering import Templates, as_json, cut
from learning_observer_kvs.debug.sending import Viewers, send
from learning_observer_kvs.errors import (
    Conflict,
    CorruptValue,
    InvalidKey,
    KVSError,
    KVSNotConfigured,
)
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, run_mode
from learning_observer_kvs.stores.deadline import limited_to

log = logging.getLogger('learning_observer_kvs')

HTML = 'text/html'

HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
"""Headers of every response, also of errors."""

MAX_LIMIT = 1000
"""The largest ``limit`` of a page of keys."""

MAX_VIEWERS = 8
"""How many pages are made and sent at once; an answer that fits ``SMALL_BYTES`` only while it is made."""

MAX_VIEWERS_OF_ONE_CLIENT = 4

SMALL_BYTES = 1 << 16
"""The largest answer that is sent without counting its reader: a connection buffers as much."""

RETRY_SECONDS = 1.0
"""How long each call of a page waits for a server that is away; a person waits for the page."""

PAGE_SECONDS = 5.0
"""How long a page takes at most."""

FORBIDDEN = (
    'You may not read this page. Without an authorize function these pages are served to this machine only, in '
    'run_mode: dev. To allow others, give one: learning_observer_kvs.setup(app, config, authorize=...).'
)

SHOWING = ('GET', 'HEAD')
SHOWING_AND_POST = (*SHOWING, 'POST')
"""Of pages whose parameters may be too long for a URL."""

BUSY = 'Too many pages are being read. Retry in a few seconds.'

UNEXPECTED = 'An unexpected error occurred. The log of the server has it.'


class Failure(Exception):
    """Why a request is not answered with a page.

    Args:
        status: the HTTP status.
        text: the message for the reader.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Page(NamedTuple):
    """What a request is answered with.

    Attributes:
        template: the file name of the HTML template.
        view: makes the data, in a thread.
        only_html: what only the template needs.
    """

    template: str
    view: Callable[[], dict[str, Any]]
    only_html: Mapping[str, Any] = {}


Parameters = Mapping[str, str]
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
        app.on_cleanup.append(self._close)
        self._authorize: Authorize | None = None
        self._audit = contextlib.ExitStack()
        self._mask = Mask()
        self.is_open = False
        for path, name, handler, methods in (
            ('/debug/kvs', 'kvs_debug', self.stores, SHOWING),
            ('/debug/kvs/static/kvs.css', 'kvs_debug_css', self.stylesheet, SHOWING),
            ('/debug/kvs/{store}', 'kvs_debug_store', self.keys, SHOWING_AND_POST),
            ('/debug/kvs/{store}/key', 'kvs_debug_key', self.value, SHOWING_AND_POST),
        ):
            resource = _Resource(self, path, name=name)
            app.router.register_resource(resource)
            for method in methods:
                resource.add_route(method, handler)
            resource.add_route('*', functools.partial(self.other_method, methods))
        for name in ('kvs_debug', 'kvs_debug_store', 'kvs_debug_key'):
            with_slash = _Resource(self, app.router[name].canonical + '/', name=name + '_slash')
            app.router.register_resource(with_slash)
            with_slash.add_route('*', functools.partial(self.without_slash, name))

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
            :func:`~learning_observer_kvs.debug.views.stores_view` as JSON or HTML, or an error.
        """
        return await self._answer(request, self._stores)

    async def _stores(self, request: web.Request, query: Parameters) -> Page:
        await self._authorized(request, 'list', '', None)
        data = views.stores_view(self._router)
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
        text = query.get('limit', '100')
        limit = int(text) if re.fullmatch('[0-9]{1,4}', text) else 0
        if not 1 <= limit <= MAX_LIMIT:
            raise Failure(400, f'limit is {cut(text, 100)!r}; give a number from 1 to {MAX_LIMIT}.')
        async with _in_time(f'Store {store!r} did not answer within {PAGE_SECONDS:g} s.'):
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
        async with _in_time(f'Store {store!r} did not answer within {PAGE_SECONDS:g} s.'):
            found = await views.read_value(self._router, store, key)
        self._seen(request, 'value', store=store, key=key)
        return Page('value.html', lambda: self._mask.applied_to(views.value_view(found)))

    async def stylesheet(self, request: web.Request) -> web.StreamResponse:
        """Serve the style sheet of the pages, which has no data in it, to any client.

        Args:
            request: ``GET /debug/kvs/static/kvs.css``.

        Returns:
            The style sheet.
        """
        return await send(request, _stylesheet(), status=200, headers=_headers('text/css'))

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
        return await send(request, b'', status=308, headers={**_headers('text/plain'), 'Location': location})

    async def other_method(self, methods: Sequence[str], request: web.Request) -> web.StreamResponse:
        """Reject a request with a method that a page does not have.

        Args:
            methods: those that it has.
            request: the request.

        Returns:
            An error.
        """
        text = f'The pages only show: send {" or ".join(methods)}, not {request.method}.'
        headers = {**_headers('application/json'), 'Allow': ', '.join(methods)}
        return await send(request, as_json({'error': text}), status=405, headers=headers)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        query: Parameters | None = None
        async with contextlib.AsyncExitStack() as admitted:
            try:
                async with _in_time(BUSY):
                    await admitted.enter_async_context(self._viewers.admit(request.remote or ''))
                async with _in_time(f'The body of the request did not arrive within {PAGE_SECONDS:g} s.'):
                    query = await parameters.read(request)
                if request.method == 'POST' and _wants_html(request, query):
                    location = f'{request.rel_url.raw_path}?{parameters.query_of(query)}'
                    if len(location) <= parameters.MAX_URL:
                        return await send(request, b'', status=303, headers={**_headers(HTML), 'Location': location})
                page = await handler(request, query)
                status, body = 200, await self._rendered(page, _wants_html(request, query))
                del page  # and with it the value, of which the body has all that is sent
            except web.HTTPException as error:  # of authorize: a redirect to the application's own page
                for header in HEADERS.keys() - {'Content-Security-Policy'}:
                    error.headers.setdefault(header, HEADERS[header])
                raise
            except Exception as error:
                status, text = _status_of(error)
                if status == 500:
                    log.exception('%s could not be shown.', request.rel_url.raw_path)
                body = await self._rendered(_error_page(status, text), _wants_html(request, query))
            if len(body) <= SMALL_BYTES:
                await admitted.aclose()
            content_type = HTML if _wants_html(request, query) else 'application/json'
            headers = _headers(content_type) | ({'Retry-After': '1'} if status == 503 else {})
            return await send(request, body, status=status, headers=headers)

    async def _authorized(self, request: web.Request, action: str, store: str, key: str | None) -> None:
        if not await is_allowed(self._authorize, request, action, store, key):
            raise Failure(403, FORBIDDEN)

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


class _Resource(web.DynamicResource):
    """A path that exists while the pages are open."""

    def __init__(self, pages: Pages, path: str, *, name: str) -> None:
        super().__init__(path, name=name)
        self._pages = pages

    async def resolve(self, request: web.Request) -> Any:
        """Match a request, as aiohttp asks for it; while the pages are closed no request matches.

        Args:
            request: the request.

        Returns:
            As :meth:`aiohttp.web.Resource.resolve`.
        """
        return await super().resolve(request) if self._pages.is_open else (None, set())


@contextlib.asynccontextmanager
async def _in_time(otherwise: str) -> AsyncIterator[None]:
    """Wait no longer than a person does.

    Args:
        otherwise: the message if it takes longer.

    Raises:
        Failure: it took too long.
    """
    with limited_to(RETRY_SECONDS):
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                yield
        except TimeoutError:
            raise Failure(503, otherwise) from None


def _status_of(error: Exception) -> tuple[int, str]:
    """The HTTP status of an error, and the message for the reader."""
    match error:
        case Failure() | parameters.BadParameters():
            status = error.status
        case views.NotFound() | KVSNotConfigured():
            status = 404
        case InvalidKey():
            status = 400
        case CorruptValue() | Conflict():
            status = 409
        case KVSError():
            status = 503
        case _:
            return 500, UNEXPECTED
    return status, str(error)


def _error_page(status: int, text: str) -> Page:
    return Page('error.html', lambda: {'error': text}, {'status': status})


def _headers(content_type: str) -> dict[str, str]:
    return {**HEADERS, 'Content-Type': f'{content_type}; charset=utf-8'}


@functools.cache
def _stylesheet() -> bytes:
    return (resources.files('learning_observer_kvs.debug') / 'static' / 'kvs.css').read_bytes()


def _wants_html(request: web.Request, query: Parameters | None) -> bool:
    """Browsers accept ``text/html``; other clients get JSON. ``format`` overrides both."""
    if wanted := (request.query if query is None else query).get('format'):
        return wanted == 'html'
    return 'text/html' in request.headers.get('Accept', '')
