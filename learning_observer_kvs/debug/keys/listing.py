"""The keys of a store as a list: filtered, page by page, each with what is known of it and a part of its value.

A page ends where it is full, perhaps within what one call of a store returned; its cursor then has the digest of the
last key that was looked at. Where that key is gone meanwhile, the keys of that call come again: none is left out.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug import views
from learning_observer_kvs.debug.keys import within_values
from learning_observer_kvs.debug.keys.filter import KeyFilter, has_text
from learning_observer_kvs.debug.keys.rows import AUTHORIZE_SECONDS, Row, Viewer, rows_of
from learning_observer_kvs.debug.keys.within_values import Needle
from learning_observer_kvs.debug.parameters import json_in
from learning_observer_kvs.debug.search import SCAN_KEYS, Search
from learning_observer_kvs.debug.views import store_of
from learning_observer_kvs.errors import InvalidKey, KVSError, StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.types import Described, Description

SORTS = ('key', 'bytes', 'written')
"""What a list is sorted by: the store's own order, the largest first, the latest first."""

READ_AT_ONCE = 500
"""How many values are read in one call to be looked into, with ``BYTES_AT_ONCE`` at most."""

BYTES_AT_ONCE = 1 << 20


class KeyList(NamedTuple):
    """A page of a list.

    Attributes:
        rows: the keys.
        seen: how many keys were looked at.
        unread: how many values were not looked into, because they are too long or may not be read.
        next_cursor: where the list goes on; ``None`` at its end.
        is_whole: whether all keys were looked at, where the list is sorted.
    """

    rows: list[Row]
    seen: int
    unread: int
    next_cursor: str | None
    is_whole: bool = True


class KeyLists:
    """Makes lists of the keys of a store.

    Args:
        router: the stores.
        name: the store's name.
        wanted: which keys.
        viewer: who looks.

    Raises:
        NotFound: there is no such store.
    """

    def __init__(self, router: KVSRouter, name: str, wanted: KeyFilter, viewer: Viewer) -> None:
        self._router = router
        self._name = name
        self._store = store_of(router, name)
        self._wanted = wanted
        self._viewer = viewer
        self._turn = viewer.turns[name]
        self._unread = 0
        self._known: dict[str, Described] = {}

    async def page(self, cursor: str | None, limit: int, seconds: float) -> KeyList:
        """Return a page in the store's own order.

        Args:
            cursor: ``next_cursor`` of the page before; ``None`` for the first.
            limit: how many keys at most.
            seconds: how long it looks for them.

        Raises:
            InvalidKey: the cursor is not one of this list, or no key can begin with the prefix.
            StoreUnavailable, Overloaded: the store cannot be used.
        """
        matches = self._wanted.matches()
        inner, passed = _position(cursor)
        count = min(limit, SCAN_KEYS) if self._wanted._replace(prefix='') == KeyFilter() else SCAN_KEYS
        search = Search(self._router, [self._name], self._wanted.begins(self._store), inner, count, count)
        found: dict[str, str | None] = {}
        characters, here, following, again = 0, search.next_cursor, None, 0
        ends = time.monotonic() + seconds
        async with aclosing(search.pages(matches, seconds)) as pages:
            async for _, _, keys in pages:
                # In order, because what is not written yet comes first, in none, and in its place once it is written.
                before, keys, passed = len(keys), _after(sorted(keys), passed), None
                again += before - len(keys)
                looked, new = await self._matching(keys, limit - len(found), ends)
                for position, key in enumerate(new):
                    characters += len(key)
                    if characters > views.KEY_CHARACTERS and found:
                        looked = keys.index(key)
                        new = dict(list(new.items())[:position])
                        break
                    found[key] = new[key]
                if looked < len(keys):
                    following = _cursor(here, keys[looked - 1] if looked else None)
                    again += len(keys) - looked
                    break
                if len(found) >= limit or self._viewer.has_gone():
                    break
                here = search.next_cursor
        self._raise_failure(search)
        if following is None and search.next_cursor is not None:
            following = _cursor(search.next_cursor, None)
        return KeyList(
            await rows_of(self._store, self._viewer, found, self._known), search.seen - again, self._unread, following
        )

    async def sorted_by(self, sort: str, limit: int, seconds: float) -> KeyList:
        """Return the keys with the most bytes, or those that were written last.

        Args:
            sort: ``bytes`` or ``written``.
            limit: how many.
            seconds: how long the keys are gone through; among those that were looked at are the ones returned.

        Raises:
            InvalidKey: no key can begin with the prefix.
            StoreUnavailable, Overloaded: the store cannot be used.
        """
        search = Search(self._router, [self._name], self._wanted.begins(self._store), None, first=SCAN_KEYS)
        best: dict[tuple[float, str], Description] = {}
        async with aclosing(search.pages(self._wanted.matches(), seconds)) as pages:
            async for store, _, keys in pages:
                async with self._turn:
                    described = await store.describe_all(keys)
                for key, known in zip(keys, described, strict=True):
                    if isinstance(known, Description) and (value := getattr(known, sort)) is not None:
                        best[value, key] = known
                best = dict(heapq.nlargest(limit, best.items()))
                if self._viewer.has_gone():
                    break
        self._raise_failure(search)
        while sum(len(key) for _, key in best) > views.KEY_CHARACTERS and len(best) > 1:
            best.popitem()
        self._known = {key: known for (_, key), known in best.items()}
        rows = await rows_of(self._store, self._viewer, dict.fromkeys(self._known), self._known)
        return KeyList(rows, search.seen, 0, None, search.next_cursor is None)

    def _raise_failure(self, search: Search) -> None:
        for error in search.errors.values():
            raise error if isinstance(error, KVSError) else StoreUnavailable(search.failed[self._name])

    async def _matching(self, keys: Sequence[str], limit: int, ends: float) -> tuple[int, dict[str, str | None]]:
        """How many keys were looked at, and those that match: with the part of the value where it was read."""
        if not self._wanted.looks_inside:
            taken = keys[:limit]
            return len(taken), dict.fromkeys(taken)
        found: dict[str, str | None] = {}
        needle, is_in_key = Needle(self._wanted.text), has_text(self._wanted.text)
        async with self._turn:
            described = await self._store.describe_all(keys)
        start = 0
        while start < len(keys):
            if len(found) >= limit or (start and time.monotonic() > ends) or self._viewer.has_gone():
                break
            end = _end_of_group(described, start)
            readable = await self._readable(keys[start:end], described[start:end], ends)
            some = keys[start : start + len(readable)]
            hits = await self._hits(needle, [key for key, may_be in zip(some, readable, strict=True) if may_be])
            for number, key in enumerate(some, start + 1):
                if key in hits or is_in_key(key):
                    found[key] = hits.get(key)
                    self._known[key] = described[number - 1]
                if len(found) >= limit:
                    return number, found
            start += len(some)
        return start, found

    async def _readable(self, keys: Sequence[str], described: Sequence[Described], ends: float) -> list[bool]:
        """Which values are looked into: of the first keys, as many as there is time to ask for.

        It is asked before they are read: even how many of those that have a text may not be read says what is in them.
        """
        readable: list[bool] = []
        ends = max(ends, time.monotonic() + AUTHORIZE_SECONDS)
        for key, description in zip(keys, described, strict=True):
            if readable and time.monotonic() > ends:
                break
            is_value = isinstance(description, Description)
            is_short = isinstance(description, Description) and description.bytes <= within_values.LONGEST_VALUE
            readable.append(is_short and await self._viewer.may_read(key))
            self._unread += is_value and not readable[-1]
        return readable

    async def _hits(self, needle: Needle, keys: Sequence[str]) -> dict[str, str]:
        """Those of some values that have the text, with the part that has it."""
        viewer = self._viewer
        async with self._turn:
            found = zip(keys, await views.texts_of(self._store, keys), strict=True)
            texts = [(key, raw) for key, raw in found if raw]
            hits: dict[str, str] = await viewer.computed(
                [raw for _, raw in texts], within_values.look, viewer.mask, needle, texts
            )
        return hits


def _end_of_group(described: Sequence[Described], start: int) -> int:
    """Up to where values are read in one call."""
    size = 0
    for end in range(start, min(len(described), start + READ_AT_ONCE)):
        description = described[end]
        if isinstance(description, Description) and description.bytes <= within_values.LONGEST_VALUE:
            size += description.bytes
        if size > BYTES_AT_ONCE and end > start:
            return end
    return min(len(described), start + READ_AT_ONCE)


def _after(keys: list[str], passed: str | None) -> list[str]:
    """The keys after the one with a digest; all of them if it is gone."""
    if passed is not None:
        for number, key in enumerate(keys):
            if _digest(key) == passed:
                return keys[number + 1 :]
    return keys


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def _cursor(inner: str | None, last: str | None) -> str:
    """A position of a search, as text, with the key after which the list goes on there."""
    position = [] if inner is None else json_in(inner)
    return json_codec.encode([*position, None if last is None else _digest(last)]).decode()


def _position(cursor: str | None) -> tuple[str | None, str | None]:
    if cursor is None:
        return None, None
    match json_in(cursor):
        case [str() as name, int() as prefix, None | str() as inner, None | str() as passed]:
            return json_codec.encode([name, prefix, inner]).decode(), passed
    raise InvalidKey('The cursor is not one of this list. Begin again without it.')
