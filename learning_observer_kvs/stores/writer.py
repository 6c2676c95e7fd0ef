"""A thread that writes: whatever waits is processed together, also what comes from several event loops."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from learning_observer_kvs.stores.gathering import Answer, Load, Request

MAX_TOGETHER = 1000
"""About how many requests are processed at once."""


class _Job(NamedTuple):
    load: Load
    answer: Answer
    loop: asyncio.AbstractEventLoop


class WriterThread:
    """Begins with the first load, and ends when it is closed.

    Args:
        process: writes a list of requests and sets the result or error of each.
        end: called in the thread when it ends.
    """

    def __init__(self, process: Callable[[list[Request]], None], end: Callable[[], None]) -> None:
        self._process = process
        self._end = end
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, load: Load, answer: Answer) -> None:
        """Have a load written; ``answer`` is called in this loop when it is."""
        self._queue.put(_Job(load, answer, asyncio.get_running_loop()))
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # A daemon: the interpreter may end without close(); the store's finalizer drains the queue then.
                    self._thread = threading.Thread(target=self._run, name='kvs-writer', daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Write what waits, and end the thread; blocks until it is done."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        going = True
        while going:
            jobs = [self._queue.get()]
            with suppress(queue.Empty):
                while jobs[-1] is not None and sum(len(job.load) for job in jobs if job) < MAX_TOGETHER:
                    jobs.append(self._queue.get_nowait())
            going = jobs[-1] is not None
            together = [job for job in jobs if job is not None]
            jobs.clear()
            if together:
                self._write([request for job in together for request in job.load])
            for job in together:
                with suppress(RuntimeError):  # the loop has ended; nobody waits any more
                    job.loop.call_soon_threadsafe(job.answer, job.load)
        self._end()

    def _write(self, requests: list[Request]) -> None:
        """All at once; where that fails, each by itself, so that only the guilty one gets its error."""
        try:
            self._process(requests)
        except Exception as error:
            if len(requests) == 1:
                requests[0].error = error
            else:
                for request in requests:
                    self._write([request])
