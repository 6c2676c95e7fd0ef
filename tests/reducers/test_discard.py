"""``kvs.clear()``: also what is not flushed is forgotten."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from learning_observer_kvs import kvs
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.watched import EXTERNAL, INTERNAL, count, count_after, until
from tests.support.write_behind import NEVER, Away


@pytest.fixture(params=[InMemoryKVS, Away], ids=['stub', 'a backend that is waited for'])
def store(request: pytest.FixtureRequest) -> InMemoryKVS:
    store: InMemoryKVS = request.param(flush_interval=NEVER)
    return store


def process(store: InMemoryKVS, step: Any = count) -> asyncio.Future[Any]:
    return asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, step))


def nothing_is_left(store: InMemoryKVS) -> bool:
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    states = worker._pending
    return not (states or states.texts or states.owners or states.events or states.bytes or store.busy_keys())


async def test_what_is_not_flushed_is_forgotten(store: InMemoryKVS) -> None:
    await process(store)
    await store.flush()
    await process(store)
    kvs.clear()
    assert await store[INTERNAL] is None
    assert nothing_is_left(store)
    await store.flush()
    assert await store.dump() == {}
    assert await process(store) == 1
    await store.flush()
    assert store._texts == {INTERNAL: b'1', EXTERNAL: b'1'}


async def test_an_event_whose_reducer_runs_meanwhile_is_reduced_on_a_fresh_state(store: InMemoryKVS) -> None:
    go_on = asyncio.Event()

    await process(store)
    running, waiting = process(store, count_after(go_on)), process(store)
    await asyncio.sleep(0)
    kvs.clear()
    go_on.set()
    async with asyncio.timeout(12):
        assert (await running, await waiting) == (1, 2)
    await store.close()
    assert store._texts == {INTERNAL: b'2', EXTERNAL: b'2'}


async def test_events_that_are_reduced_again_meanwhile_are_forgotten_and_their_flush_ends(store: InMemoryKVS) -> None:
    runs, go_on = [], asyncio.Event()

    async def wait_the_second_time(state: Any) -> Any:
        runs.append(state)
        if len(runs) > 1:
            await go_on.wait()
        return await count(state)

    await process(store)
    await store.flush()
    await process(store, wait_the_second_time)
    store._texts[INTERNAL] = b'50'  # as another loop may
    flushed = asyncio.ensure_future(store.flush())
    await until(lambda: len(runs) > 1)
    kvs.clear()
    go_on.set()
    async with asyncio.timeout(12):
        await flushed
    assert await store.dump() == {}
    assert nothing_is_left(store)


async def test_a_caller_that_waits_for_capacity_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 1)
    store, answers = Away(flush_interval=NEVER), []
    await process(store)
    monkeypatch.setattr(worker_of(store), '_submit', lambda writes, expected, on_done, *rest: answers.append(on_done))
    waiting = process(store)
    await until(lambda: bool(answers))
    kvs.clear()
    answers[0](True)
    async with asyncio.timeout(12):
        assert await waiting == 1


def test_what_a_loop_in_another_thread_keeps_is_forgotten_too(store: InMemoryKVS) -> None:
    is_pending, is_cleared = threading.Event(), threading.Event()
    left: list[Any] = []

    async def work() -> None:
        await process(store)
        is_pending.set()
        await asyncio.to_thread(is_cleared.wait, 20)
        await store.flush()
        left.append(nothing_is_left(store))

    thread = threading.Thread(target=asyncio.run, args=[work()])
    thread.start()
    assert is_pending.wait(20)
    kvs.clear()
    is_cleared.set()
    thread.join(20)
    assert left == [True]
    assert store._texts == {}


def test_a_loop_that_has_ended_is_left_alone(store: InMemoryKVS) -> None:
    async def work() -> None:
        await process(store)

    asyncio.run(work())
    kvs.clear()
    assert asyncio.run(store.dump()) == {}
