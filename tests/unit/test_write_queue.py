"""Writes that wait travel together, in order and within bounds, and each caller gets its own outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.types import Outcome
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteBatch, WriteQueue, WriteRequest


class Backend:
    """What carries batches out when a test says so.

    Attributes:
        batches: those that have begun, each with what is called when it is done.
    """

    def __init__(self, max_requests: int = 100, max_bytes: int = 1000) -> None:
        self.batches: list[tuple[WriteBatch, OnBatchDone]] = []
        self.queue = WriteQueue(self._begin, 'a test', max_requests, max_bytes)
        self.outcomes: dict[str, Outcome] = {}

    def _begin(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self.batches.append((batch, on_batch_done))

    def submit(self, name: str, size: int = 1) -> WriteRequest:
        request = WriteRequest({name: b'x' * size}, {}, lambda outcome: self.outcomes.__setitem__(name, outcome))
        self.queue.add(request)
        return request

    def names(self) -> list[list[str]]:
        return [[next(iter(request.writes)) for request in batch] for batch, _ in self.batches]

    def finish(self, number: int) -> None:
        batch, on_batch_done = self.batches[number]
        on_batch_done(batch)


async def test_what_is_submitted_in_one_tick_is_one_batch_and_what_comes_meanwhile_the_next() -> None:
    backend = Backend()
    backend.submit('a').result = True
    backend.submit('b')
    assert backend.names() == []
    await asyncio.sleep(0)
    backend.submit('c')
    await asyncio.sleep(0)
    assert backend.names() == [['a', 'b']]
    backend.finish(0)
    assert backend.names() == [['a', 'b'], ['c']]
    assert backend.outcomes == {'a': True, 'b': False}


async def test_a_batch_has_no_more_requests_and_bytes_than_allowed_and_keeps_the_order() -> None:
    backend = Backend(max_requests=3, max_bytes=10)
    for name, size in [('a', 1), ('b', 1), ('c', 1), ('d', 6), ('e', 4), ('f', 1), ('g', 50), ('h', 1)]:
        backend.submit(name, size)
    await asyncio.sleep(0)
    for number in range(4):
        backend.finish(number)
    assert backend.names() == [['a', 'b', 'c'], ['d', 'e'], ['f'], ['g'], ['h']]


async def test_an_error_of_one_request_is_its_own() -> None:
    backend = Backend()
    backend.submit('a').error = error = StoreUnavailable('no')
    backend.submit('b').result = True
    await asyncio.sleep(0)
    backend.finish(0)
    assert backend.outcomes == {'a': error, 'b': True}


async def test_a_batch_that_cannot_begin_fails_its_requests_and_the_next_is_written() -> None:
    class Refusing(Backend):
        def _begin(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
            if next(iter(batch[0].writes)) == 'a':
                raise RuntimeError('no thread')
            super()._begin(batch, on_batch_done)

    backend = Refusing(max_requests=1)
    backend.submit('a')
    backend.submit('b')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert repr(backend.outcomes['a']) == "RuntimeError('no thread')"
    assert backend.names() == [['b']]


async def test_writes_beyond_the_bound_are_rejected_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 2)
    backend = Backend()
    backend.submit('a')
    backend.submit('b')
    with pytest.raises(Overloaded, match=r'2 writes wait for a test .*Retry later'):
        backend.submit('c')
    await asyncio.sleep(0)
    backend.submit('d')
    backend.finish(0)
    backend.finish(1)
    assert set(backend.outcomes) == {'a', 'b', 'd'}


async def test_those_that_wait_can_be_rejected_and_those_in_flight_go_on() -> None:
    backend = Backend()
    backend.submit('a')
    await asyncio.sleep(0)
    backend.submit('b')
    backend.queue.reject_waiting(error := StoreUnavailable('closed'))
    backend.finish(0)
    assert backend.outcomes == {'b': error, 'a': False}
    assert backend.names() == [['a']]


async def test_draining_ends_when_nothing_waits_and_nothing_is_in_flight() -> None:
    backend = Backend(max_requests=1)
    await backend.queue.drain()
    backend.submit('a')
    backend.submit('b')
    drained: asyncio.Task[Any] = asyncio.ensure_future(backend.queue.drain())
    await asyncio.sleep(0)
    backend.finish(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not drained.done()
    backend.finish(1)
    await drained
