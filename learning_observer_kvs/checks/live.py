"""Live checks: every store looks at the place where its data lives, all at once and for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Settings, store_entries
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.finding import Finding

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
    findings = await asyncio.gather(*(_examine(store, limit) for store in stores.values()))
    paths = {entry.name: entry.path for entry in store_entries(settings)}
    same: dict[Finding, list[str]] = {}
    for name, found in zip(stores, findings, strict=True):
        for finding in found:
            same.setdefault(finding, []).append(name)
    return [
        Problem(
            finding.id,
            settings.place(*paths.get(names[0], ('kvs',)), finding.option),
            ' and '.join(f'kvs.{name}' for name in names),
            finding.fault,
            finding.cure,
        )
        for finding, names in same.items()
    ]


async def _examine(store: Store, limit: float) -> list[Finding]:
    try:
        async with asyncio.timeout(limit):
            return await store.examine()
    except TimeoutError:
        cure = 'Is it running, and is the way to it open?'
        return [Finding('KVS.E019', f'gave no answer within {limit:g} s: {store.place()}', cure)]
    except KVSError as error:
        option = next((option.name for option in store.OPTIONS if option.kind == 'path'), 'type')
        return [Finding('KVS.E018', 'does not work', str(error), option)]
