"""Writes that are asked for in one tick of the event loop travel together, and each caller gets its own outcome.

One batch is in flight at a time: what comes meanwhile is the next one. So nothing is held back by a timer, a single
writer waits for no other, and many writers share every round trip, transaction or lock.

A request that could not be written because the backend is away is put back and tried again, until its own deadline.
"""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import TypeAlias

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.deadline import ONE_TRY, pause_after
from learning_observer_kvs.stores.outage import gave_up
from learning_observer_kvs.stores.types import OnDone
from learning_observer_kvs.stores.write_counts import WriteCounts
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest

MAX_QUEUED = 100_000
"""How many writes may wait."""

MAX_QUEUED_BYTES = 256 << 20
"""How many bytes those that wait may write, with their keys; a single one may write more."""

WATCH_SECONDS = 1.0
"""How often the queue looks whether what waits is past its deadline; from when on a batch counts as held up."""


OnBatchDone: TypeAlias = Callable[[WriteBatch], None]


class RequestQueue(ABC):
    """What takes the writes of one store in one event loop: a :class:`WriteQueue`, or several behind one face."""

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str],
        deadline: float,
        resend_until: float,
    ) -> None:
        """Have something written; see :meth:`Backend.submit <learning_observer_kvs.stores.backend.Backend.submit>`.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold for that; ``None`` for a key that must be missing.
            on_done: called once with the outcome, in this event loop.
            refresh: keys that are not written, but get the time to live of those that are, where ``has_ttl``.
            deadline: until when it is tried again if it was never sent.
            resend_until: until when its outcome is found out if it was sent.

        Raises:
            Overloaded, StoreUnavailable: as :meth:`add`.
        """
        self.add(WriteRequest(writes, expected, on_done, refresh, deadline, resend_until))

    @abstractmethod
    def add(self, request: WriteRequest) -> None:
        """Have a request carried out.

        Args:
            request: what to write.

        Raises:
            Overloaded: too many wait; this one was rejected.
            StoreUnavailable: the backend is known to be away, and the request's deadline is over.
        """

    @abstractmethod
    def backlog(self) -> tuple[int, int]:
        """Return how many requests wait to be sent, and how many bytes they have."""

    @abstractmethod
    def is_away(self) -> bool:
        """Return whether the backend was away when it was tried last."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until nothing waits and nothing is in flight, or the backend is away."""

    @abstractmethod
    def close(self, why: str) -> None:
        """Give every request that still waits an error: it was not written. What is in flight is left to its end.

        What is submitted later is written as before, and does not wait for that.

        Args:
            why: a sentence for the message.
        """


class WriteQueue(RequestQueue):
    """The writes of one store in one event loop.

    Args:
        write_batch: begins to carry out a batch, and calls back (in this event loop) when each of its requests has a
            result or an error.
        location: returns where things are written, for messages.
        max_requests: returns how many requests the next batch has at most.
        max_bytes: how many bytes a batch writes at most; a single request may write more.
        now: the clock, in seconds.
        counts: where what is written is counted.
        announce: called with the batches that are answered, while there are listeners.
        listeners: those that want to know what is written.
        call_soon: calls something in the next tick; by default as the event loop does.
    """

    def __init__(
        self,
        write_batch: Callable[[WriteBatch, OnBatchDone], None],
        location: Callable[[], str],
        max_requests: Callable[[], int],
        max_bytes: int,
        now: Callable[[], float] = monotonic,
        counts: WriteCounts | None = None,
        announce: OnBatchDone = lambda batch: None,
        listeners: Collection[object] = (),
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._counts = WriteCounts() if counts is None else counts
        self._write_batch = write_batch
        self._location = location
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._announce = announce
        self._listeners = listeners
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._call_soon = self._loop.call_soon if call_soon is None else call_soon
        self._waiting: deque[WriteRequest] = deque()
        self._bytes = 0
        self._in_flight: WriteBatch | None = None
        self._sent_at = 0.0
        self._scheduled = False
        self._idle: asyncio.Future[None] | None = None
        self._failed: list[WriteRequest] = []  # to be tried again
        self._retry: asyncio.TimerHandle | None = None  # when
        self._away: StoreUnavailable | None = None  # why nothing could be written the last time
        self._is_held = self._is_watched = False

    def add(self, request: WriteRequest) -> None:
        """Have a request carried out; see :meth:`RequestQueue.add`."""
        waiting, size = self._waiting, self._bytes + request.size
        queued = len(waiting) + len(self._failed)
        if queued and (queued >= MAX_QUEUED or size > MAX_QUEUED_BYTES):
            raise overloaded(queued, self._bytes, self._location())
        if self._away is not None and request.deadline <= self._now():
            raise StoreUnavailable(str(self._away), retry=True)
        waiting.append(request)
        self._bytes = size
        if not self._scheduled and self._in_flight is None:
            self._scheduled = True
            self._call_soon(self._send)

    def backlog(self) -> tuple[int, int]:
        """Return what waits to be sent; see :meth:`RequestQueue.backlog`."""
        return len(self._waiting) + len(self._failed), self._bytes

    def is_away(self) -> bool:
        """Return whether the backend is away; see :meth:`RequestQueue.is_away`."""
        return self._away is not None

    async def drain(self) -> None:
        """Wait until all is done; see :meth:`RequestQueue.drain`."""
        while self._away is None and (self._waiting or self._in_flight is not None or self._failed):
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])

    def close(self, why: str) -> None:
        """Give what waits an error; see :meth:`RequestQueue.close`."""
        self._in_flight = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        waiting = [*self._failed, *self._waiting]
        self._failed.clear()
        self._waiting.clear()
        self._bytes = 0
        error = StoreUnavailable(why) if self._away is None else gave_up(self._away, why)
        self._away = None
        self._is_held = False
        for request in waiting:
            request.on_done(error)

    def _send(self) -> None:
        """The tick has ended: send what has been asked for."""
        self._scheduled = False
        if self._in_flight is not None or self._is_held or not self._waiting:
            return
        batch, size = self._take()
        self._bytes -= size
        self._in_flight = batch
        self._sent_at = self._now()
        counts = self._counts
        counts.batches += 1
        counts.writes += len(batch)
        counts.bytes += size
        if not self._is_watched:
            self._watch_in(WATCH_SECONDS)
        try:
            self._write_batch(batch, self._batch_done)
        except Exception as error:  # no thread could be started, for example
            for request in batch:
                request.error = error
            self._loop.call_soon(self._batch_done, batch)

    def _take(self) -> tuple[list[WriteRequest], int]:
        """Take the next batch out of those that wait, and return it with its bytes."""
        waiting, most = self._waiting, self._max_requests()
        if self._bytes <= self._max_bytes and not self._failed:  # the sizes do not bound it
            if len(waiting) <= most:
                batch = list(waiting)
                waiting.clear()
                return batch, self._bytes
            batch = [waiting.popleft() for _ in range(most)]
            return batch, sum([request.size for request in batch])
        batch = [waiting.popleft()]
        size = batch[0].size
        while waiting and len(batch) < most and size + waiting[0].size <= self._max_bytes:
            request = waiting.popleft()
            size += request.size
            batch.append(request)
        return batch, size

    def _batch_done(self, batch: WriteBatch) -> None:
        if self._in_flight is not batch:
            self._answer(batch)  # the queue was closed meanwhile
            return
        self._in_flight = None
        ended_at = self._now()
        self._counts.seconds += ended_at - self._sent_at
        failed: list[WriteRequest] = []
        for request in batch:
            if request.error is not None and _may_recover(request.error):
                failed.append(request)  # noqa: PERF401  (a list that is nearly always empty)
        if failed:
            batch = self._put_back(batch, failed)
        else:
            self._away = None
            self._counts.ended_at = ended_at
        self._send()  # before the callers go on, so that nothing stands idle meanwhile
        self._answer(batch)
        self._look_if_idle()

    def _answer(self, batch: WriteBatch) -> None:
        if self._listeners:
            self._announce(batch)
        for request in batch:
            request.on_done(request.result if request.error is None else request.error)

    def _look_if_idle(self) -> None:
        is_idle = self._in_flight is None and not self._waiting and not self._failed
        if self._idle is not None and (is_idle or self._away is not None):
            self._idle.set_result(None)
            self._idle = None

    # While the backend is away

    def _put_back(self, batch: WriteBatch, failed: list[WriteRequest]) -> WriteBatch:
        """Keep those that failed, to be tried again; return the others, which are done.

        Where all failed, the backend is away, and what waits behind them waits for the next try, too.
        """
        now = self._now()
        again: list[WriteRequest] = []
        for request in failed:
            if now < request.deadline and not request.is_answered():
                again.append(request)
            elif request.failing_since:
                request.error = self._too_late(request, now)
        if not again:
            self._away = None  # no request waits for the next try
            return batch
        self._counts.retries += len(again)
        for request in again:
            request.failing_since = request.failing_since or now
            self._bytes += request.size
        self._failed += again
        self._is_held = len(failed) == len(batch)
        self._away = failed[0].error if self._is_held else None  # type: ignore[assignment]  # one that may recover
        if self._retry is None:
            pause = pause_after(now - self._failed[0].failing_since)
            self._retry = self._loop.call_later(pause, self._try_again)
        kept = set(again)
        return [request for request in batch if request not in kept]

    def _try_again(self) -> None:
        self._retry = None
        self._is_held = False
        for request in reversed(self._failed):
            if request.deadline == ONE_TRY:  # it was withdrawn
                self._bytes -= request.size
            else:
                request.error = None
                self._waiting.appendleft(request)
        self._failed.clear()
        self._send()
        if self._in_flight is None:
            self._away = None  # all were answered meanwhile: the next request finds out whether it still is
            self._look_if_idle()

    def _watch_in(self, seconds: float) -> None:
        self._is_watched = True
        self._loop.call_later(seconds, _watch, weakref.ref(self))  # which keeps no store alive

    def reject_late(self) -> None:
        """Answer those whose deadline is over while the backend is away, or a batch in flight is held up."""
        self._is_watched = False
        if self._in_flight is None and not self._waiting and not self._failed:
            return
        now = self._now()
        soonest = now + WATCH_SECONDS
        late: list[WriteRequest] = []
        if self._away is not None or (self._in_flight is not None and now - self._sent_at >= WATCH_SECONDS):
            waiting = [*self._failed, *self._waiting]
            late = [request for request in waiting if ONE_TRY < _answer_by(request) <= now]
            if late:
                done = set(late)
                self._failed = [request for request in self._failed if request not in done]
                self._waiting = deque(request for request in self._waiting if request not in done)
                self._bytes -= sum(request.size for request in late)
            soonest = min((time for request in waiting if (time := _answer_by(request)) > now), default=soonest)
        self._watch_in(min(WATCH_SECONDS, max(soonest - now, 0.01)))
        for request in late:
            request.on_done(self._too_late(request, now))
        self._look_if_idle()

    def _too_late(self, request: WriteRequest, now: float) -> StoreUnavailable:
        error = request.error or self._away
        if isinstance(error, StoreUnavailable):
            since = request.failing_since or min(other.failing_since or now for other in self._failed or [request])
            return gave_up(error, f'It has been so for {now - since:.0f} s.') if now - since >= 1 else error
        return StoreUnavailable(
            f'{self._location()} has been busy with the writes before for {now - self._sent_at:.0f} s. Nothing was '
            'written.',
            retry=True,
        )


def overloaded(count: int, size: int, location: str) -> Overloaded:
    """Return the error of a write that is not accepted because too many wait.

    Args:
        count: how many wait.
        size: how many bytes they have.
        location: where they are to be written.
    """
    return Overloaded(
        f'{count:,} writes, of {size / (1 << 20):,.1f} MB, wait for {location} already; this one was rejected. '
        'Retry later.'
    )


def _answer_by(request: WriteRequest) -> float:
    """When a request is answered at the latest that waits behind others; one that is tried once may wait, too."""
    return request.deadline if request.deadline > ONE_TRY else request.resend_until


def _may_recover(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable) and error.retry


def _watch(reference: weakref.ref[WriteQueue]) -> None:
    queue = reference()
    if queue is not None:
        queue.reject_late()
