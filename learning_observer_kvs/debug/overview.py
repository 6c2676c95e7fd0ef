"""The first page: each store, whether it answers, what it holds by reducer, and what this process writes to it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

from learning_observer_kvs._version import __version__
from learning_observer_kvs.debug.activity import Activity
from learning_observer_kvs.debug.keys.census import Census, Censuses
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, run_mode


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


class Overview:
    """Makes the first page.

    Args:
        router: the stores.
        censuses: counts them.
    """

    def __init__(self, router: KVSRouter, censuses: Censuses) -> None:
        self._router = router
        self._censuses = censuses
        self._activity = Activity()

    async def view(self, server: Mapping[str, Any], allowed: Iterable[str], refused: Iterable[str]) -> dict[str, Any]:
        """Return the view of all stores. All are counted at the same time.

        Args:
            server: what serves the pages, see :func:`server_view`.
            allowed: the stores whose keys the viewer may list.
            refused: the other stores.

        Returns:
            ``{'server', 'stores': [...], 'warnings'}``, the stores in the order of the configuration, each
            ``{'name', 'type', 'location', 'keys', 'counted', 'bytes', 'measured', 'reducers', 'further_reducers',
            'other_keys', 'written', 'writes', 'warnings', 'error'}``. ``counted`` says how the keys were:
            ``exactly``, ``about``, ``at least``;
            ``measured`` how their bytes were. Where ``error`` says why there is no count they are ``None``.
        """
        allowed, refused = list(allowed), set(refused)
        counted = dict(zip(allowed, await asyncio.gather(*map(self._censuses.of, allowed)), strict=True))
        warnings = self._warnings()
        stores = []
        for name in self._router.names():
            if name in counted:
                store = self._router[name]
                metrics = store.metrics()
                stores.append(
                    {
                        **_place(self._router, name),
                        **_counts(counted[name], self._activity.of(name, metrics)),
                        'warnings': warnings.get(name, []),
                    }
                )
                if metrics.get('is_away') and stores[-1]['error'] is None:
                    stores[-1]['error'] = f'{store.location()} cannot be written. What is to be written waits.'
            elif name in refused:
                stores.append(
                    {**_place(self._router, name), **UNKNOWN, 'warnings': [], 'error': 'You may not list its keys.'}
                )
        return {'server': dict(server), 'stores': stores, 'warnings': warnings.get('', [])}

    def _warnings(self) -> dict[str, list[dict[str, str]]]:
        """What the start-up checks warned of, by the name of the store; under ``''`` what is not about one."""
        found: dict[str, list[dict[str, str]]] = {}
        for problem in self._router.warnings:
            names = {name for name in re.findall(r'\bkvs\.(\w+)', problem.subject) if name in self._router.names()}
            for name in names or {''}:
                found.setdefault(name, []).append(problem.as_dict())
        return found


UNKNOWN: Mapping[str, Any] = {
    'keys': None,
    'counted': None,
    'bytes': None,
    'measured': None,
    'reducers': [],
    'further_reducers': None,
    'other_keys': None,
    'written': None,
    'writes': None,
}
"""What is shown of a store that cannot be counted."""


def _place(router: KVSRouter, name: str) -> dict[str, Any]:
    return {'name': name, 'type': router[name].TYPE, 'location': router[name].location()}


def _counts(census: Census, writes: dict[str, Any] | None) -> dict[str, Any]:
    since = None if writes is None else writes.pop('seconds_since_write')
    written = [census.written] if census.written is not None else []
    if since is not None:
        written.append(time.time() - since)
    known = {'written': max(written, default=None), 'writes': writes}
    if census.error is not None:
        return {**UNKNOWN, **known, 'error': census.error}
    found = census.groups
    reducers = sorted((name, group) for name, group in found.by_reducer.items() if name)
    return {
        'keys': found.keys,
        'counted': census.counted,
        'bytes': found.bytes,
        'measured': 'exactly' if found.is_measured else 'about',
        'reducers': [{'name': name, **group.view(), 'bytes': group.bytes} for name, group in reducers],
        'further_reducers': found.further.view(),
        'other_keys': found.by_reducer[''].keys,
        **known,
        'error': None,
    }
