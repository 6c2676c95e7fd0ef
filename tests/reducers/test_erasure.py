"""An erasure passes through the queue of its key: what came before it is gone, what came after it starts afresh."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS
from learning_observer_kvs.stores.types import MISSING
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Pair, event, store_of

BOTH = {INTERNAL: MISSING, EXTERNAL: MISSING}

ERASURES: dict[str, Callable[[Store], Awaitable[Any]]] = {
    'remove': lambda store: asyncio.gather(store.remove(EXTERNAL), store.remove(INTERNAL)),
    'clear': lambda store: store.clear(),
    'commit': lambda store: store.commit(BOTH),
    'update': lambda store: asyncio.gather(*(store.update(key, lambda value: MISSING) for key in BOTH)),
}
"""Every way to erase both states of a reducer."""

erasures = pytest.mark.parametrize('erase', ERASURES.values(), ids=ERASURES)


@pytest.fixture(params=['stub', 'filesystem', 'sqlite', 'redis'])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[None, NEVER], ids=['each event', 'flush_interval'])
async def store(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, redis: RedisConnection
) -> AsyncIterator[Store]:
    async with store_of(kind, tmp_path, redis, request.param) as store:
        yield store


def append(store: Store, number: int, size: int, pause: float | None) -> asyncio.Task[Any]:
    """An event whose reducer puts a text of a size into a list, at once or after a pause."""

    async def step(state: Any) -> Any:
        if pause is not None:
            await asyncio.sleep(pause)
        state.append(f'{number} {"x" * size}')
        return state, [text.split()[0] for text in state]

    async def process() -> Any:
        return await worker_of(store).process(INTERNAL, EXTERNAL, step, b'[]')

    return asyncio.ensure_future(process())


@erasures
@pytest.mark.parametrize('pause', [None, 0], ids=['at once', 'waiting'])
@pytest.mark.parametrize('size', [10, 40_000], ids=['small', 'large'])
async def test_events_during_an_erasure_start_afresh_whatever_waits(
    store: Store, erase: Callable[[Store], Awaitable[Any]], pause: float | None, size: int
) -> None:
    await append(store, 0, size, None)
    before = [append(store, number, size, pause) for number in range(1, 4)]
    await asyncio.sleep(0)
    erased = asyncio.ensure_future(erase(store))
    await asyncio.sleep(0)
    during: list[asyncio.Task[Any]] = []
    while not erased.done():
        if len(during) < 30:
            during.append(append(store, 100 + len(during), size, pause))
        await asyncio.sleep(0.001)
    await erased
    after = append(store, 200, size, pause)
    outcomes = await asyncio.gather(*before, *during, after)
    assert all(number not in outcomes[-1] for number in ['0', '1', '2', '3'])
    await store.flush()
    internal, external = await store.multiget([INTERNAL, EXTERNAL])
    assert [text.split()[0] for text in internal] == external == outcomes[-1]
    assert store.busy_keys() == 0


@erasures
async def test_what_was_cached_or_pending_is_not_readable_after_an_erasure(
    store: Store, erase: Callable[[Store], Awaitable[Any]]
) -> None:
    for number in range(3):
        await append(store, number, 10, None)
    waiting = [append(store, number, 10, 0) for number in range(3, 6)]
    await asyncio.sleep(0)  # they wait for their turn now
    await erase(store)
    assert await store.multiget([INTERNAL, EXTERNAL]) == [None, None]
    assert await store.keys() == []
    await store.flush()
    assert await store.keys() == []
    assert all(task.done() for task in waiting)


# By another process


def worker_on(store: Store) -> WriteBehindWorker:
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    return worker


@erasures
async def test_what_another_process_erased_is_not_brought_back_by_a_flush(
    delayed_pair: Pair, erase: Callable[[Store], Awaitable[Any]], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    store, other = delayed_pair
    for number in range(5):
        await event(number, store)
    await store.flush()
    await event(5, store)
    await event(6, store)
    await erase(other)
    with caplog.at_level(logging.WARNING):
        await store.flush()
    assert await other.keys() == []
    assert await store.multiget([INTERNAL, EXTERNAL]) == [None, None]
    [line] = [record.getMessage() for record in caplog.records if 'removed by another process' in record.getMessage()]
    assert INTERNAL in line
    assert '2 events' in line
    assert worker_on(store).left_out.erased == 2
    assert failed_events.find(tmp_path) == []  # it was to be erased
    assert await event(7, store) == {'count': 1}
    await store.flush()
    assert await other[INTERNAL] == {'seen': [7]}
    assert store.busy_keys() == 0


async def test_what_is_pending_of_a_new_key_is_written_although_another_process_found_nothing_to_erase(
    delayed_pair: Pair,
) -> None:
    store, other = delayed_pair
    await event(1, store)
    assert not await other.remove(INTERNAL)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [1]}


async def test_a_state_that_was_written_over_and_then_erased_by_other_processes_stays_erased(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = delayed_pair
    await event(1, store)
    await event(2, other)
    submit, commits = store.submit, []

    def erase_before_the_second(writes: Any, *rest: Any) -> None:
        commits.append(writes)
        if len(commits) == 2:

            async def erase() -> None:
                await other.commit(BOTH)
                submit(writes, *rest)

            tasks.append(asyncio.ensure_future(erase()))
        else:
            submit(writes, *rest)

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(worker_of(store), '_submit', erase_before_the_second)
    await store.flush()
    assert await other.keys() == []
    assert worker_on(store).left_out.erased == 1
    await asyncio.gather(*tasks)


async def test_an_erasure_in_this_process_ends_although_another_process_erased_before(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    await event(1, store)
    await store.flush()
    await event(2, store)
    await other.commit(BOTH)
    async with asyncio.timeout(20):
        assert not await store.remove(INTERNAL)
    assert await other.keys() == []


async def test_where_keys_expire_a_flush_starts_anew(redis: RedisConnection, tmp_path: Path) -> None:
    async with (
        EphemeralRedisKVS(600, connection=redis, flush_interval=NEVER) as store,
        EphemeralRedisKVS(600, connection=redis) as other,
    ):
        await event(1, store)
        await store.flush()
        await event(2, store)
        await redis.client().delete(INTERNAL, EXTERNAL)  # as if they had expired
        await store.flush()
        assert await other[INTERNAL] == {'seen': [2]}
        assert worker_on(store).left_out.erased == 0
