"""Pages give way: while the server's event loop has much else to do, all pages together take a twentieth of the time.

What counts is the processor's time of what pages do in the loop, and in their thread. Work goes on first come, first
served, in slices: wherever it lets the loop go on (``asyncio.sleep(0)``), it waits until it is due again.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor
from types import coroutine
from typing import Any, TypeVar

T = TypeVar('T')

SHARE = 0.05
"""Of the time, what pages take while the loop is busy."""

BURST_SECONDS = 1.0
"""For how long pages save up what they do not take: a page now and then does not wait."""

MAX_WAIT = 0.3
"""For how many seconds work waits at most after what was done before it, however long that took."""

BUSY = 0.15
"""From which part of the time on that the loop works for others it is busy; on a crowded machine that is less."""

LOOK_SECONDS = 0.05
"""Over how many seconds that is measured at least."""


class Share:
    """When work is due that takes a share of the time.

    Args:
        now: the time, in seconds of any clock, as for the methods.
    """

    def __init__(self, now: float) -> None:
        self._allowed_from = now - BURST_SECONDS

    def charge(self, now: float, seconds: float) -> None:
        """Count work.

        Args:
            now: the time.
            seconds: how long it took.
        """
        self._allowed_from = min(max(self._allowed_from, now - BURST_SECONDS) + seconds / SHARE, now + MAX_WAIT)

    def wait(self, now: float) -> float:
        """Return for how many seconds further work has to wait.

        Args:
            now: the time.
        """
        return max(0.0, self._allowed_from - now)


class Load:
    """Whether an event loop has much to do besides pages.

    Args:
        now: the time, in seconds of any clock.
        worked: for how many seconds the thread of the loop has worked.
    """

    def __init__(self, now: float, worked: float) -> None:
        self._before = now, worked
        self._of_pages = 0.0
        self._is_busy = False

    def note_page(self, seconds: float) -> None:
        """Count work of pages in the loop.

        Args:
            seconds: how long it took.
        """
        self._of_pages += seconds

    def is_busy(self, now: float, worked: float) -> bool:
        """Return whether it has, as measured since the last look that is ``LOOK_SECONDS`` ago or more.

        Args:
            now: the time.
            worked: for how many seconds the thread of the loop has worked.
        """
        then, before = self._before
        if now - then >= LOOK_SECONDS:
            self._is_busy = worked - before - self._of_pages > BUSY * (now - then)
            self._before, self._of_pages = (now, worked), 0.0
        return self._is_busy


class Pace:
    """The pace of the pages of an application, in the event loop that serves them.

    Args:
        thread: where they do what takes long, a call at a time.
        now: the clock.
        worked: for how many seconds the thread that calls it has worked.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        thread: Executor,
        *,
        now: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._thread = thread
        self._now = now
        self._worked = worked
        self._sleep = sleep
        self._share = Share(now())
        self._load: Load | None = None
        self._line = asyncio.Lock()
        self._thread_line = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until work is due: behind all that waits already; not at all while the loop is not busy."""
        if not self.is_busy():
            return
        async with self._line:
            while self.is_busy() and (seconds := self._share.wait(self._now())):
                await self._sleep(seconds)

    @coroutine
    def run(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Run a coroutine of a page when it is due, a slice at a time.

        Args:
            work: the coroutine. What it awaits in tasks of their own is not counted, unless that is run so too.

        Returns:
            What the coroutine returns.
        """
        step: Callable[[], Any] = functools.partial(work.send, None)
        yields: Any = None
        try:
            yield from self.turn().__await__()
        except BaseException as error:
            step = functools.partial(work.throw, error)
        while True:
            began = self._worked()
            try:
                yields = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                self._note(self._worked() - began)
            try:
                answer = yield yields
                if yields is None:  # it lets the loop go on
                    yield from self.turn().__await__()
            except BaseException as error:
                step = functools.partial(work.throw, error)
            else:
                step = functools.partial(work.send, answer)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of a page in the thread, when it is due.

        Args:
            function: the function.
            arguments: its arguments.

        Returns:
            What it returns.
        """
        async with self._thread_line:  # or all that wait would be due at once
            await self.turn()
            took = [0.0]
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._thread, self._timed, took, function, *arguments
                )
            finally:
                self._share.charge(self._now(), took[0])

    def _timed(self, took: list[float], function: Callable[..., T], *arguments: Any) -> T:
        began = self._worked()
        try:
            return function(*arguments)
        finally:
            took[0] = self._worked() - began

    def _note(self, seconds: float) -> None:
        """Count work in the loop."""
        self._share.charge(self._now(), seconds)
        if self._load is not None:
            self._load.note_page(seconds)

    def is_busy(self) -> bool:
        """Return whether the event loop has much to do besides pages. To be called in it."""
        if self._load is None:
            self._load = Load(self._now(), self._worked())  # here, because it is the thread of the loop that counts
        return self._load.is_busy(self._now(), self._worked())
