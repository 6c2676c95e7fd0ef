"""A first-in-first-out lock for each key, there only while somebody holds or wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.stores.keys import display_key


class KeyLocks:
    """Locks by key, of one event loop each: what excludes tasks of different loops is the store's compare, not this."""

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Counted]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return sum(map(len, self._by_loop.values()))

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Wait for the turn, then hold the key's lock for the block.

        Raises:
            ReducerError: this task holds it already.
        """
        locks = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        counted = locks.get(key)
        if counted is None:
            counted = locks[key] = _Counted()
        task = asyncio.current_task()
        if counted.holder is task:
            raise ReducerError(
                f'An update of {display_key(key)} updates its own key; it would wait for itself for ever.'
            )
        counted.users += 1
        try:
            async with counted.lock:
                counted.holder = task
                try:
                    yield
                finally:
                    counted.holder = None
        finally:
            counted.users -= 1
            if not counted.users:
                del locks[key]


class _Counted:
    __slots__ = ('holder', 'lock', 'users')

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.holder: asyncio.Task[Any] | None = None
