"""What a request asks for: the query of its URL, and for what is too long for a URL, the same in the body of a POST.

A key may have 1 MB, a URL 8 KB. Browsers change line ends in what a form sends, so a form of these pages sends each
field percent-encoded already, as ``text/plain``: a line for each, which is a query with line ends for its ``&``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

from aiohttp import web

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES

MAX_URL = 4000
"""The longest URL in characters that a page links to; for a longer one it has a form."""

MAX_BODY = 8 << 20
"""The longest body in bytes: the longest key percent-encoded, and a cursor."""

SMALL_BODY = 1 << 16
"""The longest body in bytes that is read whenever it comes: a connection buffers as much."""

DECODED_AT_ONCE = 1 << 16
"""How many bytes of a long parameter are percent-decoded in one call."""

MAX_FIELDS = 100
"""How many parameters a request has at most."""

LISTS = ('cursor', 'back', 'step', 'path')
"""The parameters that are lists as JSON; all others are texts, none longer than a key."""

MAX_ITEMS = 1000
"""How many items such a list may have."""

DEFAULT_LIMIT = 100
"""``limit`` of a page that is asked for without one."""

MAX_LIMIT = 1000
"""The largest ``limit`` of a page."""


class BadParameters(Exception):
    """The query or the body cannot be read; the text says why.

    Args:
        text: what is wrong.
        status: the HTTP status for it.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def in_url(request: web.Request) -> dict[str, str]:
    """Return the parameters in the URL of a request.

    Args:
        request: any request.

    Returns:
        The values by name; the first one of each name counts.

    Raises:
        BadParameters: they are not UTF-8, or too many.
    """
    return _parsed(request.rel_url.raw_query_string, 'URL')


async def read(request: web.Request, before_large: Callable[[], Awaitable[object]]) -> dict[str, str]:
    """Read the parameters of a request.

    Args:
        request: a GET, HEAD or POST request.
        before_large: awaited before more than ``SMALL_BODY`` bytes of its body are read.

    Returns:
        The values by name, of the body before those of the URL; the first one of each name counts.

    Raises:
        BadParameters: they are not UTF-8, too many, or too long, or one that is a list has too many items.
    """
    if request.method != 'POST':
        return in_url(request)
    body = bytearray()
    try:
        async for part in request.content.iter_chunked(1 << 16):
            if len(body) <= SMALL_BODY < len(body) + len(part):
                await before_large()
            body += part
            if len(body) > MAX_BODY:
                raise BadParameters(f'The body has over {MAX_BODY:,} bytes. Send the fields of one page.', 413)
    except (web.RequestPayloadError, ConnectionError):  # not in its encoding; or the client has gone
        request.content.feed_eof()  # else aiohttp reads on when this is answered, and logs that it cannot
        request.protocol.close()  # then: where the next request would begin is not known
        raise BadParameters('The body cannot be read. Send it whole, in the encoding that its headers name.') from None
    if len(body) <= SMALL_BODY:
        return in_url(request) | _in_body(body)
    return in_url(request) | await asyncio.to_thread(_in_body, body)  # 8 MB, percent-encoded, take a second


def _in_body(body: bytes | bytearray) -> dict[str, str]:
    values = _fields(bytes(body.replace(b'\r\n', b'&')))
    for name, value in values.items():
        if name not in LISTS and len(value) > MAX_KEY_BYTES:
            raise BadParameters(f'{name} is longer than {MAX_KEY_BYTES:,} characters; no key is. Give a shorter one.')
        if name in LISTS and len(value) > SMALL_BODY and not _is_short_list(value):
            raise BadParameters(f'{name} is not a JSON list of at most {MAX_ITEMS} texts and numbers.')
    return values


def _fields(body: bytes) -> dict[str, str]:
    """The fields of a body, as :func:`_parsed` returns those of a URL; a long one in pieces: threads wait for each."""
    body = body.strip(b'&')
    if body.count(b'&') >= MAX_FIELDS:
        raise BadParameters('The body has too many parameters.')
    values: dict[str, str] = {}
    try:
        for field in filter(None, body.split(b'&')):
            name, _, value = field.partition(b'=')
            values.setdefault(_decoded(name), _decoded(value))
    except UnicodeError:
        raise BadParameters('The body is not UTF-8. Percent-encode each parameter as UTF-8.') from None
    return values


def _decoded(text: bytes) -> str:
    text = text.replace(b'+', b' ')
    pieces, start = [], 0
    while start < len(text):
        end = start + DECODED_AT_ONCE
        if (last := text.rfind(b'%', end - 2, end)) >= 0:
            end = last  # what it begins is not cut
        pieces.append(unquote_to_bytes(text[start:end]))
        start = end
    return b''.join(pieces).decode()


def _is_short_list(text: str) -> bool:
    """Whether a long text is a list of few items: those who use it decode it in the event loop."""
    value = json_in(text)
    return (
        isinstance(value, list)
        and len(value) <= MAX_ITEMS
        and not any(isinstance(item, (list, dict)) for item in value)
    )


def fits_url(query: Mapping[str, str]) -> bool:
    """Return whether parameters may be short enough for a URL; a quick look, before they are percent-encoded.

    Args:
        query: the values by name.
    """
    return sum(map(len, query.values())) <= MAX_URL


def limit_in(query: Mapping[str, str]) -> int:
    """Return how many keys or states a page is to have.

    Args:
        query: the parameters.

    Raises:
        BadParameters: ``limit`` is not a number from 1 to ``MAX_LIMIT``.
    """
    text = query.get('limit', str(DEFAULT_LIMIT))
    limit = int(text) if re.fullmatch('[0-9]{1,4}', text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        shown = text if len(text) <= 100 else f'{text[:100]}…'
        raise BadParameters(f'limit is {shown!r}; give a number from 1 to {MAX_LIMIT}.')
    return limit


def text_in(query: Mapping[str, str], name: str) -> str:
    """Return what a page is to look for.

    Args:
        query: the parameters.
        name: the parameter's name.

    Raises:
        BadParameters: there is nothing to look for.
    """
    if not (text := query.get(name, '')):
        raise BadParameters(f'{name} is empty; give the {name} to look for.')
    return text


def json_in(text: str) -> Any:
    """Return the JSON value of a parameter.

    Args:
        text: the parameter.

    Returns:
        The value; ``None`` if it is not JSON.
    """
    try:
        return json_codec.decode(text.encode())
    except (CorruptValue, UnicodeError):
        return None


def query_of(values: Mapping[str, str]) -> str:
    """Return parameters as the query of a URL.

    Args:
        values: the values by name.

    Returns:
        The query without its question mark, all of it ASCII.
    """
    return urlencode(values)


def _parsed(query: str, where: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors='strict', max_num_fields=MAX_FIELDS)
        ''.join(value for _, value in pairs).encode()
    except UnicodeError:
        raise BadParameters(f'The {where} is not UTF-8. Percent-encode each parameter as UTF-8.') from None
    except ValueError:
        raise BadParameters(f'The {where} has too many parameters.') from None
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values
