"""Answering a request with a page: few at once, each authorized, made in a thread, and noted for the audit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web

from learning_observer_kvs import audit
from learning_observer_kvs.config.layers import option_in
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.debug import answers, parameters
from learning_observer_kvs.debug.access import VIEWER_KEY, Authorize, is_allowed, is_local
from learning_observer_kvs.debug.answers import (
    HEADERS,
    HTML,
    Failure,
    File,
    Page,
    Parameters,
    error_page,
    headers_of,
    in_time,
    status_of,
    wants_html,
)
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.keys.rows import AUTHORIZE_SECONDS, Viewer
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.offload.process import Offload
from learning_observer_kvs.debug.pace import Pace
from learning_observer_kvs.debug.rendering import Templates
from learning_observer_kvs.debug.sending import Viewers, send
from learning_observer_kvs.erasure_rules import key_without_content
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings

log = logging.getLogger('learning_observer_kvs')

T = TypeVar('T')

MAX_VIEWERS = 8
"""How many pages are made and sent at once; an answer that fits ``SMALL_BYTES`` only while it is made."""

MAX_VIEWERS_OF_ONE_CLIENT = 4

MAX_AUTHORIZING = 64
"""How many requests ``authorize`` is asked about at once, before they count as pages: it may ask another server."""

MAX_AUTHORIZING_OF_ONE_CLIENT = 16

MAX_LARGE_BODIES = 8
"""How many requests with large bodies are read at once, and wait for their pages; these are counted apart from the
pages, because a body comes as slowly as its client likes."""

MAX_LARGE_BODIES_OF_ONE_CLIENT = 4

SMALL_BYTES = 1 << 16
"""The largest answer that is sent without counting its reader: a connection buffers as much."""

FORBIDDEN = (
    'You may not read this page. Without an authorize function these pages are served to this machine only, in '
    'run_mode: dev. To allow others, give one: learning_observer_kvs.setup(app, config, authorize=...).'
)

BUSY = 'Too many pages are being read. Retry in a few seconds.'

Handler = Callable[..., Coroutine[Any, Any, Page | File]]
"""Makes a page of a request and its parameters; one of all stores also of those that it may be about and the others."""


class Answering:
    """Answers requests with the pages that its handlers make; a subclass has the handlers and their routes.

    Args:
        router: the stores that the pages show.
        templates: the pages as HTML.
    """

    def __init__(self, router: KVSRouter, templates: Templates) -> None:
        self._router = router
        self._templates = templates
        self._viewers = Viewers(MAX_VIEWERS, MAX_VIEWERS_OF_ONE_CLIENT)
        self._to_authorize = Viewers(MAX_AUTHORIZING, MAX_AUTHORIZING_OF_ONE_CLIENT)
        self._large_bodies = Viewers(MAX_LARGE_BODIES, MAX_LARGE_BODIES_OF_ONE_CLIENT)
        self._thread = ThreadPoolExecutor(1, 'kvs-debug')  # one decoded value in memory at a time
        self._pace = Pace(self._thread)
        self._offload = Offload(self._pace)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._authorize: Authorize | None = None
        self._audit = contextlib.ExitStack()
        self._mask = Mask()

    def _decide_by(self, authorize: Authorize | None, settings: Settings) -> None:
        """Take what the application decides: who may read, what is masked, where the audit is kept."""
        self._authorize = authorize
        self._mask = Mask.of(settings)
        if path := option_in(settings, 'privacy', 'audit'):
            self._audit.enter_context(audit.kept_in(absolute(path)))

    async def _answer(self, request: web.Request, action: str, handler: Handler) -> web.StreamResponse:
        """Answer a request with the page of a handler, if the request may do an action."""
        query: Parameters | None = None
        headers: dict[str, str] | None = None
        client = request.remote or ''
        async with contextlib.AsyncExitStack() as admitted:
            try:
                if self._authorize is None and not is_local(request):
                    raise Failure(403, FORBIDDEN)  # before its body comes
                async with contextlib.AsyncExitStack() as large:
                    async with in_time(f'The body of the request was not read within {answers.PAGE_SECONDS:g} s.'):
                        query = await parameters.read(
                            request, lambda: large.enter_async_context(self._large_bodies.admit(client))
                        )
                    if request.method == 'POST' and wants_html(request, query) and parameters.fits_url(query):
                        location = f'{request.rel_url.raw_path}?{parameters.query_of(query)}'
                        if len(location) <= parameters.MAX_URL:
                            headers = {**headers_of(HTML), 'Location': location}
                            return await send(request, [], status=303, headers=headers)
                    permitted = await self._permitted(request, action, query)
                    async with in_time(BUSY):
                        await admitted.enter_async_context(self._viewers.admit(client))
                work = handler(request, query, *permitted)
                # An export is made for one person at a time, within a minute.
                page = await (work if action == 'export' else self._pace.run(work))
                status, body = 200, await self._rendered(page, wants_html(request, query))
                headers = page.headers() if isinstance(page, File) else None
                del page  # and with it the value, of which the body has all that is sent
            except web.HTTPException as error:  # of authorize: a redirect to the application's own page
                for header in HEADERS.keys() - {'Content-Security-Policy'}:
                    error.headers.setdefault(header, HEADERS[header])
                raise
            except Exception as error:
                status, text = noted(request, error)
                body = await self._rendered(error_page(status, text), wants_html(request, query))
            if sum(map(len, body)) <= SMALL_BYTES:
                await admitted.aclose()
            if headers is None:
                headers = headers_of(HTML if wants_html(request, query) else 'application/json')
            if status == 503:
                headers['Retry-After'] = '1'
            return await send(request, body, status=status, headers=headers)

    async def _permitted(self, request: web.Request, action: str, query: Parameters) -> tuple[list[str], ...]:
        """Check that a request may do something with its store, or its key.

        If it is about all stores, those with which it may do that are returned, and the others.
        """
        store, key = request.match_info.get('store', ''), query.get('key', '') if action == 'read' else None
        async with self._authorizing(), self._to_authorize.admit(request.remote or ''):
            if not await is_allowed(self._authorize, request, action, store, key):
                raise Failure(403, FORBIDDEN)
            if store:
                return ()
            names = self._router.names()
            allowed = [name for name in names if await is_allowed(self._authorize, request, action, name, None)]
        return allowed, [name for name in names if name not in allowed]

    def _authorizing(self) -> contextlib.AbstractAsyncContextManager[None]:
        return in_time(f'authorize did not answer within {answers.PAGE_SECONDS:g} s.')

    def _viewer_of(self, request: web.Request) -> Viewer:
        """Who looks at a list, and which values they may read."""
        is_late = False

        async def may_read(key: str) -> bool:
            nonlocal is_late
            if self._authorize is None:
                return True  # the page was authorized by what the request is
            if is_late:
                return False
            try:
                async with asyncio.timeout(AUTHORIZE_SECONDS):
                    return await is_allowed(self._authorize, request, 'read', request.match_info['store'], key)
            except web.HTTPException:  # a redirect is for a page of its own
                return False
            except TimeoutError:
                is_late = True
                log.warning(
                    'authorize did not answer within %g s; a list of keys was shown without values.', AUTHORIZE_SECONDS
                )
                return False

        computed = functools.partial(self._computed, request)
        return Viewer(may_read, self._mask, computed, self._pace.run, lambda: request.transport is None, self._turns)

    async def _computed(
        self, request: web.Request, texts: Iterable[bytes], function: Callable[..., T], *arguments: Any
    ) -> T:
        """What a function computes of texts: in a thread, or of large ones in the helper process."""
        return await self._offload.call(
            map(len, texts), function, *arguments, has_gone=lambda: request.transport is None
        )

    def _seen(self, request: web.Request, page: str, **what: Any) -> None:
        """Note who is shown what, for the audit."""
        for name in ('key', 'prefix'):
            if name in what:
                what[name] = key_without_content(what['store'], what[name])
        if 'values' in what:
            what['values'] = [key_without_content(what['store'], key) for key in what['values']]
        self._note(request, 'seen', page=page, **what)

    def _note(self, request: web.Request, action: str, **what: Any) -> None:
        """Note for the audit who does something."""
        viewer = request.get(VIEWER_KEY)
        named = {} if viewer is None else {'viewer': str(viewer)}
        audit.record(action, request.remote or 'unknown', **named, **what)

    async def _rendered(self, page: Page | File, as_html: bool) -> list[bytes]:
        return await self._pace.in_thread(self._render, page, as_html)

    def _render(self, page: Page | File, as_html: bool) -> list[bytes]:
        if isinstance(page, File):
            return page.body()
        data = page.view()
        return self._templates.render(page.template, {**data, **page.only_html}) if as_html else [as_json(data)]

    async def _close(self, app: web.Application) -> None:
        self._audit.close()
        self._thread.shutdown(wait=False, cancel_futures=True)


def noted(request: web.Request, error: Exception) -> tuple[int, str]:
    """Return the status and the message of an error; one that was not expected is logged.

    Args:
        request: the request that failed.
        error: why.
    """
    status, text = status_of(error)
    if status == 500:
        log.exception('%s could not be shown.', request.rel_url.raw_path)
    return status, text
