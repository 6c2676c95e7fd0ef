"""The last committed text of hot keys, kept in the process so that they need not be read again.

A guess and never more: another process may have written since. Whoever computes from one must have it confirmed by
the condition of a commit, or by a read.
"""

from __future__ import annotations

from collections import OrderedDict


class Guesses:
    """Text by key, bounded in bytes; what was not committed for longest is dropped first.

    Args:
        limit: how many bytes of text and keys are kept; 0 keeps nothing.
    """

    __slots__ = ('_held', '_limit', '_texts', 'get')

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self.get = self._texts.get
        """The text that was committed last, as far as this process knows; ``None`` if it does not."""

    def __len__(self) -> int:
        return len(self._texts)

    def put(self, key: str, text: bytes) -> None:
        """Keep what was committed."""
        if not self._limit:
            return
        texts = self._texts
        before = texts.pop(key, None)
        self._held += len(key) + len(text) if before is None else len(text) - len(before)
        texts[key] = text
        while self._held > self._limit:
            dropped, text = texts.popitem(last=False)
            self._held -= len(dropped) + len(text)

    def forget(self, key: str) -> None:
        """Drop a key that somebody wrote."""
        text = self._texts.pop(key, None)
        if text is not None:
            self._held -= len(key) + len(text)

    def clear(self) -> None:
        """Drop everything."""
        self._texts.clear()
        self._held = 0
