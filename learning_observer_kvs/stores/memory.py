"""``type: stub``: lives in this process, gone on restart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import ClassVar, Unpack
from weakref import WeakSet

from learning_observer_kvs.stores.base import Committer, Common, Description, Store, Tell
from learning_observer_kvs.stores.options import Option


class InMemoryKVS(Store):
    """A dictionary of JSON text; each instance has its own.

    Text and not objects, so that what a caller does to a value never changes the store.
    """

    TYPE: ClassVar[str] = 'stub'
    OPTIONS: ClassVar[tuple[Option, ...]] = Store.COMMON

    def __init__(self, **common: Unpack[Common]) -> None:
        super().__init__(**common | {'cache_bytes': 0})  # reading costs nothing here
        self._texts: dict[str, bytes] = {}
        self._sorted: list[str] | None = None
        _LIVE.add(self)

    def place(self) -> str:
        return 'memory of this process'

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._texts.get(key) for key in keys]

    async def _commit(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        return self._write_now(writes, expected)

    def _committer(self) -> Committer:
        def begin(writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], tell: Tell) -> None:
            tell(self._write_now(writes, expected))

        return begin

    def _write_now(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        texts = self._texts
        for key, text in expected.items():
            if texts.get(key) != text:
                return False
        for key, text in writes.items():
            if text is None:
                self._drop(key)
            else:
                if key not in texts:
                    self._sorted = None
                texts[key] = text
        return True

    def _hot(self, key: str) -> tuple[bytes | None, bool]:
        return self._texts.get(key), False

    async def _remove(self, key: str) -> bool:
        return self._drop(key)

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        # Sorted once for all pages of a walk; a key that comes or goes in between asks for a new order only.
        if self._sorted is None:
            self._sorted = sorted(self._texts)
        keys = self._sorted
        start = bisect_left(keys, prefix) if cursor is None else bisect_right(keys, cursor)
        page = [key for key in keys[start : start + limit] if key.startswith(prefix)]
        return page, page[-1] if len(page) == limit else None

    async def _describe(self, key: str) -> Description | None:
        text = self._texts.get(key)
        return None if text is None else Description(len(text))

    async def _clear(self) -> None:
        self.wipe()

    def wipe(self) -> None:
        """Forget everything, now."""
        self._texts.clear()
        self._sorted = None

    def _drop(self, key: str) -> bool:
        if self._texts.pop(key, None) is None:
            return False
        self._sorted = None
        return True


_LIVE: WeakSet[InMemoryKVS] = WeakSet()


def clear() -> None:
    """Wipe every in-memory store of the process; for use between tests."""
    for store in list(_LIVE):
        store.wipe()
