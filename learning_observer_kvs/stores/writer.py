"""A thread that writes: whatever waits is processed together, and each caller is told its own outcome."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from learning_observer_kvs.errors import Overloaded

MAX_TOGETHER = 1000
"""How many requests are processed at once."""

MAX_WAITING = 100_000
"""How many may wait."""


class Request:
    """Something to be written, and whom to tell of it.

    Attributes:
        writes: text by key; ``None`` removes the key.
        expected: the bytes that keys must hold for that; ``None`` for a key that is not there.
        clear: everything is to be removed.
        result, error: set by who processes it; the result of a removal is whether something was there.
    """

    __slots__ = ('clear', 'error', 'expected', 'future', 'loop', 'result', 'writes')

    def __init__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        *,
        clear: bool = False,
    ) -> None:
        self.writes = writes
        self.expected = expected
        self.clear = clear
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bool] = self.loop.create_future()
        self.result = False
        self.error: Exception | None = None


class WriterThread:
    """Begins with the first request, and ends when it is closed.

    Args:
        process: writes a list of requests and sets the result or error of each.
        place: where, for messages.
        end: called in the thread when it ends.
    """

    def __init__(self, process: Callable[[list[Request]], None], place: str, end: Callable[[], None]) -> None:
        self._process = process
        self._place = place
        self._end = end
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, request: Request) -> asyncio.Future[bool]:
        """Have a request written; the future is answered when it is.

        Raises:
            Overloaded: too many wait.
        """
        if self._queue.qsize() >= MAX_WAITING:
            raise Overloaded(
                f'{MAX_WAITING:,} writes wait for {self._place} already; this one was not taken. Send it again later.'
            )
        self._queue.put(request)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # A daemon: the interpreter may end without close(); the store's finalizer drains the queue then.
                    self._thread = threading.Thread(target=self._run, name='kvs-writer', daemon=True)
                    self._thread.start()
        return request.future

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
            requests = [self._queue.get()]
            with suppress(queue.Empty):
                while requests[-1] is not None and len(requests) < MAX_TOGETHER:
                    requests.append(self._queue.get_nowait())
            going = requests[-1] is not None
            together = [request for request in requests if request is not None]
            requests.clear()
            if together:
                self._write(together)
                _answer(together)
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


def _answer(requests: list[Request]) -> None:
    """One call into each loop, for all of its requests."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in requests:
        by_loop.setdefault(request.loop, []).append(request)
    for loop, answered in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended; nobody waits any more
            loop.call_soon_threadsafe(_resolve, answered)


def _resolve(requests: list[Request]) -> None:
    for request in requests:
        if request.future.done():
            continue
        if request.error is None:
            request.future.set_result(request.result)
        else:
            request.future.set_exception(request.error)
