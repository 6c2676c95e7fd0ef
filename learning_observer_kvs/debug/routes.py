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


class Pages:
    """The routes and their handlers. They are as if they were not there until :meth:`open`.

    Args:
        app: where they are added; it must not be frozen.
        router: the stores that they show.

    Raises:
        RuntimeError: the application is frozen, which one below another is before it starts.
    """

    def __init__(self, app: web.Application, router: KVSRouter) -> None:
        self._app = app
        self._router = router
        self._authorize: Authorize | None = None
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
        import jinja2  # takes its time, and is not wanted where nobody looks

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
        """Serve them from now on, if they can be guarded.

        Without ``authorize`` that is in ``run_mode: dev`` only, and then for this machine only.
        """
        self._authorize = authorize
        self.is_open = authorize is not None or run_mode(settings) == 'dev'
        if not self.is_open:
            log.warning(
                '/debug/kvs is not served: outside run_mode: dev it needs an authorize function that says who may '
                'look. Give one to learning_observer_kvs.setup(app, config, authorize=...), or name it in '
                'kvs_debug.authorize.'
            )

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
        return _response(_stylesheet(), 'text/css')

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
        return _response(json.dumps(found, ensure_ascii=False), 'application/json')

    def _error(self, request: web.Request, status: int, text: str) -> web.Response:
        if _wants_html(request):
            return self._html('error.html', {'status': status, 'text': text}, status)
        return _response(json.dumps({'error': text}), 'application/json', status)

    def _html(self, template: str, view: Mapping[str, Any], status: int) -> web.Response:
        text = self._templates.get_template(template).render(view, url=self._url)
        return _response(text, 'text/html', status)

    def _url(self, name: str, store: str | None = None, **query: Any) -> str:
        """The address of a route, wherever the application is mounted."""
        resource = self._app.router[name]
        url = resource.url_for() if store is None else resource.url_for(store=store)
        return str(url.with_query({word: str(value) for word, value in query.items() if value is not None}))


class _Page(web.DynamicResource):
    """A path that is there while the pages are open."""

    def __init__(self, pages: Pages, path: str, *, name: str) -> None:
        super().__init__(path, name=name)
        self._pages = pages

    async def resolve(self, request: web.Request) -> Any:
        return await super().resolve(request) if self._pages.is_open else (None, set())


def _response(text: str, content_type: str, status: int = 200) -> web.Response:
    # Half of an emoji has no UTF-8; it is shown as JSON writes it.
    body = text.encode('utf-8', 'backslashreplace')
    return web.Response(body=body, content_type=content_type, charset='utf-8', status=status, headers=HEADERS)


@functools.cache
def _stylesheet() -> str:
    return (resources.files('learning_observer_kvs.debug') / 'static' / 'kvs.css').read_text(encoding='utf-8')


def _wants_html(request: web.Request) -> bool:
    """Browsers name ``text/html``; programs get JSON, as does ``?format=json``."""
    if wanted := request.query.get('format'):
        return wanted == 'html'
    return 'text/html' in request.headers.get('Accept', '')
