"""What lies over a store in one event loop: texts newer than the backend's, and exclusive access to keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from learning_observer_kvs.stores.key_locks import Hold, KeyLocks

NOTHING: Mapping[str, bytes] = {}
"""What is pending where writes are not delayed."""


class Overlay(Protocol):
    """What a layer above a store, such as that of the reducers, adds to it in one event loop.

    Attributes:
        urgent_reads: how many reads are under way that callers wait for; counted by the store.
    """

    urgent_reads: int

    def pending(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Return the texts that are newer than what the backend holds.

        Args:
            keys: of which keys.

        Returns:
            Text by key; a key that has none is left out.
        """

    def pending_keys(self, prefix: str) -> Set[str]:
        """Return the keys that :meth:`pending` has a text of, as they are now.

        Args:
            prefix: what they begin with.
        """

    def exclusive(self, keys: Collection[str] | None) -> AbstractAsyncContextManager[Hold]:
        """Return an async context manager for a block that reads or writes keys past this layer.

        On entering, these keys' queues are held and what is pending of them is written; on leaving, what this layer
        remembers of them is forgotten.

        Args:
            keys: the keys; ``None`` for every key there is or may come.

        Returns:
            The context manager. Entering it raises ``ReducerError`` where the wait would depend on the caller itself,
            ``Overloaded`` where too many wait already, and whatever keeps pending texts from being written; then
            nothing is held.
        """

    async def flush(self) -> None:
        """Write what is pending of all keys.

        Raises:
            StoreUnavailable, WriteUnclear, Conflict: it could not be written; it is kept and written later.
        """

    def discard(self) -> None:
        """Forget what is pending, and write nothing of it. It may be called from another thread."""

    async def close(self, timeout: float) -> None:
        """Accept no more work, and finish what is under way.

        Args:
            timeout: seconds after which the rest is given up, and logged.
        """


class PlainOverlay:
    """The overlay of a store that no other layer has attached one to: exclusive access alone.

    Args:
        locks: the locks of the store in this event loop.
        texts: what is newer than the backend, by key, as it is at any time.
    """

    urgent_reads = 0

    def __init__(self, locks: KeyLocks, texts: Mapping[str, bytes] = NOTHING) -> None:
        self._locks = locks
        self._pending_texts = texts

    def pending(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Return the texts that are newer than the backend's.

        Args:
            keys: of which keys.
        """
        texts = self._pending_texts
        return {key: texts[key] for key in keys if key in texts} if texts else texts

    def pending_keys(self, prefix: str) -> Set[str]:
        """Return the keys whose texts are newer than the backend's.

        Args:
            prefix: what they begin with.
        """
        return {key for key in self._pending_texts if key.startswith(prefix)}

    def exclusive(self, keys: Collection[str] | None) -> AbstractAsyncContextManager[Hold]:
        """Return a context manager that holds keys.

        Args:
            keys: the keys; ``None`` for every key.
        """
        return self._locks.hold(keys)

    async def flush(self) -> None:
        """Do nothing: nothing is pending."""

    def discard(self) -> None:
        """Do nothing: nothing is pending."""

    async def close(self, timeout: float) -> None:
        """Do nothing: no work of this layer is under way.

        Args:
            timeout: seconds.
        """
