"""A node of a Redis Cluster that hangs: it answers nothing and closes nothing, as a stopped process does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.redis import reader
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import slot_of
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_nodes import RedisNodes, settings_of
from tests.support.redis_server import RedisServer
from tests.support.watched import until

PATIENT = 240
"""Seconds that a call waits for a node: longer than any of these tests has one hang."""

STUDENTS = range(60)


@contextlib.asynccontextmanager
async def hanging(node: RedisServer) -> AsyncIterator[None]:
    """Let a node hang until the context ends, which it must before anything would give up."""
    node.pause()
    try:
        async with asyncio.timeout(PATIENT / 4):
            yield
    finally:
        node.resume()


@pytest.fixture(params=[0.5, PATIENT], ids=['short tries', 'one long try'])
def connection(cluster: RedisConnection, redis_nodes: RedisNodes, request: pytest.FixtureRequest) -> RedisConnection:
    """A connection that tries again and again while a node hangs, or waits for its first answer."""
    cluster.configure({**settings_of(redis_nodes), 'redis_timeout': request.param})
    return cluster


@pytest.fixture
async def store(connection: RedisConnection) -> AsyncIterator[PersistentRedisKVS]:
    """A store whose connection knows the nodes already."""
    async with PersistentRedisKVS(connection=connection, retry_timeout=PATIENT) as store:
        await store['k']
        yield store


def keys_on(redis_nodes: RedisNodes, store: PersistentRedisKVS, *numbers: int) -> list[str]:
    """Return the keys that some of the nodes have; other tests may have moved slots."""
    slots = set().union(*(redis_nodes.slots(redis_nodes.nodes[number]) for number in numbers))
    keys = [f'Internal,{number}' for number in STUDENTS]
    return [key for key in keys if slot_of(store.names.redis_key(key)) in slots]


async def send(store: PersistentRedisKVS, key: str, number: int) -> None:
    """Have an event processed: its number is appended to the state of a key."""

    async def step(state: Any) -> Any:
        return [*(state or []), number], number

    await worker_of(store).process(key, key.replace('Internal', 'External'), step)


@pytest.mark.parametrize('hung', range(3))
async def test_events_for_the_nodes_that_answer_are_processed_while_one_hangs_and_its_own_once_it_goes_on(
    store: PersistentRedisKVS, redis_nodes: RedisNodes, hung: int
) -> None:
    of_hung, of_others = keys_on(redis_nodes, store, hung), keys_on(redis_nodes, store, *{0, 1, 2} - {hung})
    await asyncio.gather(*(send(store, key, 0) for key in of_hung + of_others))
    held_up = []
    async with hanging(redis_nodes.nodes[hung]):
        for number in range(1, 10):
            held_up += [asyncio.ensure_future(send(store, key, number)) for key in of_hung]
            await asyncio.gather(*(send(store, key, number) for key in of_others))
        assert await store.multiget(of_others) == [list(range(10))] * len(of_others)
        assert not any(event.done() for event in held_up)
    await asyncio.gather(*held_up)
    assert await store.multiget(of_hung) == [list(range(10))] * len(of_hung)


async def test_calls_to_the_nodes_that_answer_do_not_wait_for_one_that_hangs(
    store: PersistentRedisKVS, redis_nodes: RedisNodes
) -> None:
    await asyncio.gather(*(store.set(f'Internal,{number}', 0) for number in STUDENTS))
    of_hung, of_others = keys_on(redis_nodes, store, 1), keys_on(redis_nodes, store, 0, 2)
    async with hanging(redis_nodes.nodes[1]):
        held_up: list[asyncio.Future[Any]] = [asyncio.ensure_future(store[key]) for key in of_hung * 10]
        held_up += [asyncio.ensure_future(store.set(key, 1)) for key in of_hung]
        held_up.append(asyncio.ensure_future(store.multiget([*of_hung, *of_others])))
        for _ in range(10):
            await asyncio.gather(*(store.set(key, 1) for key in of_others))
            assert await store.multiget(of_others) == [1] * len(of_others)
        assert await asyncio.gather(*(store.remove(key) for key in of_others)) == [True] * len(of_others)
        assert not any(call.done() for call in held_up)
    await asyncio.gather(*held_up)
    assert await store.multiget([*of_hung, *of_others]) == [1] * len(of_hung) + [None] * len(of_others)


async def test_another_store_of_the_connection_does_not_wait_for_a_node_whose_connections_are_all_busy(
    connection: RedisConnection, redis_nodes: RedisNodes
) -> None:
    connection.configure({**connection.settings, 'redis_max_connections': 1})
    async with (
        PersistentRedisKVS(prefix='a:', connection=connection, retry_timeout=PATIENT) as first,
        PersistentRedisKVS(prefix='b:', connection=connection, retry_timeout=PATIENT) as second,
    ):
        await first['k']
        [hung, *_], [other, *_] = keys_on(redis_nodes, first, 1), keys_on(redis_nodes, first, 0)
        async with hanging(redis_nodes.nodes[1]):
            held_up = asyncio.ensure_future(first.set(hung, 1))
            for number in range(10):
                await second.set(other, number)
                assert await second[other] == number
            assert not held_up.done()
        await held_up


async def test_the_first_calls_of_a_store_find_the_nodes_before_any_of_them_waits_for_one_that_hangs(
    connection: RedisConnection, redis_nodes: RedisNodes
) -> None:
    async with PersistentRedisKVS(connection=connection, retry_timeout=PATIENT) as store:
        of_hung, of_others = keys_on(redis_nodes, store, 1), keys_on(redis_nodes, store, 0, 2)
        async with hanging(redis_nodes.nodes[1]):
            held_up: list[asyncio.Future[Any]] = []
            for number in range(3):
                held_up += [asyncio.ensure_future(store.set(key, number)) for key in of_hung]
                await asyncio.gather(*(store.set(key, number) for key in of_others))
            assert await store.multiget(of_others) == [2] * len(of_others)
            assert not any(call.done() for call in held_up)
        await asyncio.gather(*held_up)
        assert await store.multiget(of_hung) == [2] * len(of_hung)


async def test_writes_keep_their_order_when_their_slot_comes_to_a_node_whose_queue_is_idle(
    store: PersistentRedisKVS, redis_nodes: RedisNodes
) -> None:
    [internal, *_] = keys_on(redis_nodes, store, 0)
    external = internal.replace('Internal', 'External')
    await store.multiset({internal: 1, external: 1})
    slot, outcomes = slot_of(store.names.redis_key(internal)), list[Any]()
    before = redis_nodes.errors('TRYAGAIN')
    with redis_nodes.moving(slot, keys=1):  # one of the keys is there, the others are here: a write of both must wait
        store.submit({internal: b'2', external: b'2'}, {}, outcomes.append)
        await until(lambda: redis_nodes.errors('TRYAGAIN') > before + 3)  # it pauses between its tries
    client = store.connection.client()
    await client.nodes_manager.initialize()
    assert client.nodes_manager.get_node_from_slot(slot).port == redis_nodes.nodes[1].port
    store.submit({internal: b'3', external: b'3'}, {internal: b'2'}, outcomes.append)
    await until(lambda: len(outcomes) == 2)
    assert outcomes == [True, True]
    redis_nodes.move_slot(slot)
    redis_nodes.move_slot(slot)  # to where it was


async def test_the_bounds_of_what_waits_are_those_of_all_nodes_together(
    store: PersistentRedisKVS, redis_nodes: RedisNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 20)
    monkeypatch.setattr(reader, 'MAX_QUEUED_KEYS', 20)
    outcomes: list[Any] = []
    for number in range(20):
        store.submit({f'Internal,{number}': b'1'}, {}, outcomes.append)
    with pytest.raises(Overloaded, match=r'20 writes, of .* wait for Redis at .* already'):
        store.submit({'Internal,20': b'1'}, {}, outcomes.append)
    reads = await asyncio.gather(*(store[f'Internal,{number}'] for number in STUDENTS), return_exceptions=True)
    assert [isinstance(outcome, Overloaded) for outcome in reads] == [False] * 20 + [True] * (len(STUDENTS) - 20)
    assert 'this read was rejected' in str(reads[-1])
    await store.set('Internal,1', 2)
    assert outcomes == [True] * 20


async def test_a_store_that_is_closed_answers_what_waits_for_the_nodes_to_be_found(
    cluster: RedisConnection, redis_nodes: RedisNodes
) -> None:
    async with hanging(redis_nodes.nodes[0]):  # the only one that it knows of
        store = PersistentRedisKVS(connection=cluster, retry_timeout=PATIENT)
        outcomes: list[Any] = []
        for number in STUDENTS:
            store.submit({f'Internal,{number}': b'1'}, {}, outcomes.append)
        await store.close()
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * len(STUDENTS)
    await store.set('k', 1)  # in the same event loop
    assert await store['k'] == 1
    await store.close()
