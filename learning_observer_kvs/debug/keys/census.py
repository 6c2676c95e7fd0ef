"""How many keys and bytes a store has, by reducer. A count that takes long goes on with each page that asks for it.

Counting takes a twentieth of the time at most: what was counted in 40 ms is shown for 0.8 s, what was counted in 3 s
for a minute.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterable
from contextlib import aclosing
from weakref import WeakKeyDictionary

from learning_observer_kvs.debug.keys.groups import Group, Groups
from learning_observer_kvs.debug.pace import Pace
from learning_observer_kvs.debug.search import SCAN_KEYS, Search, after_reducer_of, in_slices
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import every_key
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import Description
from learning_observer_kvs.stream_analytics.keys import parse_key

COUNT_SECONDS = 0.04
"""How long the keys of a store are counted for a page; then it says how many there are at least."""

SURVEY_SECONDS = 0.01
"""How long a store that has its keys in order is looked through for its reducers, before they are counted."""

SURVEY_KEYS = 20
"""How many keys of a reducer are passed before the next one is looked for."""

SHOWN_FOR = 20
"""For how many times as long as it took a count is shown."""

MEASURED_KEYS = 500
"""Of how many keys of a reducer the bytes are asked for; of more they are estimated."""

MEASURED_AT_ONCE = 100


class Census:
    """A count of the keys of a store, as far as it went.

    Args:
        router: the stores.
        name: the store's name.

    Attributes:
        groups: the keys that were counted.
        written: when the latest of the measured keys was written; ``None`` where the store does not know.
        at: when the count was last worked on, in seconds since 1970.
        seconds: how long it took.
        search: the scan; it says how far the count went, and what failed.
    """

    def __init__(self, router: KVSRouter, name: str) -> None:
        self._name = name
        self._store = router[name]
        self._is_surveyed = not self._store.IS_ORDERED
        self._surveyed: str | None = None
        self.groups = Groups()
        self.written: float | None = None
        self.at = time.time()
        self.seconds = 0.0
        self.search = Search(router, [name], [''], None, first=SCAN_KEYS)

    @property
    def is_complete(self) -> bool:
        """Whether all keys were counted."""
        return self.search.next_cursor is None and not self.search.failed

    @property
    def has_only_states(self) -> bool:
        """Whether all keys were counted, and all are of reducers."""
        return self.is_complete and self.groups.count('', 'Other') == 0

    @property
    def is_ordered(self) -> bool:
        """Whether the store gives its keys in order."""
        return self._store.IS_ORDERED

    @property
    def error(self) -> str | None:
        """Why the store cannot be counted, if it cannot."""
        return next(iter(self.search.failed.values()), None)

    @property
    def counted(self) -> str:
        """How: ``exactly``, ``about``, ``at least``."""
        if not self.is_complete:
            return 'at least'
        return 'about' if self._store.SCAN_REPEATS else 'exactly'

    async def advance(self, seconds: float) -> None:
        """Count on.

        Args:
            seconds: how long.
        """
        began = time.monotonic()
        await self._survey()
        if (
            await self._scan(seconds) == 1 and not self.search.failed
        ):  # so that small stores are counted whole, however busy the machine is
            await self._scan(0)
        self.at = time.time()
        self.seconds += time.monotonic() - began

    async def _scan(self, seconds: float) -> int:
        """Count for some time; how many calls of the store it took, one at least."""
        calls = 0
        async with aclosing(self.search.pages(every_key, seconds)) as pages:
            async for _, _, keys in pages:
                calls += 1
                await self.search.ask(self._name, functools.partial(self._count, keys))
        return calls

    async def _count(self, keys: Iterable[str], store: Store) -> None:
        to_measure: list[tuple[str, Group]] = []
        async for key in in_slices(keys):
            group = self.groups.add(key)
            if group.measured < MEASURED_KEYS:
                group.measured += 1
                to_measure.append((key, group))
        for start in range(0, len(to_measure), MEASURED_AT_ONCE):
            some = to_measure[start : start + MEASURED_AT_ONCE]
            described = await store.describe_all([key for key, _ in some])
            for (_, group), found in zip(some, described, strict=True):
                if not isinstance(found, Description):  # gone since it was counted, or not a value
                    group.measured -= 1
                    continue
                group.measured_bytes += found.bytes
                if found.written is not None and found.written > (self.written or 0):
                    self.written = found.written

    async def _survey(self) -> None:
        """Find the reducers of a store that has its keys in order, so that they are listed before they are counted."""
        ends = time.monotonic() + SURVEY_SECONDS
        while not self._is_surveyed:
            page = await self.search.ask(self._name, lambda store: store.scan('', self._surveyed, SURVEY_KEYS))
            if page is None:
                return
            keys, cursor = page
            for key in keys:
                if (parsed := parse_key(key)) is not None:
                    self.groups.of(parsed.source)
            self._is_surveyed = cursor is None or self.groups.is_full
            self._surveyed = after_reducer_of(cursor) if cursor is not None and parse_key(cursor) else cursor
            if time.monotonic() > ends:
                return


class Censuses:
    """The counts of the stores of a router.

    Args:
        router: the stores.
        pace: the pace of the pages.
    """

    def __init__(self, router: KVSRouter, pace: Pace) -> None:
        self._router = router
        self._pace = pace
        self._complete: WeakKeyDictionary[Store, Census] = WeakKeyDictionary()
        self._begun: WeakKeyDictionary[Store, Census] = WeakKeyDictionary()
        self._running: dict[Store, asyncio.Future[None]] = {}

    async def of(self, name: str) -> Census:
        """Return the count of a store, at most as old as ``SHOWN_FOR`` times as long as it took.

        Args:
            name: the store's name.

        Returns:
            A complete count; or one that went on for ``COUNT_SECONDS``, which is not complete yet.
        """
        store = self._router[name]
        complete = self._complete.get(store)
        if complete is not None and time.time() - complete.at < SHOWN_FOR * complete.seconds:
            return complete
        census = self._begun.get(store)
        if census is None:
            census = self._begun[store] = Census(self._router, name)
        await self._advance(store, census)
        if census.error is not None:
            self._begun.pop(store, None)
        elif census.is_complete:
            self._complete[store] = census
            self._begun.pop(store, None)
        elif complete is not None:
            return complete  # the new one is not complete yet
        return census

    async def _advance(self, store: Store, census: Census) -> None:
        """Count on; what several pages ask for at the same time is done once."""
        task = self._running.get(store)
        if task is None:
            task = self._running[store] = asyncio.ensure_future(self._pace.run(census.advance(COUNT_SECONDS)))
            task.add_done_callback(lambda done: self._running.pop(store, None))
        await asyncio.shield(task)

    async def end(self, app: object) -> None:
        """End the counts that are going on; an ``on_shutdown`` handler.

        Args:
            app: the application that stops.
        """
        for task in self._running.values():
            task.cancel()
