"""Closing stores and their connections within a bounded time, with a line about what it waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable
from typing import Any

from learning_observer_kvs.stores.base import CLOSE_TIMEOUT, Store
from learning_observer_kvs.stores.redis.connection import RedisConnection

log = logging.getLogger('learning_observer_kvs')

CLOSING = CLOSE_TIMEOUT + 1.5
"""Seconds that closing takes at most: those in which stores finish what is under way, and the rest for connections."""

CLOSING_CONNECTIONS = 0.5
"""Seconds in which connections are closed."""

LOGGED_AFTER = 1.0
"""Seconds after which a line says what closing waits for."""


async def close_stores(stores: Iterable[Store]) -> None:
    """Flush and close stores at the same time, in somewhat less than ``CLOSING`` seconds.

    A store that takes longer is given up, which is logged; it can be used like one that was not closed. So can all of
    them if this is cancelled.

    Args:
        stores: the stores.

    Raises:
        Exception: the first error of a store; the others are closed all the same.
    """
    tasks = {_start(store.close()): store for store in dict.fromkeys(stores)}
    try:
        if waiting := await _unfinished(tasks, LOGGED_AFTER):
            log.warning('Closing waits for %s.', _listed(tasks[task] for task in waiting))
        if waiting := await _unfinished(waiting, CLOSING - 2 * CLOSING_CONNECTIONS - LOGGED_AFTER):
            log.error('Closing gives up waiting for %s.', _listed(tasks[task] for task in waiting))
    except asyncio.CancelledError:
        _cancel(tasks)
        raise
    _cancel(waiting)
    for task in tasks:
        if error := _error_of(task):
            raise error


async def close_connections(connections: Iterable[RedisConnection]) -> None:
    """Close connections at the same time, in ``CLOSING_CONNECTIONS`` seconds at most.

    Args:
        connections: connections that no store uses any more.
    """
    _cancel(await _unfinished([_start(each.close()) for each in dict.fromkeys(connections)], CLOSING_CONNECTIONS))


def _start(closing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(closing)
    task.add_done_callback(_error_of)  # which asyncio would log as one that was never retrieved
    return task


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


async def _unfinished(tasks: Collection[asyncio.Task[None]], seconds: float) -> Collection[asyncio.Task[None]]:
    """Wait for tasks, and return those that have not ended in that time."""
    return (await asyncio.wait(tasks, timeout=seconds))[1] if tasks else ()


def _listed(stores: Iterable[Store]) -> str:
    return ', '.join(f'{store!r} ({store.busy_keys()} keys are busy)' for store in stores)
