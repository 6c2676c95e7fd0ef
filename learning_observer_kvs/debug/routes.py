"""The routes of ``/debug/kvs``: guard, view, and the view as JSON or HTML from the same address."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiohttp import web

from learning_observer_kvs.debug import views
from learning_observer_kvs.debug.access import Authorize, may
from learning_observer_kvs.errors import InvalidKey, StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, run_mode

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
"""On every answer, errors too."""

MAX_LIMIT = 1000

CLOSED = (
    'These pages are closed to you. Without an authorize function they answer this machine only, in run_mode: dev. '
    'To open them to others give one: learning_observer_kvs.setup(app, config, authorize=...).'
)

View = Callable[[], Awaitable[dict[str, Any]]]


def register(app: web.Application, router: KVSRouter, authorize: Authorize | None, settings: Settings) -> None:
    """Add the routes to an application, if they can be guarded.

    Without ``authorize`` they are added in ``run_mode: dev`` only, and then answer this machine only.
    """
    if authorize is None and run_mode(settings) != 'dev':
        log.warning(
            '/debug/kvs is not served: outside run_mode: dev it needs an authorize function that says who may look. '
            'Give one to learning_observer_kvs.setup(app, config, authorize=...), or name it in kvs_debug.authorize.'
        )
        return
    pages = Pages(app, router, authorize)
    app.router.add_get('/debug/kvs', pages.stores, name='kvs_debug')
    app.router.add_get('/debug/kvs/static/kvs.css', pages.stylesheet, name='kvs_debug_css')
    app.router.add_get('/debug/kvs/{store}', pages.keys, name='kvs_debug_store')
    app.router.add_get('/debug/kvs/{store}/key', pages.value, name='kvs_debug_key')


class Pages:
    """The handlers."""

    def __init__(self, app: web.Application, router: KVSRouter, authorize: Authorize | None) -> None:
        self._app = app
        self._router = router
        self._authorize = authorize

    @functools.cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2  # takes its time, and is not wanted where nobody looks

        templates = jinja2.Environment(
            loader=jinja2.PackageLoader('learning_observer_kvs.debug'),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.filters['pretty'] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
        templates.filters['moment'] = lambda at: time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))
        return templates

    async def stores(self, request: web.Request) -> web.Response:
        """All stores."""
        return await self._answer(
            request, 'list', '', None, 'stores.html', functools.partial(views.stores_view, self._router)
        )

    async def keys(self, request: web.Request) -> web.Response:
        """A page of keys: ``?prefix=&cursor=&limit=``."""
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
        return await self._answer(request, 'list', store, None, 'keys.html', view)

    async def value(self, request: web.Request) -> web.Response:
        """One value: ``?key=``."""
        store, key = request.match_info['store'], request.query.get('key', '')
        view = functools.partial(views.value_view, self._router, store, key)
        return await self._answer(request, 'read', store, key, 'value.html', view)

    async def stylesheet(self, request: web.Request) -> web.Response:
        """The style of the pages; holds nothing of anybody's."""
        return web.Response(text=_stylesheet(), content_type='text/css', headers=HEADERS)

    async def _answer(
        self,
        request: web.Request,
        action: str,
        store: str,
        key: str | None,
        template: str,
        view: View,
    ) -> web.Response:
        try:
            if not await may(self._authorize, request, action, store, key):
                return self._error(request, 403, CLOSED)
            found = await view()
        except views.NotFound as error:
            return self._error(request, 404, str(error))
        except InvalidKey as error:
            return self._error(request, 400, str(error))
        except StoreUnavailable as error:
            return self._error(request, 503, str(error))
        if _wants_html(request):
            return self._html(template, found, 200)
        return web.json_response(found, headers=HEADERS, dumps=functools.partial(json.dumps, ensure_ascii=False))

    def _error(self, request: web.Request, status: int, text: str) -> web.Response:
        if _wants_html(request):
            return self._html('error.html', {'status': status, 'text': text}, status)
        return web.json_response({'error': text}, status=status, headers=HEADERS)

    def _html(self, template: str, view: Mapping[str, Any], status: int) -> web.Response:
        text = self._templates.get_template(template).render(view, url=self._url)
        return web.Response(text=text, status=status, content_type='text/html', headers=HEADERS)

    def _url(self, name: str, store: str | None = None, **query: Any) -> str:
        """The address of a route, wherever the application is mounted."""
        resource = self._app.router[name]
        url = resource.url_for() if store is None else resource.url_for(store=store)
        return str(url.with_query({word: str(value) for word, value in query.items() if value is not None}))


@functools.cache
def _stylesheet() -> str:
    return (resources.files('learning_observer_kvs.debug') / 'static' / 'kvs.css').read_text(encoding='utf-8')


def _wants_html(request: web.Request) -> bool:
    """Browsers name ``text/html``; programs get JSON, as does ``?format=json``."""
    if wanted := request.query.get('format'):
        return wanted == 'html'
    return 'text/html' in request.headers.get('Accept', '')
