"""Writes that are asked for in one tick of the event loop travel together, and each caller gets its own outcome.

One batch is in flight at a time: what comes meanwhile is the next one. So nothing is held back by a timer, a single
writer waits for no other, and many writers share every round trip, transaction or lock.
"""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias, Unpack

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.base import CLOSE_TIMEOUT, Store
from learning_observer_kvs.stores.types import CommonOptions, OnDone, Outcome, Submit

MAX_QUEUED = 100_000
"""How many writes may wait."""


class WriteRequest:
    """Something to be written, and whom to call with the outcome.

    Attributes:
        writes: text by key; ``None`` removes the key.
        expected: the bytes that keys must hold for that; ``None`` for a key that must be missing.
        on_done: called once with the outcome, in the event loop that asked.
        clear: whether everything is to be removed.
        refresh: keys that are not written, but get the time to live of those that are.
        size: the bytes it writes.
        result, error: set by what carries it out. The result is whether the condition held; of a removal without a
            condition, whether something was there.
    """

    __slots__ = ('clear', 'error', 'expected', 'on_done', 'refresh', 'result', 'size', 'writes')

    def __init__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
        *,
        clear: bool = False,
    ) -> None:
        self.writes = writes
        self.expected = expected
        self.on_done = on_done
        self.clear = clear
        self.refresh = refresh
        self.size = 0
        for text in writes.values():
            if text is not None:
                self.size += len(text)
        self.result = False
        self.error: Exception | None = None


WriteBatch: TypeAlias = Sequence[WriteRequest]
OnBatchDone: TypeAlias = Callable[[WriteBatch], None]


class WriteQueue:
    """The writes of one store in one event loop.

    Args:
        write_batch: begins to carry out a batch, and calls back (in this event loop) when each of its requests has a
            result or an error.
        location: where things are written, for messages.
        max_requests: how many requests a batch has at most.
        max_bytes: how many bytes a batch writes at most; a single request may write more.
    """

    def __init__(
        self,
        write_batch: Callable[[WriteBatch, OnBatchDone], None],
        location: str,
        max_requests: int,
        max_bytes: int,
    ) -> None:
        self._write_batch = write_batch
        self._location = location
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[WriteRequest] = deque()
        self._in_flight = False
        self._scheduled = False
        self._idle: asyncio.Future[None] | None = None

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
    ) -> None:
        """Have something written; see :meth:`Backend.submit <learning_observer_kvs.stores.backend.Backend.submit>`.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold for that; ``None`` for a key that must be missing.
            on_done: called once with the outcome, in this event loop.
            refresh: keys that are not written, but get the time to live of those that are, where ``has_ttl``.

        Raises:
            Overloaded: too many wait; this one was rejected.
        """
        self.add(WriteRequest(writes, expected, on_done, refresh))

    def add(self, request: WriteRequest) -> None:
        """Have a request carried out.

        Args:
            request: what to write.

        Raises:
            Overloaded: too many wait; this one was rejected.
        """
        if len(self._waiting) >= MAX_QUEUED:
            raise Overloaded(
                f'{MAX_QUEUED:,} writes wait for {self._location} already; this one was rejected. Retry later.'
            )
        self._waiting.append(request)
        if not self._in_flight and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is in flight."""
        while self._waiting or self._in_flight:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])

    def reject_waiting(self, error: Exception) -> None:
        """Give every request that still waits an error: it was not written.

        Args:
            error: the error.
        """
        waiting = list(self._waiting)
        self._waiting.clear()
        for request in waiting:
            request.on_done(error)

    def _send(self) -> None:
        """The tick has ended: send what has been asked for."""
        self._scheduled = False
        if self._in_flight or not self._waiting:
            return
        waiting = self._waiting
        batch = [waiting.popleft()]
        size = batch[0].size
        while waiting and len(batch) < self._max_requests and size + waiting[0].size <= self._max_bytes:
            request = waiting.popleft()
            size += request.size
            batch.append(request)
        self._in_flight = True
        try:
            self._write_batch(batch, self._batch_done)
        except Exception as error:  # no thread could be started, for example
            for request in batch:
                request.error = error
            self._loop.call_soon(self._batch_done, batch)

    def _batch_done(self, batch: WriteBatch) -> None:
        self._in_flight = False
        self._send()  # before the callers go on, so that nothing stands idle meanwhile
        for request in batch:
            request.on_done(request.result if request.error is None else request.error)
        if self._idle is not None and not self._in_flight and not self._waiting:
            self._idle.set_result(None)
            self._idle = None


class QueuedStore(Store):
    """A store whose writes travel together; a backend implements ``_write_batch`` instead of ``commit_bytes``.

    Args:
        common: as for :class:`~learning_observer_kvs.stores.base.Store`.
    """

    MAX_REQUESTS = 1000
    """How many requests a batch has at most."""

    MAX_BYTES = 16 << 20
    """How many bytes a batch writes at most; a single request may write more."""

    def __init__(self, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self._write_queues: PerLoop[WriteQueue] = PerLoop(
            lambda: WriteQueue(self._write_batch, self.location(), self.MAX_REQUESTS, self.MAX_BYTES)
        )

    @abstractmethod
    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Begin to carry out a batch; see :class:`WriteQueue`."""

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
    ) -> None:
        """Begin a write on condition, and call back with its outcome.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold for that; ``None`` for a key that must be missing.
            on_done: called once with the outcome, in this event loop.
            refresh: keys that are not written, but get the time to live of those that are, where ``has_ttl``.

        Raises:
            Overloaded: too many writes wait; this one was rejected.
        """
        self.submitter()(writes, expected, on_done, refresh)

    def submitter(self) -> Submit:
        """Return :meth:`submit` for the running event loop."""
        return self._write_queues.here().submit

    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Write all or nothing, on condition.

        Args:
            writes: bytes by key; ``None`` removes the key. May be empty.
            expected: the bytes that keys must hold exactly; ``None`` for a key that must be missing. May be empty.

        Returns:
            Whether the condition held and everything was written; otherwise nothing was.

        Raises:
            StoreUnavailable, Overloaded: nothing was written.
            WriteUnclear: it may or may not have been written.
        """
        return await self._outcome(writes, expected) or not expected

    async def _remove(self, key: str) -> bool:
        return await self._outcome({key: None}, {})

    async def _outcome(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], *, clear: bool = False
    ) -> bool:
        """Wait for the outcome of a write; it is completed also if the caller is cancelled meanwhile."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        on_done = functools.partial(_resolve, future)
        self._write_queues.here().add(WriteRequest(writes, expected, on_done, clear=clear))
        return await future

    async def _drain(self) -> None:
        """Wait until this event loop's writes are done, ``CLOSE_TIMEOUT`` seconds at most, and let go of its queue."""
        queue = self._write_queues.peek()
        if queue is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await queue.drain()
            self._write_queues.pop()
            queue.reject_waiting(
                StoreUnavailable(f'Store {self.name!r} was closed before this was written; nothing was written.')
            )


def _resolve(future: asyncio.Future[bool], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
