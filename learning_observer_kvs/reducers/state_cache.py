"""The last committed text of the keys in use, kept in the process so that they need not be read again.

It may be out of date: another process may have written since. What is computed from it counts only once the condition
of a commit, or a read, has confirmed it.
"""

from __future__ import annotations

from collections import OrderedDict


class StateCache:
    """Text by key, bounded in bytes; what was committed longest ago is dropped first.

    Args:
        limit: how many bytes of text and keys are kept; 0 keeps nothing.

    Attributes:
        bytes: how many are kept.
    """

    __slots__ = ('_limit', '_texts', 'bytes', 'get')

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self.get = self._texts.get
        """Return the text that was committed last, as far as this process knows; ``None`` if it does not."""

    def __len__(self) -> int:
        return len(self._texts)

    def put(self, key: str, text: bytes) -> None:
        """Keep what was committed.

        Args:
            key: the key.
            text: its JSON text.
        """
        if not self._limit:
            return
        texts = self._texts
        before = texts.pop(key, None)
        self.bytes += len(key) + len(text) if before is None else len(text) - len(before)
        texts[key] = text
        while self.bytes > self._limit:
            dropped, text = texts.popitem(last=False)
            self.bytes -= len(dropped) + len(text)

    def forget(self, key: str) -> None:
        """Drop a key.

        Args:
            key: the key.
        """
        text = self._texts.pop(key, None)
        if text is not None:
            self.bytes -= len(key) + len(text)

    def clear(self) -> None:
        """Drop everything."""
        self._texts.clear()
        self.bytes = 0
