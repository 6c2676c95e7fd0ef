"""Nobody keeps the event loop for long: whoever computes gives it its turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from learning_observer_kvs.reducers import serving, worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores import reads
from learning_observer_kvs.stores.memory import InMemoryKVS

EVENTS = 60


class Turns:
    """How often the loop came round."""

    count = 0


@asynccontextmanager
async def counted() -> AsyncIterator[Turns]:
    """Count the turns of the loop while the block lasts."""
    turns = Turns()

    async def go_round() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(go_round())
    yield turns
    task.cancel()


@pytest.fixture(autouse=True)
def _turns_are_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    monkeypatch.setattr(reads, 'TIME_SLICE', 0.0)


async def at_once(state: Any) -> Any:
    return (state or 0) + 1, (state or 0) + 1


async def waits(state: Any) -> Any:
    await asyncio.sleep(0)
    return (state or 0) + 1, (state or 0) + 1


@pytest.mark.parametrize('interval', [None, 3600.0], ids=['every event', 'put off'])
@pytest.mark.parametrize('step', [at_once, waits])
@pytest.mark.parametrize('keys', [1, EVENTS], ids=['one key', 'many keys'])
async def test_between_reducers_the_loop_has_its_turn(keys: int, step: Any, interval: float | None) -> None:
    store = InMemoryKVS(flush_interval=interval)
    async with counted() as turns:
        await asyncio.gather(
            *(worker_of(store).process(f'Internal,{n % keys}', f'External,{n % keys}', step) for n in range(EVENTS))
        )
    assert turns.count >= EVENTS / 2
    assert await store['External,0'] == EVENTS / keys


async def test_between_the_keys_of_a_flush_the_loop_has_its_turn() -> None:
    store = InMemoryKVS(flush_interval=3600.0)
    for number in range(EVENTS):
        await worker_of(store).process(f'Internal,{number}', f'External,{number}', at_once)
    async with counted() as turns:
        await store.flush()
    assert turns.count >= EVENTS / 2
    assert await store['External,0'] == 1


async def test_between_the_keys_that_are_flushed_when_the_interval_is_over_the_loop_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = InMemoryKVS(flush_interval=3600.0)
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    for number in range(EVENTS):
        await worker.process(f'Internal,{number}', f'External,{number}', at_once)
    commit, at = store.commit_bytes_now, []
    async with counted() as turns:

        def note(*arguments: Any) -> bool:
            at.append(turns.count)
            return commit(*arguments)

        monkeypatch.setattr(store, 'commit_bytes_now', note)
        worker._interval_over()
        for _ in range(2 * EVENTS):
            await asyncio.sleep(0)
    assert len(at) == EVENTS
    assert at[-1] - at[0] >= EVENTS / 3


async def test_between_values_of_a_multiget_the_loop_has_its_turn() -> None:
    store = InMemoryKVS()
    await store.multiset({str(number): list(range(1000)) for number in range(EVENTS)})
    async with counted() as turns:
        assert len(await store.multiget(map(str, range(EVENTS)))) == EVENTS
    assert turns.count >= EVENTS / 2


async def test_between_entries_of_a_dump_the_loop_has_its_turn() -> None:
    store = InMemoryKVS()
    await store.multiset({str(number): list(range(1000)) for number in range(EVENTS)})
    async with counted() as turns:
        assert len(await store.dump()) == EVENTS
    assert turns.count >= EVENTS / 2
