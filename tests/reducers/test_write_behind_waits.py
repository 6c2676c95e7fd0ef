"""``flush_interval``: flushes that a reducer or an update asks for, or several callers at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import batch_worker, serving, worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.key_locks import Holder, current_holder
from tests.support.watched import count, send
from tests.support.write_behind import NEVER, Away


async def spin() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_flushes_at_once_each_end_though_another_one_wrote_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    store = Away(flush_interval=NEVER)
    await asyncio.gather(*(send(store, str(number)) for number in range(12)))
    async with asyncio.timeout(12):
        await asyncio.gather(*(store.flush() for _ in range(4)))
    assert len(store._texts) == 24
    assert store.busy_keys() == 0


async def test_a_flush_that_an_update_asked_for_is_not_waited_for_once_it_has_ended() -> None:
    store = Away(flush_interval=NEVER)
    holders: list[Holder] = []

    async def flush(value: Any) -> Any:
        holder = current_holder()
        assert holder is not None
        holders.append(holder)
        await store.flush()
        assert not holder.waits
        return 1

    await send(store, 'a')
    await store.update('k', flush)
    assert len(holders) == 1
    assert store._texts['Internal,a'] == b'1'


async def test_a_flush_inside_a_reducer_of_a_large_state_lets_another_large_state_be_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_worker, 'LARGE', 0)
    monkeypatch.setattr(batch_worker, 'LARGE_AT_ONCE', 1)
    store = Away(flush_interval=NEVER)
    store._texts |= {'Internal,a': b'10', 'Internal,b': b'20'}
    go_on = asyncio.Event()

    async def flush(state: Any) -> Any:
        await go_on.wait()
        await store.flush()
        return await count(state)

    await send(store, 'a')
    first = send(store, 'b', flush)
    await spin()
    second = send(store, 'a')
    await spin()
    go_on.set()
    async with asyncio.timeout(12):
        assert list(await asyncio.gather(first, second)) == [21, 12]
    assert not worker_of(store)._large.locked()
    await store.flush()
    assert store.busy_keys() == 0


async def test_the_newest_text_is_read_before_it_is_flushed_and_of_the_asked_keys_alone() -> None:
    store = Away(flush_interval=NEVER)
    await send(store, 'a')
    await send(store, 'b')
    assert dict(worker_of(store).pending(['External,a', 'k'])) == {'External,a': b'1'}
    assert await store.multiget(['External,a', 'k']) == [1, None]
    await store.flush()
    assert not worker_of(store).pending(['External,a'])


async def test_a_write_flushes_its_own_key_and_no_other() -> None:
    store = Away(flush_interval=NEVER)
    await send(store, 'a')
    await send(store, 'b')
    await store.set('External,a', 7)
    assert store._texts == {'Internal,a': b'1', 'External,a': b'7'}
    await store.set('k', 7)
    assert 'Internal,b' not in store._texts
    assert worker_of(store)._busy == 0
    async with asyncio.timeout(12):
        await store.close()
    assert store._texts['Internal,b'] == b'1'


async def test_keys_of_any_name_that_a_flush_is_to_write_belong_to_the_queue_of_their_reducer() -> None:
    store = Away(flush_interval=NEVER)
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    await worker.process('state', 'result', count)
    assert [worker.queue_of(key) for key in ('state', 'result', 'k')] == ['state', 'state', 'k']
    await store.set('result', 7)
    await store.flush()
    assert store._texts == {'state': b'1', 'result': b'7'}
    assert worker._pending.owners == {}
    assert worker.queue_of('result') == 'result'


async def test_nothing_of_what_was_flushed_is_kept_or_counted() -> None:
    store = Away(flush_interval=NEVER)
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    for number in range(3):
        await send(store, 'a')
        await send(store, 'b')
        assert (worker._pending.events, worker._unsaved()) == (2 * number + 2, 2 * number + 2)
        assert worker._pending.bytes == 4
    await store.flush()
    await send(store, 'a')
    assert (worker._pending.events, worker._pending.bytes) == (1, 3)  # what it starts from, what it comes to, twice
    await store.flush()
    assert (worker._pending.events, worker._pending.bytes, worker._busy, worker._queued) == (0, 0, 0, {})
    assert (worker._pending, worker._pending.texts, worker._pending.owners, worker._exclusive) == ({}, {}, {}, {})


async def test_an_event_that_failed_is_not_pending() -> None:
    store = Away(flush_interval=NEVER)
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)

    async def fail(state: Any) -> Any:
        raise LookupError

    with pytest.raises(LookupError):
        await send(store, 'a', fail)
    assert (worker._pending, worker._pending.texts, worker._pending.events, worker._timer) == ({}, {}, 0, None)
    assert store._texts == {}


async def test_the_bound_in_bytes_has_everything_flushed_and_events_wait_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_BYTES', 2 * (32 + 19))
    store = Away(flush_interval=NEVER)
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)

    async def much(state: Any) -> Any:
        return 'x' * 30, 'y' * 17

    await send(store, 'a', much)
    assert not worker._is_full
    await send(store, 'b', much)
    assert worker._pending.bytes == 2 * (32 + 19)
    assert worker._is_full
    assert store._texts == {}
    assert await send(store, 'c') == 1
    assert sorted(store._texts) == ['External,a', 'External,b', 'Internal,a', 'Internal,b']
    assert not worker._is_full


async def test_one_timer_runs_while_something_is_pending_and_again_after_a_failure() -> None:
    store = Away(flush_interval=NEVER)
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    await send(store, 'a')
    timer = worker._timer
    await send(store, 'b')
    assert timer is not None
    assert worker._timer is timer
    store.away = StoreUnavailable('gone fishing')
    timer.cancel()
    worker._interval_over()
    assert worker._timer is not None
    assert worker._timer is not timer
    assert isinstance(worker._failure, StoreUnavailable)
    store.away = None
    worker._timer.cancel()
    worker._interval_over()
    assert worker._failure is None
    assert worker._timer is None
    assert sorted(store._texts) == ['External,a', 'External,b', 'Internal,a', 'Internal,b']
