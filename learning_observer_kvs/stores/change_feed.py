"""What waits for the iterators over the changes of a store, and where the changes come from.

A key is announced, not its value: an iterator whose reader is slow keeps each key once, and the value that is read then
is the newest. So what is kept is bounded, and where even the keys are too many, one ``resync`` stands for them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

MAX_KEYS = 10_000
"""How many changed keys wait for the reader of an iterator, at most."""

MAX_CHARACTERS = 4 << 20
"""How many characters these keys may have together."""

Retried: TypeAlias = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Calls something again and again while a backend is away, for as long as a call of the store may take."""


class ChangeSource(Protocol):
    """Where the changes of a store come from, in one event loop."""

    async def cover(self) -> None:
        """Return once every change from now on of the keys that the feed has listeners for is announced to it.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """

    def look(self) -> None:
        """Look for changes soon: this process has written something."""

    async def close(self) -> None:
        """Announce nothing more, and end every task and connection."""


class InProcess:
    """The source of a store whose commits announce what they wrote: there is nothing else to look at."""

    async def cover(self) -> None:
        """Do nothing."""

    def look(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class Listener:
    """What waits for the reader of one iterator.

    Args:
        prefixes: what the keys begin with that it is interested in, each with one of them.

    Attributes:
        prefixes: as given.
    """

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._keys: dict[str, None] = {}
        self._characters = 0
        self._must_resync = False
        self._errors: deque[Exception] = deque()
        self._has_ended = False
        self._news = asyncio.Event()

    async def wait(self) -> None:
        """Wait until there is a change.

        Raises:
            StopAsyncIteration: the store was closed.
            StoreUnavailable: the changes cannot be seen any more.
        """
        while not self._must_resync and not self._keys:
            if self._errors:
                raise self._errors.popleft()
            if self._has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    def take(self) -> str | None:
        """Return the key of the change that has waited longest; ``None`` for a ``resync``. There must be one."""
        if self._must_resync:
            self._must_resync = False
            return None
        key = next(iter(self._keys))
        del self._keys[key]
        self._characters -= len(key)
        return key

    def take_all(self) -> list[str | None]:
        """Return the keys of all changes that wait, ``None`` for a ``resync``."""
        found: list[str | None] = [None] if self._must_resync else []
        found += self._keys
        self._keys.clear()
        self._characters, self._must_resync = 0, False
        return found

    def announce(self, keys: Collection[str]) -> None:
        """Take changed keys; to be called in its event loop.

        Args:
            keys: those that begin with none of its prefixes are left out.
        """
        waiting = self._keys
        for key in keys:
            if key.startswith(self.prefixes) and key not in waiting:
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


class Listeners(dict[Listener, None]):
    """The listeners of one store in all event loops.

    Attributes:
        prefixes: what the keys begin with that one of them is interested in; each write asks that first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: tuple[str, ...] = ()
        self._changing = threading.Lock()

    def add(self, listener: Listener) -> None:
        """Add a listener.

        Args:
            listener: one that is not among them.
        """
        with self._changing:
            self[listener] = None
            self._note_prefixes()

    def remove(self, listener: Listener) -> None:
        """Take a listener away, if it is among them.

        Args:
            listener: any.
        """
        with self._changing:
            self.pop(listener, None)
            self._note_prefixes()

    def _note_prefixes(self) -> None:
        self.prefixes = tuple({prefix for listener in self for prefix in listener.prefixes})


class ChangeFeed:
    """The listeners of one store in one event loop, and the source that they share.

    Args:
        listeners: those of the store in all event loops.
        open_source: makes the source, when the first listener comes; it is closed when the last one leaves.
    """

    def __init__(self, listeners: Listeners, open_source: Callable[[ChangeFeed], ChangeSource]) -> None:
        self.loop = asyncio.get_running_loop()
        self._all = listeners
        self._here: dict[Listener, None] = {}
        self._open_source = open_source
        self._source: ChangeSource | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def prefixes(self) -> set[str]:
        """Return the prefixes that there are listeners for."""
        return {prefix for listener in self._here for prefix in listener.prefixes}

    async def listen(self, prefixes: tuple[str, ...]) -> Listener:
        """Add a listener, and return when nothing that changes from now on escapes it.

        Args:
            prefixes: what the keys begin with, each with one of them.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        listener = Listener(prefixes)
        self._here[listener] = None
        self._all.add(listener)
        if self._source is None:
            self._source = self._open_source(self)
        try:
            await self._source.cover()
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def leave(self, listener: Listener) -> None:
        """Take a listener away; with the last one the source is closed.

        Args:
            listener: one of this feed.
        """
        self._all.remove(listener)
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
