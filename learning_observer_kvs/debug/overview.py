"""The first page: each store, whether it answers, and how many keys it has."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any

from learning_observer_kvs._version import __version__
from learning_observer_kvs.debug.search import Search
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import every_key
from learning_observer_kvs.settings import Settings, run_mode

COUNT_SECONDS = 0.05
"""How long the keys of a store are counted; of a store that has more it is said how many there are at least."""


def server_view(settings: Settings) -> dict[str, Any]:
    """Return what serves the pages.

    Args:
        settings: the settings, for the run mode.

    Returns:
        ``{'product', 'version', 'run_mode', 'host', 'process'}``; the process is its number.
    """
    return {
        'product': 'learning_observer_kvs',
        'version': __version__,
        'run_mode': run_mode(settings),
        'host': socket.gethostname(),
        'process': os.getpid(),
    }


async def stores_view(
    router: KVSRouter, server: Mapping[str, Any], allowed: Iterable[str], refused: Iterable[str]
) -> dict[str, Any]:
    """Return the view of all stores. All are counted at the same time.

    Args:
        router: the stores.
        server: what serves the pages, see :func:`server_view`.
        allowed: the stores whose keys the viewer may list.
        refused: the other stores.

    Returns:
        ``{'server', 'stores': [{'name', 'type', 'location', 'keys', 'counted', 'error'}, …]}``, in the order of the
        configuration. ``counted`` says how: ``exactly``, ``about``, ``at least``; where ``error`` says why they cannot
        be counted it is ``None``, like ``keys``.
    """
    counted = await asyncio.gather(*(_counted(router, name) for name in allowed))
    counts = {
        **dict(zip(allowed, counted, strict=True)),
        **dict.fromkeys(refused, _unknown('You may not list its keys.')),
    }
    return {
        'server': dict(server),
        'stores': [
            {'name': name, 'type': router[name].TYPE, 'location': router[name].location(), **counts[name]}
            for name in router.names()
            if name in counts
        ],
    }


async def _counted(router: KVSRouter, name: str) -> dict[str, Any]:
    search = Search(router, [name], [''], None)
    async with aclosing(search.pages(every_key, COUNT_SECONDS)) as pages:
        async for _ in pages:
            pass
    if search.failed:
        return _unknown(search.failed[name])
    if search.next_cursor is not None:
        return {'keys': search.seen, 'counted': 'at least', 'error': None}
    return {'keys': search.seen, 'counted': 'about' if router[name].SCAN_REPEATS else 'exactly', 'error': None}


def _unknown(error: str) -> dict[str, Any]:
    return {'keys': None, 'counted': None, 'error': error}
