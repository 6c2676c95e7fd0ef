"""Faults in a Redis Cluster: slots that move, nodes that stand still or are gone, replies that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import slot_of
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.proxy import Fault, Proxy
from tests.support.redis_nodes import SLOTS, RedisNodes, names_on, settings_of
from tests.support.redis_server import until
from tests.support.watched import count

INTERNAL, EXTERNAL = 'Internal,r,STUDENT:b{o}b', 'External,r,STUDENT:b{o}b'


@pytest.fixture
async def store(cluster: RedisConnection) -> AsyncIterator[PersistentRedisKVS]:
    async with PersistentRedisKVS(prefix='p:', connection=cluster) as store:
        yield store


async def test_a_slot_that_moves_while_events_come_loses_and_doubles_none(
    store: PersistentRedisKVS, redis_nodes: RedisNodes
) -> None:
    async def send(number: int) -> None:
        async def step(state: Any) -> Any:
            return [*(state or []), number], number

        assert await worker_of(store).process(INTERNAL, EXTERNAL, step) == number

    slot, number = slot_of(store.names.redis_key(INTERNAL)), 0
    await send(0)
    for _ in range(3):
        move = asyncio.ensure_future(asyncio.to_thread(redis_nodes.move_slot, slot))
        while not move.done():
            number += 1
            await send(number)
        assert await move == 3  # the pair and the record of its writer
        number += 1
        await send(number)
    assert await store.multiget([INTERNAL, EXTERNAL]) == [list(range(number + 1)), number]


async def test_a_slot_on_the_move_is_waited_for(store: PersistentRedisKVS, redis_nodes: RedisNodes) -> None:
    await worker_of(store).process(INTERNAL, EXTERNAL, count)
    before = redis_nodes.errors('TRYAGAIN')  # redis-py itself tries 17 times
    with redis_nodes.moving(
        slot_of(store.names.redis_key(INTERNAL)), keys=1
    ):  # one of its keys is there, the others here
        event = asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, count))
        await asyncio.to_thread(
            until, lambda: redis_nodes.errors('TRYAGAIN') > before + 20, 'the event to be sent again'
        )
        assert not event.done()
    assert await event == 2
    assert await store.multiget([INTERNAL, EXTERNAL]) == [2, 2]


async def test_an_event_for_a_node_that_stands_still_is_applied_once_when_it_goes_on(
    store: PersistentRedisKVS, redis_nodes: RedisNodes
) -> None:
    await worker_of(store).process(INTERNAL, EXTERNAL, count)
    owner = next(node for node, found in zip(redis_nodes.nodes, names_on(redis_nodes), strict=True) if found)
    owner.pause()
    try:
        event = asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, count))
        await asyncio.wait([event], timeout=1)
    finally:
        owner.resume()
    assert await event == 2
    assert await store.multiget([INTERNAL, EXTERNAL]) == [2, 2]


@pytest.mark.parametrize('how', ['stands still', 'is killed'])
async def test_writes_for_a_node_that_is_gone_fail_and_those_for_other_nodes_succeed(
    how: str, redis_nodes: RedisNodes
) -> None:
    redis_nodes.flush()
    connection = RedisConnection(settings_of(redis_nodes))
    async with PersistentRedisKVS(connection=connection, retry_timeout=60) as store:
        await asyncio.gather(*(store.set(f'k{number}', number) for number in range(30)))
        store.retry_timeout = 3
        gone = redis_nodes.nodes[1]
        lost = names_on(redis_nodes)[1]
        gone.pause() if how == 'stands still' else gone.stop()
        try:
            writes = [store.set(f'k{number}', -1) for number in range(30)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        finally:
            gone.resume() if how == 'stands still' else gone.start()
        store.retry_timeout = 60
        for number, outcome in enumerate(outcomes):
            expected = WriteUnclear if how == 'stands still' else StoreUnavailable
            assert isinstance(outcome, expected) if store.names.redis_key(f'k{number}') in lost else outcome is None
        await asyncio.to_thread(until, lambda: all(map(redis_nodes.is_complete, redis_nodes.nodes)), 'the node')
        await asyncio.gather(*(store.set(f'k{number}', 'after') for number in range(30)))
        assert set(await store.multiget([f'k{number}' for number in range(30)])) == {'after'}
    await connection.close()


async def test_events_for_a_node_that_is_away_wait_for_it_and_those_for_other_nodes_are_processed_meanwhile(
    redis_nodes: RedisNodes,
) -> None:
    redis_nodes.flush()
    connection = RedisConnection(settings_of(redis_nodes))
    async with PersistentRedisKVS(connection=connection, retry_timeout=60) as store:

        def process(number: int) -> Any:
            return worker_of(store).process(f'Internal,{number}', f'External,{number}', count)

        await asyncio.gather(*map(process, range(30)))
        lost = names_on(redis_nodes)[1]
        away = {number for number in range(30) if store.names.redis_key(f'Internal,{number}') in lost}
        redis_nodes.nodes[1].stop()
        events = {number: asyncio.ensure_future(process(number)) for number in range(30)}
        others = [event for number, event in events.items() if number not in away]
        async with asyncio.timeout(30):
            assert await asyncio.gather(*others) == [2] * (30 - len(away))
            assert await store[f'Internal,{min(set(range(30)) - away)}'] == 2
        assert not any(events[number].done() for number in away)
        redis_nodes.nodes[1].start()  # without its data
        assert set(await asyncio.gather(*(events[number] for number in away))) <= {1, 2}
        await asyncio.to_thread(until, lambda: all(map(redis_nodes.is_complete, redis_nodes.nodes)), 'the node')
    await connection.close()


@pytest.mark.parametrize('fault', [Fault.GARBAGE, Fault.OTHER_REPLY, Fault.CUT_REPLY], ids=lambda fault: fault.name)
async def test_what_one_node_answers_concerns_no_other_and_no_error_of_redis_py_reaches_a_caller(
    fault: Fault, redis_nodes: RedisNodes
) -> None:
    redis_nodes.flush()
    async with Proxy(redis_nodes.nodes[1].port) as proxy:
        connection = RedisConnection(settings_of(redis_nodes))
        async with PersistentRedisKVS(connection=connection) as store:
            await asyncio.gather(*(store.set(f'k{number}', 0) for number in range(30)))
            client = connection.client()
            [node] = [node for node in client.get_primaries() if node.port == redis_nodes.nodes[1].port]
            await node.disconnect()
            monkeypatched = dict(node.connection_kwargs)
            node.connection_kwargs['port'] = proxy.port
            node._connections.clear()
            node._free.clear()
            happened = proxy.inject(fault, b'"marked"')
            writes = [store.set(f'k{number}', 'marked') for number in range(30)]
            assert await asyncio.gather(*writes, return_exceptions=True) == [None] * 30
            assert happened.is_set()
            node.connection_kwargs.update(monkeypatched)
            assert set(await store.multiget([f'k{number}' for number in range(30)])) == {'marked'}
        await connection.close()


async def test_calls_for_a_slot_that_no_node_has_say_so_and_go_through_once_one_has_it(
    cluster: RedisConnection, redis_nodes: RedisNodes
) -> None:
    async with (
        PersistentRedisKVS(connection=cluster, retry_timeout=2) as hasty,
        PersistentRedisKVS(connection=cluster, retry_timeout=60) as store,
    ):
        slot = slot_of(store.names.redis_key('k'))
        for node in redis_nodes.nodes:
            with node.client() as client:
                client.execute_command('CLUSTER', 'DELSLOTS', slot)
        try:
            calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(call) for call in (hasty.set('k', 1), hasty['k'])]
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, StoreUnavailable)
                # The node says the one while the client has its old map, and the client the other.
                assert f'no node of the cluster has slot {slot}' in str(error) or 'Hash slot not served' in str(error)
                assert 'Some slots have no node' in str(error)
            write = asyncio.ensure_future(store.set('k', 1))
            await asyncio.wait([write], timeout=0.2)
            assert not write.done()
        finally:
            with redis_nodes.nodes[slot * 3 // SLOTS].client() as client:
                client.execute_command('CLUSTER', 'ADDSLOTS', slot)
        await write
        assert await store['k'] == 1
        await asyncio.to_thread(until, lambda: all(map(redis_nodes.is_complete, redis_nodes.nodes)), 'the slot')


async def test_a_write_that_cannot_be_sent_fails_alone_and_the_queue_goes_on(store: PersistentRedisKVS) -> None:
    outcomes = await asyncio.gather(
        store.commit_bytes({'a': b'1'}, {}),
        store.commit_bytes({'\ud800': b'1'}, {}),
        store.commit_bytes({'Internal,\ud800,x': b'1'}, {}),
        store.commit_bytes({'b': b'1'}, {}),
        store.read_bytes(['a', 'b']),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [bool, UnicodeEncodeError, UnicodeEncodeError, bool, list]
    assert await store.multiget(['a', 'b']) == [1, 1]


async def test_after_a_fail_over_the_store_finds_the_new_master_and_no_event_is_counted_twice() -> None:
    with RedisNodes(tolerated=2) as nodes, nodes.replica_of(nodes.nodes[0]):
        connection = RedisConnection({**settings_of(nodes), 'redis_port': nodes.nodes[1].port})
        # However busy this machine is.
        async with PersistentRedisKVS(connection=connection, retry_timeout=60) as store:
            assert 'KVS.W014' in [problem.id for problem in await store.health_check()]
            student = next(
                number for number in range(100) if slot_of(store.names.redis_key(f'Internal,{number}')) < SLOTS // 3
            )

            async def send(number: int) -> None:
                async def step(state: Any) -> Any:
                    return [*(state or []), number], number

                await worker_of(store).process(f'Internal,{student}', f'External,{student}', step)

            for number in range(20):
                await send(number)
            with nodes.nodes[0].client() as client:
                assert client.wait(1, 5000) == 1  # the replica has them
            nodes.nodes[0].stop()
            for number in range(20, 40):
                await send(number)  # the first is sent again until there is a new master
            assert await store[f'Internal,{student}'] == list(range(40))
        await connection.close()
