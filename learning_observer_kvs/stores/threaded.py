"""Stores whose backend blocks: threads do its work, and the event loops that use a store share its threads."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from abc import abstractmethod
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar, Unpack

from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.queued import QueuedStore
from learning_observer_kvs.stores.types import CommonOptions
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteBatch, WriteRequest

MAX_REQUESTS = 1000
"""About how many requests the writer thread processes at once."""


class _Job(NamedTuple):
    batch: WriteBatch
    on_batch_done: OnBatchDone
    loop: AbstractEventLoop


class WriterThread:
    """A thread that writes: all that waits is processed together, also what comes from several event loops.

    It starts with the first batch and ends when it is closed; a later batch starts another one.

    Args:
        process: writes a list of requests, and sets the result or the error of each; an error it raises belongs to
            all of them.
        on_end: called in the thread when it ends.
    """

    def __init__(
        self, process: Callable[[list[WriteRequest]], None], on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._process = process
        self._on_end = on_end
        self._jobs: queue.SimpleQueue[_Job | None]
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Have a batch written.

        Args:
            batch: the requests.
            on_batch_done: called in the running loop when each request has a result or an error.

        Raises:
            RuntimeError: no thread could be started.
        """
        job = _Job(batch, on_batch_done, get_running_loop())
        with self._lock:
            if self._thread is None:
                jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
                # A daemon: the interpreter may end without close(); the store's finalizer drains the queue then.
                thread = threading.Thread(target=self._run, args=(jobs,), name='kvs-writer', daemon=True)
                thread.start()
                self._thread, self._jobs = thread, jobs
            self._jobs.put(job)

    def close(self) -> None:
        """Write what waits and end the thread; block until that is done."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._jobs.put(None)
        # A store without references may be collected in this very thread, which cannot wait for its own end.
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        while self._write_next(jobs):
            pass
        self._on_end()

    def _write_next(self, waiting: queue.SimpleQueue[_Job | None]) -> bool:
        """Write what waits, or what comes next; whether there may be more. No reference to it is kept after that."""
        jobs = [waiting.get()]
        with suppress(queue.Empty):
            while jobs[-1] is not None and sum(len(job.batch) for job in jobs if job) < MAX_REQUESTS:
                jobs.append(waiting.get_nowait())
        together = [job for job in jobs if job is not None]
        if together:
            self._write([request for job in together for request in job.batch])
        for job in together:
            with suppress(RuntimeError):  # the loop is closed: no caller waits any more
                job.loop.call_soon_threadsafe(job.on_batch_done, job.batch)
        return jobs[-1] is not None

    def _write(self, requests: list[WriteRequest]) -> None:
        """Write all at once; where that fails, one after the other, so that only the cause gets the error."""
        try:
            self._process(requests)
        except Exception as error:
            if len(requests) == 1:
                requests[0].error = error
            else:
                for request in requests:
                    self._write([request])


class StoreThreads:
    """The threads of one store in one process: one that writes, and pools that read. Each starts when it is needed.

    A backend derives its own from it, with its pools and with what its threads have open.

    Args:
        process: writes requests in the writer thread; see :class:`WriterThread`.
        on_writer_end: called in the writer thread when it ends.

    Attributes:
        writer: the writer thread.
        loops: the event loops that use the threads.
        pid: the process the threads belong to.
    """

    def __init__(
        self, process: Callable[[list[WriteRequest]], None], on_writer_end: Callable[[], None] = lambda: None
    ) -> None:
        self.writer = WriterThread(process, on_writer_end)
        self.loops: set[AbstractEventLoop] = set()
        self.pid = os.getpid()
        self._pools: list[ThreadPoolExecutor] = []

    def make_pool(self, name: str, size: int) -> ThreadPoolExecutor:
        """Make a pool that ends with the other threads.

        Args:
            name: what the names of its threads begin with.
            size: how many threads it has at most.

        Returns:
            The pool.
        """
        self._pools.append(ThreadPoolExecutor(size, thread_name_prefix=name))
        return self._pools[-1]

    def close(self) -> None:
        """Write what waits, end the threads and close what they used; block until that is done.

        In a forked child the threads do not exist, and what its parent has open is left alone.
        """
        if self.pid != os.getpid():
            _INHERITED.append(self)
            return
        self.writer.close()
        for pool in self._pools:
            with suppress(RuntimeError):  # this is called in a thread of the pool, which cannot wait for its own end
                pool.shutdown(wait=True)
        self._close_resources()

    def detach_loop(self) -> Callable[[], None]:
        """Let go of what only the running loop uses, while other loops go on.

        Returns:
            A function that closes it; it may block.
        """
        return lambda: None

    def _close_resources(self) -> None:
        """Close what the threads and loops used; called when the threads have ended."""


ThreadsT = TypeVar('ThreadsT', bound=StoreThreads)


class ThreadedStore(QueuedStore, Generic[ThreadsT]):
    """A store whose backend blocks; a backend adds ``_open_threads`` instead of ``_write_batch``.

    Event loops that use the store at the same time share its threads. ``close()`` in one loop lets go of what is that
    loop's; the last loop closes what they share. A forked child gets threads of its own, and so does a store that is
    used again after it was closed.
    """

    def __init__(self, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self._shared: ThreadsT | None = None
        self._threads: PerLoop[ThreadsT] = PerLoop(self._join)

    @abstractmethod
    def _open_threads(self) -> ThreadsT:
        """Make the threads of this process. They must not refer to the store, or it would never be collected."""

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._threads.here().writer.submit(batch, on_batch_done)

    async def _close(self) -> None:
        await self._drain()
        self._threads.pop()
        await get_running_loop().run_in_executor(None, self._leave())

    def _join(self) -> ThreadsT:
        """Return the shared threads, from now on with this loop among those that use them."""
        with _lock:
            threads = self._shared
            if threads is None or threads.pid != os.getpid():
                threads = self._shared = self._open_threads()
                self._finalizer = weakref.finalize(self, threads.close)
            threads.loops = {loop for loop in threads.loops if not loop.is_closed()} | {get_running_loop()}
            return threads

    def _leave(self) -> Callable[[], None]:
        """Take this loop from those that use the threads; return what closes its part, or, for the last loop, all."""
        with _lock:
            threads = self._shared
            if threads is None or threads.pid != os.getpid():
                return lambda: None
            threads.loops.discard(get_running_loop())
            if any(not loop.is_closed() for loop in threads.loops):
                return threads.detach_loop()
            self._shared = None
            self._finalizer.detach()
            return threads.close


_lock = threading.Lock()
"""Held while a loop begins or ends to use the threads of a store."""

_INHERITED: list[StoreThreads] = []
"""Threads of the parent of this process. They are kept, because dropping what they have open would close it."""


def _make_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_make_lock)
