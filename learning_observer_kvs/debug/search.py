"""Searches of many keys for a page: bounded in time, and resumed from where the page before ended.

What a page cannot see it says: a store that does not answer, or whose keys the viewer may not list, is named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug.parameters import json_in
from learning_observer_kvs.debug.views import KEY_CHARACTERS, store_of
from learning_observer_kvs.errors import InvalidKey, KVSError
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import Matches
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.pacing import TIME_SLICE
from learning_observer_kvs.stores.types import Page as ScanPage

T = TypeVar('T')

SEARCH_SECONDS = 2.0
"""How long a page searches; it then shows what was found, and links to the rest of the search. Each call of a store may
take as long."""

SCAN_KEYS = 1000
"""How many keys are looked at in one call of a store."""

FIRST_KEYS = 2
"""How many in the first one; then twice as many each time, as long as they are short: a key may have 1 MB."""

LAST_CHARACTER = '\U0010ffff'

NAME_CHARACTERS = 1 << 18
"""How many characters the names of a page have together."""


class Position(NamedTuple):
    """Where a search goes on: at a store, one of its prefixes, and a cursor of its scan."""

    store: str
    prefix: int
    cursor: str | None


class Search:
    """The keys of some stores that match, from one position to the next.

    Args:
        router: the stores.
        names: which stores, in order.
        begin: what the keys begin with, one scan for each.
        cursor: ``next_cursor`` of the page before; ``None`` begins.
        count: how many keys a call of a store looks at.
        first: how many the first call does, if not ``FIRST_KEYS``.

    Attributes:
        most: how many keys the next call of a store looks at, at most.
        seen: how many keys were looked at.
        failed: the message of each store that could not be searched, by name.
        errors: what each of them raised.

    Raises:
        InvalidKey: the cursor is not one of these stores.
    """

    def __init__(
        self,
        router: KVSRouter,
        names: Sequence[str],
        begin: Sequence[str],
        cursor: str | None,
        count: int = SCAN_KEYS,
        first: int = FIRST_KEYS,
    ) -> None:
        self._router = router
        self._begin = begin
        self.most = count
        self._count = min(first, count)
        self._rest = [(name, number) for name in names for number in range(len(begin))]
        self._cursor: str | None = None
        self.seen = 0
        self.failed: dict[str, str] = {}
        self.errors: dict[str, Exception] = {}
        if cursor is not None:
            position = _position(cursor)
            if (position.store, position.prefix) not in self._rest:
                raise InvalidKey('The cursor is not one of this search. Begin again without it.')
            del self._rest[: self._rest.index((position.store, position.prefix))]
            self._cursor = position.cursor

    @property
    def next_cursor(self) -> str | None:
        """Where the next page goes on; ``None`` at the end."""
        if not self._rest:
            return None
        return json_codec.encode([*self._rest[0], self._cursor]).decode()

    async def pages(
        self, matches: Matches, seconds: float | None = None
    ) -> AsyncGenerator[tuple[Store, str, list[str]], None]:
        """Search until the time of a page is over.

        Args:
            matches: whether a key is one that is searched for.
            seconds: how long; by default ``SEARCH_SECONDS``.

        Yields:
            The store, its name, and those of its next keys that match, which may be none.
        """
        ends = time.monotonic() + (SEARCH_SECONDS if seconds is None else seconds)
        is_first = True  # or a page that has no time would lead to one just like it
        while self._rest and (is_first or time.monotonic() < ends):
            is_first = False
            name, _ = self._rest[0]
            scanned = await self.ask(name, self._scan)
            if scanned is None:
                self._leave_out(name)
                continue
            keys, following = scanned
            fitting = self._count * KEY_CHARACTERS // (2 * sum(map(len, keys)) + 1)
            self._count = max(1, min(2 * self._count, self.most, fitting))  # of long keys fewer are looked at
            found = [key async for key in in_slices(keys) if matches(key)]
            self.seen += len(keys)
            self._cursor = following
            if following is None:
                del self._rest[0]
            yield store_of(self._router, name), name, list(dict.fromkeys(found))

    async def ask(self, name: str, call: Callable[[Store], Awaitable[T]]) -> T | None:
        """Ask a store something. One that does not answer within ``SEARCH_SECONDS`` is left out from then on.

        Args:
            name: the store's name.
            call: asks it.

        Returns:
            What the call returns; ``None`` where it failed, and ``failed`` then says why.

        Raises:
            InvalidKey: as the call does.
        """
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                return await call(store_of(self._router, name))
        except InvalidKey:
            raise
        except (KVSError, TimeoutError) as error:
            self.failed[name] = str(error) or f'It did not answer within {SEARCH_SECONDS:g} s.'
            self.errors[name] = error
            self._leave_out(name)
        return None

    async def _scan(self, store: Store) -> ScanPage:
        _, number = self._rest[0]
        return await store.scan(self._begin[number], self._cursor, min(self._count, self.most))

    def _leave_out(self, name: str) -> None:
        if self._rest and self._rest[0][0] == name:
            self._cursor = None
        self._rest = [rest for rest in self._rest if rest[0] != name]


def after_reducer_of(key: str) -> str:
    """Return the cursor after all keys of a reducer, in a store that has its keys in order.

    Args:
        key: one of them.
    """
    return ','.join(key.split(',', 2)[:2]) + ',' + LAST_CHARACTER


def progress(search: Search, refused: Iterable[str]) -> dict[str, Any]:
    """Return how much was searched, and what was not.

    Args:
        search: a search.
        refused: the stores whose keys the viewer may not list.
    """
    failed = {**search.failed, **dict.fromkeys(refused, 'You may not list its keys.')}
    return {
        'keys_seen': search.seen,
        'not_searched': [{'store': name, 'error': error} for name, error in failed.items()],
        'next_cursor': search.next_cursor,
    }


async def in_slices(keys: Iterable[str]) -> AsyncGenerator[str, None]:
    """Go through keys, and let the loop go on with other work now and then.

    Args:
        keys: the keys.
    """
    await asyncio.sleep(0)
    ends = time.monotonic() + TIME_SLICE
    for key in keys:
        yield key
        if time.monotonic() > ends:
            await asyncio.sleep(0)
            ends = time.monotonic() + TIME_SLICE


def _position(cursor: str) -> Position:
    match json_in(cursor):
        case [str(store), int(prefix), None | str() as inner]:
            return Position(store, prefix, inner)
    raise InvalidKey('The cursor is not one of this search. Begin again without it.')
