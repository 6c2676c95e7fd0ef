"""Live checks: every store looks at the place where its data lives, all at once and for a bounded time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Settings, store_entries
from learning_observer_kvs.stores.base import Store

LIMIT = 3.0
"""Seconds that the stores have for it, all together."""


async def check_stores(stores: Mapping[str, Store], settings: Settings, limit: float = LIMIT) -> list[Problem]:
    """What is wrong with the files, folders and servers behind the stores.

    Args:
        stores: by name.
        settings: where they were configured, for the places.
        limit: seconds.

    Returns:
        The problems in the order of the stores. What is the same with several stores is one problem.
    """
    findings = await asyncio.gather(*(_health_check(store, limit) for store in stores.values()))
    paths = {entry.name: entry.path for entry in store_entries(settings)}
    same: dict[Problem, list[str]] = {}
    for name, found in zip(stores, findings, strict=True):
        for problem in found:
            same.setdefault(problem, []).append(name)
    return [
        dataclasses.replace(
            problem,
            location=settings.location(*paths.get(names[0], ('kvs',)), problem.subject),
            subject=' and '.join(f'kvs.{name}' for name in names),
        )
        for problem, names in same.items()
    ]


async def _health_check(store: Store, limit: float) -> list[Problem]:
    try:
        async with asyncio.timeout(limit):
            return await store.health_check()
    except TimeoutError:
        hint = 'Is it running, and is the way to it open?'
        return [Problem('KVS.E019', '', 'type', f'gave no answer within {limit:g} s: {store.location()}', hint)]
    except KVSError as error:
        option = next((option.name for option in store.OPTIONS if option.kind == 'path'), 'type')
        return [Problem('KVS.E018', '', option, 'does not work', str(error))]
