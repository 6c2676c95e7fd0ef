"""Event loops in threads of their own, and how long the turns of a loop are."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

T = TypeVar('T')

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


@contextmanager
def loop_in_thread() -> Iterator[Run]:
    """Run an event loop in another thread; what is yielded runs a coroutine there and returns its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Turns:
    """The turns of an event loop, in seconds of work, so that what other programs do on the processors is not counted.

    Attributes:
        count: how many there were.
        longest: the longest, of work of the loop's own thread.
        longest_hold: likewise of work of all threads of the process, one of which may have held Python's lock; no more
            than the turn took.
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self.longest_hold = 0.0


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    seen, ended = Turns(), False
    gc.collect()
    gc.freeze()  # as servers do; a full collection of what all tests have imported takes 0.1 s

    async def watch() -> None:
        while not ended:
            at, began, of_all = time.perf_counter(), time.thread_time(), time.process_time()
            await asyncio.sleep(0)
            seen.longest = max(seen.longest, time.thread_time() - began)
            hold = min(time.process_time() - of_all, time.perf_counter() - at)
            seen.longest_hold = max(seen.longest_hold, hold)
            seen.count += 1

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        ended = True
        await watching
        gc.unfreeze()


async def least_hold(ask: Callable[[], Awaitable[T]], enough: float, tries: int = 8) -> tuple[float, T]:
    """Return for how many seconds the event loop is held at least while something is asked, and the answer.

    On a busy machine the system itself takes long now and then, to give memory for example: it is asked again.

    Args:
        ask: asks.
        enough: what is short enough, so that it is not asked again.
        tries: how often it is asked at most.
    """
    holds = []
    while True:
        async with turns() as seen:
            answer = await ask()
        holds.append(seen.longest_hold)
        if holds[-1] < enough or len(holds) == tries:
            return min(holds), answer
