"""Stores whose backend blocks: threads do its work, and the event loops that use a store share its threads."""

from __future__ import annotations

import os
import threading
import weakref
from abc import abstractmethod
from asyncio import get_running_loop
from collections.abc import Collection
from typing import Generic, TypeVar, Unpack

from learning_observer_kvs.per_loop import PerLoop, call_in
from learning_observer_kvs.stores.change_feed import ChangeFeed, ChangeSource
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.polled import ChangeLog, PolledChanges
from learning_observer_kvs.stores.queued import QueuedStore
from learning_observer_kvs.stores.threads import StoreThreads
from learning_observer_kvs.stores.types import CommonOptions
from learning_observer_kvs.stores.write_queue import OnBatchDone
from learning_observer_kvs.stores.write_request import WriteBatch

ThreadsT = TypeVar('ThreadsT', bound=StoreThreads)


class ThreadedStore(QueuedStore, Generic[ThreadsT]):
    """A store whose backend blocks; a backend has ``_open_threads`` and ``_make_change_log``.

    Its writer carries out requests with ``clear``, in order with all others.
    Event loops that use the store at the same time share its threads. ``close()`` in one loop lets go of what is that
    loop's; the last loop ends the threads, which close what they share. A forked child gets threads of its own, and so
    does a store that is used again after it was closed.
    """

    def __init__(self, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self._shared: ThreadsT | None = None
        self._threads: PerLoop[ThreadsT] = PerLoop(self._join)

    @abstractmethod
    def _open_threads(self) -> ThreadsT:
        """Make the threads of this process. They must not refer to the store, or it would never be collected."""

    @abstractmethod
    def _make_change_log(self) -> ChangeLog:
        """Make what reads which keys were changed, for one event loop."""

    def _open_source(self, feed: ChangeFeed) -> ChangeSource:
        return PolledChanges(feed, self._make_change_log(), self._retried)

    def _note_written(self, keys: Collection[str]) -> None:
        for feed in self._feeds:
            call_in(feed.loop, feed.look)

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._threads.here().writer.submit(batch, on_batch_done)

    async def _clear(self) -> None:
        await self._outcome({}, {}, deadline_after(self.retry_timeout), clear=True)

    async def _close_within(self, timeout: float) -> None:
        deadline = get_running_loop().time() + timeout
        await self._drain(timeout)
        self._threads.pop()
        threads = self._leave()
        if threads is not None and not await threads.wait_until_ended(deadline - get_running_loop().time()):
            threads.log_unfinished()

    def _join(self) -> ThreadsT:
        """Return the shared threads, from now on with this loop among those that use them."""
        with _lock:
            threads = self._shared
            if threads is None or threads.pid != os.getpid():
                threads = self._shared = self._open_threads()
                self._finalizer = weakref.finalize(self, threads.end)
                self._finalizer.atexit = False  # then all threads are ended together
            threads.loops = {loop for loop in threads.loops if not loop.is_closed()} | {get_running_loop()}
            return threads

    def _leave(self) -> ThreadsT | None:
        """Take this loop from those that use the threads; return them if it was the last one, and they end."""
        with _lock:
            threads = self._shared
            if threads is None or threads.pid != os.getpid():
                return None
            threads.loops.discard(get_running_loop())
            if any(not loop.is_closed() for loop in threads.loops):
                threads.detach_loop()
                return None
            self._shared = None
            self._finalizer.detach()
            threads.end()
            return threads


_lock = threading.Lock()
"""Held while a loop begins or ends to use the threads of a store. No finalizer takes it."""


def _make_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_make_lock)
