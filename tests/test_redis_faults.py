"""What befalls Redis and the way to it: no write is lost or applied twice, no reply goes astray, all works again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from learning_observer_kvs.errors import CorruptValue, KVSError, StoreUnavailable, WriteUnclear
from learning_observer_kvs.redis_connection import RedisConnection
from learning_observer_kvs.stores import redis as redis_stores
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis import EphemeralRedisKVS, PersistentRedisKVS
from tests.proxy import Fault, Proxy
from tests.redis_sentinels import SERVICE, Sentinels
from tests.redis_server import RedisServer, until

APPLIED = [Fault.DROP_REPLY, Fault.CUT_REPLY, Fault.HALF_CLOSE, Fault.RESET]
"""Faults after which the server has carried the command out."""


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def direct(redis_server: RedisServer) -> Any:
    """Another program's way to the server, past the proxy; it is empty."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores made after this give up soon when nobody answers."""
    monkeypatch.setattr(redis_stores, 'PATIENCE', 0.2)


@pytest.fixture
async def store(direct: Redis, proxy: Proxy) -> AsyncIterator[PersistentRedisKVS]:
    """A store whose every command goes through the proxy; the server knows its scripts."""
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': proxy.port, 'redis_timeout': 0.5})
    async with PersistentRedisKVS(connection=connection) as store:
        await store.set('k', 'old')
        assert await store['k'] == 'old'
        yield store
    await connection.close()


async def mark(state: Any) -> Any:
    return 'mark', 'mark'


WRITES: dict[str, Callable[[Store], Awaitable[Any]]] = {
    'set': lambda store: store.set('k', 'mark'),
    'multiset': lambda store: store.multiset({'k': 'mark', 'l': 'mark'}),
    'update': lambda store: store.update('k', lambda value: 'mark'),
    'commit': lambda store: store.commit({'k': 'mark'}, {'k': 'old'}),
    'fold': lambda store: store.fold('k', 'l', mark),
    'remove': lambda store: store.remove('k'),
}
"""Each way to write the key ``k``, which holds 'old'."""


def is_write(name: str) -> Callable[[bytes], bool]:
    """Whether a command is the one that carries it out."""
    if name == 'remove':
        return lambda command: b'\r\nk\r\n' in command
    return lambda command: b'"mark"' in command


@pytest.mark.parametrize('fault', [Fault.DROP_REQUEST, *APPLIED], ids=lambda fault: fault.name)
@pytest.mark.parametrize('name', WRITES)
async def test_a_write_whose_reply_is_lost_is_done_once_and_answered(
    name: str, fault: Fault, store: Store, proxy: Proxy
) -> None:
    happened = proxy.inject(fault, is_write(name))
    assert await WRITES[name](store) in (None, True, 'mark')
    assert happened.is_set()
    assert await store['k'] == (None if name == 'remove' else 'mark')


@pytest.mark.parametrize('others', ['newer', 'old', 'mark'])
@pytest.mark.parametrize('name', WRITES)
async def test_what_another_process_wrote_while_a_reply_was_lost_stays(
    name: str, others: str, store: Store, proxy: Proxy, direct: Redis
) -> None:
    happened = proxy.inject(Fault.DROP_REPLY, is_write(name), pause=True)
    write = asyncio.ensure_future(WRITES[name](store))
    await happened.wait()
    assert direct.get('k') == (None if name == 'remove' else b'"mark"')
    direct.set('k', f'"{others}"')
    proxy.resume()
    assert await write in (None, True, 'mark')
    assert await store['k'] == others


@pytest.mark.parametrize('name', WRITES)
async def test_a_copy_that_was_held_up_changes_nothing_when_it_arrives(
    name: str, store: Store, proxy: Proxy, direct: Redis
) -> None:
    proxy.pause(new_too=False)
    await WRITES[name](store)  # held up; after its time it is sent again, on a new connection
    await store.set('k', 'old')
    before = commands_of(direct)
    proxy.resume()
    await asyncio.to_thread(until, lambda: commands_of(direct) > before, 'the old copy to arrive')
    assert await store['k'] == 'old'


def commands_of(direct: Redis) -> int:
    """How many scripts have run on the server."""
    found: dict[str, Any] = direct.info('commandstats')
    return sum(int(found.get(f'cmdstat_{name}', {}).get('calls', 0)) for name in ('eval', 'evalsha'))


@pytest.mark.usefixtures('impatient')
@pytest.mark.parametrize('name', WRITES)
async def test_a_write_that_nobody_answers_is_unclear_after_a_while_and_the_store_works_again(
    name: str, store: Store, proxy: Proxy
) -> None:
    proxy.inject(Fault.DROP_REPLY, is_write(name), pause=True)
    with pytest.raises(WriteUnclear, match=f'127.0.0.1:{proxy.port}.*carried out or not'):
        await WRITES[name](store)
    proxy.resume()
    await store.set('k', 'after')
    assert await store['k'] == 'after'
    assert store.busy_keys() == 0


async def test_a_read_that_nobody_answers_is_a_typed_error_in_bounded_time(store: Store, proxy: Proxy) -> None:
    proxy.pause()
    began = asyncio.get_running_loop().time()
    outcomes = await asyncio.gather(
        store['k'], store.multiget(['k']), store.keys(), store.describe('k'), return_exceptions=True
    )
    assert asyncio.get_running_loop().time() - began < 3
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    proxy.resume()
    assert await store['k'] == 'old'


@pytest.mark.parametrize('fault', [Fault.DROP_REQUEST, *APPLIED], ids=lambda fault: fault.name)
async def test_a_read_whose_reply_is_lost_is_asked_again(fault: Fault, store: Store, proxy: Proxy) -> None:
    for read in (lambda: store['k'], lambda: store.keys(), lambda: store.describe('k')):
        happened = proxy.inject(fault, lambda command: True)
        assert await read() in ('old', ['k'], (5, None, None))
        assert happened.is_set()


async def test_replies_that_come_slowly_go_to_those_who_asked(store: Store, proxy: Proxy) -> None:
    entries = {f'k{number}': number for number in range(200)}
    await store.multiset(entries)
    held = proxy.inject(Fault.HOLD_REPLY, b'k7\r\n')
    reads = [asyncio.ensure_future(store[key]) for key in entries]
    await held.wait()
    others = asyncio.gather(*(store[key] for key in list(entries)[100:]))
    proxy.release()
    assert await asyncio.gather(*reads) == list(entries.values())
    assert await others == list(range(100, 200))


async def test_under_a_rain_of_faults_each_gets_its_own_reply_and_each_event_is_counted_once(
    store: Store, proxy: Proxy, direct: Redis
) -> None:
    chance = random.Random(7)
    refused: list[int] = []
    for number in range(50):
        await store.set(f'k{number}', number)

    async def event(student: int, number: int) -> Any:
        async def step(state: Any) -> Any:
            return [*(state or []), number], number

        while True:
            try:
                return await store.fold(f'Internal,{student}', f'External,{student}', step)
            except StoreUnavailable:  # the reading before it failed twice; nothing was written
                refused.append(student)

    faults = [Fault.DROP_REQUEST, *APPLIED]
    for number in range(40):
        for fault in faults:
            if chance.random() < 0.4:
                proxy.inject(fault, lambda command: True)
        keys = [chance.randrange(50) for _ in range(20)]
        reads = asyncio.gather(*(store[f'k{key}'] for key in keys), return_exceptions=True)
        events = asyncio.gather(*(event(student, number) for student in range(20)))
        assert await events == [number] * 20
        for key, outcome in zip(keys, await reads, strict=True):
            assert outcome == key or isinstance(outcome, StoreUnavailable)
    assert proxy.faults > 40
    assert len(refused) < 100
    for student in range(20):
        assert await store[f'Internal,{student}'] == list(range(40))
    assert direct.info('clients')['connected_clients'] <= 21


async def test_a_connection_that_was_given_up_half_made_is_not_used(proxy: Proxy, direct: Redis) -> None:
    settings = {'redis_host': '127.0.0.1', 'redis_port': proxy.port, 'redis_db': 6}
    connection = RedisConnection({**settings, 'redis_timeout': 0.3, 'redis_connect_timeout': 0.2})
    async with PersistentRedisKVS(connection=connection) as store:
        held = proxy.inject(Fault.HOLD_REPLY, b'SELECT')
        with pytest.raises(StoreUnavailable, match='accepts connections, but did not answer'):
            await store['k']
        assert held.is_set()
        await store.set('k', 1)
        proxy.release()
        assert await store['k'] == 1
    await connection.close()
    assert direct.dbsize() == 0


# The server itself


@pytest.fixture
def durable() -> Any:
    """A server of one test's own that keeps every write."""
    with RedisServer('--appendonly', 'yes', '--appendfsync', 'always') as server:
        yield server


@pytest.fixture
async def own(durable: RedisServer, impatient: None) -> AsyncIterator[PersistentRedisKVS]:
    """A store on it, with little patience."""
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': durable.port, 'redis_timeout': 0.3})
    async with PersistentRedisKVS(connection=connection) as store:
        await store.set('k', 'before')
        yield store
    await connection.close()


async def test_a_server_killed_and_started_again_is_used_again_and_has_what_was_acknowledged(
    own: Store, durable: RedisServer
) -> None:
    durable.stop()
    for call in (lambda: own.set('k', 'lost'), lambda: own['k'], lambda: own.keys(), lambda: own.update('k', str)):
        with pytest.raises(StoreUnavailable, match=f'Redis at 127.0.0.1:{durable.port} cannot be used'):
            await call()  # that it is gone is seen before anything is sent
    durable.start()
    with durable.client() as client:
        await asyncio.to_thread(until, lambda: has_loaded(client), 'the data')
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
                acknowledged.append(await own.fold('Internal,r', 'External,r', step))
                if len(acknowledged) == 40:
                    warm.set()
            except (StoreUnavailable, WriteUnclear):
                unclear.append(event)
                failed.set()

    sockets = asyncio.gather(*(socket(name) for name in 'abcd'))
    await warm.wait()
    durable.stop()
    await failed.wait()
    await asyncio.to_thread(durable.start)
    await sockets
    await own.fold('Internal,r', 'External,r', last)
    stored = await own['Internal,r']
    assert stored.pop() == 'last'
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert set(stored) <= {*acknowledged, *unclear}
    for name in 'abcd':
        order = [int(event[1:]) for event in stored if event[0] == name]
        assert order == sorted(order)


async def test_a_server_that_stands_still_is_a_typed_error_and_applies_nothing_twice(
    own: Store, durable: RedisServer
) -> None:
    async def step(state: Any) -> Any:
        return (state or 0) + 1, None

    await own.fold('n', 'x', step)
    durable.pause()
    try:
        with pytest.raises(StoreUnavailable):
            await own['k']
        with pytest.raises(WriteUnclear):
            await own.fold('n', 'x', step)
    finally:
        durable.resume()
    await own.fold('n', 'x', step)
    assert await own['n'] in (2, 3)  # the unclear one was carried out once, or not at all
    assert await own['k'] == 'before'


async def test_a_server_that_is_loading_is_told_and_used_when_it_is_ready(own: Store, durable: RedisServer) -> None:
    with durable.client() as client:
        with client.pipeline(transaction=False) as many:
            for number in range(20_000):
                many.set(f'k{number}', 1)
            many.execute()
        durable.stop()
        durable.arguments += ('--key-load-delay', '100')
        await asyncio.to_thread(durable.start)
        for call in (lambda: own['k'], lambda: own.set('k', 'refused'), lambda: own.keys()):
            with pytest.raises(StoreUnavailable, match='still loading'):
                await call()
        await asyncio.to_thread(until, lambda: has_loaded(client), 'the data')
        assert await own['k'] == 'before'


def has_loaded(client: Redis) -> bool:
    """Whether a server that was started again has its data."""
    return not int(client.info('persistence')['loading'])


async def test_a_server_without_memory_refuses_whole_writes_and_still_reads(own: Store, durable: RedisServer) -> None:
    with durable.client() as client:
        client.config_set('maxmemory', 1)
        for write in (own.set('k', 'refused'), own.multiset({'a': 1, 'k': 2}), own.update('k', lambda _: 3)):
            with pytest.raises(StoreUnavailable, match='memory limit; raise maxmemory'):
                await write
        assert await own.dump() == {'k': 'before'}
        assert await own.remove('nothing') is False
        client.config_set('maxmemory', 0)
    await own.set('k', 'after')
    assert await own['k'] == 'after'


async def test_a_server_that_cannot_save_is_told(own: Store, durable: RedisServer) -> None:
    with durable.client() as client:
        client.config_set('min-replicas-to-write', 1)
        with pytest.raises(StoreUnavailable, match=f'127.0.0.1:{durable.port} cannot be used: NOREPLICAS'):
            await own.set('k', 'refused')
        client.config_set('min-replicas-to-write', 0)
    assert await own['k'] == 'before'


# Foreign data


FOREIGN: dict[str, Callable[[Redis], Any]] = {
    'a list': lambda redis: redis.lpush('k', 'x'),
    'a hash': lambda redis: redis.hset('k', 'a', 'b'),
    'text that is no JSON': lambda redis: redis.set('k', b'{nope'),
    'bytes that are no UTF-8': lambda redis: redis.set('k', b'"\xff\xfe"'),
    'nothing': lambda redis: redis.set('k', b''),
}


@pytest.mark.parametrize('put', FOREIGN.values(), ids=FOREIGN.keys())
async def test_foreign_data_is_a_typed_error_and_stays_as_it_is(
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
        lambda: store.fold('k', 'l', mark),
        lambda: store.dump(),
    ):
        with pytest.raises(CorruptValue, match="'k' in store 'redis'"):
            await call()
    assert direct.dump('k') == before
    assert await store['missing'] is None
    assert await store.keys() == ['k']


async def test_what_pythons_json_wrote_is_read_and_foreign_names_are_left_alone(store: Store, direct: Redis) -> None:
    direct.set('k', '{"n": NaN, "e": "\\u00e9"}')
    direct.set(b'\xff\xfe', 'x')
    found = await store['k']
    assert found['e'] == 'é'
    assert found['n'] != found['n']
    assert await store.keys() == ['k']
    await store.clear()
    assert direct.exists(b'\xff\xfe')


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
            lambda n: store.fold('Internal,r', 'External,r', step),
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
        assert store.busy_keys() == 0
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
        for turns in range(60):
            tasks = [asyncio.ensure_future(store.describe('k')) for _ in range(10)]
            for _ in range(turns):
                await asyncio.sleep(0)
            while not all(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.sleep(0)
        async with asyncio.timeout(3):
            assert await asyncio.gather(*(store.describe('k') for _ in range(10))) == [None] * 10
        pool = connection.client().connection_pool
        assert pool.can_get_connection()
        assert not pool._in_use_connections
    await connection.close()


# Manners


async def test_no_command_is_used_that_blocks_the_server_or_wipes_others_data() -> None:
    with RedisServer() as server, server.client() as client:
        client.set('of others', 'x')
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        client.config_resetstat()
        async with PersistentRedisKVS(prefix='p:', connection=connection) as store:
            await store.multiset({f'k{number}': number for number in range(2000)})
            await store.fold('Internal,r', 'External,r', mark)
            assert len(await store.keys()) == len(await store.dump()) == 2002
            await store.describe('k1')
            await store.remove('k1')
            await store.clear()
        await connection.close()
        used = {name.removeprefix('cmdstat_') for name in client.info('commandstats')}
        assert client.get('of others') == b'x'
    assert not used & {'keys', 'flushdb', 'flushall', 'del', 'config|get', 'config|set', 'watch', 'monitor', 'wait'}


@pytest.mark.parametrize('prefix', ['a*', 'a?', '[a]', 'a\\', '{a}', '^a-'])
async def test_a_prefix_with_glob_characters_means_itself(prefix: str, redis: RedisConnection) -> None:
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


async def test_the_records_of_writers_are_in_no_list_and_expire(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    store = PersistentRedisKVS(connection=redis)
    await store.fold('Internal,r', 'External,r', mark)
    assert sorted(await store.keys()) == sorted(await store.dump()) == ['External,r', 'Internal,r']
    await store.clear()
    with redis_server.client() as client:
        hidden = client.keys('*')
        assert all(client.pttl(name) > 0 for name in hidden)
    assert await store.keys() == []


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
                    await store.fold('Internal,r', 'External,r', lambda state: step(state, number))
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
