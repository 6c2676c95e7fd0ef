"""Writes that wait travel together, in order and within bounds, and each caller gets its own outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.write_queue import OnBatchDone
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest
from tests.support.scripted_backend import ScriptedBackend


async def test_what_is_submitted_in_one_tick_is_one_batch_and_what_comes_meanwhile_the_next() -> None:
    backend = ScriptedBackend()
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
    backend = ScriptedBackend(max_requests=3, max_bytes=10)
    for name, size in [('a', 2), ('b', 2), ('c', 2), ('d', 6), ('e', 4), ('f', 2), ('g', 50), ('h', 2)]:
        backend.submit(name, size)
    await asyncio.sleep(0)
    for number in range(4):
        backend.finish(number)
    assert backend.names() == [['a', 'b', 'c'], ['d', 'e'], ['f'], ['g'], ['h']]


async def test_an_error_of_one_request_is_its_own() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15).error = error = StoreUnavailable('no')
    backend.submit('b').result = True
    await asyncio.sleep(0)
    backend.finish(0)
    assert backend.outcomes == {'a': error, 'b': True}


async def test_a_batch_that_cannot_begin_fails_its_requests_and_the_next_is_written() -> None:
    class Refusing(ScriptedBackend):
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
    backend = ScriptedBackend()
    backend.submit('a')
    backend.submit('b')
    with pytest.raises(Overloaded, match=r'2 writes, of .* MB, wait for a test .*Retry later'):
        backend.submit('c')
    await asyncio.sleep(0)
    backend.submit('d')
    backend.finish(0)
    backend.finish(1)
    assert set(backend.outcomes) == {'a', 'b', 'd'}


async def test_the_bytes_of_what_waits_are_bounded_with_the_keys_and_a_single_write_may_have_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED_BYTES', 20)
    backend = ScriptedBackend()
    backend.submit('a', 100)
    with pytest.raises(Overloaded):
        backend.submit('b')
    await asyncio.sleep(0)
    backend.submit('c', 10)
    with pytest.raises(Overloaded, match=r'1 writes, of 0\.0 MB'):
        backend.queue.add(WriteRequest({'a long key that is removed': None}, {}, lambda outcome: None))
    backend.submit('d', 10)
    backend.finish(0)
    backend.submit('e', 20)
    backend.fail(1)
    assert backend.names() == [['a'], ['c', 'd'], ['e']]


async def test_closing_gives_those_that_wait_an_error_and_those_in_flight_go_on() -> None:
    backend = ScriptedBackend()
    backend.submit('a')
    await asyncio.sleep(0)
    backend.submit('b')
    backend.queue.close('It was closed.')
    backend.finish(0)
    assert repr(backend.outcomes) == "{'b': StoreUnavailable('It was closed.'), 'a': False}"
    assert backend.names() == [['a']]


async def test_draining_ends_when_nothing_waits_and_nothing_is_in_flight() -> None:
    backend = ScriptedBackend(max_requests=1)
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


async def test_draining_waits_for_what_is_not_sent_yet_and_for_what_is_in_flight_each_time() -> None:
    backend = ScriptedBackend()
    for number, name in enumerate('ab'):
        drained: asyncio.Task[Any] = asyncio.ensure_future(backend.queue.drain())
        backend.submit(name)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not drained.done()
        backend.finish(number)
        await drained
    assert backend.queue._bytes == 0
    assert len(backend.timers) == 1
