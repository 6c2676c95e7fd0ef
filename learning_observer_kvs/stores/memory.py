"""``type: stub``: lives in this process, gone on restart."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from itertools import islice, takewhile
from typing import ClassVar, Unpack
from weakref import WeakSet

from sortedcontainers import SortedList

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import check_position
from learning_observer_kvs.stores.types import CommonOptions, OnDone

MAX_PAGE = 1000
"""How many keys a page has at most."""

FREED_AT_ONCE = 10_000
"""How many texts are freed before the event loop has its turn."""


class InMemoryKVS(Store):
    """``type: stub``: a dictionary of JSON text; each instance has its own.

    Text and not objects, so that what a caller does to a value never changes the store. The keys stand in order
    besides, so that a page of them costs the same among a hundred and among a million. Event loops of several threads
    may share a store.
    """

    TYPE: ClassVar[str] = 'stub'
    SCAN_REPEATS: ClassVar[bool] = False
    IS_ORDERED: ClassVar[bool] = True
    IS_IMMEDIATE: ClassVar[bool] = True
    OPTIONS: ClassVar[tuple[Option, ...]] = Store.COMMON

    def __init__(self, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self._texts: dict[str, bytes] = {}
        self._order: SortedList[str] = SortedList()
        self._hidden: dict[str, bytes] = {}
        self._lock = threading.Lock()
        with _LIVE_LOCK:
            _LIVE.add(self)

    def location(self) -> str:
        """Return where the data lives, for messages."""
        return 'memory of this process'

    async def open_existing(self) -> None:
        """Raise, because what another process keeps in its memory cannot be opened.

        Raises:
            StoreMissing: always.
        """
        raise StoreMissing(
            f'The data of type {self.TYPE} is in the memory of the process that uses it, and cannot be seen from '
            'another one. /debug/kvs of that process shows it.'
        )

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the stored bytes of keys.

        Args:
            keys: valid keys.
        """
        if len(keys) == 1:
            return [self._texts.get(keys[0])]
        with self._lock:  # never one text of a commit and another from before it
            return [self._texts.get(key) for key in keys]

    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Write all or nothing, on condition; as :meth:`Store.commit_bytes`.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold; ``None`` for a key that must be missing.
        """
        return self.commit_bytes_now(writes, expected)

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
        deadline: float | None = None,
        resend_until: float | None = None,
    ) -> None:
        """Write on condition, and call back with the outcome before this returns.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold; ``None`` for a key that must be missing.
            on_done: gets the outcome.
            refresh: not used; nothing expires here.
            deadline: not used; nothing is waited for.
            resend_until: not used either.
        """
        on_done(self.commit_bytes_now(writes, expected))

    def commit_bytes_now(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Write all or nothing, on condition.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold; ``None`` for a key that must be missing.

        Returns:
            Whether the condition held and everything was written; otherwise nothing was.
        """
        with self._lock:
            texts = self._texts
            for key, text in expected.items():
                if texts.get(key) != text:
                    return False
            for key, text in writes.items():
                if text is None:
                    self._drop(key)
                else:
                    if key not in texts:
                        self._order.add(key)
                    texts[key] = text
        if self.listeners:
            self.announce(writes.keys())
        return True

    def read_bytes_now(self, key: str) -> bytes | None:
        """Return the stored bytes of a key.

        Args:
            key: the key.

        Returns:
            The bytes; ``None`` when missing.
        """
        return self._texts.get(key)

    async def _read_hidden(self, name: str) -> bytes | None:
        return self._hidden.get(name)

    async def _commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        with self._lock:
            if self._hidden.get(name) != expected:
                return False
            self._hidden.pop(name, None)
            if text is not None:
                self._hidden[name] = text
            return True

    async def _commit(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], deadline: float
    ) -> bool:
        return self.commit_bytes_now(writes, expected)

    async def _remove(self, key: str, deadline: float) -> bool:
        with self._lock:
            was_there = self._drop(key)
        if self.listeners and was_there:
            self.announce([key])
        return was_there

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        check_position(cursor, prefix)
        await asyncio.sleep(0)  # a scan is one call after the other; the event loop has its turn in between
        start, limit = prefix if cursor is None else cursor, min(limit, MAX_PAGE)
        with self._lock:
            page = list(islice(self._order.irange(start, inclusive=(cursor is None, True)), limit))
        found = list(takewhile(lambda key: key.startswith(prefix), page))
        return found, page[-1] if len(found) == limit else None

    async def _clear(self) -> None:
        texts = self._wipe()
        while len(texts) > FREED_AT_ONCE:  # a million at once would take a while
            for _ in range(FREED_AT_ONCE):
                texts.popitem()
            await asyncio.sleep(0)

    def wipe(self) -> None:
        """Remove everything at once, also while an event loop is not running.

        What ``flush_interval`` keeps of this store is forgotten, in every event loop; in one that runs in another
        thread as soon as it has its turn.
        """
        for overlay in self.overlays:
            overlay.discard()
        self._wipe()

    def _wipe(self) -> dict[str, bytes]:
        """Start anew; the texts there were."""
        with self._lock:
            texts, self._texts, self._order = self._texts, {}, SortedList()
        if self.listeners:
            self.announce(texts.keys())
        return texts

    def _drop(self, key: str) -> bool:
        if self._texts.pop(key, None) is None:
            return False
        self._order.remove(key)
        return True


_LIVE: WeakSet[InMemoryKVS] = WeakSet()
_LIVE_LOCK = threading.Lock()


def clear() -> None:
    """Wipe every in-memory store of the process, with what was not flushed yet; for use between tests."""
    with _LIVE_LOCK:
        stores = list(_LIVE)
    for store in stores:
        store.wipe()


def _replace_locks() -> None:
    """Another thread of the parent may have held one when it forked."""
    global _LIVE_LOCK
    _LIVE_LOCK = threading.Lock()
    for store in list(_LIVE):
        store._lock = threading.Lock()


os.register_at_fork(after_in_child=_replace_locks)
