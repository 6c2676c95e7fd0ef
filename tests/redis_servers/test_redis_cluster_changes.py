"""Changes in a cluster: one connection to each master, and every master is followed that the cluster gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis import invalidations
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import ClusterNames, slot_of
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.testing.changes import following, nothing_left
from tests.redis_servers.test_redis_changes import followers
from tests.support.redis_nodes import SLOTS, RedisNodes, settings_of
from tests.support.watched import until


@pytest.fixture
async def store(cluster: RedisConnection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(invalidations, 'QUIET', 0.2)
    async with PersistentRedisKVS(prefix='p:', connection=cluster) as store:
        yield store


def followed(nodes: RedisNodes) -> int:
    """How many connections the nodes announce changes on."""
    total = 0
    for node in nodes.nodes:
        with node.client() as client:
            total += len(followers(client))
    return total


def key_of(slots: range) -> str:
    """A key whose Redis key is in one of some slots."""
    names = ClusterNames('p:')
    return next(key for key in map(str, range(100_000)) if slot_of(names.redis_key(key)) in slots)


async def test_the_changes_of_every_node_are_announced_on_one_connection_to_each(
    store: Store, redis_nodes: RedisNodes
) -> None:
    async with store.changes('k') as changes, store.changes() as others:
        assert followed(redis_nodes) == 3
        keys = {f'k{number}' for number in range(30)}
        for key in keys:
            await store.set(key, 1)
        assert {(await following(changes)).key for _ in keys} == keys
        await others.aclose()
    assert await nothing_left(store)
    await until(lambda: not followed(redis_nodes))


async def test_a_connection_to_one_node_that_is_cut_is_one_resync(store: Store, redis_nodes: RedisNodes) -> None:
    async with store.changes() as changes:
        for node in redis_nodes.nodes:
            with node.client() as client:
                client.execute_command('CLIENT', 'KILL', 'TYPE', 'PUBSUB')
            assert (await following(changes)).kind == 'resync'
        await store.set('k', 1)
        assert (await following(changes)).key == 'k'


async def test_a_cluster_of_which_one_node_cannot_be_followed_is_an_error_and_leaves_nothing(
    redis_nodes: RedisNodes, store: Store
) -> None:
    await store.set('k', 1)
    with redis_nodes.nodes[1].client() as client:
        client.execute_command('ACL', 'SETUSER', 'default', '-client|tracking')
        try:
            with pytest.raises(StoreUnavailable, match=r'\+client\|tracking'):
                await store.changes().__aenter__()
            assert await nothing_left(store)
            await until(lambda: not followed(redis_nodes))
        finally:
            client.execute_command('ACL', 'SETUSER', 'default', '+client|tracking')


async def test_a_slot_that_moves_is_followed(store: Store, redis_nodes: RedisNodes) -> None:
    key = key_of(range(SLOTS))
    await store.set(key, 1)
    async with store.changes() as changes:
        await asyncio.to_thread(redis_nodes.move_slot, slot_of(ClusterNames('p:').redis_key(key)))
        await store.set(key, 2)
        values = []
        while 2 not in values:
            change = await following(changes)
            assert change.key == key
            values.append(await change.value())


async def test_a_replica_that_takes_over_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidations, 'QUIET', 0.2)
    with RedisNodes(tolerated=2) as nodes:
        key = key_of(range(SLOTS // 3))  # of the first node
        connection = RedisConnection({**settings_of(nodes), 'redis_port': nodes.nodes[1].port})
        async with PersistentRedisKVS(prefix='p:', connection=connection, retry_timeout=30) as store:
            with nodes.replica_of(nodes.nodes[0]) as replica:
                async with store.changes() as changes:
                    await asyncio.to_thread(nodes.nodes[0].stop)
                    assert (await following(changes)).kind == 'resync'
                    with replica.client() as client:
                        assert len(followers(client)) == 1
                    await store.set(key, 1)
                    while (change := await following(changes)).kind == 'resync':
                        pass
                    assert (change.key, await change.value()) == (key, 1)
        await connection.close()
