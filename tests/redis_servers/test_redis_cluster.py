"""What is special to a store in a Redis Cluster: names, slots, several nodes, and the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import redis_connection
from learning_observer_kvs.errors import CrossSlot, StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.copy import copy
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import META_PREFIX, ClusterNames, slot_of
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.types import MISSING
from tests.support.checks import parse
from tests.support.redis_nodes import RedisNodes, names_on, settings_of
from tests.support.redis_server import RedisServer, until
from tests.support.watched import count

INTERNAL, EXTERNAL = 'Internal,r,STUDENT:b{o}b', 'External,r,STUDENT:b{o}b'


@pytest.fixture
async def store(cluster: RedisConnection) -> AsyncIterator[PersistentRedisKVS]:
    async with PersistentRedisKVS(prefix='p:', connection=cluster) as store:
        yield store


# Names


@pytest.mark.parametrize('student', ['bob', '{', '}', '{}', 'a{b}c', '{Internal,', '}{', 'é{😀}'])
def test_the_two_states_of_a_reducer_share_a_slot_whatever_students_write(student: str) -> None:
    names = ClusterNames('p:')
    internal, external = (
        names.redis_key(f'Internal,r,STUDENT:{student}'),
        names.redis_key(f'External,r,STUDENT:{student}'),
    )
    assert slot_of(internal) == slot_of(external)
    assert names.key(internal.encode()) == f'Internal,r,STUDENT:{student}'


def test_redis_keys_spread_over_the_slots_and_only_those_of_the_store_are_its_keys() -> None:
    names, others = ClusterNames('p:'), ClusterNames('q:')
    assert len({slot_of(names.redis_key(f'Internal,r,STUDENT:{number}')) for number in range(1000)}) > 900
    for foreign in (b'p:k', b'{0123456789abcdef}:p:k', b'k', b'\xff', others.redis_key('k').encode(), b'{', b''):
        assert names.key(foreign) is None
    assert ClusterNames('').key(names.redis_key('k').encode()) is None


async def test_the_servers_agree_on_the_slot_of_a_redis_key(store: PersistentRedisKVS, redis_nodes: RedisNodes) -> None:
    with redis_nodes.nodes[0].client() as client:
        for key in (INTERNAL, EXTERNAL, 'k', '{}', 'a{b}'):
            name = store.names.redis_key(key)
            assert client.cluster('KEYSLOT', name) == slot_of(name)


# Several keys, several nodes


async def test_a_pair_is_written_at_once_and_the_idempotency_record_is_in_its_slot(
    store: PersistentRedisKVS, redis_nodes: RedisNodes
) -> None:
    assert await worker_of(store).process(INTERNAL, EXTERNAL, count) == 1
    assert await store.commit({INTERNAL: 5, EXTERNAL: 5}, {INTERNAL: 1})
    await store.multiset({INTERNAL: 6, EXTERNAL: 6})
    [names] = [names for names in names_on(redis_nodes) if names]
    hidden = {name for name in names if META_PREFIX in name}
    assert names - hidden == {store.names.redis_key(INTERNAL), store.names.redis_key(EXTERNAL)}
    assert len(hidden) == 1
    owner = next(node for node, found in zip(redis_nodes.nodes, names_on(redis_nodes), strict=True) if found)
    with owner.client() as client:
        assert client.cluster('KEYSLOT', *hidden) == slot_of(store.names.redis_key(INTERNAL))
        assert client.pttl(*hidden) > 0
    assert sorted(await store.keys()) == [EXTERNAL, INTERNAL]


async def test_writes_over_several_slots_are_refused_before_anything_is_touched(store: PersistentRedisKVS) -> None:
    await store.set('a', 'before')
    for write in (
        store.multiset({'a': 1, 'b': 2, 'c': 3, 'd': 4}),
        store.commit({'a': 1, 'b': 2}),
        store.commit({'a': 1}, {'b': MISSING}),
        worker_of(store).process('Internal,a', 'External,b', count),
    ):
        with pytest.raises(CrossSlot, match=r'slots of the cluster at 127\.0\.0\.1:.*Write them one by one'):
            await write
    assert await store.dump() == {'a': 'before'}
    assert store.busy_keys() == 0


async def test_readers_never_see_half_of_a_pair_and_a_cancelled_write_leaves_both_or_none(
    store: PersistentRedisKVS,
) -> None:
    for number in range(30):
        write = asyncio.ensure_future(store.multiset({INTERNAL: number, EXTERNAL: number}))
        for _ in range(number % 8):
            await asyncio.sleep(0)
        reads = asyncio.gather(*(store.multiget([INTERNAL, EXTERNAL]) for _ in range(3)))
        if number % 2:
            write.cancel()
        await asyncio.wait([write])
        for internal, external in (*(await reads), await store.multiget([INTERNAL, EXTERNAL])):
            assert internal == external


async def test_reads_scans_and_clear_reach_every_node_and_only_the_stores_keys(
    store: PersistentRedisKVS, cluster: RedisConnection, redis_nodes: RedisNodes
) -> None:
    other = PersistentRedisKVS(prefix='q:', connection=cluster)
    await other.set('k1', 'of the other')
    entries = {f'k{number}': number for number in range(300)}
    await asyncio.gather(*(store.set(key, value) for key, value in entries.items()))
    assert all(len(names) > 50 for names in names_on(redis_nodes))
    assert await store.multiget([*entries, 'missing', 'k7', 'k7']) == [*entries.values(), None, 7, 7]
    assert await store.dump() == entries
    assert sorted(await store.keys('k29')) == sorted(key for key in entries if key.startswith('k29'))
    found, cursor, pages = set[str](), None, 0
    while True:
        page = await store.scan('', cursor, 10)
        found.update(page.keys)
        pages += 1
        if (cursor := page.cursor) is None:
            break
    assert found == set(entries)
    assert pages > 20
    await store.clear()
    assert await store.keys() == []
    assert await other.dump() == {'k1': 'of the other'}


async def test_a_dump_is_loaded_into_a_cluster(store: PersistentRedisKVS, tmp_path: Path) -> None:
    await asyncio.gather(*(store.set(f'k{number}', number) for number in range(200)))
    assert await store.dump(tmp_path / 'dump.json') == 200
    await store.clear()
    assert await store.load(tmp_path / 'dump.json') == 200
    assert await store['k199'] == 199


async def test_keys_have_a_ttl_in_a_cluster(cluster: RedisConnection) -> None:
    async with EphemeralRedisKVS(60, connection=cluster) as store:
        await worker_of(store).process(INTERNAL, EXTERNAL, count)
        description = await store.describe(INTERNAL)
        assert description is not None
        assert description.expires_in is not None
        assert 50 < description.expires_in <= 60


async def test_a_thousand_operations_at_once_with_the_default_limits(
    cluster: RedisConnection, redis_nodes: RedisNodes
) -> None:
    cluster.configure({'redis_host': '127.0.0.1', 'redis_port': redis_nodes.nodes[0].port, 'redis_cluster': True})
    store = PersistentRedisKVS(connection=cluster)
    for node in redis_nodes.nodes:
        with node.client() as client:
            client.config_resetstat()
    await asyncio.gather(*(store.set(f'k{number}', number) for number in range(1000)))
    assert await asyncio.gather(*(store[f'k{number}'] for number in range(1000))) == list(range(1000))
    assert None not in await asyncio.gather(*(store.describe(f'k{number}') for number in range(1000)))
    events = [
        worker_of(store).process(f'Internal,{number % 50}', f'External,{number % 50}', count) for number in range(1000)
    ]
    await asyncio.gather(*events)
    assert await store.multiget([f'Internal,{number}' for number in range(50)]) == [20] * 50
    for node in redis_nodes.nodes:
        with node.client() as client:
            assert len(client.client_list()) <= 30
            # The map of the cluster is read where it may be out of date, and not because all connections are busy.
            assert client.info('commandstats').get('cmdstat_cluster|slots', {'calls': 0})['calls'] <= 2


async def test_a_cluster_that_cannot_be_reached_is_an_error_with_a_hint(redis_server: RedisServer) -> None:
    for settings, hint in (
        ({'redis_port': redis_server.port}, 'It is not a cluster; take redis_connection.redis_cluster out'),
        ({'redis_port': 1}, 'Is it running there'),
    ):
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_cluster': True, **settings})
        store = PersistentRedisKVS(connection=connection, retry_timeout=0)
        for call in (lambda store=store: store['k'], lambda store=store: store.set('k', 1), store.keys):
            with pytest.raises(StoreUnavailable, match=hint):
                await call()
        await connection.close()


async def test_a_node_that_is_not_configured_as_a_cluster_is_an_error_with_the_setting_as_a_hint(
    redis_nodes: RedisNodes,
) -> None:
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': redis_nodes.nodes[0].port})
    with pytest.raises(StoreUnavailable, match=r'set redis_connection\.redis_cluster: true'):
        await PersistentRedisKVS(connection=connection).multiget([f'k{number}' for number in range(20)])
    await connection.close()


# The start


async def problems_of(nodes: RedisNodes, **store: Any) -> list[Problem]:
    items = {'default': {'type': 'redis', **store}}
    configuration = parse({'kvs': items, 'redis_connection': settings_of(nodes)})
    router = KVSRouter(connection=RedisConnection())
    router.configure(configuration)
    try:
        return await router.health_check()
    finally:
        await router.close()


async def test_keys_of_reducers_from_a_single_server_stop_the_start_and_others_do_not(
    redis_nodes: RedisNodes, cluster: RedisConnection
) -> None:
    async with PersistentRedisKVS(prefix='p:', connection=cluster) as store:
        await worker_of(store).process(INTERNAL, EXTERNAL, count)
    foreign = cluster.client()
    for name in ('Internal,of another prefix', 'p:cache', 'p:Internals'):
        await foreign.set(name, 1)
    assert {problem.id for problem in await problems_of(redis_nodes, prefix='p:')} == {'KVS.W007'}
    await foreign.set('p:External,r,STUDENT:bob', 1)
    [problem] = [problem for problem in await problems_of(redis_nodes, prefix='p:') if problem.id != 'KVS.W007']
    assert problem.id == 'KVS.E021'
    assert 'p:External,r,STUDENT:bob' in problem.message
    assert 'lo-kvs copy' in problem.hint


async def test_a_single_server_is_copied_into_a_cluster(redis: RedisConnection, store: PersistentRedisKVS) -> None:
    single = PersistentRedisKVS(connection=redis)
    for number in range(300):
        await worker_of(single).process(f'Internal,r,STUDENT:{number}', f'External,r,STUDENT:{number}', count)
    report = await copy(single, store)
    assert (report.copied, report.verified) == (600, True)
    assert await store.dump() == await single.dump()
    assert await worker_of(store).process('Internal,r,STUDENT:7', 'External,r,STUDENT:7', count) == 2


async def test_the_health_check_asks_each_node_of_a_cluster(redis_nodes: RedisNodes) -> None:
    redis_nodes.flush()
    with redis_nodes.nodes[2].client() as client:
        client.config_set('maxmemory-policy', 'allkeys-lru')
        found = await problems_of(redis_nodes)
        client.config_set('maxmemory-policy', 'noeviction')
    assert [problem.id for problem in found] == ['KVS.W007', 'KVS.W008']
    assert f'127.0.0.1:{redis_nodes.nodes[2].port}' in found[1].message


# Loops, and the functions of redis_connection


def clients_of(nodes: RedisNodes) -> int:
    """How many connections the nodes have, without those of other nodes and those that ask."""
    total = 0
    for node in nodes.nodes:
        with node.client() as client:
            total += sum(entry['flags'] == 'N' for entry in client.client_list()) - 1
    return total


async def test_a_client_that_takes_itself_for_closed_after_an_error_leaves_no_connection(
    redis_nodes: RedisNodes,
) -> None:
    before = clients_of(redis_nodes)
    connection = RedisConnection(settings_of(redis_nodes))
    await connection.ask(*(['GET', f'k{number}'] for number in range(20)))
    client = connection.client()
    await client.aclose()  # as redis-py does where it meets an error; the next exchange opens what it needs
    nodes = client.nodes_manager.get_nodes_by_server_type('primary')
    for node in nodes:
        await node.execute_command('PING')
    assert clients_of(redis_nodes) > before
    await connection.close()
    await asyncio.to_thread(until, lambda: clients_of(redis_nodes) <= before, 'the connections to close')


def test_many_loops_one_after_the_other_leave_no_connection(redis_nodes: RedisNodes) -> None:
    before = clients_of(redis_nodes)
    store = PersistentRedisKVS(connection=RedisConnection(settings_of(redis_nodes)))
    for number in range(5):
        asyncio.run(store.set('k', number))
        assert asyncio.run(store['k']) == number
    until(lambda: clients_of(redis_nodes) <= before, 'the connections to close')


async def test_the_functions_of_the_connection_work_in_a_cluster(
    cluster: RedisConnection, redis_nodes: RedisNodes
) -> None:
    shared = redis_connection.shared
    shared.configure(settings_of(redis_nodes))
    await redis_connection.connect()
    for number in range(10):
        assert await redis_connection.set(f'k{number}', str(number), expiry=60)
    assert await redis_connection.get('k3') == b'3'
    assert await redis_connection.mget(['k3', 'missing', 'k4']) == [b'3', None, b'4']
    assert sorted(await redis_connection.keys()) == [f'k{number}' for number in range(10)]
    assert await redis_connection.delete('k3') == 1
    await shared.close()
