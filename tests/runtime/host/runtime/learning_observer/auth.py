"""Access for administrators; others are redirected to log in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web


def admin(handler: Callable[[web.Request], Awaitable[Any]]) -> Callable[[web.Request], Awaitable[Any]]:
    """A handler for administrators only."""

    async def guarded(request: web.Request) -> Any:
        if request.cookies.get('role') != 'ADMIN':
            raise web.HTTPFound(f'/?back_to={request.rel_url}')
        return await handler(request)

    return guarded
