"""The changes of a store whose backend keeps a log of them while an iterator is open.

The log is looked at every ``INTERVAL`` seconds, so that much later other processes learn of a change; what this process
has written is looked for at once, and so much later where something was found just before: each look costs a class that
writes all the time as much as many events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from time import monotonic
from typing import Protocol

from learning_observer_kvs.errors import KVSError, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.change_feed import ChangeFeed, Retried
from learning_observer_kvs.stores.deadline import pause_after

log = logging.getLogger('learning_observer_kvs')

INTERVAL = 0.05
"""Seconds between two looks at the log."""

LOGGED_AFTER = 10.0
"""Seconds after which it is logged that the log cannot be read."""


class ChangeLog(Protocol):
    """A reader of the log of a backend. Its methods do what blocks in the threads of the store."""

    async def begin(self) -> None:
        """Have writers keep the log from now on.

        Raises:
            StoreUnavailable, Overloaded: it cannot be kept.
        """

    async def read(self) -> Collection[str] | None:
        """Return the keys that were changed since the last call, or since :meth:`begin`.

        Returns:
            The keys; ``None`` if not all of them are known, be it that the log had to be begun anew.

        Raises:
            StoreUnavailable, Overloaded: it cannot be read now; what changes meanwhile is in it later.
        """

    async def end(self) -> None:
        """Have writers keep no log any more, if no other reader needs it.

        Raises:
            StoreUnavailable, Overloaded: that cannot be done now; writers find out by themselves.
        """


class PolledChanges:
    """The source of the changes of one store in one event loop.

    Args:
        feed: gets the changes.
        changes: reads the log.
        retried: calls something again and again while the backend is away.
    """

    def __init__(self, feed: ChangeFeed, changes: ChangeLog, retried: Retried) -> None:
        self._feed = feed
        self._log = changes
        self._retried = retried
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._written = asyncio.Event()

    async def cover(self) -> None:
        """Return once the log is kept, and with it every change.

        Raises:
            StoreUnavailable: it cannot be kept.
        """
        if self._begun is None or (self._begun.done() and self._task is None):
            self._begun = self._loop.create_task(self._begin(), name='kvs changes: begin')
        await asyncio.shield(self._begun)

    def look(self) -> None:
        """Look at the log soon."""
        self._written.set()

    async def close(self) -> None:
        """End the looking, and the log if no other reader needs it."""
        tasks = [task for task in (self._begun, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(KVSError):
                await self._log.end()

    async def _begin(self) -> None:
        await self._retried(self._log.begin)
        self._task = self._loop.create_task(self._poll(), name='kvs changes')

    async def _poll(self) -> None:
        failing_since, is_logged = 0.0, False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._written.wait()
            self._written.clear()
            try:
                keys = await self._log.read()
            except Exception as error:
                if not isinstance(error, Overloaded) and not (isinstance(error, StoreUnavailable) and error.retry):
                    self._feed.end(error)
                    return
                failing_since = failing_since or monotonic()
                if not is_logged and monotonic() - failing_since >= LOGGED_AFTER:
                    is_logged = True
                    log.warning('Changes are announced later, because their log cannot be read: %s', error)
                await asyncio.sleep(pause_after(monotonic() - failing_since))
                continue
            failing_since, is_logged = 0.0, False
            if keys is None:
                self._feed.resync()
            elif keys:
                self._feed.announce(keys)
                await asyncio.sleep(INTERVAL)
