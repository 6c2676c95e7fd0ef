"""Finding every place that holds the id of a student, in bounded memory."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path

from learning_observer_kvs import erasure_rules as rules
from learning_observer_kvs.arguments import several
from learning_observer_kvs.erasure_rules import Part
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy import event_files
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.reads import in_chunks, texts_or_errors

LARGE = 1 << 16
"""From how many bytes on a value is judged in a thread, so that the event loop goes on with other work."""

MAX_UNRECOGNIZED = 100_000
"""How many files are searched that look like keys of a store and are not, so that no call finds them."""

MAX_MESSAGES = 20
"""How many keys of a store that cannot be read are named."""

Found = Callable[[Iterable[str]], None]
Missed = Callable[[str], None]


async def find(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    folders: Iterable[str | os.PathLike[str]] = (),
    aliases: Found = lambda found: None,
    on_missed: Missed = lambda text: None,
    progress: Callable[[int], None] = lambda keys: None,
) -> AsyncIterator[Place]:
    """Find every place that holds the id of a student.

    Args:
        stores: the stores by name.
        ids: the student's.
        folders: folders of study logs and failed events, searched with all below them.
        aliases: called with what mappings, rosters and events call the student besides; perhaps in another thread.
        on_missed: called with a sentence about what is not searched: links that lead out of the folders, files that
            are compressed by another program than gzip, keys that hold what is not a text, such as a list of Redis.
        progress: called with how many keys and files were looked at since the last call.

    Yields:
        The places. Of a store on Redis one may come twice.

    Raises:
        StoreUnavailable, Overloaded: a store cannot be used.
        EventFileError: a file cannot be read.
        ValueError: ``folders`` is a single one.
    """
    searched = several(folders, 'folders')
    for name, store in stores.items():
        async for place in _in_store(name, store, ids, aliases, on_missed, progress):
            yield place
    files = event_files.below(searched, on_missed)
    while (path := await asyncio.to_thread(next, files, None)) is not None:
        place_of_file = await asyncio.to_thread(_in_file, path, ids, aliases, on_missed)
        progress(1)
        if place_of_file is not None:
            yield place_of_file


async def _in_store(
    name: str, store: Store, ids: Ids, aliases: Found, on_missed: Missed, progress: Callable[[int], None]
) -> AsyncIterator[Place]:
    await store.flush()  # what this process keeps is searched, too
    unreadable = 0
    async with aclosing(store.pages()) as pages:
        async for page in pages:
            async for keys in in_chunks(store, list(dict.fromkeys(page))):
                for key, text in zip(keys, await texts_or_errors(store, keys), strict=True):
                    judged = functools.partial(_parts, name, store, key, text, ids, aliases)
                    is_large = isinstance(text, bytes) and len(text) > LARGE
                    if parts := await asyncio.to_thread(judged) if is_large else judged():
                        yield Place(store.location(), tuple(parts), name, key)
                    elif isinstance(text, CorruptValue):
                        unreadable += 1
                        if unreadable <= MAX_MESSAGES:
                            on_missed(str(text))
                progress(len(keys))
                await asyncio.sleep(0)
    if unreadable > MAX_MESSAGES:
        on_missed(f'{unreadable - MAX_MESSAGES:,} more keys of store {name!r} ({store.location()}) cannot be read.')
    for path in await store.unrecognized(MAX_UNRECOGNIZED):
        place = await asyncio.to_thread(_in_file, Path(path), ids, aliases, on_missed)
        if place is not None:
            yield place


def _in_file(path: Path, ids: Ids, aliases: Found, on_missed: Missed) -> Place | None:
    if path.is_symlink():  # among the files of a store
        on_missed(event_files.not_followed(str(path)))
        return None
    return event_files.find(path, ids, aliases, on_missed)


def _parts(
    name: str, store: Store, key: str, text: bytes | CorruptValue | None, ids: Ids, aliases: Found
) -> list[Part]:
    if text is None:  # gone since the page was read
        return []
    if not isinstance(text, bytes) or not ids.may_be_in(text):
        return rules.parts_of_key(ids, name, key)
    try:
        value = store.decode(key, text)
    except CorruptValue:
        return rules.parts_of_key(ids, name, key) or [Part((), None)]
    parts = rules.parts_of_value(ids, name, key, value)
    if parts:
        aliases(rules.aliases_in(ids, key, value))
    return parts
