"""Messages between the server and its helper process: a pickle, and beside it each long text, which is not copied."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from typing import Any

LONG_TEXT = 1 << 12
"""From how many bytes on a text stands beside the pickle."""

CHUNK = 1 << 16
"""Bytes that are given to a pipe, or to a connection, at once."""

COUNT = struct.Struct('>I')
"""How a message begins: the number of its parts. Then come their sizes, then the parts."""

_SIZE = struct.Struct('>Q')


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.texts: list[bytes] = []

    def persistent_id(self, part: Any) -> int | None:
        if type(part) is bytes and len(part) >= LONG_TEXT:
            self.texts.append(part)
            return len(self.texts) - 1
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, texts: Sequence[bytes]) -> None:
        super().__init__(file)
        self._texts = texts

    def persistent_load(self, pid: Any) -> bytes:
        text: bytes = self._texts[pid]
        return text


def packed(value: Any) -> list[bytes]:
    """Return a message.

    Args:
        value: what it says.

    Returns:
        Its head, and its parts; the long texts among them are those of the value.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    parts = [file.getvalue(), *pickler.texts]
    return [COUNT.pack(len(parts)) + b''.join(_SIZE.pack(len(part)) for part in parts), *parts]


def unpacked(parts: Sequence[bytes]) -> Any:
    """Return what a message says.

    Args:
        parts: its parts, without the head.
    """
    return _Unpickler(io.BytesIO(parts[0]), parts[1:]).load()


def sizes_of(text: bytes) -> list[int]:
    """Return the sizes of the parts of a message.

    Args:
        text: what its head has after the count.
    """
    return [size for (size,) in _SIZE.iter_unpack(text)]


def bytes_of_sizes(count: int) -> int:
    """Return how many bytes the sizes of the parts take in the head.

    Args:
        count: how many parts there are.
    """
    return count * _SIZE.size


def in_chunks(text: bytes) -> list[bytes]:
    """Return a text in pieces, each of which is copied in no time.

    Args:
        text: the text.
    """
    return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
