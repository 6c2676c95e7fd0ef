"""The routes of ``/debug/kvs``: each authorizes the request and serves a view, as JSON or HTML by the same URL."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiohttp import web

from learning_observer_kvs.debug import views
from learning_observer_kvs.debug.access import Authorize, is_allowed
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.errors import InvalidKey, Overloaded, StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, run_mode
from learning_observer_kvs.stores.deadline import limited_to

if TYPE_CHECKING:
    import jinja2

log = logging.getLogger('learning_observer_kvs')

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

RETRY_SECONDS = 1.0
"""How long each call of a page waits for a server that is away; a person waits for the page."""

PAGE_SECONDS = 5.0
"""How long a page takes at most."""

FORBIDDEN = (
    'You may not read this page. Without an authorize function these pages are served to this machine only, in '
    'run_mode: dev. To allow others, give one: learning_observer_kvs.setup(app, config, authorize=...).'
)

View = Callable[[], Awaitable[dict[str, Any]]]


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
        self._authorize: Authorize | None = None
        self._mask = Mask()
        self.is_open = False
        for path, name, handler in (
            ('/debug/kvs', 'kvs_debug', self.stores),
            ('/debug/kvs/static/kvs.css', 'kvs_debug_css', self.stylesheet),
            ('/debug/kvs/{store}', 'kvs_debug_store', self.keys),
            ('/debug/kvs/{store}/key', 'kvs_debug_key', self.value),
        ):
            resource = _Page(self, path, name=name)
            app.router.register_resource(resource)
            for method in ('GET', 'HEAD'):
                resource.add_route(method, handler)

    @functools.cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2  # slow to import, and not needed by servers without these pages

        templates = jinja2.Environment(
            loader=jinja2.PackageLoader('learning_observer_kvs.debug'),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.filters['pretty'] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
        templates.filters['moment'] = lambda at: time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(at))
        return templates

    def open(self, authorize: Authorize | None, settings: Settings) -> None:
        """Serve the pages from now on, if access to them is restricted; else log a warning.

        Args:
            authorize: decides who may read them. Without it they are served in ``run_mode: dev`` only, to this
                machine only.
            settings: the settings, for the run mode and ``kvs_debug.masked``.
        """
        self._authorize = authorize
        self._mask = Mask.of(settings)
        self.is_open = authorize is not None or run_mode(settings) == 'dev'
        if not self.is_open:
            log.warning(
                '/debug/kvs is not served: outside run_mode: dev it needs an authorize function that decides who may '
                'read it. Give one to learning_observer_kvs.setup(app, config, authorize=...), or name it in '
                'kvs_debug.authorize.'
            )

    async def stores(self, request: web.Request) -> web.Response:
        """Serve the list of stores.

        Args:
            request: ``GET /debug/kvs``.

        Returns:
            :func:`~learning_observer_kvs.debug.views.stores_view` as JSON or HTML, or an error.
        """
        return await self._respond(
            request, 'list', '', None, 'stores.html', functools.partial(views.stores_view, self._router)
        )

    async def keys(self, request: web.Request) -> web.Response:
        """Serve a page of keys.

        Args:
            request: ``GET /debug/kvs/{store}?prefix=&cursor=&limit=``; the limit is 100 by default.

        Returns:
            :func:`~learning_observer_kvs.debug.views.keys_view` as JSON or HTML, or an error.
        """
        store = request.match_info['store']
        try:
            limit = int(request.query.get('limit', '100'))
        except ValueError:
            limit = 0
        if not 1 <= limit <= MAX_LIMIT:
            return self._error(
                request, 400, f'limit is {request.query["limit"]!r}; give a number from 1 to {MAX_LIMIT}.'
            )
        prefix, cursor = request.query.get('prefix', ''), request.query.get('cursor') or None
        view = functools.partial(views.keys_view, self._router, store, prefix, cursor, limit)
        return await self._respond(request, 'list', store, None, 'keys.html', view)

    async def value(self, request: web.Request) -> web.Response:
        """Serve a value.

        Args:
            request: ``GET /debug/kvs/{store}/key?key=``.

        Returns:
            :func:`~learning_observer_kvs.debug.views.value_view`, masked, as JSON or HTML, or an error.
        """
        store, key = request.match_info['store'], request.query.get('key', '')

        async def view() -> dict[str, Any]:
            return self._mask.applied_to(await views.value_view(self._router, store, key))

        return await self._respond(request, 'read', store, key, 'value.html', view)

    async def stylesheet(self, request: web.Request) -> web.Response:
        """Serve the style sheet of the pages, which has no data in it, to any client.

        Args:
            request: ``GET /debug/kvs/static/kvs.css``.

        Returns:
            The style sheet.
        """
        return _response(_stylesheet(), 'text/css')

    async def _respond(
        self,
        request: web.Request,
        action: str,
        store: str,
        key: str | None,
        template: str,
        view: View,
    ) -> web.Response:
        try:
            if not await is_allowed(self._authorize, request, action, store, key):
                return self._error(request, 403, FORBIDDEN)
            with limited_to(RETRY_SECONDS):
                async with asyncio.timeout(PAGE_SECONDS):
                    data = await view()
        except views.NotFound as error:
            return self._error(request, 404, str(error))
        except InvalidKey as error:
            return self._error(request, 400, str(error))
        except (StoreUnavailable, Overloaded) as error:
            return self._error(request, 503, str(error))
        except TimeoutError:
            return self._error(request, 503, f'Store {store!r} did not answer within {PAGE_SECONDS:g} s.')
        if _wants_html(request):
            return self._html(template, data, 200)
        return _response(json.dumps(data, ensure_ascii=False), 'application/json')

    def _error(self, request: web.Request, status: int, text: str) -> web.Response:
        if _wants_html(request):
            return self._html('error.html', {'status': status, 'text': text}, status)
        return _response(json.dumps({'error': text}), 'application/json', status)

    def _html(self, template: str, view: Mapping[str, Any], status: int) -> web.Response:
        text = self._templates.get_template(template).render(view, url=self._url)
        return _response(text, 'text/html', status)

    def _url(self, name: str, store: str | None = None, **query: Any) -> str:
        """The URL of a route, wherever the application is mounted."""
        resource = self._app.router[name]
        url = resource.url_for() if store is None else resource.url_for(store=store)
        return str(url.with_query({key: str(value) for key, value in query.items() if value is not None}))


class _Page(web.DynamicResource):
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


def _response(text: str, content_type: str, status: int = 200) -> web.Response:
    # A lone surrogate has no UTF-8; it is shown as JSON escapes it.
    body = text.encode('utf-8', 'backslashreplace')
    return web.Response(body=body, content_type=content_type, charset='utf-8', status=status, headers=HEADERS)


@functools.cache
def _stylesheet() -> str:
    return (resources.files('learning_observer_kvs.debug') / 'static' / 'kvs.css').read_text(encoding='utf-8')


def _wants_html(request: web.Request) -> bool:
    """Browsers accept ``text/html``; other clients get JSON. ``?format=`` overrides both."""
    if wanted := request.query.get('format'):
        return wanted == 'html'
    return 'text/html' in request.headers.get('Accept', '')
