"""Event loops in threads of their own, and how long the turns of a loop are."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

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
    """The turns of an event loop: how many there were, and the longest in seconds of work of the loop's own thread.

    What other threads and other programs do on the same processors is not counted.
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    seen, ended = Turns(), False
    gc.collect()
    gc.freeze()  # as servers do; a full collection of what all tests have imported takes 0.1 s

    async def watch() -> None:
        while not ended:
            began = time.thread_time()
            await asyncio.sleep(0)
            seen.longest = max(seen.longest, time.thread_time() - began)
            seen.count += 1

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        ended = True
        await watching
        gc.unfreeze()
