"""A Redis server that is killed, stands still, loads its data, is full, or fails over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from learning_observer_kvs.errors import KVSError, StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_sentinels import SERVICE, Sentinels
from tests.support.redis_server import RedisServer


@pytest.fixture
def durable() -> Any:
    """A server for one test, which keeps every write."""
    with RedisServer('--appendonly', 'yes', '--appendfsync', 'always') as server:
        yield server


@pytest.fixture
async def own(durable: RedisServer) -> AsyncIterator[PersistentRedisKVS]:
    """A store on it, which waits for a disk that is slow; where it is to fail soon, its test says so."""
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': durable.port, 'redis_timeout': 0.3})
    async with PersistentRedisKVS(connection=connection, retry_timeout=60) as store:
        await store.set('k', 'before')
        yield store
    await connection.close()


def soon() -> AbstractContextManager[None]:
    """Let the calls in a block give up soon."""
    return limited_to(0.2)


async def test_a_server_killed_and_started_again_is_used_again_and_has_what_was_acknowledged(
    own: Store, durable: RedisServer
) -> None:
    durable.stop()
    for call in (
        lambda: own.set('k', 'lost'),
        lambda: own['k'],
        lambda: own.keys(),
        lambda: own.update('k', str),
    ):
        with soon(), pytest.raises(StoreUnavailable, match=f'Redis at 127.0.0.1:{durable.port} cannot be used'):
            await call()  # the closed connection is noticed before anything is sent
    durable.start()
    await asyncio.to_thread(durable.end_loading)
    assert await own['k'] == 'before'
    await own.set('k', 'after')
    assert await own['k'] == 'after'


async def test_a_server_killed_under_load_loses_and_doubles_no_event(own: Store, durable: RedisServer) -> None:
    acknowledged: list[str] = []
    unclear: list[str] = []
    warm, failed = asyncio.Event(), asyncio.Event()

    async def last(state: Any) -> Any:
        return [*state, 'last'], 'last'

    async def socket(name: str) -> None:
        for number in range(60):
            event = f'{name}{number}'

            async def step(state: Any, event: str = event) -> Any:
                return [*(state or []), event], event

            try:
                acknowledged.append(await worker_of(own).process('Internal,r', 'External,r', step))
                if len(acknowledged) == 40:
                    warm.set()
            except (StoreUnavailable, WriteUnclear):
                unclear.append(event)
                failed.set()

    with soon():
        sockets = asyncio.gather(*(socket(name) for name in 'abcd'))
    await warm.wait()
    durable.stop()
    await failed.wait()
    await asyncio.to_thread(durable.start)
    await sockets
    await worker_of(own).process('Internal,r', 'External,r', last)
    stored = await own['Internal,r']
    assert stored.pop() == 'last'
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert set(stored) <= {*acknowledged, *unclear}
    for name in 'abcd':
        order = [int(event[1:]) for event in stored if event[0] == name]
        assert order == sorted(order)


async def test_a_server_that_stands_still_is_an_error_and_applies_nothing_twice(
    own: Store, durable: RedisServer
) -> None:
    async def step(state: Any) -> Any:
        return (state or 0) + 1, None

    await worker_of(own).process('n', 'x', step)
    durable.pause()
    try:
        with soon(), pytest.raises(StoreUnavailable):
            await own['k']
        with soon(), pytest.raises(WriteUnclear):
            await worker_of(own).process('n', 'x', step)
    finally:
        durable.resume()
    await worker_of(own).process('n', 'x', step)
    assert await own['n'] in (2, 3)  # the unclear one was applied once, or not at all
    assert await own['k'] == 'before'


async def test_a_server_that_is_loading_is_an_error_and_is_used_when_it_is_ready(durable: RedisServer) -> None:
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': durable.port})
    async with PersistentRedisKVS(connection=connection, retry_timeout=60) as store:
        await store.set('k', 'before')
        await asyncio.to_thread(durable.start_loading)
        for call in (lambda: store['k'], lambda: store.set('k', 'refused'), lambda: store.keys()):
            with limited_to(0), pytest.raises(StoreUnavailable, match='still loading'):
                await call()
        await asyncio.to_thread(durable.end_loading)
        assert await store['k'] == 'before'
    await connection.close()


async def test_a_server_without_memory_refuses_whole_writes_and_serves_reads(own: Store, durable: RedisServer) -> None:
    with durable.client() as client:
        client.config_set('maxmemory', 1)
        for write in (own.set('k', 'refused'), own.multiset({'a': 1, 'k': 2}), own.update('k', lambda _: 3)):
            with soon(), pytest.raises(StoreUnavailable, match='memory limit; raise maxmemory'):
                await write
        assert await own.dump() == {'k': 'before'}
        assert await own.remove('nothing') is False
        client.config_set('maxmemory', 0)
    await own.set('k', 'after')
    assert await own['k'] == 'after'


async def test_a_server_that_refuses_writes_is_an_error_with_its_reason(own: Store, durable: RedisServer) -> None:
    with durable.client() as client:
        client.config_set('min-replicas-to-write', 1)
        with soon(), pytest.raises(StoreUnavailable, match=f'127.0.0.1:{durable.port} cannot be used: NOREPLICAS'):
            await own.set('k', 'refused')
        client.config_set('min-replicas-to-write', 0)
    assert await own['k'] == 'before'


# Sentinel


async def test_after_a_fail_over_the_store_goes_on_and_no_event_is_counted_twice() -> None:
    with Sentinels() as sentinels:
        settings = {
            'redis_sentinels': sentinels.addresses(),
            'redis_service_name': SERVICE,
            'redis_timeout': 0.5,
            'redis_connect_timeout': 0.5,
        }
        connection = RedisConnection(settings)
        async with PersistentRedisKVS(connection=connection) as store:
            outcomes: dict[int, str] = {}

            async def step(state: Any, number: int) -> Any:
                return [*(state or []), number], number

            async def send(number: int) -> None:
                try:
                    await worker_of(store).process('Internal,r', 'External,r', lambda state: step(state, number))
                    outcomes[number] = 'done'
                except KVSError as error:
                    outcomes[number] = type(error).__name__

            for number in range(50):
                await send(number)
            with sentinels.master.client() as client:
                assert client.wait(1, 5000) == 1  # the replica has them
            fail_over = asyncio.ensure_future(asyncio.to_thread(sentinels.fail_over))
            number = 50
            while not fail_over.done() or outcomes[number - 1] != 'done':
                await send(number)
                number += 1
            await fail_over
            stored = await store['Internal,r']
            with sentinels.replica.client() as client:
                assert client.role()[0] == b'master'
            assert stored == sorted(set(stored))
            assert set(range(50)) <= set(stored)
            assert number - 1 in stored
            assert set(outcomes.values()) <= {'done', 'StoreUnavailable', 'WriteUnclear'}
        await connection.close()
