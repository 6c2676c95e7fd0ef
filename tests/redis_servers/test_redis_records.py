"""Idempotency records that are evicted, removed or lost: what was sent again is unclear, and never applied twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from learning_observer_kvs.errors import KVSError, WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.proxy import Fault, Proxy
from tests.support.redis_server import RedisServer, until

PREFIX = 'p:'


async def append(state: Any) -> Any:
    new = [*(state or []), 'mark']
    return new, new


APPENDING: dict[str, Callable[[Store], Awaitable[Any]]] = {
    'update': lambda store: store.update('k', lambda value: [*value, 'mark']),
    'commit': lambda store: store.commit({'k': ['old', 'mark']}, {'k': ['old']}),
    'event': lambda store: worker_of(store).process('k', 'l', append),
}
"""Each method that reads, modifies and writes; ``k`` holds ``['old']``."""


def records(direct: Redis) -> list[bytes]:
    return list(direct.scan_iter(b'*lo-kvs:writer:*'))


@pytest.fixture
async def store(direct: Redis, proxy: Proxy) -> AsyncIterator[PersistentRedisKVS]:
    """A store whose every command goes through the proxy; it has written before."""
    connection = proxy.connection()
    async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        await store.set('k', ['old'])
        assert await store['k'] == ['old']
        yield store
    await connection.close()


@pytest.mark.parametrize('fault', [Fault.DROP_REPLY, Fault.DROP_REQUEST], ids=lambda fault: fault.name)
@pytest.mark.parametrize('name', APPENDING)
async def test_a_write_that_is_sent_again_and_finds_no_record_is_unclear_and_not_applied_twice(
    name: str, fault: Fault, store: Store, proxy: Proxy, direct: Redis
) -> None:
    happened = proxy.inject(fault, b'"mark"', pause=True)
    write = asyncio.ensure_future(APPENDING[name](store))
    await happened.wait()
    before = direct.get(f'{PREFIX}k')
    assert before == (b'["old","mark"]' if fault is Fault.DROP_REPLY else b'["old"]')
    direct.delete(*records(direct))
    proxy.resume()
    with pytest.raises(WriteUnclear, match=r'idempotency record .* was evicted or removed.*read the key to find out'):
        await write
    assert direct.get(f'{PREFIX}k') == before
    await store.set('k', 'after')
    assert await store['k'] == 'after'


@pytest.mark.parametrize('fault', [Fault.DROP_REPLY, Fault.DROP_REQUEST], ids=lambda fault: fault.name)
async def test_the_first_write_of_a_store_is_unclear_too_where_it_finds_no_record(
    fault: Fault, direct: Redis, proxy: Proxy
) -> None:
    connection = proxy.connection()
    async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        happened = proxy.inject(fault, b'"mark"', pause=True)
        write = asyncio.ensure_future(store.set('k', 'mark'))
        await happened.wait()
        direct.delete(f'{PREFIX}k', *records(direct))
        proxy.resume()
        with pytest.raises(WriteUnclear):
            await write
        assert not direct.exists(f'{PREFIX}k')
    await connection.close()


async def test_the_first_write_of_a_store_is_known_again_when_its_reply_is_lost(direct: Redis, proxy: Proxy) -> None:
    for fault in (Fault.DROP_REPLY, Fault.DROP_REQUEST):
        connection = proxy.connection()
        async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
            direct.set(f'{PREFIX}k', b'["old"]')
            proxy.inject(fault, b'"mark"')
            await store.update('k', lambda value: [*value, 'mark'])
            assert await store['k'] == ['old', 'mark']
        await connection.close()


async def test_a_write_whose_script_the_server_forgot_between_two_sendings_is_answered(
    store: Store, proxy: Proxy, direct: Redis
) -> None:
    happened = proxy.inject(Fault.DROP_REPLY, b'"mark"', pause=True)
    write = asyncio.ensure_future(APPENDING['update'](store))
    await happened.wait()
    direct.script_flush()
    proxy.resume()
    assert await write == ['old', 'mark']
    assert await store['k'] == ['old', 'mark']


async def test_a_write_that_was_not_sent_before_gets_a_new_record_where_the_old_one_is_gone(
    store: Store, direct: Redis
) -> None:
    [before] = records(direct)
    direct.delete(before)
    await asyncio.gather(*(store.set(f'k{number}', number) for number in range(300)), APPENDING['event'](store))
    assert await store['k'] == ['old', 'mark']
    assert len(await store.keys()) == 302
    [after] = records(direct)
    assert after != before


@pytest.mark.parametrize('after', ['answered', 'evicted'])
async def test_a_late_copy_of_a_write_changes_nothing_whatever_became_of_its_record(
    after: str, store: Store, proxy: Proxy, direct: Redis
) -> None:
    proxy.pause(new_too=False)
    await store.set('k', 'mark')  # held up; after its time it is sent again, on a new connection
    await store.set('k', 'newer')
    if after == 'evicted':
        direct.delete(*records(direct))
        await store.set('k', 'newest')
    before, calls = direct.get(f'{PREFIX}k'), script_calls(direct)
    proxy.resume()
    await asyncio.to_thread(until, lambda: script_calls(direct) > calls, 'the old copy to arrive')
    assert direct.get(f'{PREFIX}k') == before


def script_calls(direct: Redis) -> int:
    """How many scripts have run on the server."""
    found: dict[str, Any] = direct.info('commandstats')
    return sum(int(found.get(f'cmdstat_{name}', {}).get('calls', 0)) for name in ('eval', 'evalsha'))


async def test_a_server_that_took_over_without_the_last_writes_applies_none_of_them_twice(
    store: Store, proxy: Proxy, direct: Redis, redis_server: RedisServer
) -> None:
    with RedisServer('--replicaof', '127.0.0.1', str(redis_server.port)) as other, other.client() as replica:
        await asyncio.to_thread(until, lambda: replica.get(f'{PREFIX}k') == b'["old"]', 'the replica')
        replica.execute_command('REPLICAOF', 'NO', 'ONE')  # from now on it misses what is written
        await store.set('k', ['old', 'missed'])
        await store.set('k', ['old', 'missed', 'too'])
        happened = proxy.inject(Fault.DROP_REPLY, b'"mark"', pause=True)
        write = asyncio.ensure_future(APPENDING['update'](store))
        await happened.wait()
        proxy.server_port = other.port
        proxy.cut()
        proxy.resume()
        with pytest.raises(WriteUnclear, match='not on the server that took over'):
            await write
        assert await store['k'] == ['old']
        await APPENDING['update'](store)
        assert replica.get(f'{PREFIX}k') == b'["old","mark"]'


async def test_what_was_not_sent_yet_is_applied_by_a_server_that_took_over_without_the_last_writes(
    store: Store, proxy: Proxy, redis_server: RedisServer
) -> None:
    with RedisServer('--replicaof', '127.0.0.1', str(redis_server.port)) as other, other.client() as replica:
        await asyncio.to_thread(until, lambda: replica.get(f'{PREFIX}k') == b'["old"]', 'the replica')
        replica.execute_command('REPLICAOF', 'NO', 'ONE')
        await store.set('k', ['old', 'missed'])
        await store.set('k', ['old', 'missed', 'too'])
        proxy.server_port = other.port
        proxy.cut()
        await APPENDING['event'](store)  # its cached text is not what the new server has
        assert replica.get(f'{PREFIX}k') == b'["old","mark"]'


async def test_after_a_write_that_was_given_up_the_record_stays_and_late_copies_change_nothing(
    direct: Redis, proxy: Proxy
) -> None:
    connection = proxy.connection()
    async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        await store.set('k', 'old')
        before = records(direct)
        proxy.pause()
        with limited_to(0.2), pytest.raises(WriteUnclear):
            await store.set('k', 'given up')
        assert direct.get(f'{PREFIX}k') == b'"old"'
        async with Proxy(proxy.server_port) as other:
            connection.configure({**connection.settings, 'redis_port': other.port})
            await store.set('k', 'after')
        calls = script_calls(direct)
        proxy.resume()
        await asyncio.to_thread(until, lambda: script_calls(direct) > calls, 'a copy to arrive')
        assert direct.get(f'{PREFIX}k') == b'"after"'
        assert records(direct) == before
    await connection.close()


async def test_a_flush_of_write_behind_whose_record_is_gone_is_settled_by_reading(direct: Redis, proxy: Proxy) -> None:
    for fault in (Fault.DROP_REPLY, Fault.DROP_REQUEST):
        direct.flushall()
        connection = proxy.connection()
        async with PersistentRedisKVS(prefix=PREFIX, connection=connection, flush_interval=3600) as store:
            await APPENDING['event'](store)
            await store.flush()
            await APPENDING['event'](store)
            happened = proxy.inject(fault, b'"mark"', pause=True)
            flush = asyncio.ensure_future(store.flush())
            await happened.wait()
            direct.delete(*records(direct))
            proxy.resume()
            with pytest.raises(WriteUnclear):
                await flush
            await APPENDING['event'](store)
            await store.flush()
            assert direct.get(f'{PREFIX}k') == b'["mark","mark","mark"]'
        await connection.close()


# What the records are


async def test_a_record_is_hidden_json_text_below_the_prefix_with_a_ttl_and_is_spared_by_clear(
    store: Store, direct: Redis
) -> None:
    await store.multiset({'a': 1, 'b': 2})
    [record] = records(direct)
    assert record.startswith(PREFIX.encode())
    assert json.loads(direct.get(record) or b'') == [2, '1']
    assert 80_000 < direct.ttl(record) <= 86_400
    for other in (store, PersistentRedisKVS(connection=through_directly(direct))):
        assert not [key for key in await other.keys() if 'writer' in key]
    await store.clear()
    assert records(direct) == [record]
    assert json.loads(direct.get(record) or b'')[0] == 3


def through_directly(direct: Redis) -> RedisConnection:
    return RedisConnection({'redis_host': '127.0.0.1', 'redis_port': direct.get_connection_kwargs()['port']})


async def test_records_of_an_older_version_are_hidden_and_left_alone(store: Store, direct: Redis) -> None:
    old = {'\x00lo-kvs:writer:0123456789abcdef0123456789abcdef': '7 1', '\x00lo-kvs:writer:f:{0123456789abcdef}': '1 1'}
    direct.mset(old)
    for prefix in (PREFIX, ''):
        connection = through_directly(direct)
        async with PersistentRedisKVS(prefix=prefix, connection=connection) as other:
            assert await other.dump() in ({'k': ['old']}, {f'{PREFIX}k': ['old']})
            await APPENDING['event'](other if prefix else store)
            await other.remove('k')
            await other.clear(force=True)
        await connection.close()
        await store.set('k', ['old'])
    assert [direct.get(name) for name in old] == [value.encode() for value in old.values()]


# Real eviction

POLICIES = ['noeviction']
POLICIES += [
    'noeviction',
    'volatile-ttl',
    'volatile-lru',
    'volatile-lfu',
    'volatile-random',
    'allkeys-lru',
    'allkeys-random',
]


@pytest.mark.parametrize('policy', POLICIES)
async def test_under_eviction_no_event_is_applied_twice_and_noeviction_answers_each(policy: str) -> None:
    with RedisServer('--maxmemory-policy', policy, '--maxmemory-samples', '10') as server, server.client() as direct:
        async with Proxy(server.port) as proxy:
            connection = proxy.connection()
            async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
                outcomes = [await one_event_under_pressure(store, proxy, direct, number) for number in range(3)]
                stored = json.loads(direct.get(f'{PREFIX}k') or b'[]')
            await connection.close()
    assert len(stored) == len(set(stored))
    if not policy.startswith('allkeys'):
        done = [number for number, outcome in enumerate(outcomes) if outcome is None]
        assert set(done) <= set(stored)
    if policy == 'noeviction':
        assert outcomes == [None] * 3
    if policy in ('volatile-lru', 'volatile-random', 'volatile-ttl', 'volatile-lfu'):
        assert WriteUnclear in outcomes


async def one_event_under_pressure(store: Store, proxy: Proxy, direct: Redis, number: int) -> type | None:
    """Send an event whose reply is lost, and let the memory be full until it is sent again."""

    async def step(state: Any) -> Any:
        return [*(state or []), number], number

    direct.config_set('maxmemory', 0)
    await store.set('other', number)
    happened = proxy.inject(Fault.DROP_REPLY, f'{number}]'.encode(), pause=True)
    event = asyncio.ensure_future(worker_of(store).process('k', 'l', step))
    await happened.wait()
    used = int(direct.info('memory')['used_memory'])
    direct.config_set('maxmemory', used - 1000)  # evicts what the policy allows, and refuses writes after that
    for _ in range(5):
        try:
            direct.set('of another program', 'x')
        except ResponseError:
            break
    direct.config_set('maxmemory', 0)
    proxy.resume()
    try:
        await event
    except KVSError as error:
        return type(error)
    return None
