"""A write queue whose batches are carried out when a test says so, in a time that passes when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.types import Outcome
from learning_observer_kvs.stores.write_counts import WriteCounts
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteQueue
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest


class ScriptedBackend:
    """What carries batches out when a test says so, in a time that passes when it says so.

    Attributes:
        batches: those that have begun, each with what is called when it is done.
        counts: what the queue counts.
    """

    def __init__(self, max_requests: int = 100, max_bytes: int = 1000) -> None:
        self.batches: list[tuple[WriteBatch, OnBatchDone]] = []
        self.now = 1000.0
        self.timers: list[tuple[float, asyncio.Handle, Callable[[], Any]]] = []
        asyncio.get_running_loop().call_later = self._call_later  # type: ignore[method-assign, assignment]
        self.counts = WriteCounts()
        self.queue = WriteQueue(
            self._begin, lambda: 'a test', lambda: max_requests, max_bytes, lambda: self.now, counts=self.counts
        )
        self.outcomes: dict[str, Outcome] = {}

    def _begin(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self.batches.append((batch, on_batch_done))

    def submit(self, name: str, size: int = 2, seconds: float | None = None) -> WriteRequest:
        """Submit a request of that many bytes, its key counted; ``seconds`` are until its deadline."""
        assert name not in self.outcomes
        deadline = ONE_TRY if seconds is None else self.now + seconds
        on_done = lambda outcome: self.outcomes.__setitem__(name, outcome)  # noqa: E731
        request = WriteRequest({name: b'x' * (size - len(name))}, {}, on_done, (), deadline)
        self.queue.add(request)
        return request

    def fail(self, number: int, *names: str) -> None:
        """Finish a batch whose requests, or those named, find the backend away."""
        batch, on_batch_done = self.batches[number]
        for request in batch:
            request.result = not (away := not names or next(iter(request.writes)) in names)
            request.error = StoreUnavailable('away', retry=True) if away else None
        on_batch_done(batch)

    async def pass_time(self, seconds: float) -> None:
        """Let the clock go on, and the timers of the queue run that are due then."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end and not timer[1].cancelled()]:
            self.now, _, call = first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            call()
            await asyncio.sleep(0)
        self.now = end

    def _call_later(self, seconds: float, callback: Callable[..., Any], *arguments: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, asyncio.get_running_loop())
        self.timers.append((self.now + seconds, handle, lambda: callback(*arguments)))
        return handle

    def names(self) -> list[list[str]]:
        return [[next(iter(request.writes)) for request in batch] for batch, _ in self.batches]

    def finish(self, number: int) -> None:
        batch, on_batch_done = self.batches[number]
        on_batch_done(batch)
