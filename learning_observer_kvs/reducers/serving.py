"""Queues of events, and the task that serves what is ready.

One task serves one after the other. Most reducers never wait, so they need no task of their own; where one waits, the
task stays with it, and another task goes on with the others. Reducing is done in slices of time, so that the event loop
has its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any, Generic, TypeVar

from learning_observer_kvs.reducers.batch import Event
from learning_observer_kvs.stores.hold_watch import HoldWatch
from learning_observer_kvs.stores.pacing import TIME_SLICE, URGENT_SLICE

ReadyT = TypeVar('ReadyT')


class EventQueue:
    """Events that wait for a key; it stands in line for the key as one waiter.

    Args:
        on_ready: called with the key and the queue when the key is granted.
    """

    __slots__ = ('events', 'on_ready')

    def __init__(self, on_ready: Callable[[str, EventQueue], None]) -> None:
        self.on_ready = on_ready
        self.events: deque[Event] = deque()

    def take(self, limit: int) -> tuple[list[Event], EventQueue | None]:
        """Take the events that came first.

        Args:
            limit: how many at most.

        Returns:
            The events, and the queue if there are more.
        """
        if len(self.events) <= limit:
            return list(self.events), None
        return [self.events.popleft() for _ in range(limit)], self

    def granted(self, key: str) -> None:
        """Have the events served.

        Args:
            key: the key.
        """
        self.on_ready(key, self)

    def missing(self) -> Collection[str]:
        """Return no key: the line it stands in is all it waits for."""
        return ()


class QueueServer(Generic[ReadyT]):
    """Serves what holds its key in one event loop, first come, first served: queues of events, or single events.

    Args:
        serve: serves what is ready, and returns what is left to be awaited.
        abandon: called with what will not be served, because the event loop ends, and the error.
        watch: what is to run while keys are held.
        is_urgent: tells whether reads are under way that a caller waits for.

    Attributes:
        slice_ends: the time of the monotonic clock when the slice is over; ``None`` before the first event of a slice.
    """

    def __init__(
        self,
        serve: Callable[[str, ReadyT], Awaitable[None] | None],
        abandon: Callable[[str, ReadyT, BaseException], None],
        watch: HoldWatch,
        is_urgent: Callable[[], object] = lambda: False,
    ) -> None:
        self._is_urgent = is_urgent
        self._serve = serve
        self._abandon = abandon
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._ready: deque[tuple[str, ReadyT]] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.slice_ends: float | None = None

    def add(self, key: str, ready: ReadyT) -> None:
        """Have something served soon.

        Args:
            key: its key, which is held for it.
            ready: a queue of events, or what else is served.
        """
        self._ready.append((key, ready))
        if self._serving is None:
            self._serving = self._start_serving()

    def ready(self) -> list[ReadyT]:
        """Return what is to be served. It may be called from another thread."""
        return [ready for _, ready in list(self._ready)]

    def hand_over(self) -> None:
        """Let another task serve the others: the running one is about to wait for something."""
        if self._serving is asyncio.current_task():
            self._serving = self._start_serving() if self._ready else None

    def is_slice_over(self) -> bool:
        """Tell whether reducers have run for long enough since the event loop last had its turn."""
        now = monotonic()
        if self.slice_ends is None:
            self.begin_slice(now)
            return False
        return now > self.slice_ends

    def begin_slice(self, now: float) -> None:
        """Begin a slice, which ends when the event loop has its turn.

        Args:
            now: the time of the monotonic clock, in seconds.
        """
        self.slice_ends = now + (URGENT_SLICE if self._is_urgent() else TIME_SLICE)
        self._loop.call_soon(self._end_slice)
        if not self._watch.is_running:
            self._watch.start()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Return a task that runs in no caller's context, and is held until it ends.

        Args:
            work: what it runs.
            name: its name.
        """
        task = self._loop.create_task(work, context=Context(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start_serving(self) -> asyncio.Task[None]:
        task = self.spawn(self._serve_ready(), 'kvs reducers')
        task.add_done_callback(self._serving_ended)
        return task

    def _serving_ended(self, task: asyncio.Task[None]) -> None:
        """Abandon what is ready if the task was cancelled before its first step, which it cannot notice itself."""
        if self._serving is task:
            while self._ready:
                self._abandon(*self._ready.popleft(), asyncio.CancelledError())
            self._serving = None

    async def _serve_ready(self) -> None:
        """Serve until nothing is ready, or another task has taken over."""
        this = asyncio.current_task()
        try:
            while self._serving is this and self._ready:
                if self.is_slice_over():
                    await asyncio.sleep(0)
                elif (left := self._serve(*self._ready.popleft())) is not None:
                    await left
        except BaseException as error:
            while self._serving is this and self._ready:
                self._abandon(*self._ready.popleft(), error)
            raise
        finally:
            if self._serving is this:
                self._serving = None

    def _end_slice(self) -> None:
        self.slice_ends = None
