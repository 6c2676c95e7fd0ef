"""What a store whose writes travel together adds to the queue: deadlines, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.queued import QueuedStore
from learning_observer_kvs.stores.types import Outcome
from learning_observer_kvs.stores.write_queue import OnBatchDone
from learning_observer_kvs.stores.write_request import WriteBatch


class Scripted(QueuedStore):
    """Carries batches out when a test says so.

    Attributes:
        batches: those that have begun, each with what is called when it is done.
    """

    TYPE: ClassVar[str] = 'scripted'

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.batches: list[tuple[WriteBatch, OnBatchDone]] = []

    def location(self) -> str:
        return 'a test'

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        return [None for _ in keys]

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        return [], None

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self.batches.append((batch, on_batch_done))

    def finish(self, number: int) -> None:
        batch, on_batch_done = self.batches[number]
        on_batch_done(batch)


WRITES: Mapping[str, bytes | None] = {'k': b'1'}


async def test_a_write_without_a_deadline_is_tried_for_the_retry_timeout() -> None:
    store = Scripted(retry_timeout=30)
    began = monotonic()
    store.submit(WRITES, {}, lambda outcome: None)
    store.submit(WRITES, {}, lambda outcome: None, (), ONE_TRY)
    store.submit(WRITES, {}, lambda outcome: None, (), 5.0, 7.0)
    await asyncio.sleep(0)
    [(batch, _)] = store.batches
    assert began + 30 <= batch[0].deadline == batch[0].resend_until <= monotonic() + 30
    assert [(request.deadline, request.resend_until) for request in batch[1:]] == [(ONE_TRY, ONE_TRY), (5.0, 7.0)]


async def test_closing_waits_for_writes_and_keeps_the_queue_of_the_event_loop() -> None:
    store = Scripted()
    outcomes: list[Outcome] = []
    store.submit(WRITES, {}, outcomes.append)
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store._drain(5))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not closing.done()
    store.finish(0)
    await closing
    assert outcomes == [False]
    await store._drain(5)
    store.submit(WRITES, {}, outcomes.append)
    await asyncio.sleep(0)
    assert len(store.batches) == 2


async def test_what_is_not_sent_when_closing_takes_too_long_was_not_written() -> None:
    store = Scripted()
    outcomes: list[Outcome] = []
    store.submit(WRITES, {}, outcomes.append)
    await asyncio.sleep(0)
    store.submit(WRITES, {}, outcomes.append)
    await store._drain(0.01)
    [outcome] = outcomes
    assert isinstance(outcome, StoreUnavailable)
    assert "Store 'scripted' was closed before this was written; nothing was written." in str(outcome)
    store.finish(0)
    assert outcomes == [outcome, False]
