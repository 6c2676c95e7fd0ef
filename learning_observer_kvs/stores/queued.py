"""A store whose writes travel together, by a :class:`~learning_observer_kvs.stores.write_queue.WriteQueue`."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Unpack

from learning_observer_kvs.errors import WriteUnclear
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.types import CommonOptions, OnDone, Outcome, Submit
from learning_observer_kvs.stores.write_counts import WriteCounts
from learning_observer_kvs.stores.write_queue import OnBatchDone, RequestQueue, WriteQueue
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest


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
        self._write_counts: dict[int, WriteCounts] = {}  # by thread, so that no number is lost
        # Kept as long as its loop: what has its submitter may go on while the store is closed.
        self._write_queues: PerLoop[RequestQueue] = PerLoop(self._make_request_queue)

    def _make_request_queue(self) -> RequestQueue:
        """Return what takes the writes of the running event loop."""
        return self._make_write_queue()

    def _make_write_queue(self) -> WriteQueue:
        return WriteQueue(
            self._write_batch,
            self.location,
            self._max_requests,
            self.MAX_BYTES,
            counts=self._write_counts.setdefault(threading.get_ident(), WriteCounts()),
            announce=self._announce_batch,
            listeners=self.listeners,
            call_soon=self._call_soon(),
        )

    def _max_requests(self) -> int:
        """Return how many requests the next batch of the running event loop has at most."""
        return self.MAX_REQUESTS

    def _call_soon(self) -> Callable[[Callable[[], None]], object] | None:
        """Return what calls something in the next tick of the running event loop, where not the loop itself does."""
        return None

    @abstractmethod
    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Begin to carry out a batch; see :class:`WriteQueue`."""

    def _announce_batch(self, batch: WriteBatch) -> None:
        """There are listeners, and a batch is answered: note what it has written."""
        applied = [request for request in batch if _may_be_applied(request)]
        if applied:
            self._note_written([key for request in applied for key in request.writes])

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
        deadline: float | None = None,
        resend_until: float | None = None,
    ) -> None:
        """Begin a write on condition, and call back with its outcome.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold for that; ``None`` for a key that must be missing.
            on_done: called once with the outcome, in this event loop.
            refresh: keys that are not written, but get the time to live of those that are, where ``has_ttl``.
            deadline: until when it is tried again if it was never sent, as the time of the monotonic clock; by default
                ``retry_timeout`` from now.
            resend_until: until when its outcome is found out if it was sent; by default the same.

        Raises:
            Overloaded: too many writes wait; this one was rejected.
            StoreUnavailable: the backend is known to be away, and the deadline is over.
        """
        if deadline is None:
            deadline = deadline_after(self.retry_timeout)
        until = deadline if resend_until is None else resend_until
        self.submitter()(writes, expected, on_done, refresh, deadline, until)

    def submitter(self) -> Submit:
        """Return :meth:`submit` for the running event loop; every argument must be given."""
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
        return await self._commit(writes, expected, deadline_after(self.retry_timeout))

    async def _commit(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], deadline: float
    ) -> bool:
        return await self._outcome(writes, expected, deadline) or not expected

    async def _remove(self, key: str, deadline: float) -> bool:
        return await self._outcome({key: None}, {}, deadline)

    async def _outcome(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        deadline: float,
        *,
        clear: bool = False,
    ) -> bool:
        """Wait for the outcome of a write; it is completed also if the caller is cancelled meanwhile.

        But for one that fails: then it is not tried again.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        on_done = functools.partial(_resolve, future)
        request = WriteRequest(writes, expected, on_done, (), deadline, clear=clear)
        self._write_queues.here().add(request)
        try:
            return await future
        except asyncio.CancelledError:
            request.withdraw()
            raise

    def _write_metrics(self) -> dict[str, Any]:
        counts = list(self._write_counts.values())
        queues = list(self._write_queues)
        backlogs = [queue.backlog() for queue in queues]
        ended = [each.ended_at for each in counts if each.ended_at is not None]
        return {
            **({'seconds_since_write': time.monotonic() - max(ended)} if ended else {}),
            'write_batches': sum(each.batches for each in counts),
            'writes': sum(each.writes for each in counts),
            'written_bytes': sum(each.bytes for each in counts),
            'write_seconds': sum(each.seconds for each in counts),
            'retries': sum(each.retries for each in counts),
            'waiting_writes': sum(requests for requests, _ in backlogs),
            'waiting_bytes': sum(size for _, size in backlogs),
            'is_away': any(queue.is_away() for queue in queues),
        }

    async def _drain(self, timeout: float) -> None:
        """Wait until this event loop's writes are done, so many seconds at most, and give up those that wait.

        A backend that is away is not waited for.
        """
        queue = self._write_queues.peek()
        if queue is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await queue.drain()
            queue.close(f'Store {self.name!r} was closed before this was written; nothing was written.')


def _may_be_applied(request: WriteRequest) -> bool:
    return request.result if request.error is None else isinstance(request.error, WriteUnclear)


def _resolve(future: asyncio.Future[bool], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
