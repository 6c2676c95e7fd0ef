"""How a store is read: by key, by page, as a whole; as this process knows it, with what it has not written yet."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, BinaryIO

from learning_observer_kvs.errors import CorruptValue, StoreUnavailable
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores import dump, suppression
from learning_observer_kvs.stores.backend import SCAN_KEYS
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.hidden import HiddenRecords
from learning_observer_kvs.stores.keys import check_key, check_keys, check_prefix
from learning_observer_kvs.stores.pacing import TIME_SLICE
from learning_observer_kvs.stores.types import Described, Description, Page

FIRST_CHUNK = 16
"""How many values ``dump`` reads at first; then as many as have ``CHUNK_BYTES``, as those before them were."""

CHUNK_BYTES = 1 << 20
"""Bytes of text that what reads many values has in memory at once, unless a single value has more."""

YEARS_1_TO_9999 = (-62_135_596_800, 253_402_300_800)
"""The times that can be written as a date, in seconds since the epoch; the second one is not among them."""


class ReadCalls(HiddenRecords):
    """The calls of a :class:`~learning_observer_kvs.stores.base.Store` that read, which see."""

    # ``await store[key]`` reads; iterating, or asking ``in``, would fall back on it and never end.
    __iter__ = None
    __contains__ = None

    async def __getitem__(self, key: str) -> JSON:
        """Return the value of a key: ``await store[key]``.

        Args:
            key: the key.

        Returns:
            A fresh copy of the caller's own; ``None`` when missing.

        Raises:
            InvalidKey: a key that no store takes.
            CorruptValue: what is stored is not JSON.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        [text] = await self._read_newest([check_key(key)])
        return None if text is None else self.decode(key, text)

    async def multiget(self, keys: Iterable[str], *, missing: Any = None) -> list[JSON]:
        """Return the values of many keys, in one round trip.

        Args:
            keys: the keys.
            missing: what stands for a key that is missing; ``MISSING`` tells it from a stored ``null``.

        Returns:
            The values in the order of the keys.

        Raises:
            InvalidKey: a key that no store takes.
            CorruptValue: what is stored under one of them is not JSON.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        wanted = check_keys(keys)
        texts = await self._read_newest(wanted) if wanted else []
        values, slice_ends = [], time.monotonic() + TIME_SLICE
        for key, text in zip(wanted, texts, strict=True):
            values.append(missing if text is None else self.decode(key, text))
            if time.monotonic() > slice_ends:
                await asyncio.sleep(0)
                slice_ends = time.monotonic() + TIME_SLICE
        return values

    async def keys(self, prefix: str = '') -> list[str]:
        """Return all keys that begin with a prefix, in no order.

        Args:
            prefix: any text; no character has a special meaning.

        Raises:
            InvalidKey: no key can begin so.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        found: dict[str, None] = {}
        async for page in self.pages(prefix):
            found.update(dict.fromkeys(page))
        return list(found)

    async def pages(self, prefix: str = '', limit: int = SCAN_KEYS) -> AsyncGenerator[list[str], None]:
        """Go through the keys that begin with a prefix, a page at a time, in bounded memory.

        Args:
            prefix: any text; no character has a special meaning.
            limit: about how many keys to look at for a page, 1 or more.

        Yields:
            Pages of keys, which may be empty. A key that is there throughout comes at least once, and on Redis perhaps
            twice. Those that ``flush_interval`` keeps in this process are the first page.

        Raises:
            ValueError: the limit is below 1.
            InvalidKey: no key can begin so.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do; each page is waited for.
        """
        _check_limit(limit)
        prefix = check_prefix(prefix)
        pending = self.overlay().pending_keys(prefix)
        if pending:
            yield list(pending)
        async for keys in self._scan_pages(prefix, limit):
            yield [key for key in keys if key not in pending] if pending else keys

    async def scan(self, prefix: str = '', cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of the keys that begin with a prefix.

        Args:
            prefix: any text; no character has a special meaning.
            cursor: that of the page before; ``None`` for the first page.
            limit: about how many keys to look at, 1 or more. A page may hold fewer or none, and on some backends a few
                more.

        Returns:
            The keys and the cursor of the next page. A key that is there throughout the scan comes at least once. Those
            that ``flush_interval`` keeps in this process and that are not written yet are all in the first page.

        Raises:
            ValueError: the limit is below 1.
            InvalidKey: no key can begin so, or the cursor is not one of this store.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        _check_limit(limit)
        prefix = check_prefix(prefix)
        if cursor is not None:
            cursor = check_prefix(cursor, 'cursor')
        new = set(await self._unwritten_keys(prefix)) if cursor is None else set()
        keys, following = await self._scan_until(prefix, cursor, limit)
        return Page([*new, *(key for key in keys if key not in new)] if new else keys, following)

    async def describe(self, key: str) -> Description | None:
        """Return what the backend knows of a key.

        Args:
            key: the key.

        Returns:
            Its size, time to live and time of writing; ``None`` when missing. Of a text that ``flush_interval`` still
            keeps in this process, the size alone.

        Raises:
            InvalidKey: a key that no store takes.
            CorruptValue: what is stored is not a text, such as a list in Redis.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        [found] = await self.describe_all([key])
        if isinstance(found, CorruptValue):
            raise found
        return found

    async def describe_all(self, keys: Iterable[str]) -> list[Described]:
        """Return what the backend knows of many keys, in few round trips; no value is read.

        Args:
            keys: the keys.

        Returns:
            As for :meth:`describe`, in the order of the keys; in the place of a key for which that raises
            ``CorruptValue``, the error.

        Raises:
            InvalidKey: a key that no store takes.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        wanted = check_keys(keys)
        pending = self.overlay().pending(wanted)
        found: dict[str, Described] = {key: Description(len(text)) for key, text in pending.items()}
        rest = [key for key in wanted if key not in pending]
        for start in range(0, len(rest), SCAN_KEYS):
            some = rest[start : start + SCAN_KEYS]
            described = await self._retried(functools.partial(self._describe, some))
            found.update(zip(some, map(_in_the_calendar, described), strict=True))
        return [found[key] for key in wanted]

    async def dump(
        self,
        filename: str | os.PathLike[str] | BinaryIO | None = None,
        prefix: str = '',
        *,
        allow_empty: bool = True,
        progress: Callable[[int], None] = lambda entries: None,
    ) -> Any:
        """Return everything, or write it to a file, as this process knows it.

        Args:
            filename: a path, where a file with one JSON object appears whole or not at all, or a binary file that is
                open. Values are in memory a few at a time; of a backend that may give a key twice (Redis), all keys.
                Where students were erased, the file has the record of that under the empty key, and what has been
                written of those who returned.
            prefix: only keys that begin with it.
            allow_empty: whether a file that is there may be replaced although there is no entry.
            progress: called with how many entries were written since the last call.

        Returns:
            Without a file a dict; with one the number of entries written.

        Raises:
            InvalidKey: no key can begin with the prefix.
            CorruptValue: what is stored under a key is not JSON, or the record of erased students is damaged.
            InvalidValue: it can be read, but a file cannot hold it: another program wrote ``NaN``, or nested too deep.
            DumpFileError: the file cannot be written, or was left as it is because there is no entry.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        if filename is None:
            return {key: value async for key, value in self._entries(prefix)}
        erased = await suppression.read(self)  # before the entries: what comes later is newer
        entries = self._entries(prefix)
        return await dump.write(
            filename,
            self._committed(entries, suppression.Admissions(erased, self.name)) if erased else entries,
            self.encode,
            suppressed=erased.as_json(),
            allow_empty=allow_empty,
            progress=progress,
        )

    # Inside

    async def _read_newest(self, keys: Sequence[str], *, is_urgent: bool = True) -> list[bytes | None]:
        """The texts of keys, as this process knows them; while an urgent read is under way, reducers run for less long.

        It needs a few turns of the event loop, each of which comes after a slice of the reducers.
        """
        began, overlay = time.monotonic(), self.overlay()
        overlay.urgent_reads += is_urgent
        try:
            pending = overlay.pending(keys)
            if not pending:
                try:
                    return await self.read_bytes(keys)
                except StoreUnavailable as error:
                    deadline = deadline_after(self.retry_timeout, began)
                    return await self._read_again(lambda: self.read_bytes(keys), deadline, error)
            rest = [key for key in keys if key not in pending]
            found: dict[str, bytes | None] = {**pending}
            if rest:
                deadline = deadline_after(self.retry_timeout, began)
                found |= zip(rest, await self.read_until(deadline, rest), strict=True)
            return [found[key] for key in keys]
        finally:
            overlay.urgent_reads -= is_urgent

    async def _unwritten_keys(self, prefix: str) -> list[str]:
        """The keys that this process knows and the backend does not."""
        pending = list(self.overlay().pending_keys(prefix))
        if not pending:
            return pending
        texts = await self.read_until(deadline_after(self.retry_timeout), pending)
        return [key for key, text in zip(pending, texts, strict=True) if text is None]

    async def _entries(self, prefix: str) -> AsyncIterator[tuple[str, JSON]]:
        chunk, slice_ends = FIRST_CHUNK, time.monotonic() + TIME_SLICE
        async for page in each_once(self, self.pages(prefix)):
            while page:
                some, page = page[:chunk], page[chunk:]
                texts = await self._read_newest(some, is_urgent=False)  # of a whole dump
                size = sum(len(text) for text in texts if text is not None)
                chunk = max(1, min(2 * chunk, SCAN_KEYS, chunk * CHUNK_BYTES // (size + 1)))
                for key, text in zip(some, texts, strict=True):
                    if text is not None:  # gone since the page was read
                        yield key, self.decode(key, text)
                    if time.monotonic() > slice_ends:
                        await asyncio.sleep(0)
                        slice_ends = time.monotonic() + TIME_SLICE

    async def _committed(
        self, entries: AsyncIterator[tuple[str, JSON]], erased: suppression.Admissions
    ) -> AsyncIterator[tuple[str, JSON]]:
        """The entries; of erased students as the backend has them, as what is pending may stand on what was erased."""
        async for key, value in entries:
            if erased.is_of_erased(key):
                [text] = await self.read_until(deadline_after(self.retry_timeout), [key])
                if text is not None:
                    yield key, self.decode(key, text)
            else:
                yield key, value


async def each_once(store: ReadCalls, pages: AsyncGenerator[list[str], None]) -> AsyncGenerator[list[str], None]:
    """Leave out of pages of keys what came before. Where the backend may repeat keys, all of them are in memory.

    Args:
        store: the store.
        pages: of its keys; closed at the end.

    Yields:
        The pages, without what came before.
    """
    seen: set[str] = set()
    async with aclosing(pages):
        async for page in pages:
            if store.SCAN_REPEATS:
                page = [key for key in dict.fromkeys(page) if key not in seen]
                seen.update(page)
            yield page


async def in_chunks(
    store: ReadCalls, keys: Sequence[str], most_bytes: int | None = None
) -> AsyncGenerator[dict[str, int], None]:
    """Split keys so that the values of each part have ``CHUNK_BYTES`` together, unless a single one has more.

    Args:
        store: the store, which is asked for the sizes.
        keys: the keys, each once.
        most_bytes: the largest value that the caller reads; larger ones do not count.

    Yields:
        The parts, in order: for each key the bytes of its value.
    """
    part: dict[str, int] = {}
    total = 0
    for key, found in zip(keys, await store.describe_all(keys), strict=True):
        size = found.bytes if isinstance(found, Description) else 0
        is_read = most_bytes is None or size <= most_bytes
        if part and is_read and total + size > CHUNK_BYTES:
            yield part
            part, total = {}, 0
        part[key] = size
        total += size if is_read else 0
    if part:
        yield part


async def texts_or_errors(store: ReadCalls, keys: Sequence[str]) -> list[bytes | CorruptValue | None]:
    """Read keys of which some may not hold a text.

    Args:
        store: the store.
        keys: the keys.

    Returns:
        The stored text of each, ``None`` where there is none; where it cannot be read, the error.

    Raises:
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    try:
        return [*await store.read_until(deadline_after(store.retry_timeout), keys)]
    except CorruptValue as error:
        return [error] if len(keys) == 1 else [text for key in keys for text in await texts_or_errors(store, [key])]


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ValueError(f'limit is {limit}; it must be 1 or more.')


def _in_the_calendar(description: Described) -> Described:
    """A description without a time that is not one: another program may have written it, or set it for a file."""
    if not isinstance(description, Description) or description.written is None:
        return description
    first, end = YEARS_1_TO_9999
    is_time = isinstance(description.written, (int, float)) and first <= description.written < end
    return description if is_time else description._replace(written=None)
