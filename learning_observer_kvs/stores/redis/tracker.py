"""The changes of all Redis stores of one connection, in one event loop, by one connection to each server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.change_feed import ChangeFeed, Retried
from learning_observer_kvs.stores.redis.invalidations import Invalidations
from learning_observer_kvs.stores.redis.names import Names

log = logging.getLogger('learning_observer_kvs')


class Servers(Protocol):
    """What a tracker follows: the server of a connection, or the masters of its cluster."""

    @property
    def clustered(self) -> bool:
        """Whether it is a cluster, whose masters may be others later."""

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer."""

    @property
    def connect_timeout(self) -> float:
        """Seconds to wait for a connection."""

    async def masters(self, *, refresh: bool = False) -> dict[str, Callable[[], Any]]:
        """Return what makes a connection to each server, by its name.

        Args:
            refresh: whether a cluster is asked again.
        """

    def unavailable(self, error: BaseException) -> KVSError:
        """Return the error to raise for one of redis-py.

        Args:
            error: the error.
        """


class Tracker:
    """What is followed for the feeds of one connection.

    Args:
        servers: what is followed.
        quiet: seconds after which a silent server is asked whether it is there, and a cluster for its masters.
    """

    def __init__(self, servers: Servers, quiet: float) -> None:
        self._servers = servers
        self._quiet = quiet
        self._feeds: dict[ChangeFeed, Names] = {}
        self._prefixes: tuple[str, ...] = ()
        self._followed: dict[str, Invalidations] = {}
        self._changing = asyncio.Lock()
        self._lost = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def cover(self, feed: ChangeFeed, names: Names) -> None:
        """Return once every change of the keys that a feed has listeners for is announced to it.

        Args:
            feed: the feed of a store.
            names: the Redis keys of that store.

        Raises:
            StoreUnavailable, Overloaded: a server is away, or refuses.
        """
        self._feeds[feed] = names
        async with self._changing:
            wanted = without_overlaps(
                names.tracked_prefix(prefix) for feed, names in self._feeds.items() for prefix in feed.prefixes()
            )
            if self._followed and without_overlaps((*self._prefixes, *wanted)) == self._prefixes:
                return
            # Another connection, and the former one is closed when it works: so nothing is missed in between.
            followed = await self._open(await self._servers.masters(), wanted)
            former, self._followed, self._prefixes = self._followed, followed, wanted
            if any(invalidations.is_lost for invalidations in former.values()):
                self._announce(None)
            await _close(former.values())
            if self._watch is None and self._servers.clustered:
                self._watch = asyncio.create_task(self._watch_masters(), name='kvs changes: Redis Cluster')

    async def leave(self, feed: ChangeFeed) -> None:
        """Announce nothing to a feed any more; with the last one every connection is closed.

        Args:
            feed: the feed.
        """
        self._feeds.pop(feed, None)
        async with self._changing:
            if not self._feeds:
                if self._watch is not None:
                    self._watch.cancel()
                    await asyncio.gather(self._watch, return_exceptions=True)
                    self._watch = None
                followed, self._followed = self._followed, {}
                await _close(followed.values())

    async def close(self) -> None:
        """End all feeds, and close every connection."""
        for feed in list(self._feeds):
            feed.end()
            await feed.closed()

    async def _open(self, masters: dict[str, Callable[[], Any]], prefixes: Collection[str]) -> dict[str, Invalidations]:
        """Follow servers."""
        servers = self._servers
        opened = {
            name: Invalidations(
                make,
                prefixes,
                servers.connect_timeout + servers.timeout,
                servers.unavailable,
                self._announce,
                self._note_lost,
                self._refused,
                self._quiet,
            )
            for name, make in masters.items()
        }
        try:
            outcomes = await asyncio.gather(*(each.open() for each in opened.values()), return_exceptions=True)
            for error in outcomes:
                if error is not None:
                    raise error
        except BaseException:
            await _close(opened.values())
            raise
        return opened

    async def _watch_masters(self) -> None:
        """Follow those that a cluster makes masters, and no longer those that it does not."""
        while True:
            try:
                async with asyncio.timeout(self._quiet):
                    await self._lost.wait()
                    await asyncio.sleep(min(1.0, self._quiet))  # it takes longer than that to replace a master
            except TimeoutError:
                pass
            self._lost.clear()
            async with self._changing:
                try:
                    masters = await self._servers.masters(refresh=True)
                    new = {name: make for name, make in masters.items() if name not in self._followed}
                    opened = await self._open(new, self._prefixes)
                except KVSError:
                    self._lost.set()  # once more soon
                    continue
                gone = [self._followed.pop(name) for name in list(self._followed) if name not in masters]
                self._followed |= opened
                if opened:
                    self._announce(None)
                await _close(gone)

    def _announce(self, redis_keys: list[bytes] | None) -> None:
        for feed, names in self._feeds.items():
            if redis_keys is None:
                feed.resync()
            else:
                feed.announce([key for redis_key in redis_keys if (key := names.key(redis_key)) is not None])

    def _note_lost(self) -> None:
        self._lost.set()

    def _refused(self, error: KVSError) -> None:
        log.error('Changes cannot be announced any more: %s', error)
        for feed in list(self._feeds):
            feed.end(error)


class TrackedChanges:
    """The source of the changes of one Redis store in one event loop.

    Args:
        feed: gets the changes.
        tracker: what follows the server.
        names: the Redis keys of the store.
        retried: calls something again and again while the server is away.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        tracker: Tracker,
        names: Names,
        retried: Retried,
    ) -> None:
        self._feed = feed
        self._tracker = tracker
        self._names = names
        self._retried = retried

    async def cover(self) -> None:
        """Return once every change from now on is announced.

        Raises:
            StoreUnavailable, Overloaded: a server is away, or refuses.
        """
        await self._retried(lambda: self._tracker.cover(self._feed, self._names))

    def look(self) -> None:
        """Do nothing: the server announces what this process writes, too."""

    async def close(self) -> None:
        """End what no other store needs."""
        await self._tracker.leave(self._feed)


def without_overlaps(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes that do not begin with another one of them; a server refuses those that overlap.

    Args:
        prefixes: any prefixes.
    """
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


async def _close(followed: Iterable[Invalidations]) -> None:
    await asyncio.gather(*(invalidations.close() for invalidations in followed))
