"""The threads of a store whose backend blocks: one that writes, and pools that read.

They end by a message in their queues, which nothing waits for and no lock guards. So a store may be collected in any
thread, whatever that holds at that moment; the last thread to end closes what the threads had open.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Future, get_running_loop, wait
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.base import CLOSE_TIMEOUT
from learning_observer_kvs.stores.write_queue import OnBatchDone
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest

log = logging.getLogger('learning_observer_kvs')

T = TypeVar('T')
JobT = TypeVar('JobT')

MAX_REQUESTS = 1000
"""About how many requests the writer thread processes at once."""

MAX_QUEUED_READS = 100_000
"""How many reads may wait for a thread."""


class StoreThreads:
    """The threads of one store in one process. Each starts when it is needed, and ends with :meth:`end`.

    A backend derives its own from it, with its pools and with what its threads have open. It must not refer to the
    store, or that would never be collected.

    Args:
        location: where the data lives, for messages.
        write: writes a list of requests in the writer thread, and sets the result or the error of each; an error it
            raises belongs to all of them.

    Attributes:
        location: as given.
        writer: the thread that writes.
        loops: the event loops that use the threads.
        pid: the process the threads belong to.
        is_ending: whether the threads accept no more jobs.
    """

    def __init__(self, location: str, write: Callable[[list[WriteRequest]], None]) -> None:
        self.location = location
        self.loops: set[AbstractEventLoop] = set()
        self.pid = os.getpid()
        self._pools: list[ThreadPool[Any]] = []
        self._started: list[threading.Thread] = []
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self.is_ending = False
        self._exiting = False
        self._ended: ThreadFuture[None] = ThreadFuture()
        self.writer = WriterThread(self, write)
        _ALIVE.add(self)

    def add(self, pool: ThreadPool[Any]) -> None:
        """Have a pool end with the others.

        Args:
            pool: the pool.
        """
        self._pools.append(pool)

    def start(self, pool: ThreadPool[Any]) -> None:
        """Start one more thread of a pool, if it may have more.

        Args:
            pool: the pool.

        Raises:
            StoreUnavailable: it has none, and none could be started; or the threads end.
        """
        with self._lock:
            if self.is_ending:
                raise StoreUnavailable(f'{self.location}: the store was closed before this was done.')
            if pool.started == pool.size:
                return
            # A daemon: a disk that hangs must not keep the interpreter from ending.
            thread = threading.Thread(target=self._run, args=(pool,), name=pool.name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if pool.started:
                    return
                raise StoreUnavailable(
                    f'{self.location} cannot be used: {error}. Look for what else uses threads or memory here.',
                    retry=True,
                ) from None
            pool.started += 1
            self._started.append(thread)
            self._running.add(thread)

    def end(self, *, exiting: bool = False) -> None:
        """Have the threads process what waits and end; the last one closes what they used.

        It neither blocks nor takes a lock that others may hold: a finalizer may call it anywhere.

        Args:
            exiting: whether the interpreter ends, while loops may be running in other threads.
        """
        if self.is_ending or self.pid != os.getpid():
            return
        self._exiting = exiting
        self.is_ending = True
        if not self._running:
            self._all_ended()
        for pool in self._pools:
            pool.end()

    async def wait_until_ended(self, timeout: float) -> bool:
        """Wait until all threads have ended and what they used is closed.

        Args:
            timeout: seconds after which this returns; they go on all the same.

        Returns:
            Whether they have ended.
        """
        loop = get_running_loop()
        future: Future[None] = loop.create_future()

        def resolve(_: ThreadFuture[None]) -> None:
            with suppress(RuntimeError):  # the loop is closed, after the timeout
                loop.call_soon_threadsafe(future.set_result, None)

        self._ended.add_done_callback(resolve)
        await wait([future], timeout=max(0, timeout))
        if not future.done():
            return False
        for thread in self._started:  # their work is done; this takes microseconds
            thread.join()
        return True

    def join(self, timeout: float) -> None:
        """Block until all threads have ended, and log it if they do not.

        Args:
            timeout: seconds, at most.
        """
        try:
            self._ended.result(max(0, timeout))
        except TimeoutError:
            self.log_unfinished()

    def log_unfinished(self) -> None:
        """Log which threads have not ended."""
        names = ' and '.join(sorted({thread.name for thread in list(self._running)}))
        log.error(
            '%s: closing does not wait any longer for %s, which is still reading or writing there. What was not '
            'answered may or may not be written. Look for a disk that hangs.',
            self.location,
            names,
        )

    def detach_loop(self) -> None:
        """Close what only the running loop uses, while other loops go on."""

    def _close_thread(self) -> None:
        """Close what this thread used; called in each thread when it ends."""

    def _close_resources(self, *, exiting: bool) -> None:
        """Close what the threads and loops used; called when all threads have ended.

        When the interpreter is exiting, running loops may go on using what is theirs.
        """

    def _run(self, pool: ThreadPool[Any]) -> None:
        try:
            pool.process_jobs()
            self._close_thread()
        finally:
            with self._lock:
                is_last = len(self._running) == 1
                if not is_last:
                    self._running.discard(threading.current_thread())
            if is_last:
                self._all_ended()

    def _all_ended(self) -> None:
        try:
            self._close_resources(exiting=self._exiting)
        finally:
            self._running.clear()
            _ALIVE.discard(self)
            self._ended.set_result(None)


class ThreadPool(ABC, Generic[JobT]):
    """Threads that process jobs of one queue, until they end together.

    Args:
        threads: those of the store, which start and end it.
        name: the name of its threads.
        size: how many threads it has at most.

    Attributes:
        name, size: as given.
        started: how many threads it has.
    """

    def __init__(self, threads: StoreThreads, name: str, size: int = 1) -> None:
        self.name = name
        self.size = size
        self.started = 0
        self._threads = threads
        self._jobs: queue.SimpleQueue[JobT | None] = queue.SimpleQueue()
        threads.add(self)

    def end(self) -> None:
        """Have the threads end when they have processed what waits."""
        self._jobs.put(None)

    def process_jobs(self) -> None:
        """Process jobs until the pool ends; called in each of its threads."""
        while self._process_next():
            pass
        self._jobs.put(None)  # the next thread ends, too

    def _submit(self, job: JobT) -> None:
        if self.started < self.size or self._threads.is_ending:
            self._threads.start(self)
        self._jobs.put(job)

    @abstractmethod
    def _process_next(self) -> bool:
        """Process the next job; whether there may be more. No reference to it may be kept after that."""


class _Write(NamedTuple):
    batch: WriteBatch
    on_batch_done: OnBatchDone
    loop: AbstractEventLoop


class WriterThread(ThreadPool[_Write]):
    """The thread that writes: all that waits is processed together, also what comes from several event loops.

    Args:
        threads: those of the store.
        write: as for :class:`StoreThreads`.
    """

    def __init__(self, threads: StoreThreads, write: Callable[[list[WriteRequest]], None]) -> None:
        super().__init__(threads, 'kvs-writer')
        self._process = write

    def submit(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Have a batch written.

        Args:
            batch: the requests.
            on_batch_done: called in the running loop when each request has a result or an error.

        Raises:
            StoreUnavailable: no thread could be started.
        """
        self._submit(_Write(batch, on_batch_done, get_running_loop()))

    def _process_next(self) -> bool:
        jobs = [self._jobs.get()]
        with suppress(queue.Empty):
            while jobs[-1] is not None and sum(len(job.batch) for job in jobs if job) < MAX_REQUESTS:
                jobs.append(self._jobs.get_nowait())
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


class _Read(NamedTuple):
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any]
    loop: AbstractEventLoop


class ReaderThreads(ThreadPool[_Read]):
    """Threads that read."""

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in one of the threads.

        Args:
            function: may block.
            arguments: what it gets.

        Returns:
            What it returns; what it raises is raised.

        Raises:
            Overloaded: too many reads wait; this one was rejected.
            StoreUnavailable: no thread could be started.
        """
        if self._jobs.qsize() >= MAX_QUEUED_READS:
            raise Overloaded(
                f'{MAX_QUEUED_READS:,} reads wait for {self._threads.location} already; this one was rejected. '
                'Retry later.'
            )
        loop = get_running_loop()
        future: Future[T] = loop.create_future()
        self._submit(_Read(function, arguments, future, loop))
        return await future

    def _process_next(self) -> bool:
        read = self._jobs.get()
        if read is None:
            return False
        if read.future.cancelled():  # its caller waits no longer
            return True
        result, failure = None, None
        try:
            result = read.function(*read.arguments)
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: no caller waits any more
            read.loop.call_soon_threadsafe(_resolve, read.future, result, failure)
        return True


def _resolve(future: Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


_ALIVE: set[StoreThreads] = set()
"""The threads of this process that have not ended."""

_INHERITED: list[StoreThreads] = []
"""Threads of the parent of this process. They are kept, because dropping what they have open would close it."""


@atexit.register
def _end_all() -> None:
    """The interpreter ends: what stores without ``close()`` have not written yet is written, within bounds."""
    deadline = time.monotonic() + CLOSE_TIMEOUT
    alive = list(_ALIVE)
    for threads in alive:
        threads.end(exiting=True)
    for threads in alive:
        threads.join(deadline - time.monotonic())


def _keep_inherited() -> None:
    _INHERITED.extend(_ALIVE)
    _ALIVE.clear()


os.register_at_fork(after_in_child=_keep_inherited)
