"""A Redis store that is used while it is closed, as open connections of students use a store that was replaced."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores import base
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.proxy import Fault, Proxy
from tests.support.redis_server import RedisServer
from tests.support.watched import until

ROUNDS = 20


def event(store: Store, student: int, number: int) -> Any:
    async def step(state: Any) -> Any:
        return [*(state or []), number], number

    return worker_of(store).process(f'Internal,r,STUDENT:{student}', f'External,r,STUDENT:{student}', step)


async def close_with_an_event_meanwhile(store: Store, proxy: Proxy) -> None:
    """Close a store, with an event that comes while it waits for a write under way."""
    held = proxy.inject(Fault.HOLD_REPLY, b'under way')
    writing = asyncio.create_task(store.set('under way', 1))
    await held.wait()
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0.01)
    meanwhile = asyncio.create_task(event(store, 0, 0))
    await asyncio.sleep(0.01)
    assert not closing.done()
    proxy.release()
    await closing
    await writing
    await asyncio.gather(meanwhile, return_exceptions=True)


async def test_what_uses_a_store_while_it_is_closed_shares_one_queue_with_what_uses_it_afterwards() -> None:
    with RedisServer() as server:
        async with Proxy(server.port) as proxy:
            connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': proxy.port})
            store = PersistentRedisKVS(connection=connection)
            await close_with_an_event_meanwhile(store, proxy)
            for number in range(ROUNDS):
                calls = [event(store, student, number) for student in range(3)]
                await asyncio.gather(*calls, store.set('a', number), store.set('b', number))
                proxy.cut()
            students = [f'Internal,r,STUDENT:{student}' for student in range(1, 3)]
            assert await store.multiget(students) == [list(range(ROUNDS))] * 2
            await store.close()
            await connection.close()


async def test_what_uses_a_store_while_it_is_closed_waits_for_a_server_that_refuses_later() -> None:
    with RedisServer() as server:
        async with Proxy(server.port) as proxy:
            connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': proxy.port})
            store = PersistentRedisKVS(connection=connection, retry_timeout=60)
            await close_with_an_event_meanwhile(store, proxy)
            await event(store, 1, 1)
            with server.client() as client:
                client.config_set('min-replicas-to-write', 1)  # it has none, so it refuses every write
                waiting = asyncio.create_task(event(store, 1, 2))
                await asyncio.sleep(0.3)
                assert not waiting.done()
                client.config_set('min-replicas-to-write', 0)
            assert await waiting == 2
            await store.close()
            await connection.close()


async def test_closing_has_one_timeout_for_the_events_and_for_the_writes_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, 'CLOSE_TIMEOUT', 3.0)
    with RedisServer() as server:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        store = PersistentRedisKVS(connection=connection, retry_timeout=60)
        await store.set('a', 1)
        server.pause()
        waiting = [asyncio.create_task(event(store, 1, 1)), asyncio.create_task(store.set('a', 2))]
        await asyncio.sleep(0)
        began = time.monotonic()
        await store.close()
        assert time.monotonic() - began < 5.9  # with a timeout each it would be 6
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        server.resume()
        await connection.close()


async def test_a_read_that_waits_does_not_open_again_what_is_closed() -> None:
    with RedisServer() as server:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port, 'redis_timeout': 0.2})
        store = PersistentRedisKVS(connection=connection, retry_timeout=60)
        await store.set('a', 1)
        server.pause()
        reading = asyncio.create_task(store['a'])
        await until(lambda: store._outages.here()._pause is not None)  # while a try is under way it may be answered
        server.resume()
        await store.close()
        with pytest.raises(StoreUnavailable, match='closed meanwhile'):
            await asyncio.wait_for(reading, 10)
        await connection.close()
