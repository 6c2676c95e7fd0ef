"""``flush_interval``: flushes among callers with exclusive access to keys, and reducers that wait for flushes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import worker_of, write_behind
from learning_observer_kvs.stores import base
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.types import OnDone
from tests.support.watched import count, count_after, count_slowly, until
from tests.support.write_behind import NEVER

A, B = ('Internal,a', 'External,a'), ('Internal,b', 'External,b')


class Held(InMemoryKVS):
    """A store whose commits wait until they are let go of.

    Attributes:
        is_holding: whether they do.
        held: what to call for each; its argument is what it comes to instead of being written.
    """

    IS_IMMEDIATE: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(flush_interval=NEVER)
        self.is_holding = False
        self.held: list[Callable[[Exception | None], None]] = []

    def submit(
        self, writes: Any, expected: Any, on_done: OnDone, refresh: Any = (), deadline: Any = 0, resend_until: Any = 0
    ) -> None:
        def carry_out(error: Exception | None) -> None:
            if error is not None:
                on_done(error)
            else:
                super(Held, self).submit(writes, expected, on_done)

        if self.is_holding:
            self.held.append(carry_out)
        else:
            carry_out(None)


@pytest.fixture
async def store() -> Held:
    store = Held()
    worker_of(store)
    return store


def process(store: Held, pair: tuple[str, str], step: Any) -> asyncio.Task[Any]:
    async def run() -> Any:
        return await worker_of(store).process(*pair, step)

    return asyncio.ensure_future(run())


async def spin() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def wait_forever(state: Any) -> Any:
    await asyncio.get_running_loop().create_future()


async def test_a_flush_that_is_asked_for_while_a_write_flushes_is_that_one(store: Held) -> None:
    await process(store, A, count)
    store.is_holding = True
    written = asyncio.ensure_future(store.set(A[0], 5))
    await spin()
    flushed = asyncio.ensure_future(store.flush())
    await spin()
    [carry_out] = store.held
    carry_out(StoreUnavailable('away'))
    outcomes = await asyncio.gather(written, flushed, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ['away', 'away']
    assert len(store.held) == 1
    assert store.busy_keys() == 0


async def test_a_flush_goes_on_when_the_reducer_it_waits_for_is_cancelled(store: Held) -> None:
    await process(store, A, count)
    running = process(store, A, wait_forever)
    await spin()
    flushed = asyncio.ensure_future(store.flush())
    await spin()
    running.cancel()
    async with asyncio.timeout(12):
        await flushed
    assert store._texts[A[0]] == b'1'


async def test_a_flush_goes_on_when_the_write_it_waits_for_is_cancelled(store: Held) -> None:
    await process(store, A, count)
    running = process(store, B, wait_forever)
    await spin()
    written = asyncio.ensure_future(store.multiset({A[0]: 1, B[0]: 1}))
    await spin()
    flushed = asyncio.ensure_future(store.flush())
    await spin()
    written.cancel()
    async with asyncio.timeout(12):
        await flushed
    running.cancel()
    await spin()
    assert store.busy_keys() == 0


async def test_a_flush_goes_on_when_the_write_it_waits_for_is_cancelled_and_another_process_wrote(store: Held) -> None:
    await process(store, A, count)
    store.is_holding = True
    written = asyncio.ensure_future(store.set(A[0], 5))
    await spin()
    flushed = asyncio.ensure_future(store.flush())
    await spin()
    store._texts[A[0]] = b'70'
    written.cancel()
    store.is_holding = False
    [carry_out] = store.held
    carry_out(None)
    async with asyncio.timeout(12):
        await flushed
    assert written.cancelled()
    assert store._texts == {A[0]: b'71', A[1]: b'71'}
    assert store.busy_keys() == 0


async def test_a_flush_that_fails_for_one_key_waits_for_the_others(store: Held) -> None:
    await process(store, A, count)
    await process(store, B, count)
    store.is_holding = True
    flushed = asyncio.ensure_future(store.flush())
    await spin()
    store.held[0](StoreUnavailable('gone fishing'))
    await spin()
    assert not flushed.done()
    store.held[1](None)
    with pytest.raises(StoreUnavailable):
        await flushed
    assert store._texts == {B[0]: b'1', B[1]: b'1'}


async def test_what_becomes_pending_while_events_wait_for_capacity_is_flushed_at_once(
    store: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 2)
    go_on = asyncio.Event()

    before = [process(store, B, step) for step in (count_after(go_on), count)]
    await spin()
    await process(store, A, count)
    await process(store, A, count)
    store.is_holding = True
    waiting = process(store, ('Internal,c', 'External,c'), count)
    await spin()
    go_on.set()
    await spin()
    store.is_holding = False
    for carry_out in store.held:
        carry_out(None)
    async with asyncio.timeout(12):
        assert await asyncio.gather(*before, waiting) == [1, 2, 1]


async def test_an_erasure_of_everything_is_not_passed_by_a_flush_that_begins_with_it(store: Held) -> None:
    await process(store, A, count)
    go_on = asyncio.Event()

    async def wait(state: Any) -> Any:
        await go_on.wait()
        return 1, 1

    running = process(store, B, wait)
    await spin()
    erased = asyncio.ensure_future(store.clear())
    await spin()
    locks, worker = store.key_locks.here(), worker_of(store)
    store.is_holding = True
    go_on.set()
    await until(lambda: locks.barrier is not None and locks.barrier.is_active)
    flushed = asyncio.ensure_future(worker.flush())
    assert isinstance(worker, write_behind.WriteBehindWorker)
    worker._flush_all()
    await spin()
    assert len(store.held) == 2  # once for each key
    for carry_out in store.held:
        carry_out(None)
    async with asyncio.timeout(12):
        await asyncio.gather(running, erased, flushed)
    assert store._texts == {}
    assert store.busy_keys() == 0


@pytest.mark.parametrize('erase', ['clear', 'multiset'])
async def test_a_reducer_that_runs_again_before_an_erasure_may_send_an_event_to_a_key_that_is_erased(
    store: Held, erase: str
) -> None:
    async def send(state: Any) -> Any:
        await process(store, B, count)
        return await count(state)

    await process(store, A, send)
    await store.flush()
    await process(store, A, send)
    store._texts[A[0]] = b'50'  # another process
    async with asyncio.timeout(12):
        await (store.clear() if erase == 'clear' else store.multiset({A[0]: 7, B[0]: 8}))
    assert store.busy_keys() == 0
    assert await store.multiget([A[0], B[0]]) == ([None, None] if erase == 'clear' else [7, 8])


async def test_reducers_that_list_keys_at_once_do_not_wait_for_each_other_forever(store: Held) -> None:
    await process(store, A, count)
    await process(store, B, count)

    async def list_keys(state: Any) -> Any:
        await asyncio.sleep(0)
        return len(await store.keys()), 1

    async with asyncio.timeout(12):
        await asyncio.gather(process(store, A, list_keys), process(store, B, list_keys))
    await store.flush()
    assert store.busy_keys() == 0


async def test_a_reducer_does_not_wait_for_capacity_that_its_own_key_takes(
    store: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 1)
    go_on = asyncio.Event()

    async def send(state: Any) -> Any:
        await go_on.wait()
        return await process(store, B, count), 1

    first = process(store, A, count_slowly)
    second = process(store, A, send)
    await first
    await until(lambda: worker_of(store)._is_full)
    go_on.set()
    async with asyncio.timeout(12):
        assert await second == 1


async def test_a_store_whose_closing_was_cancelled_goes_on(store: Held) -> None:
    running = process(store, A, wait_forever)
    await spin()
    closed = asyncio.ensure_future(store.close())
    await spin()
    closed.cancel()
    await asyncio.wait([closed])
    assert await process(store, B, count) == 1
    running.cancel()
    await store.close()
    assert store._texts[B[0]] == b'1'


async def test_a_close_that_finds_nothing_to_flush_still_lets_the_loop_go_on(
    store: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, 'CLOSE_TIMEOUT', 0.1)
    await process(store, A, count)

    go_on = asyncio.Event()

    async def close(value: Any) -> Any:
        await go_on.wait()
        await store.close()
        return 3

    updated = asyncio.ensure_future(store.update('other', close))
    await spin()
    written = asyncio.ensure_future(store.multiset({A[0]: 1, 'other': 2}))
    await spin()
    go_on.set()
    async with asyncio.timeout(12):
        assert await updated == 3
        await written


async def test_a_close_that_ends_late_leaves_what_came_after_the_first_to_it(
    store: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process(store, A, count)
    store.is_holding = True
    monkeypatch.setattr(base, 'CLOSE_TIMEOUT', 0.01)
    first = asyncio.ensure_future(store.close())
    await spin()
    monkeypatch.setattr(base, 'CLOSE_TIMEOUT', 0.1)
    second = asyncio.ensure_future(store.close())
    await first
    store.held.clear()
    store.is_holding = False
    assert await process(store, B, count) == 1
    await second
    assert await store[B[0]] == 1
    await store.flush()
    assert store._texts[B[0]] == b'1'


@pytest.mark.parametrize('cancelled', [False, True], ids=['waited for', 'cancelled'])
async def test_a_key_is_held_until_the_flush_before_its_write_has_ended(store: Held, cancelled: bool) -> None:
    await process(store, A, count)
    store.is_holding = True
    written = asyncio.ensure_future(store.set(A[0], 5))
    await spin()
    if cancelled:
        written.cancel()
        await spin()
    assert A[0] in store.key_locks.here().held
    assert not written.done()
    [carry_out] = store.held
    store.is_holding = False
    carry_out(None)
    async with asyncio.timeout(12):
        await asyncio.wait([written])
    assert written.cancelled() is cancelled
    assert store._texts == {A[0]: b'1' if cancelled else b'5', A[1]: b'1'}
    assert (store.busy_keys(), worker_of(store)._busy) == (0, 0)


async def test_a_flush_whose_caller_gave_up_is_carried_out_for_the_others(store: Held) -> None:
    await process(store, A, count)
    store.is_holding = True
    flushes = [asyncio.ensure_future(store.flush()) for _ in range(2)]
    await spin()
    flushes[0].cancel()
    await spin()
    store.is_holding = False
    [carry_out] = store.held
    carry_out(None)
    async with asyncio.timeout(12):
        await flushes[1]
    assert flushes[0].cancelled()
    assert store._texts == {A[0]: b'1', A[1]: b'1'}
    assert (store.busy_keys(), worker_of(store)._busy) == (0, 0)


async def test_events_that_come_while_a_flush_is_under_way_are_of_the_next_one(store: Held) -> None:
    worker = worker_of(store)
    assert isinstance(worker, write_behind.WriteBehindWorker)
    await process(store, A, count)
    store.is_holding = True
    flushed = asyncio.ensure_future(store.flush())
    await spin()
    events = [process(store, A, count) for _ in range(2)]
    await spin()
    assert not any(event.done() for event in events)
    store.is_holding = False
    store.held.pop()(None)
    await flushed
    assert await asyncio.gather(*events) == [2, 3]
    assert store._texts[A[0]] == b'1'
    assert worker._pending.events == 2
    await store.flush()
    assert store._texts[A[0]] == b'3'
    assert worker._pending.events == 0


async def test_closing_that_was_cancelled_leaves_the_timer_running(store: Held) -> None:
    worker = worker_of(store)
    assert isinstance(worker, write_behind.WriteBehindWorker)
    await process(store, A, count)
    store.is_holding = True
    closed = asyncio.ensure_future(store.close())
    await spin()
    assert worker._timer is None
    closed.cancel()
    await asyncio.wait([closed])
    assert closed.cancelled()
    assert worker._timer is not None
    store.is_holding = False
    store.held.pop()(None)
    await spin()
    assert (worker._pending, worker._pending.events, store.busy_keys()) == ({}, 0, 0)
