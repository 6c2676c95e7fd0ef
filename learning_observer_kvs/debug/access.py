"""Who may read ``/debug/kvs``. Stored values are students' data: without an explicit rule only this machine may."""

from __future__ import annotations

import inspect
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion11, web

log = logging.getLogger('learning_observer_kvs')

Authorize = Callable[[web.Request, str, str, str | None], bool | Awaitable[bool]]
"""``authorize(request, action, store, key)``: returns whether the request is allowed; only ``True`` allows it. The
action is ``list`` (stores and keys), ``read`` (a value) or ``export`` (everything about a student); the store is ``''``
where all stores are listed, searched or exported from;
the key is ``None`` except for ``read``. It may raise an HTTP exception of aiohttp, such as a redirect to a log-in
page."""

_HOST = re.compile(r'(?:\[([^\[\]]+)]|([^\[\]:@]+))(?::[0-9]*)?')
"""A name or an address, an address of IPv6 in brackets; and a port."""

_FORWARDED = ('Forwarded', 'X-Forwarded-For', 'X-Forwarded-Host', 'X-Real-IP', 'Via')


VIEWER_KEY: Any = getattr(web, 'RequestKey', lambda name, kind: name)('learning_observer_kvs_viewer', str)
"""Where an authorize function says who looks, for the audit: ``request[VIEWER_KEY] = 'ms-lee'``. aiohttp has typed keys
of requests since 3.14."""


async def is_allowed(
    authorize: Authorize | None, request: web.Request, action: str, store: str, key: str | None
) -> bool:
    """Return whether a request is allowed.

    Args:
        authorize: decides; without it requests of this machine are allowed. If it fails, the request is not allowed.
        request: the request.
        action: ``list``, ``read`` or ``export``.
        store: the store's name; ``''`` where all stores are listed.
        key: the key to read, if the action is ``read``.

    Returns:
        Whether ``authorize`` returned ``True``, and no page of another site asks.

    Raises:
        web.HTTPException: ``authorize`` raised it, such as a redirect to a log-in page.
    """
    if authorize is None:
        return is_local(request)
    if is_from_another_site(request):
        return False  # it cannot read the answer, but measure how long a search takes, or keep a stream open
    try:
        answer = authorize(request, action, store, key)
        return (await answer if inspect.isawaitable(answer) else answer) is True
    except web.HTTPException:
        raise
    except Exception:
        log.exception('authorize(request, %r, %r, …) failed; the request was rejected.', action, store)
        return False


def is_local(request: web.Request) -> bool:
    """Return whether a request comes from this machine, under a name of this machine, and not through a proxy.

    A web page of another host can make a browser on this machine send requests here. ``Host`` is checked because of
    DNS rebinding: under this machine's name such a page has another origin, which :func:`is_same_origin` recognizes.

    Args:
        request: the request.

    Returns:
        Whether its peer and its ``Host`` are loopback addresses, and no header shows a proxy or a page of another site.
    """
    if any(header in request.headers for header in _FORWARDED) or request.version < HttpVersion11:
        return False  # browsers do not use HTTP/1.0, but proxies do
    peer = request.transport.get_extra_info('peername') if request.transport else None
    if not isinstance(peer, tuple) or not _is_loopback(str(peer[0])):
        return False  # a unix socket has no peer address: at its other end is a proxy
    return _is_loopback(_host_name(request.headers.get('Host', ''))) and is_same_origin(request)


def is_same_origin(request: web.Request) -> bool:
    """Return whether no page of another site sent a request.

    Browsers send ``Origin`` with a WebSocket, with a form, and with what a script asks of another site; and
    ``Sec-Fetch-Site``, which no script can set, with everything. Programs that are not browsers send neither.

    Args:
        request: the request.

    Returns:
        Whether it is from a page of this site, from a link that was followed, or not from a page at all.
    """
    if request.headers.get('Sec-Fetch-Site') == 'same-origin':
        return True  # its Origin is null where the page has the Referrer-Policy no-referrer
    own = f'{request.scheme}://{request.headers.get("Host", "")}'
    if any(origin.lower() != own.lower() for origin in request.headers.getall('Origin', [])):
        return False
    return not is_from_another_site(request)


def is_from_another_site(request: web.Request) -> bool:
    """Return whether a browser says that a page of another site sent a request, and not a link that was followed.

    Args:
        request: the request; behind a proxy, whose ``Host`` and scheme may be other ones than the browser's.
    """
    if request.headers.get('Sec-Fetch-Site', 'none') in ('none', 'same-origin'):
        return False
    return request.headers.get('Sec-Fetch-Mode') != 'navigate' or request.method not in ('GET', 'HEAD')


def _host_name(host: str) -> str:
    """The name in a ``Host`` header, without the port; nothing if it is not such a header."""
    found = _HOST.fullmatch(host.lower())
    return (found[1] or found[2]) if found else ''


def _is_loopback(name: str) -> bool:
    if name == 'localhost':
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, 'ipv4_mapped', None)
    return (mapped or address).is_loopback
