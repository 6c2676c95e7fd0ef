"""What ``store.changes()`` gives: the iterators, what waits for each of them, and where the changes come from.

A key is announced, not its value: an iterator whose reader is slow keeps each key once, and whoever reads the value
gets the newest. So what is kept is bounded, and where even the keys are too many, one ``resync`` stands for them.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from learning_observer_kvs.json_codec import JSON

MAX_KEYS = 10_000
"""How many changed keys wait for the reader of an iterator, at most."""

MAX_CHARACTERS = 4 << 20
"""How many characters these keys may have together."""

Retried: TypeAlias = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Calls something again and again while a backend is away, for as long as a call of the store may take."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an iterator of ``store.changes()`` gives.

    Attributes:
        kind: ``changed``: the key was set, was removed, or has expired; read it to know. ``resync``: changes may have
            been missed; read again whatever is of interest.
        key: the key; empty with ``resync``.
    """

    kind: Literal['changed', 'resync']
    key: str
    _read: Callable[[str], Awaitable[JSON]] = field(repr=False, compare=False)

    async def value(self) -> JSON:
        """Return the value of the key as it is now, which may be newer than this change.

        Returns:
            The value; ``None`` when missing.

        Raises:
            ValueError: this is a ``resync``, which has no key.
            CorruptValue, StoreUnavailable, Overloaded: as for ``await store[key]``.
        """
        if self.kind == 'resync':
            raise ValueError('A resync has no key and no value: read again whatever is of interest.')
        return await self._read(self.key)


class ChangeSource(Protocol):
    """Where the changes of a store come from, in one event loop."""

    async def cover(self, prefix: str) -> None:
        """Return once every change from now on of keys with a prefix is announced to the feed.

        Args:
            prefix: what the keys begin with.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """

    def look(self) -> None:
        """Look for changes soon: this process has written something."""

    async def close(self) -> None:
        """Announce nothing more, and end every task and connection."""


class InProcess:
    """The source of a store whose commits announce what they wrote: there is nothing else to look at."""

    async def cover(self, prefix: str) -> None:
        """Do nothing.

        Args:
            prefix: not used.
        """

    def look(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class Listener:
    """What waits for the reader of one iterator.

    Args:
        prefix: what the keys begin with that it is interested in.

    Attributes:
        prefix: as given.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._keys: dict[str, None] = {}
        self._characters = 0
        self._must_resync = False
        self._errors: deque[Exception] = deque()
        self._has_ended = False
        self._news = asyncio.Event()

    async def next(self) -> str | None:
        """Wait for the next change.

        Returns:
            Its key; ``None`` for a ``resync``.

        Raises:
            StopAsyncIteration: the store was closed.
            StoreUnavailable: the changes cannot be seen any more.
        """
        while True:
            if self._must_resync:
                self._must_resync = False
                return None
            if self._keys:
                key = next(iter(self._keys))
                del self._keys[key]
                self._characters -= len(key)
                return key
            if self._errors:
                raise self._errors.popleft()
            if self._has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    def announce(self, keys: Collection[str]) -> None:
        """Take changed keys; to be called in its event loop.

        Args:
            keys: those that do not begin with its prefix are left out.
        """
        waiting = self._keys
        for key in keys:
            if key.startswith(self.prefix) and key not in waiting:
                waiting[key] = None
                self._characters += len(key)
                if len(waiting) > MAX_KEYS or self._characters > MAX_CHARACTERS:
                    self.resync()
                    return
        if waiting:
            self._news.set()

    def announce_from_anywhere(self, keys: Collection[str] | None) -> None:
        """Take changed keys, from whichever thread.

        Args:
            keys: as for :meth:`announce`; ``None``: too many to be listed.
        """
        if self._pid != os.getpid():
            return  # of the parent of this process
        take = self.resync if keys is None else partial(self.announce, keys)
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if is_here:
            take()
        else:
            with suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(take)

    def resync(self) -> None:
        """Let the reader read everything again, which makes the keys that wait superfluous."""
        self._keys.clear()
        self._characters = 0
        self._must_resync = True
        self._news.set()

    def end(self, error: Exception | None = None) -> None:
        """Let the reader come to the end, after what waits for it.

        Args:
            error: what it gets there; ``None``: it is not one.
        """
        if error is not None:
            self._errors.append(error)
        self._has_ended = True
        self._news.set()


class ChangeFeed:
    """The listeners of one store in one event loop, and the source that they share.

    Args:
        listeners: those of the store in all event loops.
        open_source: makes the source, when the first listener comes; it is closed when the last one leaves.
    """

    def __init__(self, listeners: dict[Listener, None], open_source: Callable[[ChangeFeed], ChangeSource]) -> None:
        self.loop = asyncio.get_running_loop()
        self._all = listeners
        self._here: dict[Listener, None] = {}
        self._open_source = open_source
        self._source: ChangeSource | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def prefixes(self) -> set[str]:
        """Return the prefixes that there are listeners for."""
        return {listener.prefix for listener in self._here}

    async def listen(self, prefix: str) -> Listener:
        """Add a listener, and return when nothing that changes from now on escapes it.

        Args:
            prefix: what the keys begin with.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        listener = Listener(prefix)
        self._here[listener] = self._all[listener] = None
        if self._source is None:
            self._source = self._open_source(self)
        try:
            await self._source.cover(prefix)
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def leave(self, listener: Listener) -> None:
        """Take a listener away; with the last one the source is closed.

        Args:
            listener: one of this feed.
        """
        self._all.pop(listener, None)
        self._here.pop(listener, None)
        if not self._here and self._source is not None:
            source, self._source = self._source, None
            task = self.loop.create_task(source.close(), name='kvs changes: close')
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Wait until the sources without listeners are closed."""
        if self._closing:
            await asyncio.wait(self._closing)

    def look(self) -> None:
        """Have the source look for changes soon."""
        if self._source is not None:
            self._source.look()

    def announce(self, keys: Collection[str]) -> None:
        """Announce changed keys to the listeners of this event loop.

        Args:
            keys: the keys.
        """
        for listener in self._here:
            listener.announce(keys)

    def resync(self) -> None:
        """Announce that changes may have been missed."""
        for listener in self._here:
            listener.resync()

    def end(self, error: Exception | None = None) -> None:
        """Let all iterators end, because the store is closed, or its changes cannot be seen any more.

        Args:
            error: what their readers get.
        """
        for listener in list(self._here):
            listener.end(error)
            self.leave(listener)


class Changes:
    """An asynchronous iterator over the changes of a store: ``async for change in store.changes()``.

    It begins when it is first iterated over, or on entering ``async with``. Whichever way the loop is left, what it has
    opened is closed: by ``aclose()``, at the end of ``async with``, or as soon as nothing refers to it.

    Args:
        feed: returns the feed of the running event loop.
        read: reads a value.
        prefix: what the keys begin with.
    """

    def __init__(self, feed: Callable[[], ChangeFeed], read: Callable[[str], Awaitable[JSON]], prefix: str) -> None:
        self._get_feed = feed
        self._read = read
        self._prefix = prefix
        self._feed: ChangeFeed | None = None
        self._listener: Listener | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        """Begin: whatever changes from now on is given.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        if self._listener is None and not self._has_ended:
            feed = self._get_feed()
            listener = await feed.listen(self._prefix)
            if self._has_ended:  # closed meanwhile
                feed.leave(listener)
            else:
                self._feed, self._listener = feed, listener
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """Return the next change. Cancelled, for example by a timeout, it can be called again, and nothing is missed.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        if self._listener is None:
            await self.__aenter__()
        if self._listener is None:
            raise StopAsyncIteration
        try:
            key = await self._listener.next()
        except Exception:
            await self.aclose()
            raise
        return Change('resync', '', self._read) if key is None else Change('changed', key, self._read)

    async def aclose(self) -> None:
        """End: every task and connection that this iterator alone has needed is gone when this returns."""
        self._has_ended = True
        feed, listener = self._feed, self._listener
        if feed is not None and listener is not None:
            self._feed = self._listener = None
            listener.end()
            feed.leave(listener)
            await feed.closed()

    def __del__(self) -> None:
        if self._feed is not None and self._listener is not None:
            with suppress(RuntimeError):  # the loop is closed; what it had open ended with it
                self._feed.loop.call_soon_threadsafe(self._feed.leave, self._listener)
