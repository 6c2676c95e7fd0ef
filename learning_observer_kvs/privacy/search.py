"""Finding every place that holds the id of a student, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeAlias

from learning_observer_kvs import erasure_rules as rules
from learning_observer_kvs import json_codec
from learning_observer_kvs.arguments import several
from learning_observer_kvs.erasure_rules import Part
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy import event_files
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.pacing import TIME_SLICE
from learning_observer_kvs.stores.reads import in_chunks, texts_or_errors

FIRST_KEYS = 16
"""How many keys are looked at together at first; then as many as have ``KEY_CHARACTERS``."""

MAX_KEYS = 1000

KEY_CHARACTERS = 1 << 18
"""How many characters the keys have that are looked at together, unless a single one has more."""

LARGE = 1 << 16
"""From how many bytes on a value is judged in a thread, so that the event loop goes on with other work."""

MAX_UNRECOGNIZED = 100_000
"""How many files are searched that look like keys of a store and are not, so that no call finds them."""

MAX_MESSAGES = 20
"""How many keys of a store that cannot be read are named."""

Found = Callable[[Iterable[str]], None]
Missed = Callable[[str], None]

Compute: TypeAlias = Callable[..., Awaitable[Any]]
"""Calls a function outside of the event loop: with how many bytes it looks into, and then its arguments."""


async def in_thread(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread.

    Args:
        size: how many bytes it looks into, which is left out of account.
        function: the function.
        arguments: its arguments.

    Returns:
        What it returns.
    """
    return await asyncio.to_thread(function, *arguments)


async def find(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    folders: Iterable[str | os.PathLike[str]] = (),
    aliases: Found = lambda found: None,
    on_missed: Missed = lambda text: None,
    progress: Callable[[int], None] = lambda keys: None,
    most_bytes: int | None = None,
    compute: Compute = in_thread,
) -> AsyncIterator[Place]:
    """Find every place that holds the id of a student.

    Args:
        stores: the stores by name.
        ids: the student's.
        folders: folders of study logs and failed events, searched with all below them.
        aliases: called with what mappings, rosters and events call the student besides.
        on_missed: called with a sentence about what is not searched: links that lead out of the folders, files that
            are compressed by another program than gzip, keys that hold what is not a text, such as a list of Redis.
        progress: called with how many keys and files were looked at since the last call.
        most_bytes: the largest value that is read; of larger ones only the keys are looked at, and those that do not
            name the student are named by ``on_missed``.
        compute: calls what looks into large values, and into files.

    Yields:
        The places. Of a store on Redis one may come twice.

    Raises:
        StoreUnavailable, Overloaded: a store cannot be used.
        EventFileError: a file cannot be read.
        ValueError: ``folders`` is a single one.
    """
    searched = several(folders, 'folders')
    for name, store in stores.items():
        async for place in _in_store(name, store, ids, aliases, on_missed, progress, most_bytes, compute):
            yield place
    files = event_files.below(searched, on_missed)
    while (path := await asyncio.to_thread(next, files, None)) is not None:
        place_of_file = await _in_file(path, ids, aliases, on_missed, compute)
        progress(1)
        if place_of_file is not None:
            yield place_of_file


async def _in_store(
    name: str,
    store: Store,
    ids: Ids,
    aliases: Found,
    on_missed: Missed,
    progress: Callable[[int], None],
    most_bytes: int | None,
    compute: Compute,
) -> AsyncIterator[Place]:
    await store.flush()  # what this process keeps is searched, too
    missed, slice_ends = 0, time.monotonic() + TIME_SLICE

    def miss(text: str) -> None:
        nonlocal missed
        missed += 1
        if missed <= MAX_MESSAGES:
            on_missed(text)

    async with aclosing(_pages(store)) as pages:
        async for page in pages:
            async for sizes in in_chunks(store, list(dict.fromkeys(page)), most_bytes):
                large = {key for key, size in sizes.items() if most_bytes is not None and size > most_bytes}
                to_read = [key for key in sizes if key not in large]
                texts = iter(await texts_or_errors(store, to_read) if to_read else [])
                for key, bytes_of_value in sizes.items():
                    text = None if key in large else next(texts)
                    of_text = len(text) if isinstance(text, bytes) else 0
                    if len(key) + of_text > LARGE:
                        judged = await compute(len(key) + of_text, _judged, name, key, text, key in large, ids)
                    else:
                        judged = _judged(name, key, text, key in large, ids)
                    parts, others = judged
                    aliases(others)
                    if parts:
                        yield Place(store.location(), tuple(parts), name, key)
                    elif key in large:
                        miss(
                            f'Store {name}: the value of {display_key(key)} has {bytes_of_value:,} bytes, too many '
                            'to be searched.'
                        )
                    elif isinstance(text, CorruptValue):
                        miss(str(text))
                    if time.monotonic() > slice_ends:
                        await asyncio.sleep(0)
                        slice_ends = time.monotonic() + TIME_SLICE
                progress(len(sizes))
    if missed > MAX_MESSAGES:
        on_missed(f'{missed - MAX_MESSAGES:,} more keys of store {name!r} ({store.location()}) cannot be read.')
    for path in await store.unrecognized(MAX_UNRECOGNIZED):
        place = await _in_file(Path(path), ids, aliases, on_missed, compute)
        if place is not None:
            yield place


async def _in_file(path: Path, ids: Ids, aliases: Found, on_missed: Missed, compute: Compute) -> Place | None:
    place, others, missed = await compute(await asyncio.to_thread(size_of, path), _searched, path, ids)
    aliases(others)
    for text in missed:
        on_missed(text)
    found: Place | None = place
    return found


def size_of(path: Path) -> int:
    """Return how many bytes a file has; 0 where that is not known: reading it says why.

    Args:
        path: the file.
    """
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _searched(path: Path, ids: Ids) -> tuple[Place | None, set[str], list[str]]:
    """The place in a file, what else the student is called there, and what is not searched."""
    if path.is_symlink():  # among the files of a store
        return None, set(), [event_files.not_followed(str(path))]
    others, missed = set[str](), list[str]()
    return event_files.find(path, ids, others.update, missed.append), others, missed


async def _pages(store: Store) -> AsyncGenerator[list[str], None]:
    """The keys of a store, fewer at a time where they are long: that of a memoized result has a whole essay."""
    cursor, count = None, FIRST_KEYS
    while True:
        keys, cursor = await store.scan('', cursor, count)
        yield keys
        if cursor is None:
            return
        count = max(1, min(2 * count, MAX_KEYS, count * KEY_CHARACTERS // (sum(map(len, keys)) + 1)))


def _judged(
    name: str, key: str, text: bytes | CorruptValue | None, is_unread: bool, ids: Ids
) -> tuple[list[Part], set[str]]:
    """The parts of what is stored under a key that name the student, and what else they are called there."""
    if isinstance(text, CorruptValue) or is_unread:
        return rules.parts_of_key(ids, name, key), set()
    if text is None:  # gone since the page was read
        return [], set()
    if not ids.may_be_in(text):
        return rules.parts_of_key(ids, name, key), set()
    try:
        value = json_codec.decode(text)
    except CorruptValue:
        return rules.parts_of_key(ids, name, key) or [Part((), None)], set()
    parts = rules.parts_of_value(ids, name, key, value)
    return parts, rules.aliases_in(ids, key, value) if parts else set()
