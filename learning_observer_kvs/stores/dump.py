"""Dump files: one JSON object, an entry a line, so that a file of any size is written and read in bounded memory."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, DumpFileError, InvalidKey, InvalidValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.keys import check_key

BLOCK = 1 << 20
"""Bytes gathered before the disk is touched."""

PORTION = 500
"""Entries that :func:`read` hands on at once, at most."""

PORTION_BYTES = 256 << 10
"""Bytes of lines after which it hands on fewer."""

Entries: TypeAlias = dict[str, JSON]


class _OtherForm(Exception):
    """A file that :func:`write` did not write; it may be a dump all the same."""


async def write(
    filename: str | os.PathLike[str],
    entries: AsyncIterator[tuple[str, JSON]],
    encode: Callable[[str, JSON], bytes],
) -> int:
    """Write entries to a file that appears whole or not at all, readable for this user alone; their number.

    Args:
        filename: where.
        entries: keys and values.
        encode: gives the text of a value, or an error that names its key.

    Raises:
        DumpFileError: it cannot be written there.
    """
    target = Path(filename)
    try:
        number, unfinished = tempfile.mkstemp(dir=target.parent, prefix=f'.{target.name[:100]}.')
        try:
            with os.fdopen(number, 'wb') as handle:
                count, block = 0, bytearray(b'{')
                async for key, value in entries:
                    block += b',\n' if count else b'\n'
                    block += json_codec.encode(key) + b': ' + encode(key, value)
                    count += 1
                    if len(block) > BLOCK:
                        await asyncio.to_thread(handle.write, bytes(block))
                        block.clear()
                block += b'\n}\n'
                await asyncio.to_thread(_finish, handle, bytes(block))
            await asyncio.to_thread(os.replace, unfinished, target)
        except BaseException:
            with suppress(FileNotFoundError):  # cancelled while it was put in its place
                os.unlink(unfinished)
            raise
    except OSError as error:
        raise DumpFileError(f'{target} cannot be written: {error.strerror}. Choose another place.') from None
    return count


async def read(filename: str | os.PathLike[str], store: Callable[[Entries], Awaitable[None]]) -> int:
    """Read a file through, and only if all of it is right hand its entries to ``store``; their number.

    Raises:
        DumpFileError: it cannot be read, or is not one JSON object of valid keys and values; with the place where that
            shows. Nothing was handed on, unless the file changed meanwhile; then it says how much.
    """
    source = Path(filename)
    try:
        portions = await asyncio.to_thread(_verified, source)
    except OSError as error:
        raise DumpFileError(f'{source} cannot be read: {error.strerror}. Nothing was loaded.') from None
    count = 0
    while True:
        try:
            portion = await asyncio.to_thread(next, portions, None)
        except (_OtherForm, OSError):
            raise DumpFileError(
                f'{source} changed while it was loaded; {count:,} of its entries were stored. Load it again.'
            ) from None
        if portion is None:
            return count
        await store(portion)
        count += len(portion)


def _finish(handle: BinaryIO, rest: bytes) -> None:
    handle.write(rest)
    handle.flush()
    os.fsync(handle.fileno())


def _verified(source: Path) -> Iterator[Entries]:
    """The entries of a file in portions, when all were read once and found right."""
    try:
        _verify(source, _lines(source))
    except _OtherForm:
        everything = _whole(source)
        _verify(source, iter([everything]))
        return _portions(({key: value}, 0) for key, value in everything.items())
    return _portions(_sized_lines(source))


def _verify(source: Path, portions: Iterator[Entries]) -> None:
    number = 0
    for portion in portions:
        for key, value in portion.items():
            number += 1
            try:
                check_key(key)
                json_codec.encode(value)
            except (InvalidKey, InvalidValue) as error:
                raise DumpFileError(f'{source}, entry {number} ({key[:100]!r}): {error} Nothing was loaded.') from None


def _portions(sized: Iterator[tuple[Entries, int]]) -> Iterator[Entries]:
    portion, size = Entries(), 0
    for entries, more in sized:
        portion |= entries
        size += more
        if len(portion) >= PORTION or size >= PORTION_BYTES:
            yield portion
            portion, size = {}, 0
    if portion:
        yield portion


def _whole(source: Path) -> Entries:
    try:
        everything = json_codec.decode(source.read_bytes())
    except CorruptValue as error:
        raise DumpFileError(f'{source} {error}. A dump is one JSON object. Nothing was loaded.') from None
    if not isinstance(everything, dict):
        raise DumpFileError(
            f'{source} holds a JSON {type(everything).__name__}; a dump is one object of keys and values. '
            'Nothing was loaded.'
        )
    return everything


def _lines(source: Path) -> Iterator[Entries]:
    return (entries for entries, _ in _sized_lines(source))


def _sized_lines(source: Path) -> Iterator[tuple[Entries, int]]:
    """The entries of a file that is written as :func:`write` does it, each with the bytes of its line.

    Raises:
        _OtherForm: it is not, from some line on.
    """
    with source.open('rb') as lines:
        if next(lines, b'') != b'{\n':
            raise _OtherForm
        comma = None
        for line in lines:
            if line == b'}\n' and not comma and next(lines, None) is None:
                return
            if comma is False:
                raise _OtherForm
            comma = line.endswith(b',\n')
            try:
                entries = json_codec.decode(b'{' + line.strip().removesuffix(b',') + b'}')
            except CorruptValue:
                raise _OtherForm from None
            yield entries, len(line)
    raise _OtherForm
