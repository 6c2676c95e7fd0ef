"""Live checks: every store checks the files, directories and servers behind it, all at once and in a bounded time."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

from learning_observer_kvs import failed_events
from learning_observer_kvs.checks.places import check_places
from learning_observer_kvs.config.rows import StoreConfig
from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.private_files import PRIVATE, others_that_can_read
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import limit_of

log = logging.getLogger('learning_observer_kvs')

LIMIT = 3.0
"""Seconds that a health check may take; those of all stores run at once."""

LOADING_SECONDS = 120.0
"""How long a server that loads its data is waited for."""

LOADING_PAUSE = 0.5
"""Seconds until it is asked again."""


async def check_stores(
    stores: Mapping[str, Store], rows: Mapping[str, StoreConfig], limit: float = LIMIT
) -> list[Problem]:
    """Check the files, directories and servers behind stores.

    Args:
        stores: the stores by name.
        rows: the rows that they were made from, by name; a store that was not made from the settings has none.
        limit: seconds that each store has.

    Returns:
        The problems in the order of the stores. What several stores report alike is one problem.
    """
    elsewhere = check_places(rows)  # before a health check makes anything
    found = await asyncio.gather(*(_health_check(store, limit) for store in stores.values()))
    reporting: dict[Problem, list[str]] = {}
    for name, problems in zip(stores, found, strict=True):
        for problem in problems:
            reporting.setdefault(problem, []).append(name)
    return elsewhere + [
        dataclasses.replace(
            problem,
            location=rows[names[0]].location_of(problem.subject) if names[0] in rows else 'settings',
            subject=' and '.join(f'kvs.{name}' for name in names),
        )
        for problem, names in reporting.items()
    ]


async def _health_check(store: Store, limit: float) -> list[Problem]:
    """Check a store; while its server loads its data, wait, and check again."""
    deadline = monotonic() + limit_of(LOADING_SECONDS)
    is_logged = was_loading = False
    while True:
        try:
            async with asyncio.timeout(limit):
                return [*await store.health_check(), *_readable_failed_events(store)]
        except TimeoutError:
            message = f'did not answer within {limit:g} s: {store.location()}'
            return [Problem('KVS.E019', '', 'type', message, 'Check that it runs and can be reached.')]
        except KVSError as error:
            is_loading = await _is_loading(store, limit)
            if monotonic() >= deadline or not (is_loading or was_loading):  # it may have ended since the check failed
                paths = (o.name for o in store.OPTIONS if o.kind == 'path' and o not in store.COMMON)
                option = next(paths, 'type')
                return [Problem('KVS.E018', '', option, 'does not work', str(error))]
            was_loading = is_loading
        if not is_logged:
            is_logged = True
            log.warning(
                '%s is loading its data; the start waits for it, for %g s at most.', store.location(), LOADING_SECONDS
            )
        await asyncio.sleep(LOADING_PAUSE)


def _readable_failed_events(store: Store) -> list[Problem]:
    """Find a file of failed events that others can read: one that was copied there, or came from another system."""
    for path in sorted(Path(store.failed_events).glob(failed_events.PATTERN)):
        with suppress(OSError):
            if (readers := others_that_can_read(str(path), PRIVATE)) is not None:
                message = f'has events that {readers} can read: {path}'
                return [Problem('KVS.W020', '', 'failed_events', message, f'Run chmod go= {path}.')]
    return []


async def _is_loading(store: Store, limit: float) -> bool:
    with suppress(KVSError, TimeoutError):
        async with asyncio.timeout(limit):
            return await store.is_loading()
    return False
