"""Stores that a router has replaced or removed, until they are flushed and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import TypeAlias
from weakref import WeakKeyDictionary

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.closing import close_connections, close_stores
from learning_observer_kvs.stores.redis.connection import RedisConnection

log = logging.getLogger('learning_observer_kvs')

Group: TypeAlias = dict[Store, RedisConnection | None]
"""Stores that lost their place at once, each with its connection if no other store uses that."""


class RetiredStores:
    """Flushes and closes stores: in a running event loop at once, by tasks that are held here; else in :meth:`close`.

    An error while a store is closed is logged. Stores whose loop ended before they were closed wait for :meth:`close`,
    and so do those that are used again by what still refers to them, such as the open connection of a student, or in
    another event loop.
    """

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[Store, RedisConnection | None] = WeakKeyDictionary()
        self._waiting: list[Group] = []
        self._tasks: dict[asyncio.Task[None], Group] = {}

    def add(self, stores: Mapping[Store, RedisConnection | None]) -> None:
        """Close stores that are no longer used, now or in :meth:`close`.

        Args:
            stores: the stores, whose buffered writes are flushed; each with a connection that is to be closed
                afterwards, if no other store uses it.
        """
        if stores:
            self._all.update(stores)
            self._start_or_wait(dict(stores))

    def reuse(self, store: Store) -> RedisConnection | None:
        """Leave a store open that is used again, unless it is being closed already.

        Args:
            store: the store.

        Returns:
            The connection that was to be closed with it.
        """
        for group in self._waiting:
            group.pop(store, None)
        return self._all.pop(store, None)

    async def close(self) -> None:
        """Close every store that waits, and wait for those that are being closed in the running event loop."""
        for task in [task for task in self._tasks if task.get_loop().is_closed()]:
            self._waiting.append(self._tasks.pop(task))
        waiting, self._waiting = self._waiting, []
        for group in [*waiting, dict(self._used_again(waiting))]:
            if group:
                self._start_or_wait(group)
        here = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is here]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _used_again(self, waiting: list[Group]) -> Iterator[tuple[Store, RedisConnection | None]]:
        """Yield the stores that something is left of in this event loop, and that are not going to be closed anyway."""
        for store, connection in list(self._all.items()):
            if store.overlays.peek() is not None and not any(
                store in group for group in [*waiting, *self._tasks.values()]
            ):
                yield store, connection

    def _start_or_wait(self, group: Group) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._waiting.append(group)
            return
        task = loop.create_task(_close(group))
        self._tasks[task] = group
        task.add_done_callback(self._on_closed)

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        group = self._tasks.pop(task)
        if task.cancelled():
            self._waiting.append(group)
        elif error := task.exception():
            listed = ', '.join(map(repr, group))
            log.error('%s was replaced or removed, and could not be closed: %s', listed, error, exc_info=error)


async def _close(group: Group) -> None:
    connections = [connection for connection in group.values() if connection is not None]
    try:
        await close_stores(group)
    except (Exception, asyncio.CancelledError):  # but not what is collected after the end of its loop
        await close_connections(connections)
        raise
    await close_connections(connections)
