"""What the pages answer with: a page, or the error that a failure means; its headers and its format."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable, Mapping
from http.client import responses
from importlib import resources
from typing import Any, NamedTuple

from aiohttp import web

from learning_observer_kvs.debug import parameters, views
from learning_observer_kvs.errors import Conflict, CorruptValue, InvalidKey, KVSError, KVSNotConfigured
from learning_observer_kvs.stores.deadline import limited_to

HTML = 'text/html'

HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
"""Headers of every response, also of errors."""

RETRY_SECONDS = 1.0
"""How long each call of a page waits for a server that is away; a person waits for the page."""

PAGE_SECONDS = 5.0
"""How long a page takes at most."""

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


class File(NamedTuple):
    """What a browser is given as it is, and not as a page.

    Attributes:
        content_type: of what kind it is.
        body: makes it, in a thread; a large one in pieces.
        name: the name under which it is saved; ``''`` where it is shown.
    """

    content_type: str
    body: Callable[[], list[bytes]]
    name: str = ''

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer; of the name only what every system takes in a file's name."""
        saved = re.sub(r'[^A-Za-z0-9._-]+', '_', self.name[:1000])[:100]
        return headers_of(self.content_type) | (
            {'Content-Disposition': f'attachment; filename="{saved}"'} if saved else {}
        )


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


class Resource(web.DynamicResource):
    """A path that exists while the pages are open.

    Args:
        is_open: whether they are.
        path: the path.
        name: the name of the route.
    """

    def __init__(self, is_open: Callable[[], bool], path: str, *, name: str) -> None:
        super().__init__(path, name=name)
        self._is_open = is_open

    async def resolve(self, request: web.Request) -> Any:
        """Match a request, as aiohttp asks for it; while the pages are closed no request matches.

        Args:
            request: the request.

        Returns:
            As :meth:`aiohttp.web.Resource.resolve`.
        """
        return await super().resolve(request) if self._is_open() else (None, set())


@contextlib.asynccontextmanager
async def in_time(otherwise: str) -> AsyncIterator[None]:
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


def status_of(error: Exception) -> tuple[int, str]:
    """Return the HTTP status of an error, and the message for the reader.

    Args:
        error: what a handler raised.
    """
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


def error_page(status: int, text: str) -> Page:
    """Return the page of an error.

    Args:
        status: the HTTP status.
        text: the message for the reader.
    """
    return Page('error.html', lambda: {'error': text}, {'status': status, 'phrase': responses.get(status, 'Error')})


def headers_of(content_type: str) -> dict[str, str]:
    """Return the headers of an answer.

    Args:
        content_type: of what kind its body is; it is UTF-8.
    """
    return {**HEADERS, 'Content-Type': f'{content_type}; charset=utf-8'}


@functools.cache
def static_file(name: str) -> bytes:
    """Return a file that pages load, which has no data in it.

    Args:
        name: the file's name.
    """
    return (resources.files('learning_observer_kvs.debug') / 'static' / name).read_bytes()


def wants_html(request: web.Request, query: Parameters | None) -> bool:
    """Return whether an answer is HTML. Browsers accept ``text/html``; others get JSON. ``format`` overrides both.

    Args:
        request: the request.
        query: its parameters; ``None`` if they could not be read.
    """
    if wanted := (request.query if query is None else query).get('format'):
        return wanted == 'html'
    return 'text/html' in request.headers.get('Accept', '')
