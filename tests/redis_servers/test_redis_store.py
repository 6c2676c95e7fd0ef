"""What is special to a store in Redis: data of other programs, bounds, cancellation, round trips, commands it uses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from learning_observer_kvs import redis_connection
from learning_observer_kvs.errors import CorruptValue, StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from tests.support.redis_server import RedisServer, until


async def mark(state: Any) -> Any:
    return 'mark', 'mark'


@pytest.fixture
async def store(redis: RedisConnection) -> AsyncIterator[PersistentRedisKVS]:
    async with PersistentRedisKVS(connection=redis) as store:
        await store.set('k', 'old')
        yield store


# Foreign data


FOREIGN: dict[str, Callable[[Redis], Any]] = {
    'a list': lambda redis: redis.lpush('k', 'x'),
    'a hash': lambda redis: redis.hset('k', 'a', 'b'),
    'text that is not JSON': lambda redis: redis.set('k', b'{nope'),
    'bytes that are not UTF-8': lambda redis: redis.set('k', b'"\xff\xfe"'),
    'an empty string': lambda redis: redis.set('k', b''),
}


@pytest.mark.parametrize('put', FOREIGN.values(), ids=FOREIGN.keys())
async def test_foreign_data_is_an_error_and_is_not_changed(
    put: Callable[[Redis], Any], store: Store, direct: Redis
) -> None:
    direct.delete('k')
    put(direct)
    before = direct.dump('k')
    for call in (
        lambda: store['k'],
        lambda: store.multiget(['missing', 'k']),
        lambda: store.update('k', lambda value: 'ours'),
        lambda: store.compare_and_set('k', None, 'ours'),
        lambda: worker_of(store).process('k', 'l', mark),
        lambda: store.dump(),
    ):
        with pytest.raises(CorruptValue, match="'k' in store 'redis'"):
            await call()
    assert direct.dump('k') == before
    assert await store['missing'] is None
    assert await store.keys() == ['k']


async def test_a_list_can_neither_be_described_nor_written_on_condition(store: Store, direct: Redis) -> None:
    direct.delete('k')
    direct.lpush('k', 'x')
    with pytest.raises(CorruptValue, match=r"'k' in store 'redis'.*holds a list"):
        await store.describe('k')
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    store.submit({'k': b'1'}, {'k': b'0'}, done.set_result)
    assert 'Nothing was written' in str(await done)


def test_a_store_without_a_connection_of_its_own_uses_the_shared_one() -> None:
    assert PersistentRedisKVS().connection is redis_connection.shared
    assert ', prefix' not in PersistentRedisKVS().location()
    assert PersistentRedisKVS(prefix='a:').location().endswith(", prefix 'a:'")


async def test_what_pythons_json_wrote_is_read_and_foreign_names_are_left_alone(store: Store, direct: Redis) -> None:
    direct.set('k', '{"n": NaN, "e": "\\u00e9"}')
    direct.set(b'\xff\xfe', 'x')
    found = await store['k']
    assert found['e'] == 'é'
    assert found['n'] != found['n']
    assert await store.keys() == ['k']
    await store.clear(force=True)
    assert await store.keys() == []
    assert direct.exists(b'\xff\xfe')


# Commits


@pytest.mark.parametrize('expiry', [None, 60], ids=['redis', 'redis_ephemeral'])
async def test_batches_of_all_shapes_come_to_what_a_dictionary_comes_to(
    expiry: float | None, redis: RedisConnection
) -> None:
    dice = random.Random(0 if expiry is None else 1)
    texts = [b'%d' % number for number in range(3)]  # one object each, and copies of them, which are sent twice
    made = PersistentRedisKVS(connection=redis) if expiry is None else EphemeralRedisKVS(expiry, connection=redis)
    async with made as store:
        expected: dict[str, bytes] = {}
        for _ in range(40):
            outcomes, wanted = [], []
            for group in ('abc', 'def', 'ghi', 'jkl'):  # no two requests of a batch share a key
                keys = dice.sample(group, dice.randint(1, 3))
                shared = dice.choice([*texts, bytes(bytearray(dice.choice(texts)))])
                writes = {key: dice.choice([None, shared, shared, shared, dice.choice(texts)]) for key in keys}
                condition = {
                    key: expected.get(key) if dice.random() < 0.8 else b'other' for key in keys if dice.random() < 0.5
                }
                holds = all(expected.get(key) == text for key, text in condition.items())
                wanted.append(holds)
                outcomes.append(store.commit_bytes(writes, condition))
                if holds:
                    expected |= {key: text for key, text in writes.items() if text is not None}
                    for key in (key for key, text in writes.items() if text is None):
                        expected.pop(key, None)
            assert await asyncio.gather(*outcomes) == wanted
            assert await store.read_bytes(list('abcdefghijkl')) == [expected.get(key) for key in 'abcdefghijkl']


# Bounds


@pytest.mark.parametrize('ephemeral', [False, True], ids=['redis', 'redis_ephemeral'])
async def test_a_thousand_operations_at_once_with_the_default_limits(
    ephemeral: bool, redis: RedisConnection, redis_server: RedisServer
) -> None:
    made = EphemeralRedisKVS(60, connection=redis) if ephemeral else PersistentRedisKVS(connection=redis)
    async with made as store:
        await asyncio.gather(*(store.set(f'k{number}', number) for number in range(1000)))
        assert await asyncio.gather(*(store[f'k{number}'] for number in range(1000))) == list(range(1000))
        described = await asyncio.gather(*(store.describe(f'k{number}') for number in range(1000)))
        assert None not in described
        with redis_server.client() as client:
            assert len(client.client_list()) <= 21
        await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(1000)))
        assert await store['n'] == 1000


@pytest.mark.timeout(60)
async def test_cancelled_at_every_await_of_2000_operations_nothing_is_torn_leaked_or_reordered(
    redis_server: RedisServer, direct: Redis
) -> None:
    settings = {'redis_host': '127.0.0.1', 'redis_port': redis_server.port, 'redis_db': 5}
    connection = RedisConnection(settings)
    before = len(direct.client_list())

    async def step(state: Any) -> Any:
        return (state or 0) + 1, (state or 0) + 1

    async with PersistentRedisKVS(connection=connection) as store:
        operations: list[Callable[[int], Awaitable[Any]]] = [
            lambda n: store.set('k', n),
            lambda n: store['k'],
            lambda n: store.multiset({'a': n, 'b': n}),
            lambda n: store.multiget(['a', 'b']),
            lambda n: store.update('u', lambda value: (value or 0) + 1),
            lambda n: worker_of(store).process('Internal,r', 'External,r', step),
            lambda n: store.describe('k'),
            lambda n: store.keys(),
            lambda n: store.remove('gone'),
            lambda n: store.compare_and_set('c', None, n),
        ]
        cancelled = 0
        for number in range(2000):
            if number % 50 == 0:
                await store.close()
                await connection.close()  # so that connecting is cancelled too
            task = asyncio.ensure_future(operations[number % len(operations)](number))
            for _ in range(number // len(operations) % 25):
                await asyncio.sleep(0)
            cancelled += task.cancel()
            while not task.done():  # and while it cleans up
                await asyncio.sleep(0)
                task.cancel()
            if not task.cancelled():
                task.result()
            if number % len(operations) == 0:
                await store.set('k', -number)  # a cancelled write that came later would show
                assert await store['k'] == -number
            elif number % 100 == 99:
                internal, external, a, b = await store.multiget(['Internal,r', 'External,r', 'a', 'b'])
                assert internal == external
                assert a == b
        assert cancelled > 500
        async with asyncio.timeout(12):
            while store.busy_keys():  # noqa: ASYNC110  (a write whose caller was cancelled goes on to its end)
                await asyncio.sleep(0)
        await asyncio.gather(*(store['k'] for _ in range(100)))
    await connection.close()
    assert direct.dbsize() == 0  # nothing went to a database that was not chosen yet
    await asyncio.to_thread(until, lambda: len(direct.client_list()) <= before, 'the connections to close')


async def test_calls_cancelled_again_and_again_while_connections_are_scarce_leak_none(
    redis_server: RedisServer, direct: Redis
) -> None:
    settings = {'redis_host': '127.0.0.1', 'redis_port': redis_server.port, 'redis_max_connections': 2}
    connection = RedisConnection(settings)
    async with PersistentRedisKVS(connection=connection) as store:
        for number in range(60):
            tasks = [asyncio.ensure_future(store.describe('k')) for _ in range(10)]
            for _ in range(number):
                await asyncio.sleep(0)
            while not all(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.sleep(0)
        async with asyncio.timeout(12):
            assert await asyncio.gather(*(store.describe('k') for _ in range(10))) == [None] * 10
        pool = connection.client().connection_pool
        assert pool.can_get_connection()
        assert not pool._in_use_connections
    await connection.close()


# Round trips


async def test_many_keys_are_read_in_one_round_trip_and_written_in_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {f'k{number}': number for number in range(400)}
    await store.multiset(entries)
    await store.multiget(entries)  # the server knows the scripts now
    packets = []
    exchange = PinnedConnection.exchange

    async def counted(connection: PinnedConnection, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        packets.append(len(commands))
        return await exchange(connection, commands, timeout)

    monkeypatch.setattr(PinnedConnection, 'exchange', counted)
    assert await store.multiget(entries) == list(entries.values())
    assert len(packets) == 1
    await store.multiset(entries)
    assert len(packets) == 2
    await asyncio.gather(*(store[key] for key in entries))
    assert len(packets) == 3
    await asyncio.gather(*(store.set(key, 1) for key in entries))
    assert len(packets) <= 9  # at most 128 writes a batch, and the first goes at once


async def test_a_key_is_described_by_its_bytes_and_by_the_seconds_it_has_left(redis: RedisConnection) -> None:
    for store in (PersistentRedisKVS(connection=redis), EphemeralRedisKVS(600, connection=redis)):
        await store.set('k', 'é')
        description = await store.describe('k')
        assert description is not None
        assert description.bytes == 4
        assert description.written is None
        if store.expiry is None:
            assert description.expires_in is None
        else:
            assert description.expires_in is not None
            assert 500 < description.expires_in <= 600


# The commands it uses, and the keys


async def test_no_command_blocks_the_server_or_removes_the_data_of_others() -> None:
    with RedisServer() as server, server.client() as client:
        client.set('of others', 'x')
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        client.config_resetstat()
        async with PersistentRedisKVS(prefix='p:', connection=connection) as store:
            await store.multiset({f'k{number}': number for number in range(2000)})
            await worker_of(store).process('Internal,r', 'External,r', mark)
            assert len(await store.keys()) == len(await store.dump()) == 2002
            await store.describe('k1')
            await store.remove('k1')
            await store.update('k2', lambda value: value)
            await store.scan('k', None, 10)
            await store.clear()
        async with EphemeralRedisKVS(60, prefix='e:', connection=connection) as store:
            await store.set('k', 1)
            await worker_of(store).process('Internal,r', 'External,r', mark)
            await store.clear()
        await connection.close()
        redis_connection.shared.configure(connection.settings)
        await redis_connection.set('g', 'x')
        assert {'g', 'of others'} <= set(await redis_connection.keys())
        await redis_connection.delete('g')
        await redis_connection.shared.close()
        used = {name.removeprefix('cmdstat_') for name in client.info('commandstats')}
        assert client.get('of others') == b'x'
    assert not used & {'keys', 'flushdb', 'flushall', 'del', 'config|get', 'config|set', 'watch', 'monitor', 'wait'}


@pytest.mark.parametrize('prefix', ['a*', 'a?', '[a]', 'a\\', '{a}', '^a-'])
async def test_glob_characters_in_a_prefix_are_literal(prefix: str, redis: RedisConnection) -> None:
    other = PersistentRedisKVS(connection=redis)
    await other.multiset({'ab': 1, 'a': 2, f'{prefix}x'[::-1]: 3})
    async with PersistentRedisKVS(prefix=prefix, connection=redis) as store:
        await store.multiset({'k*': 1, 'kk': 2, 'k\\': 3})
        assert sorted(await store.keys()) == ['k*', 'k\\', 'kk']
        assert await store.keys('k*') == ['k*']
        assert await store.keys('k\\') == ['k\\']
        await store.clear()
        assert await store.keys() == []
    assert sorted(await other.dump()) == sorted(['ab', 'a', f'{prefix}x'[::-1]])


async def test_a_writer_keeps_its_idempotency_record_however_many_batches_it_writes(
    store: Store, redis: RedisConnection
) -> None:
    for number in range(12):
        await store.set('k', number)
    assert len(await redis.client().keys('*writer:*')) == 1


async def test_a_record_about_a_store_that_is_a_list_is_an_error(store: Store, redis: RedisConnection) -> None:
    await store.commit_hidden('suppressed', b'{}', None)
    [record] = await redis.client().keys('*suppressed*')
    await redis.client().delete(record)
    await redis.client().lpush(record, 'x')
    with pytest.raises(CorruptValue, match='holds a list'):
        await store.read_hidden('suppressed')


async def test_a_record_about_a_store_whose_reply_is_lost_is_unclear(
    store: Store, redis: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*commands: Any) -> Any:
        raise ReplyLost('cut')

    monkeypatch.setattr(redis, 'exchange', lose)
    with pytest.raises(WriteUnclear, match=r'was lost \(cut\)'):
        await store.commit_hidden('suppressed', b'{}', None)


async def test_a_record_about_a_store_that_the_server_refuses_is_an_error(
    store: Store, redis: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*commands: Any) -> Any:
        return [NoPermissionError('NOPERM no right')]

    monkeypatch.setattr(redis, 'exchange', refuse)
    with pytest.raises(StoreUnavailable, match='NOPERM no right'):
        await store.commit_hidden('suppressed', b'{}', None)


async def test_a_record_about_a_store_does_not_expire_as_its_keys_do(redis: RedisConnection) -> None:
    async with EphemeralRedisKVS(60, prefix='p:', connection=redis) as store:
        assert await store.commit_hidden('suppressed', b'{}', None)
        [record] = await redis.client().keys('*suppressed*')
        assert await redis.client().pttl(record) == -1


async def test_idempotency_records_are_not_listed_and_have_a_ttl(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    store = PersistentRedisKVS(connection=redis)
    await worker_of(store).process('Internal,r', 'External,r', mark)
    assert sorted(await store.keys()) == sorted(await store.dump()) == ['External,r', 'Internal,r']
    await store.clear()
    with redis_server.client() as client:
        hidden = client.keys('*')
        assert all(client.pttl(name) > 0 for name in hidden)
    assert await store.keys() == []


async def test_while_a_read_is_waited_for_batches_are_smaller(
    store: PersistentRedisKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PersistentRedisKVS, 'MAX_REQUESTS', 8)
    monkeypatch.setattr(PersistentRedisKVS, 'MAX_REQUESTS_BESIDE_READS', 2)
    answer: asyncio.Future[list[bytes | None]] = asyncio.get_running_loop().create_future()

    async def batches_of_eight_writes() -> int:
        before = store.metrics()['write_batches']
        await asyncio.gather(*(store.set(f'k{number}', number) for number in range(8)))
        return int(store.metrics()['write_batches'] - before)

    with monkeypatch.context() as patched:
        patched.setattr(store, 'read_bytes', lambda keys: answer)
        read = asyncio.ensure_future(store['k'])
        await asyncio.sleep(0)
        assert await batches_of_eight_writes() == 4
        answer.set_result([b'1'])
        assert await read == 1
    assert await batches_of_eight_writes() == 1
