"""A Redis that is away for a while: what was never sent waits for it, until the deadline of its call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.redis import reader
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer
from tests.support.redis_server import RedisServer, until


@pytest.fixture
def durable() -> Iterator[RedisServer]:
    """A server for one test, which keeps every write."""
    with RedisServer('--appendonly', 'yes', '--appendfsync', 'always') as server:
        yield server


@pytest.fixture
async def make(durable: RedisServer) -> AsyncIterator[Callable[..., PersistentRedisKVS]]:
    """Make stores on it, which are closed."""
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': durable.port, 'redis_timeout': 0.5})
    made: list[PersistentRedisKVS] = []

    def make(**options: Any) -> PersistentRedisKVS:
        made.append(PersistentRedisKVS(connection=connection, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()
    await connection.close()


@pytest.fixture
async def store(make: Callable[..., PersistentRedisKVS]) -> PersistentRedisKVS:
    """A store that has been used; it waits longer than any server here is away, however busy this machine is."""
    store = make(retry_timeout=60)
    await event(store, 'k', 'first')
    return store


async def event(store: Store, student: str, number: Any) -> Any:
    async def step(state: Any) -> Any:
        return [*(state or []), number], number

    return await worker_of(store).process(f'Internal,r,STUDENT:{student}', f'External,r,STUDENT:{student}', step)


async def state(store: Store, student: str) -> Any:
    return await store[f'Internal,r,STUDENT:{student}']


async def waiting(*calls: Awaitable[Any]) -> asyncio.Future[list[Any]]:
    """Begin calls, and return when they have tried in vain for a while."""
    gathered = asyncio.gather(*calls, return_exceptions=True)
    done, _ = await asyncio.wait([gathered], timeout=0.3)
    assert not done
    return gathered


# Killed and started again


async def test_events_that_come_while_redis_is_away_are_applied_once_and_in_order_when_it_is_back(
    store: Store, durable: RedisServer
) -> None:
    durable.stop()
    events = await waiting(*(event(store, 'k', number) for number in range(10)))
    durable.start()
    assert await events == list(range(10))
    assert await state(store, 'k') == ['first', *range(10)]


async def test_events_of_many_students_wait_for_it(store: Store, durable: RedisServer) -> None:
    durable.stop()
    events = await waiting(*(event(store, str(number), number) for number in range(200)))
    durable.start()
    assert await events == list(range(200))
    assert await store.multiget([f'Internal,r,STUDENT:{number}' for number in range(200)]) == [
        [number] for number in range(200)
    ]


CALLS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    'get': lambda store: store['a'],
    'multiget': lambda store: store.multiget(['a', 'b']),
    'keys': lambda store: store.keys('a'),
    'scan': lambda store: store.scan('a'),
    'describe': lambda store: store.describe('a'),
    'dump': lambda store: store.dump(prefix='a'),
    'set': lambda store: store.set('b', 2),
    'multiset': lambda store: store.multiset({'b': 2, 'c': 2}),
    'remove': lambda store: store.remove('a'),
    'update': lambda store: store.update('a', lambda value: value + 1),
    'commit': lambda store: store.commit({'b': 2}, {'a': 1}),
    'clear': lambda store: store.clear(),
    'read_hidden': lambda store: store.read_hidden('tried'),
}
"""Each call of a store in which ``a`` is 1."""


@pytest.mark.parametrize('name', CALLS)
async def test_every_call_waits_for_it_and_returns_what_it_returns_else(
    name: str, store: Store, durable: RedisServer
) -> None:
    await store.set('a', 1)
    durable.stop()
    call = await waiting(CALLS[name](store))
    durable.start()
    [found] = await call
    after = await store.dump(prefix='a'), await store['b']
    await store.clear()
    await store.set('a', 1)
    expected = await CALLS[name](store)
    assert (found, *after) == (expected, await store.dump(prefix='a'), await store['b'])


async def test_a_hidden_record_that_was_never_sent_waits_for_it(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer
) -> None:
    store = make(retry_timeout=60)
    durable.stop()
    call = await waiting(store.commit_hidden('tried', b'{"n":1}', None))
    durable.start()
    assert await call == [True]
    assert await store.read_hidden('tried') == b'{"n":1}'


async def test_a_call_is_answered_at_its_deadline_and_applies_nothing_afterwards(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer
) -> None:
    store = make(retry_timeout=60)
    await store.set('a', 1)
    await event(store, 'k', 'first')
    store.retry_timeout = 1
    durable.stop()
    began = time.monotonic()
    took: dict[str, float] = {}

    async def call(name: str) -> None:
        with pytest.raises(StoreUnavailable, match=rf'127\.0\.0\.1:{durable.port} cannot be used: .*Is it running'):
            await CALLS[name](store)
        took[name] = time.monotonic() - began

    names = set(CALLS) - {'clear'}  # which waits until no other call is under way
    outcomes = await asyncio.gather(*map(call, names), event(store, 'k', 1), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * len(names) + [StoreUnavailable]
    assert all(0.9 < seconds < 30 for seconds in took.values()), took
    store.retry_timeout = 60
    durable.start()
    await event(store, 'k', 'last')
    assert await store['a'] == 1
    assert await store['b'] is None
    assert await state(store, 'k') == ['first', 'last']


async def test_events_behind_one_key_are_answered_at_their_own_deadlines(store: Store, durable: RedisServer) -> None:
    durable.stop()
    worker = worker_of(store)
    answered: list[int] = []
    all_but_the_last = asyncio.Event()
    deadlines = [3.0, 0.5, 1.5, 60.0]

    async def send(number: int) -> None:
        async def step(state: Any) -> Any:
            return [*state, number], number

        keys = 'Internal,r,STUDENT:k', 'External,r,STUDENT:k'
        try:
            await worker.process(*keys, step, b'[]', time.monotonic() + deadlines[number])
        finally:
            answered.append(number)
            if len(answered) == 3:
                all_but_the_last.set()

    events = asyncio.gather(*map(send, range(4)), return_exceptions=True)
    await all_but_the_last.wait()
    durable.start()
    outcomes = await events
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3 + [type(None)]
    assert answered[-1] == 3
    assert await state(store, 'k') == ['first', 3]


async def test_a_store_that_does_not_wait_fails_at_once(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer
) -> None:
    store = make(retry_timeout=60)
    await store.set('a', 1)
    store.retry_timeout = 0
    durable.stop()
    began = time.monotonic()
    for name in CALLS:
        with pytest.raises(StoreUnavailable, match='Is it running there'):
            await CALLS[name](store)
    assert time.monotonic() - began < 30


async def test_pages_and_commands_wait_no_longer_than_they_say(store: Store, durable: RedisServer) -> None:
    durable.stop()
    behind = await waiting(event(store, 'k', 1))
    began = time.monotonic()
    with limited_to(0.5), pytest.raises(StoreUnavailable):
        await store['a']
    with limited_to(0), pytest.raises(StoreUnavailable):
        await store.set('a', 1)
    assert 0.5 <= time.monotonic() - began < 30
    durable.start()
    assert await behind == [1]


async def test_the_reducers_of_one_event_share_a_deadline_and_the_next_event_has_another(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer
) -> None:
    @student_event_reducer(module_override='m', qualname_override='one')
    async def one(event: Any, state: Any) -> Any:
        return event, event

    @student_event_reducer(module_override='m', qualname_override='two')
    async def two(event: Any, state: Any) -> Any:
        return event, event

    router = KVSRouter(make(retry_timeout=2))
    reducers = [await pipeline({'auth': {'safe_user_id': 'bob'}}, router=router) for pipeline in (one, two)]
    durable.stop()
    sent = {'event': 'keystroke'}
    for _ in ('an event', 'the same object once more, which is another event'):
        began = time.monotonic()
        for reducer in reducers:
            with pytest.raises(StoreUnavailable):
                await reducer(sent)
        assert 1.9 < time.monotonic() - began < 3.9  # with a deadline each it would be 4


async def test_closing_cuts_waiting_short(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.3)
    store = make(retry_timeout=60)
    await event(store, 'k', 'first')
    durable.stop()
    calls = await waiting(event(store, 'k', 1), store['a'], store.set('a', 1), store.keys())
    async with asyncio.timeout(30):
        await store.close()
        outcomes = await calls
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    assert all('closed' in str(outcome) for outcome in outcomes)
    durable.start()
    assert await state(store, 'k') == ['first']


async def test_reads_that_wait_are_bounded_by_their_keys_and_by_the_bytes_of_those(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, 'MAX_QUEUED_KEYS', 10)
    monkeypatch.setattr(reader, 'MAX_QUEUED_BYTES', 100)
    store = make()
    several = [f'k{number}' for number in range(8)]
    outcomes = await asyncio.gather(
        store.multiget(several), store.multiget(several), store['k'], store['x' * 90], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [list, Overloaded, type(None), Overloaded]
    assert 'keys, of 0.0 MB, wait to be read from Redis at' in str(outcomes[1])
    assert await store['x' * 1000] is None  # a single read may be larger


# With flush_interval


async def test_events_are_accepted_while_it_is_away_and_flushed_when_it_is_back(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer
) -> None:
    store = make(retry_timeout=60, flush_interval=0.05)
    await event(store, 'k', 'first')
    await store.flush()
    durable.stop()
    async with asyncio.timeout(30):
        for number in range(10):
            await event(store, 'k', number)
            await asyncio.sleep(0.03)  # some flushes fail in between
    flush = await waiting(store.flush())
    durable.start()
    assert await flush == [None]
    assert await make()['Internal,r,STUDENT:k'] == ['first', *range(10)]


async def test_a_write_to_a_server_that_stands_still_ends_at_its_deadline_also_with_a_flush_interval(
    make: Callable[..., PersistentRedisKVS], durable: RedisServer
) -> None:
    store = make(retry_timeout=60, flush_interval=3600)
    await store.set('a', 1)
    await event(store, 'k', 1)
    durable.pause()
    try:
        async with asyncio.timeout(30):
            store.retry_timeout = 1
            with pytest.raises(WriteUnclear):
                await store.set('a', 2)
            with pytest.raises((StoreUnavailable, WriteUnclear)):
                await store.flush()
            await event(store, 'k', 2)
    finally:
        durable.resume()
    store.retry_timeout = 60
    await store.flush()
    assert await make()['Internal,r,STUDENT:k'] == [1, 2]


# There, and not ready


@contextmanager
def loading(server: RedisServer) -> Iterator[None]:
    server.start_loading()
    yield
    server.end_loading()


@contextmanager
def configured(server: RedisServer, name: str, value: Any, before: Any) -> Iterator[None]:
    with server.client() as client:
        client.config_set(name, value)
        yield
        client.config_set(name, before)


@contextmanager
def as_a_replica(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.replicaof('127.0.0.1', 1)
        yield
        client.replicaof('NO', 'ONE')


@contextmanager
def without_a_master(server: RedisServer) -> Iterator[None]:
    """Reads are MASTERDOWN, writes READONLY."""
    with configured(server, 'replica-serve-stale-data', 'no', 'yes'), as_a_replica(server):
        yield


@contextmanager
def without_a_free_client(server: RedisServer) -> Iterator[None]:
    with server.client() as client:
        client.config_set('maxclients', 1)
        client.execute_command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        yield
        client.config_set('maxclients', 1000)


@contextmanager
def busy_with_a_script(server: RedisServer) -> Iterator[None]:
    with server.client() as client, server.client() as other:
        client.config_set('busy-reply-threshold', 1)
        pool = client.connection_pool
        connection = pool.get_connection()
        connection.send_command('EVAL', 'while true do end', 0)
        yield
        other.script_kill()
        with pytest.raises(Exception, match='killed'):
            connection.read_response()
        pool.release(connection)


@contextmanager
def with_a_disk_that_fails(server: RedisServer) -> Iterator[None]:
    """Writes are MISCONF."""
    with server.client() as client:
        client.config_set('save', '3600 1')
        client.config_set('appendonly', 'no')
        (server.folder / 'a file').touch()
        snapshot = server.folder / 'dump.rdb'
        snapshot.unlink(missing_ok=True)
        snapshot.mkdir()
        client.bgsave()
        until(lambda: client.info('persistence')['rdb_last_bgsave_status'] == 'err', 'a snapshot that fails')
        yield
        snapshot.rmdir()
        client.bgsave()
        until(lambda: client.info('persistence')['rdb_last_bgsave_status'] == 'ok', 'a snapshot')


STATES: dict[str, Callable[[RedisServer], Any]] = {
    'loading': loading,
    'NOREPLICAS': lambda server: configured(server, 'min-replicas-to-write', 1, 0),
    'OOM': lambda server: configured(server, 'maxmemory', 1, 0),
    'MASTERDOWN': without_a_master,
    'READONLY': as_a_replica,
    'max clients': without_a_free_client,
    'BUSY': busy_with_a_script,
    'MISCONF': with_a_disk_that_fails,
}
"""What a server may be while it does not serve."""


@pytest.mark.parametrize('name', STATES)
async def test_an_event_waits_for_a_server_that_is_not_ready(name: str, store: Store, durable: RedisServer) -> None:
    context = STATES[name](durable)
    await asyncio.to_thread(context.__enter__)
    calls = await waiting(event(store, 'k', 1), event(store, 'new', 1))
    await asyncio.to_thread(context.__exit__, None, None, None)
    assert await calls == [1, 1]
    assert await state(store, 'k') == ['first', 1]
    assert await state(store, 'new') == [1]


async def test_what_waiting_does_not_help_against_fails_at_once(store: Store, durable: RedisServer) -> None:
    with durable.client() as client:
        client.execute_command('ACL', 'SETUSER', 'default', '-evalsha', '-eval')
        began = time.monotonic()
        for call in (lambda: store['a'], lambda: store.set('a', 1), lambda: event(store, 'k', 1)):
            with pytest.raises(StoreUnavailable, match='no permissions'):
                await call()
        assert time.monotonic() - began < 30
        client.execute_command('ACL', 'SETUSER', 'default', '+@all')
