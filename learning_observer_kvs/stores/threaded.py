"""A thread that writes: whatever waits is processed together, also what comes from several event loops."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteBatch, WriteRequest

MAX_TOGETHER = 1000
"""About how many requests are processed at once."""


class _Job(NamedTuple):
    batch: WriteBatch
    on_batch_done: OnBatchDone
    loop: asyncio.AbstractEventLoop


class WriterThread:
    """Begins with the first load, and ends when it is closed.

    Args:
        process: writes a list of requests and sets the result or error of each.
        end: called in the thread when it ends.
    """

    def __init__(self, process: Callable[[list[WriteRequest]], None], end: Callable[[], None]) -> None:
        self._process = process
        self._end = end
        self._jobs: queue.SimpleQueue[_Job | None]
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Have a load written; ``answer`` is called in this loop when it is."""
        job = _Job(batch, on_batch_done, asyncio.get_running_loop())
        with self._lock:
            if self._thread is None:
                jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
                # A daemon: the interpreter may end without close(); the store's finalizer drains the queue then.
                thread = threading.Thread(target=self._run, args=(jobs,), name='kvs-writer', daemon=True)
                thread.start()
                self._thread, self._jobs = thread, jobs
            self._jobs.put(job)

    def close(self) -> None:
        """Write what waits, and end the thread; blocks until it is done."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._jobs.put(None)
        # The thread itself may be where a store that nobody holds is collected; it ends when it is done.
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, waiting: queue.SimpleQueue[_Job | None]) -> None:
        while self._write_next(waiting):
            pass
        self._end()

    def _write_next(self, waiting: queue.SimpleQueue[_Job | None]) -> bool:
        """Write what waits, or what comes next; whether there may be more. Nothing of it is held after that."""
        jobs = [waiting.get()]
        with suppress(queue.Empty):
            while jobs[-1] is not None and sum(len(job.batch) for job in jobs if job) < MAX_TOGETHER:
                jobs.append(waiting.get_nowait())
        together = [job for job in jobs if job is not None]
        if together:
            self._write([request for job in together for request in job.batch])
        for job in together:
            with suppress(RuntimeError):  # the loop has ended; nobody waits any more
                job.loop.call_soon_threadsafe(job.on_batch_done, job.batch)
        return jobs[-1] is not None

    def _write(self, requests: list[WriteRequest]) -> None:
        """All at once; where that fails, each by itself, so that only the guilty one gets its error."""
        try:
            self._process(requests)
        except Exception as error:
            if len(requests) == 1:
                requests[0].error = error
            else:
                for request in requests:
                    self._write([request])


def end_pool(pool: ThreadPoolExecutor) -> None:
    """End the threads of a pool when they are done; one of them may be where this is called, and waits for no other."""
    with suppress(RuntimeError):
        pool.shutdown(wait=True)
