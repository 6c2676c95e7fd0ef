"""Dump files: one JSON object, an entry a line, so that a file of any size is written and read in bounded memory."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from learning_observer_kvs import jsontext
from learning_observer_kvs.errors import CorruptValue, DumpFileError, InvalidKey, InvalidValue
from learning_observer_kvs.jsontext import JSON
from learning_observer_kvs.stores.key import check_key

_BLOCK = 1 << 20
"""Bytes gathered before the disk is touched."""

_AT_ONCE = 500
"""Entries stored in one write by :func:`read`."""


async def write(filename: str | os.PathLike[str], entries: AsyncIterator[tuple[str, JSON]]) -> int:
    """Write entries to a file that appears whole or not at all; their number."""
    target = Path(filename)
    number, unfinished = await asyncio.to_thread(tempfile.mkstemp, dir=target.parent, prefix=f'.{target.name}.')
    try:
        with os.fdopen(number, 'wb') as handle:
            count, block = 0, bytearray(b'{')
            async for key, value in entries:
                block += b'\n' if not count else b',\n'
                block += jsontext.encode(key) + b': ' + jsontext.encode(value)
                count += 1
                if len(block) > _BLOCK:
                    await asyncio.to_thread(handle.write, bytes(block))
                    block.clear()
            block += b'\n}\n'
            await asyncio.to_thread(_finish, handle, bytes(block))
        await asyncio.to_thread(os.replace, unfinished, target)
    except BaseException:
        os.unlink(unfinished)
        raise
    return count


async def read(filename: str | os.PathLike[str], store: Callable[[dict[str, JSON]], Awaitable[None]]) -> int:
    """Read a file through, and only if all of it is right hand its entries to ``store``; their number.

    Raises:
        DumpFileError: it is not one JSON object of valid keys and values, with the line where that shows.
    """
    source = Path(filename)
    await asyncio.to_thread(_verify, source)
    count, portion = 0, dict[str, JSON]()
    entries = _entries(source)
    while (entry := await asyncio.to_thread(next, entries, None)) is not None:
        portion[entry[0]] = entry[1]
        count += 1
        if len(portion) == _AT_ONCE:
            await store(portion)
            portion = {}
    if portion:
        await store(portion)
    return count


def _finish(handle: BinaryIO, rest: bytes) -> None:
    handle.write(rest)
    handle.flush()
    os.fsync(handle.fileno())


def _verify(source: Path) -> None:
    for number, (key, value) in enumerate(_entries(source), 1):
        try:
            check_key(key)
            jsontext.encode(value)
        except (InvalidKey, InvalidValue) as error:
            raise DumpFileError(f'{source}, entry {number} ({key[:100]!r}): {error} Nothing was loaded.') from None


def _entries(source: Path) -> Iterator[tuple[str, JSON]]:
    """The entries of a file: line by line where it is written so, else of the whole of it."""
    if _entry_a_line(source):
        with source.open('rb') as lines:
            for line in lines:
                if line.strip() not in (b'{', b'}'):
                    yield from _entry(line).items()
        return
    try:
        everything = jsontext.decode(source.read_bytes())
    except CorruptValue as error:
        raise DumpFileError(f'{source} {error}. A dump is one JSON object. Nothing was loaded.') from None
    if not isinstance(everything, dict):
        raise DumpFileError(
            f'{source} holds a JSON {type(everything).__name__}; a dump is one object of keys and values. '
            'Nothing was loaded.'
        )
    yield from everything.items()


def _entry_a_line(source: Path) -> bool:
    """Whether a file has the form that :func:`write` gives it, to the last line."""
    with source.open('rb') as lines:
        if next(lines, b'') != b'{\n':
            return False
        after_comma = True
        for line in lines:
            if line == b'}\n':
                return next(lines, None) is None
            try:
                if not after_comma or len(_entry(line)) != 1:
                    return False
            except CorruptValue:
                return False
            after_comma = line.endswith(b',\n')
    return False


def _entry(line: bytes) -> dict[str, JSON]:
    return jsontext.decode(b'{' + line.strip().removesuffix(b',') + b'}')  # type: ignore[no-any-return]
