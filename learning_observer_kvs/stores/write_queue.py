"""What is to be written in one tick of the loop travels together, and whoever wrote is told its own outcome.

One load is under way at a time: what comes meanwhile is the next one. So nothing is held back by a timer, a single
writer waits for nobody, and many writers share every round trip, transaction or lock.
"""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores import base
from learning_observer_kvs.stores.base import Committer, OnDone, Outcome, Store

MAX_WAITING = 100_000
"""How many requests may wait."""


class Request:
    """Something to be written, and whom to tell of it.

    Attributes:
        writes: text by key; ``None`` removes the key.
        expected: the bytes that keys must hold for that; ``None`` for a key that is not there.
        tell: called once with the outcome, in the loop that asked.
        clear: everything is to be removed.
        renew: keys that are not written, but shall live as long as those that are.
        size: the bytes it writes.
        result, error: set by who processes it. The result is whether the condition held; of a removal without a
            condition, whether something was there.
    """

    __slots__ = ('clear', 'error', 'expected', 'on_done', 'refresh', 'result', 'size', 'writes')

    def __init__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        *,
        clear: bool = False,
        refresh: Collection[str] = (),
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


WriteBatch: TypeAlias = Sequence[Request]
OnBatchDone: TypeAlias = Callable[[WriteBatch], None]


class WriteQueue:
    """The queue of one store in one event loop.

    Args:
        carry: begins to process a load, and calls back (in this loop) when each of its requests has a result or an
            error.
        place: where things are written, for messages.
        max_requests, max_bytes: how much a load carries; a single request may have more bytes.
    """

    def __init__(
        self, write_batch: Callable[[WriteBatch, OnBatchDone], None], location: str, max_requests: int, max_bytes: int
    ) -> None:
        self._write_batch = write_batch
        self._place = location
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._in_flight = False
        self._scheduled = False
        self._idle: asyncio.Future[None] | None = None

    def submit(self, request: Request) -> None:
        """Have a request carried out.

        Raises:
            Overloaded: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(
                f'{MAX_WAITING:,} writes wait for {self._place} already; this one was not taken. Send it again later.'
            )
        self._waiting.append(request)
        if not self._in_flight and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._waiting or self._in_flight:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])

    def refuse(self, error: Exception) -> None:
        """Answer what still waits with an error: it was not written."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for request in waiting:
            request.on_done(error)

    def _send(self) -> None:
        """The tick ends: send what has gathered."""
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
        self._send()  # before anybody is told, so that nothing stands idle meanwhile
        for request in batch:
            request.on_done(request.result if request.error is None else request.error)
        if self._idle is not None and not self._in_flight and not self._waiting:
            self._idle.set_result(None)
            self._idle = None


class QueuedStore(Store):
    """A store whose writes travel together: a backend adds ``_carry`` instead of ``_commit`` and ``_remove``."""

    MAX_REQUESTS = 1000
    MAX_BYTES = 16 << 20

    def _start_write_queues(self) -> None:
        """To be called by the constructor."""
        self._write_queues: PerLoop[WriteQueue] = PerLoop(
            lambda: WriteQueue(self._write_batch, self.location(), self.MAX_REQUESTS, self.MAX_BYTES)
        )

    @abstractmethod
    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Begin to process a load; see :class:`Gatherer`."""

    def _committer(self) -> Committer:
        def begin(
            writes: Mapping[str, bytes | None],
            expected: Mapping[str, bytes | None],
            on_done: OnDone,
            refresh: Collection[str] = (),
        ) -> None:
            self._write_queues.here().submit(Request(writes, expected, on_done, refresh=refresh))

        return begin

    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        return await self._outcome(writes, expected) or not expected

    async def _remove(self, key: str) -> bool:
        return await self._outcome({key: None}, {})

    async def _outcome(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], *, clear: bool = False
    ) -> bool:
        """Wait for the outcome of a write; it is carried through also if the caller is cancelled meanwhile."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        on_done = functools.partial(_resolve, future)
        self._write_queues.here().submit(Request(writes, expected, on_done, clear=clear))
        return await future

    async def _drain(self) -> None:
        """Wait until this loop's writes are through, for ``CLOSING`` seconds at most, and let go of its queue."""
        queue = self._write_queues.peek()
        if queue is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(base.CLOSING):
                    await queue.drain()
            self._write_queues.pop()
            queue.refuse(StoreUnavailable(f'Store {self.name!r} was closed before this was written; it was not.'))


def _resolve(future: asyncio.Future[bool], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
