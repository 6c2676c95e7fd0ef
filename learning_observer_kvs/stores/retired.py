"""Stores that a router has replaced or removed, until they are flushed and closed."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis.connection import RedisConnection

log = logging.getLogger('learning_observer_kvs')


class RetiredStores:
    """Flushes and closes stores: in a running event loop at once, by tasks that are held here; else in :meth:`close`.

    An error while a store is closed is logged. A store whose loop ended before it was closed waits for :meth:`close`.
    """

    def __init__(self) -> None:
        self._waiting: list[_Retired] = []
        self._tasks: dict[asyncio.Task[None], _Retired] = {}

    def add(self, store: Store, connection: RedisConnection | None = None) -> None:
        """Close a store that is no longer used, now or in :meth:`close`.

        Args:
            store: the store; its buffered writes are flushed.
            connection: a connection that no other store uses, to be closed after it.
        """
        self._start_or_wait(_Retired(store, connection))

    def reuse(self, store: Store) -> RedisConnection | None:
        """Leave a store open that is used again, if it is waiting to be closed.

        Args:
            store: the store.

        Returns:
            The connection that was to be closed with it.
        """
        for retired in self._waiting:
            if retired.store is store:
                self._waiting.remove(retired)
                return retired.connection
        return None

    async def close(self) -> None:
        """Close every store that waits, and wait for those that are being closed in the running event loop."""
        for task in [task for task in self._tasks if task.get_loop().is_closed()]:
            self._waiting.append(self._tasks.pop(task))
        waiting, self._waiting = self._waiting, []
        for retired in waiting:
            self._start_or_wait(retired)
        here = asyncio.get_running_loop()
        await asyncio.gather(*(task for task in self._tasks if task.get_loop() is here), return_exceptions=True)

    def _start_or_wait(self, retired: _Retired) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._waiting.append(retired)
            return
        task = loop.create_task(close_store(retired.store, retired.connection))
        self._tasks[task] = retired
        task.add_done_callback(self._on_closed)

    def _on_closed(self, task: asyncio.Task[None]) -> None:
        retired = self._tasks.pop(task)
        if task.cancelled():
            self._waiting.append(retired)
        elif error := task.exception():
            log.error('%r was replaced or removed, and could not be closed: %s', retired.store, error, exc_info=error)


async def close_store(store: Store, connection: RedisConnection | None) -> None:
    """Flush and close a store, and then its connection.

    Args:
        store: the store.
        connection: a connection that no other store uses, if it has one.

    Raises:
        Exception: the error of the store; the connection is closed all the same.
    """
    try:
        await store.close()
    finally:
        if connection is not None:
            await connection.close()


class _Retired(NamedTuple):
    store: Store
    connection: RedisConnection | None
