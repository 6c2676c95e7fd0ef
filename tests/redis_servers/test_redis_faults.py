"""Faults of the connection to Redis: no write is lost or applied twice, and each reply reaches its caller."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.proxy import Fault, Proxy
from tests.support.redis_server import until

APPLIED = [
    Fault.DROP_REPLY,
    Fault.CUT_REPLY,
    Fault.HALF_CLOSE,
    Fault.RESET,
    Fault.GARBAGE,
    Fault.OTHER_REPLY,
]
"""Faults after which the server has carried the command out."""


@pytest.fixture
async def store(direct: Redis, proxy: Proxy) -> AsyncIterator[PersistentRedisKVS]:
    """A store whose every command goes through the proxy; the server knows its scripts."""
    connection = proxy.connection()
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
    'fold': lambda store: worker_of(store).process('k', 'l', mark),
    'remove': lambda store: store.remove('k'),
}
"""Each method that writes the key ``k``, which holds 'old'."""


def is_write(name: str) -> Callable[[bytes], bool]:
    """Whether a command is the one that this method sends."""
    if name == 'remove':
        return lambda command: b'\r\nk\r\n' in command
    return lambda command: b'"mark"' in command


@pytest.mark.parametrize('fault', [Fault.DROP_REQUEST, *APPLIED], ids=lambda fault: fault.name)
@pytest.mark.parametrize('name', WRITES)
async def test_a_write_whose_reply_is_lost_is_applied_once_and_answered(
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
async def test_a_late_copy_of_a_write_changes_nothing_when_it_arrives(
    name: str, store: Store, proxy: Proxy, direct: Redis
) -> None:
    proxy.pause(new_too=False)
    await WRITES[name](store)  # held up; after its time it is sent again, on a new connection
    await store.set('k', 'old')
    before = script_calls(direct)
    proxy.resume()
    await asyncio.to_thread(until, lambda: script_calls(direct) > before, 'the old copy to arrive')
    assert await store['k'] == 'old'


def script_calls(direct: Redis) -> int:
    """How many scripts have run on the server."""
    found: dict[str, Any] = direct.info('commandstats')
    return sum(int(found.get(f'cmdstat_{name}', {}).get('calls', 0)) for name in ('eval', 'evalsha'))


@pytest.mark.parametrize('name', WRITES)
async def test_a_write_without_a_reply_is_unclear_after_the_retry_timeout_and_the_store_works_again(
    name: str, store: Store, proxy: Proxy
) -> None:
    proxy.inject(Fault.DROP_REPLY, is_write(name), pause=True)
    with (
        limited_to(0.2),
        pytest.raises(WriteUnclear, match=f'127.0.0.1:{proxy.port}.*may or may not have been applied'),
    ):
        await WRITES[name](store)
    proxy.resume()
    await store.set('k', 'after')
    assert await store['k'] == 'after'
    assert store.busy_keys() == 0


@pytest.mark.parametrize('name', WRITES)
async def test_a_write_whose_reply_is_lost_is_unclear_if_the_server_then_refuses_it(
    name: str, store: Store, proxy: Proxy, direct: Redis
) -> None:
    happened = proxy.inject(Fault.DROP_REPLY, is_write(name), pause=True)
    write = asyncio.ensure_future(WRITES[name](store))
    await happened.wait()
    direct.config_set('requirepass', 'new')
    try:
        proxy.resume()
        with pytest.raises(WriteUnclear, match=r'refused the same write.*may or may not have been applied'):
            await write
    finally:
        direct.config_set('requirepass', '')
    assert direct.get('k') == (None if name == 'remove' else b'"mark"')


async def test_a_read_without_a_reply_is_an_error_at_its_deadline(store: Store, proxy: Proxy) -> None:
    proxy.pause()
    began = asyncio.get_running_loop().time()
    with limited_to(1):
        outcomes = await asyncio.gather(
            store['k'], store.multiget(['k']), store.keys(), store.describe('k'), return_exceptions=True
        )
    assert asyncio.get_running_loop().time() - began < 14  # it waits for 15 where it says nothing
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    proxy.resume()
    assert await store['k'] == 'old'


@pytest.mark.parametrize('fault', [Fault.DROP_REQUEST, *APPLIED], ids=lambda fault: fault.name)
async def test_a_read_whose_reply_is_lost_is_sent_again(fault: Fault, store: Store, proxy: Proxy) -> None:
    for read in (lambda: store['k'], lambda: store.keys(), lambda: store.describe('k')):
        happened = proxy.inject(fault, lambda command: True)
        assert await read() in ('old', ['k'], (5, None, None))
        assert happened.is_set()


async def test_slow_replies_reach_their_callers(store: Store, proxy: Proxy) -> None:
    entries = {f'k{number}': number for number in range(200)}
    await store.multiset(entries)
    held = proxy.inject(Fault.HOLD_REPLY, b'k7\r\n')
    reads = [asyncio.ensure_future(store[key]) for key in entries]
    await held.wait()
    others = asyncio.gather(*(store[key] for key in list(entries)[100:]))
    proxy.release()
    assert await asyncio.gather(*reads) == list(entries.values())
    assert await others == list(range(100, 200))


async def test_under_many_faults_each_read_gets_its_reply_and_each_event_is_applied_once(
    store: Store, proxy: Proxy, direct: Redis
) -> None:
    chance = random.Random(7)
    rejected: list[int] = []
    for number in range(50):
        await store.set(f'k{number}', number)

    async def event(student: int, number: int) -> Any:
        async def step(state: Any) -> Any:
            return [*(state or []), number], number

        while True:
            try:
                return await worker_of(store).process(f'Internal,{student}', f'External,{student}', step)
            except StoreUnavailable:  # the reading before it failed twice; nothing was written
                rejected.append(student)

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
    assert len(rejected) < 100
    for student in range(20):
        assert await store[f'Internal,{student}'] == list(range(40))
    assert direct.info('clients')['connected_clients'] <= 21


async def test_a_connection_whose_setup_timed_out_is_not_used(proxy: Proxy, direct: Redis) -> None:
    settings = {'redis_host': '127.0.0.1', 'redis_port': proxy.port, 'redis_db': 6}
    connection = RedisConnection({**settings, 'redis_timeout': 0.3, 'redis_connect_timeout': 0.2})
    async with PersistentRedisKVS(connection=connection) as store:
        held = proxy.inject(Fault.HOLD_REPLY, b'SELECT')
        while not held.is_set():  # the set-up may time out before it comes to this
            with limited_to(0), pytest.raises(StoreUnavailable, match='accepts connections, but did not answer'):
                await store['k']
        await store.set('k', 1)
        proxy.release()
        assert await store['k'] == 1
    await connection.close()
    assert direct.dbsize() == 0


async def test_closing_ends_though_a_flush_gets_no_reply(
    proxy: Proxy, direct: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.2)
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': proxy.port, 'redis_timeout': 0.2})
    store = PersistentRedisKVS(connection=connection, flush_interval=3600)
    await worker_of(store).process('k', 'l', mark)
    happened = proxy.inject(Fault.DROP_REPLY, b'"mark"', pause=True)
    flush = asyncio.ensure_future(store.flush())
    await happened.wait()
    async with asyncio.timeout(12):
        await store.close()
        with pytest.raises(WriteUnclear, match='closed'):
            await flush
    assert '1 events not saved' in caplog.text
    proxy.resume()
    await connection.close()


async def test_writes_submitted_while_the_store_closes_are_applied(store: Store, proxy: Proxy) -> None:
    held = proxy.inject(Fault.HOLD_REPLY, b'"first"')
    writes = [asyncio.ensure_future(store.set('a', 'first'))]
    await held.wait()
    writes += [asyncio.ensure_future(store.set(f'b{number}', 'waits')) for number in range(300)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    writes += [asyncio.ensure_future(store.set(f'c{number}', 'comes later')) for number in range(300)]
    await asyncio.sleep(0)
    proxy.release()
    await asyncio.gather(closing, *writes)
    assert len(await store.keys()) == 602
