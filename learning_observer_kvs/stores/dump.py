"""Dump files: one JSON object, an entry a line, so that a file of any size is written and read in bounded memory.

Of a store that knows of erased students it has one line more, ``"": {"suppressed": …}``: a store accepts no empty key.
What such a dump has of those students came after they were erased.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, DumpFileError, InvalidKey, InvalidValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.keys import check_key

WRITE_BUFFER_BYTES = 1 << 20
"""Bytes that :func:`write` collects before it writes them to the file."""

CHUNK_ENTRIES = 500
"""Entries in a chunk of :func:`read`, at most."""

CHUNK_BYTES = 256 << 10
"""Bytes of lines after which a chunk ends earlier."""

READER_INTERVAL = 0.05
"""Seconds after which it is tried again to open a FIFO that no process reads yet."""

ABOUT, SUPPRESSED = '', 'suppressed'
"""What is not an entry, and its only member: the record of the erased students of the store."""

Entries: TypeAlias = dict[str, JSON]
SizedEntries: TypeAlias = tuple[Entries, int]
"""The entries of a line of a file, and the line's bytes."""


class _NotByLines(Exception):
    """A file that is not as :func:`write` writes it, an entry a line; it may be a valid dump all the same."""


async def write(
    filename: str | os.PathLike[str] | BinaryIO,
    entries: AsyncIterator[tuple[str, JSON]],
    encode: Callable[[str, JSON], bytes],
    *,
    suppressed: JSON = None,
    allow_empty: bool = True,
    progress: Callable[[int], None] = lambda entries: None,
) -> int:
    """Write entries to a file, which appears whole or not at all and is readable for this user alone.

    Args:
        filename: as for :func:`write_whole`.
        entries: keys and values.
        encode: encodes a key's value as JSON text; its errors name the key.
        suppressed: the record of the erased students of the store, read before its entries; ``None`` if it has none.
        allow_empty: whether a file that exists is replaced although there is no entry.
        progress: called with how many entries were written since the last call.

    Returns:
        How many entries were written.

    Raises:
        DumpFileError: the file cannot be written, or was left as it is because there is no entry.
    """

    async def write_to(file: BinaryIO) -> int:
        about = None if suppressed is None else json_codec.encode({SUPPRESSED: suppressed})
        return await _write_to(file, entries, encode, about, progress)

    return await write_whole(filename, write_to, allow_empty=allow_empty)


async def write_whole(
    filename: str | os.PathLike[str] | BinaryIO,
    write_to: Callable[[BinaryIO], Awaitable[int]],
    *,
    allow_empty: bool = True,
) -> int:
    """Write a file that appears whole or not at all and is readable for this user alone.

    Args:
        filename: the file; one that exists is replaced, also at the end of links, which stay. What is not a regular
            file, such as a device or a FIFO, and a binary file that is open are written to as they are.
        write_to: writes to a file that is open, and returns how many entries it wrote.
        allow_empty: whether a file that exists is replaced although there is no entry.

    Returns:
        How many entries were written.

    Raises:
        DumpFileError: the file cannot be written, or was left as it is because there is no entry.
    """
    if not isinstance(filename, (str, os.PathLike)):
        return await write_to(filename)
    given = Path(filename)
    try:
        if await asyncio.to_thread(is_written_in_place, given):
            with _Unbuffered(await _open_in_place(given), 'wb') as stream:
                return await write_to(stream)
        target = Path(await asyncio.to_thread(os.path.realpath, given))
        descriptor, unfinished = tempfile.mkstemp(dir=target.parent, prefix=f'.{target.name[:100]}.')
        try:
            with os.fdopen(descriptor, 'wb') as file:
                count = await write_to(file)
                if not count and not allow_empty and await asyncio.to_thread(os.path.lexists, target):
                    raise DumpFileError(f'There is no entry to write; {given} was left as it is.')
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(os.replace, unfinished, target)
        except BaseException:
            with suppress(FileNotFoundError):  # cancelled while it was renamed
                os.unlink(unfinished)
            raise
    except OSError as error:
        raise DumpFileError(f'{given} cannot be written: {error.strerror or error}. Give another path.') from None
    return count


def is_written_in_place(path: str | os.PathLike[str]) -> bool:
    """Return whether :func:`write` writes into what is at a path, where it would replace a regular file.

    Args:
        path: the path; links are followed. ``/dev/stdout`` may be a file that has no name any more.

    Raises:
        OSError: it cannot be told.
    """
    try:
        found = os.stat(path)
        return not stat.S_ISREG(found.st_mode) or not os.path.samestat(found, os.stat(os.path.realpath(path)))
    except FileNotFoundError:
        return os.path.exists(path)


async def _open_in_place(path: Path) -> int:
    """Open what is at a path for writing; wait for the reader of a FIFO, without a thread that cannot be cancelled."""
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            await asyncio.sleep(READER_INTERVAL)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


class _Unbuffered(io.FileIO):
    """A file without a lock, so that it can be closed while a thread waits until more can be written."""

    def write(self, text: Any, /) -> int:
        """Write all of a text.

        Args:
            text: the bytes.

        Returns:
            How many there are.
        """
        rest = memoryview(text)
        while rest:
            rest = rest[super().write(rest) :]
        return len(text)


async def _write_to(
    file: BinaryIO,
    entries: AsyncIterator[tuple[str, JSON]],
    encode: Callable[[str, JSON], bytes],
    about: bytes | None,
    progress: Callable[[int], None],
) -> int:
    """Write entries to a file that is open, and flush it; how many were written."""
    count, buffer = 0, bytearray(b'{')
    if about is not None:
        buffer += b'\n' + json_codec.encode(ABOUT) + b': ' + about
    async for key, value in entries:
        buffer += b',\n' if count or about is not None else b'\n'
        buffer += json_codec.encode(key) + b': ' + encode(key, value)
        count += 1
        progress(1)
        if len(buffer) > WRITE_BUFFER_BYTES:
            await asyncio.to_thread(file.write, bytes(buffer))
            buffer.clear()
    buffer += b'\n}\n'
    await asyncio.to_thread(_write_rest, file, bytes(buffer))
    return count


async def opened(filename: str | os.PathLike[str], name: str | None = None) -> DumpFile:
    """Read a dump file through, and validate all of it.

    Args:
        filename: the file; it need not have been written by :func:`write`, but others are read as a whole.
        name: what messages call the file; by default its path.

    Raises:
        DumpFileError: the file cannot be read, or is not one JSON object of valid keys and values; the message says
            where.
    """
    source, name = Path(filename), name or str(filename)
    try:
        return DumpFile(name, *await asyncio.to_thread(_validated, source, name))
    except OSError as error:
        raise DumpFileError(f'{name} cannot be read: {error.strerror or error}. Nothing was loaded.') from None


class DumpFile:
    """A dump file that is valid; see :func:`opened`.

    Attributes:
        name: what messages call the file.
        suppressed: the record of the erased students of the store that was dumped, as it is in the file; ``None`` if
            there is none.
    """

    def __init__(self, name: str, suppressed: JSON, chunks: Iterator[Entries]) -> None:
        self.name = name
        self.suppressed = suppressed
        self._chunks = chunks

    async def read(self, store: Callable[[Entries], Awaitable[None]]) -> int:
        """Pass the entries on, a chunk at a time.

        Args:
            store: stores a chunk of entries.

        Returns:
            How many entries were stored.

        Raises:
            DumpFileError: the file changed while it was loaded; the message says how much was stored.
        """
        count = 0
        while True:
            try:
                chunk = await asyncio.to_thread(next, self._chunks, None)
            except (_NotByLines, OSError):
                raise DumpFileError(
                    f'{self.name} changed while it was loaded; {count:,} of its entries were stored. Load it again.'
                ) from None
            if chunk is None:
                return count
            await store(chunk)
            count += len(chunk)


def _write_rest(file: BinaryIO, rest: bytes) -> None:
    file.write(rest)
    file.flush()


def _validated(source: Path, name: str) -> tuple[JSON, Iterator[Entries]]:
    """Validate a whole file; its entries are read again, line by line if it is written so."""
    try:
        return _validate(name, _by_lines(source)), _chunks(_by_lines(source))
    except _NotByLines:
        whole = _as_a_whole(source, name)
        return _validate(name, [(whole, 0)]), _chunks(({key: value}, 0) for key, value in whole.items())


def _validate(name: str, lines: Iterable[SizedEntries]) -> JSON:
    """Validate the entries; the record of erased students."""
    number, suppressed = 0, None
    for entries, _ in lines:
        for key, value in entries.items():
            if key == ABOUT and isinstance(value, dict) and value.keys() == {SUPPRESSED}:
                suppressed = value[SUPPRESSED]
                continue
            number += 1
            try:
                check_key(key)
                json_codec.encode(value)
            except (InvalidKey, InvalidValue) as error:
                raise DumpFileError(f'{name}, entry {number} ({key[:100]!r}): {error} Nothing was loaded.') from None
    return suppressed


def _chunks(lines: Iterable[SizedEntries]) -> Iterator[Entries]:
    chunk, size = Entries(), 0
    for entries, line_bytes in lines:
        entries.pop(ABOUT, None)
        chunk |= entries
        size += line_bytes
        if len(chunk) >= CHUNK_ENTRIES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def _as_a_whole(source: Path, name: str) -> Entries:
    """The entries of a file in any other layout, in memory all at once."""
    try:
        entries = json_codec.decode(source.read_bytes())
    except CorruptValue as error:
        raise DumpFileError(f'{name} {error}. A dump is one JSON object. Nothing was loaded.') from None
    if not isinstance(entries, dict):
        raise DumpFileError(
            f'{name} holds a JSON {type(entries).__name__}; a dump is one object of keys and values. '
            'Nothing was loaded.'
        )
    return entries


def _by_lines(source: Path) -> Iterator[SizedEntries]:
    """The entries of a file that is written as :func:`write` writes it.

    Raises:
        _NotByLines: it is not, from some line on.
    """
    with source.open('rb') as lines:
        if next(lines, b'') != b'{\n':
            raise _NotByLines
        comma = None
        for line in lines:
            if line == b'}\n' and not comma and next(lines, None) is None:
                return
            if comma is False:
                raise _NotByLines
            comma = line.endswith(b',\n')
            try:
                entries = json_codec.decode(b'{' + line.strip().removesuffix(b',') + b'}')
            except CorruptValue:
                raise _NotByLines from None
            yield entries, len(line)
    raise _NotByLines
