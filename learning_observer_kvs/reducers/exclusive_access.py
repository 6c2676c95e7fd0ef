"""Reading and writing keys past the reducers: never between a reducer and the commit of its states."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from learning_observer_kvs.errors import Conflict
from learning_observer_kvs.stores.key_locks import Hold
from learning_observer_kvs.stores.pacing import MAX_TRIES


class Holding(Protocol):
    """What exclusive access asks of a worker."""

    def hold(self, keys: Collection[str] | None) -> Hold:
        """Return a hold of keys, and nothing else.

        Args:
            keys: the keys; ``None`` for every key.
        """

    def forget(self, keys: Collection[str] | None) -> None:
        """Forget the cached text of keys.

        Args:
            keys: the keys; ``None`` for every key.
        """


class Flushing(Holding, Protocol):
    """What it asks besides of a worker that delays its commits."""

    async def flush_held(self, keys: Collection[str] | None) -> bool:
        """Write what is pending of keys that are held.

        Args:
            keys: the keys; ``None`` for every key.

        Returns:
            Whether it was written; otherwise its events must be reduced again first, while the keys are not held.
        """

    def resume_flushes(self, keys: Collection[str] | None) -> None:
        """Begin the flushes that were asked for while keys were held.

        Args:
            keys: the keys; ``None`` for every key.
        """

    async def flush(self) -> None:
        """Write what is pending of all keys."""


W = TypeVar('W', bound=Holding)


class ExclusiveAccess(Generic[W]):
    """Exclusive access to keys past a worker, for an ``async with`` block.

    Args:
        worker: the worker.
        keys: the keys whose queues are held; ``None`` for every key.
    """

    __slots__ = ('_hold', '_keys', '_worker')

    def __init__(self, worker: W, keys: Collection[str] | None) -> None:
        self._worker = worker
        self._keys = keys
        self._hold = worker.hold(keys)

    async def __aenter__(self) -> Hold:
        return await self._hold.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also after a failure: what is there now is not known.
        self._worker.forget(self._keys)
        await self._hold.__aexit__(kind, error, trace)


class FlushedAccess(ExclusiveAccess[Flushing]):
    """The same once what is pending of the keys is written; arguments as for :class:`ExclusiveAccess`."""

    __slots__ = ()

    async def __aenter__(self) -> Hold:
        worker, keys = self._worker, self._keys
        for _ in range(MAX_TRIES):
            try:
                await self._hold.__aenter__()
                if await worker.flush_held(keys):
                    return self._hold
            except BaseException:
                await self._let_go()
                raise
            await self._let_go()
            await worker.flush()
            self._hold = worker.hold(keys)
        raise Conflict(f'Other processes kept writing what was pending; gave up after {MAX_TRIES} tries.')

    async def _let_go(self) -> None:
        await self._hold.__aexit__(None, None, None)
        self._worker.resume_flushes(self._keys)
