"""What would wait for itself raises, however the wait is written: it never waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.watched import Watched, count
from tests.support.write_behind import NEVER, Away

Work = Callable[[], Awaitable[Any]]


async def in_a_group(work: Work) -> Any:
    async with asyncio.TaskGroup() as group:
        return await group.create_task(work())  # type: ignore[arg-type]


async def from_a_thread(work: Work) -> Any:
    loop = asyncio.get_running_loop()

    def in_thread() -> Any:
        return asyncio.run_coroutine_threadsafe(work(), loop).result(20)  # type: ignore[arg-type]

    return await asyncio.to_thread(in_thread)


async def when_called_back(work: Work) -> Any:
    loop = asyncio.get_running_loop()
    started: asyncio.Future[asyncio.Future[Any]] = loop.create_future()
    loop.call_soon(lambda: started.set_result(asyncio.ensure_future(work())))
    return await (await started)


WAYS: dict[str, Callable[[Work], Awaitable[Any]]] = {
    'await': lambda work: work(),
    'gather': lambda work: asyncio.gather(work(), asyncio.sleep(0)),
    'wait_for': lambda work: asyncio.wait_for(work(), 10),
    'shield': lambda work: asyncio.shield(work()),
    'task': lambda work: asyncio.ensure_future(work()),
    'task in a task': lambda work: asyncio.ensure_future(asyncio.wait_for(work(), 10)),
    'group': in_a_group,
    'thread': from_a_thread,
    'callback': when_called_back,
}
"""How a function may wait for other work."""

ways = pytest.mark.parametrize('way', WAYS.values(), ids=WAYS)


@pytest.fixture(params=['stub', 'each event', 'flush_interval', 'reducer_timeout'])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store of each kind of worker."""
    match request.param:
        case 'stub':
            made: Store = InMemoryKVS()
        case 'each event':
            made = Watched()
        case 'flush_interval':
            made = Away(flush_interval=NEVER)
        case _:
            made = InMemoryKVS(reducer_timeout=20)
    async with asyncio.timeout(12), made:
        worker_of(made)
        yield made


async def send(store: Store, name: str, step: Any) -> Any:
    return await worker_of(store).process(f'Internal,{name}', f'External,{name}', step)


def is_refused(error: BaseException | Any) -> bool:
    """Whether an outcome is the error of a wait for oneself, also within a group of errors."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_refused, error.exceptions))
    return isinstance(error, ReducerError) and 'its own key' in str(error)


CALLS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    'update': lambda store: store.update('Internal,a', lambda value: 1),
    'set': lambda store: store.set('External,a', 1),
    'remove': lambda store: store.remove('Internal,a'),
    'multiset': lambda store: store.multiset({'other': 1, 'Internal,a': 1}),
    'commit': lambda store: store.commit({'other': 1}, {'Internal,a': 1}),
    'clear': lambda store: store.clear(),
    'event': lambda store: send(store, 'a', count),
}
"""What waits for the key a, or for every key."""


@ways
@pytest.mark.parametrize('call', CALLS.values(), ids=CALLS)
async def test_an_update_that_waits_for_its_own_key_is_refused(
    store: Store, way: Callable[[Work], Awaitable[Any]], call: Callable[[Store], Awaitable[Any]]
) -> None:
    async def fn(value: Any) -> Any:
        return await way(lambda: call(store))

    outcomes = await asyncio.gather(store.update('Internal,a', fn), return_exceptions=True)
    assert list(map(is_refused, outcomes)) == [True], outcomes
    assert await store.keys() == []
    assert store.busy_keys() == 0


@ways
@pytest.mark.parametrize('call', CALLS.values(), ids=CALLS)
async def test_a_reducer_that_waits_for_its_own_key_is_refused(
    store: Store, way: Callable[[Work], Awaitable[Any]], call: Callable[[Store], Awaitable[Any]]
) -> None:
    async def step(state: Any) -> Any:
        return await way(lambda: call(store))

    outcomes = await asyncio.gather(send(store, 'a', step), return_exceptions=True)
    assert list(map(is_refused, outcomes)) == [True], outcomes
    assert await store.keys() == []
    assert store.busy_keys() == 0


@ways
@pytest.mark.parametrize('waiting', [0, 3], ids=['idle', 'with events that wait'])
async def test_of_two_reducers_that_send_events_to_each_others_keys_the_second_is_refused(
    store: Store, way: Callable[[Work], Awaitable[Any]], waiting: int
) -> None:
    runs = []
    both_run = asyncio.Event()

    def sends(name: str) -> Any:
        async def step(state: Any) -> Any:
            runs.append(name)
            if len(runs) == 2:
                both_run.set()
            await both_run.wait()
            await way(lambda: send(store, name, count))
            return await count(state)

        return step

    first = [send(store, 'a', sends('b')), send(store, 'b', sends('a'))]
    others = [send(store, name, count) for _ in range(waiting) for name in 'ab']
    outcomes = await asyncio.gather(*first, *others, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 1
    assert is_refused(refused[0])
    # One got through, with the event that it sent; of the other neither state was changed.
    assert sorted(await store.multiget(['Internal,a', 'Internal,b'])) == [1 + waiting, 1 + waiting]
    assert store.busy_keys() == 0


@pytest.mark.parametrize('length', [3, 5])
async def test_of_reducers_in_a_circle_the_last_is_refused(store: Store, length: int) -> None:
    all_run = asyncio.Event()
    runs = []

    def sends(number: int) -> Any:
        async def step(state: Any) -> Any:
            runs.append(number)
            if len(runs) == length:
                all_run.set()
            await all_run.wait()
            await asyncio.gather(send(store, str((number + 1) % length), count), asyncio.sleep(0))
            return await count(state)

        return step

    outcomes = await asyncio.gather(
        *(send(store, str(number), sends(number)) for number in range(length)), return_exceptions=True
    )
    assert sum(map(is_refused, outcomes)) == 1
    assert store.busy_keys() == 0


@ways
async def test_a_reducer_and_an_update_that_wait_for_each_other_do_not_wait_for_ever(
    store: Store, way: Callable[[Work], Awaitable[Any]]
) -> None:
    both_run = asyncio.Event()

    async def step(state: Any) -> Any:
        await both_run.wait()
        await way(lambda: store.update('k', lambda value: 1))
        return await count(state)

    async def fn(value: Any) -> Any:
        both_run.set()
        await way(lambda: send(store, 'a', count))
        return 2

    outcomes = await asyncio.gather(send(store, 'a', step), store.update('k', fn), return_exceptions=True)
    assert sum(map(is_refused, outcomes)) == 1
    assert store.busy_keys() == 0


async def test_reducers_of_two_stores_that_send_events_to_each_other_do_not_wait_for_ever(store: Store) -> None:
    other, both_run, runs = InMemoryKVS(), asyncio.Event(), []

    def sends(target: Store) -> Any:
        async def step(state: Any) -> Any:
            runs.append(target)
            if len(runs) == 2:
                both_run.set()
            await both_run.wait()
            await asyncio.gather(send(target, 'a', count))
            return await count(state)

        return step

    outcomes = await asyncio.gather(
        send(store, 'a', sends(other)), send(other, 'a', sends(store)), return_exceptions=True
    )
    assert sum(map(is_refused, outcomes)) == 1
    assert (store.busy_keys(), other.busy_keys()) == (0, 0)
