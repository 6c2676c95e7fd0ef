"""Reading and writing keys past the reducers: never between a reducer and the commit of its states."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Protocol

from learning_observer_kvs.stores.key_locks import Hold


class Worker(Protocol):
    """What exclusive access asks of a worker."""

    def hold(self, keys: Collection[str] | None) -> Hold:
        """Return a hold of keys, and nothing else.

        Args:
            keys: the keys; ``None`` for every key.
        """

    async def flush_held(self, keys: Collection[str] | None, hold: Hold) -> None:
        """Write what is pending of keys that are held.

        Args:
            keys: the keys; ``None`` for every key.
            hold: what holds them.
        """

    def forget(self, keys: Collection[str] | None) -> None:
        """Forget the cached text of keys.

        Args:
            keys: the keys; ``None`` for every key.
        """


class ExclusiveAccess:
    """Exclusive access to keys past a worker, for an ``async with`` block.

    Args:
        worker: the worker.
        keys: the keys whose queues are held; ``None`` for every key.
    """

    __slots__ = ('_hold', '_keys', '_worker')

    def __init__(self, worker: Worker, keys: Collection[str] | None) -> None:
        self._worker = worker
        self._keys = keys
        self._hold = worker.hold(keys)

    async def __aenter__(self) -> Hold:
        hold = await self._hold.__aenter__()
        try:
            await self._worker.flush_held(self._keys, hold)
        except BaseException as error:
            await hold.__aexit__(type(error), error, error.__traceback__)
            raise
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also after a failure: what is there now is not known.
        self._worker.forget(self._keys)
        await self._hold.__aexit__(kind, error, trace)
