"""Who may look. What is stored was written by students, so no default lets strangers in."""

from __future__ import annotations

import inspect
import ipaddress
import logging
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

log = logging.getLogger('learning_observer_kvs')

Authorize = Callable[[web.Request, str, str, str | None], bool | Awaitable[bool]]
"""``authorize(request, action, store, key)``: whether the asker may. The action is ``list`` (stores and keys) or
``read`` (a value); the store is ``''`` where all of them are listed; the key is ``None`` but for ``read``. It may raise
an HTTP error of aiohttp's, such as a redirection to a page to log in."""

_FORWARDED = ('Forwarded', 'X-Forwarded-For', 'X-Forwarded-Host', 'X-Real-IP', 'Via')


async def may(authorize: Authorize | None, request: web.Request, action: str, store: str, key: str | None) -> bool:
    """Whether the request is let in. An error in ``authorize`` lets nobody in.

    Raises:
        web.HTTPException: ``authorize`` raised it, such as a redirection to a page where one signs in.
    """
    if authorize is None:
        return is_local(request)
    try:
        answer = authorize(request, action, store, key)
        return (await answer if inspect.isawaitable(answer) else answer) is True
    except web.HTTPException:
        raise
    except Exception:
        log.exception('authorize(request, %r, %r, …) failed; nobody was let in.', action, store)
        return False


def is_local(request: web.Request) -> bool:
    """Whether a request comes from this machine, by a name of this machine, and through no proxy.

    The name is checked too: a page of a stranger may make the browser ask here under a name of its own.
    """
    if any(header in request.headers for header in _FORWARDED) or request.version < HttpVersion11:
        return False  # no browser speaks HTTP/1.0, but proxies do
    peer = request.transport.get_extra_info('peername') if request.transport else None
    if not isinstance(peer, tuple) or not _is_loopback(str(peer[0])):
        return False  # a unix socket has no peer's address: a proxy is at its other end
    return _is_loopback(_host_name(request.headers.get('Host', '')))


def _host_name(host: str) -> str:
    """The name in a ``Host`` header, without the port."""
    if host.startswith('['):
        name, bracket, _ = host[1:].partition(']')
        return name if bracket else ''
    return host.partition(':')[0]


def _is_loopback(name: str) -> bool:
    if name == 'localhost':
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, 'ipv4_mapped', None)
    return (mapped or address).is_loopback
