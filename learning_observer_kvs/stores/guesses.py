"""The last committed text of hot keys, kept in the process so that they need not be read again.

A guess and never more: another process may have written since. Whoever computes from one must have it confirmed by
the condition of a commit, or by a read.
"""

from __future__ import annotations


class Guesses:
    """Text by key, bounded in bytes; what was not used for long is dropped first.

    Two generations instead of a list in order of use: what is used moves to the young one; when that has taken half
    the bytes, the old one is dropped and the young one grows old. No bookkeeping on a hit but one move.

    Args:
        limit: how many bytes of text and keys both generations may hold; 0 keeps nothing.
    """

    __slots__ = ('_held', '_limit', '_old', '_young')

    def __init__(self, limit: int) -> None:
        self._limit = limit // 2
        self._held = 0
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: str) -> bytes | None:
        """The text that was committed last, as far as this process knows."""
        text = self._young.get(key)
        if text is None:
            text = self._old.pop(key, None)
            if text is not None:
                self.put(key, text)
        return text

    def put(self, key: str, text: bytes) -> None:
        """Keep what was committed."""
        if not self._limit:
            return
        before = self._young.get(key)
        self._held += len(text) - len(before) if before is not None else len(text) + len(key)
        if self._held > self._limit:
            self._old, self._young, self._held = self._young, {}, len(text) + len(key)
            if self._held > self._limit:
                self._old.pop(key, None)
                self._held = 0
                return
        self._young[key] = text
        if self._old:
            self._old.pop(key, None)

    def forget(self, key: str) -> None:
        """Drop a key that somebody wrote."""
        before = self._young.pop(key, None)
        if before is not None:
            self._held -= len(before) + len(key)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Drop everything."""
        self._young, self._old, self._held = {}, {}, 0
