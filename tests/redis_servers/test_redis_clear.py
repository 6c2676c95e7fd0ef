"""``clear()`` of a store that shares its database with other programs or stores is refused, unless it is forced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from learning_observer_kvs.errors import ForeignKeys
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.redis_servers.test_live_checks import at
from tests.support.checks import parse
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer

OTHERS: dict[str, tuple[Callable[[Redis], Any], str]] = {
    'a name that is not text': (lambda client: client.set(b'\xff\xfe', 'x'), 'a key that is not text'),
    'a list': (lambda client: client.lpush('celery', 'x'), "'celery', which holds a list, not a string"),
    'a hash': (lambda client: client.hset('user', 'a', 'b'), "'user', which holds a hash, not a string"),
    'a key of another configured store': (
        lambda client: client.set('c:k', '1'),
        "'c:k', a key of a store with the pre",
    ),
    'a record of a store in another configuration': (
        lambda client: client.set('z:\x00lo-kvs:writer:0', '{}'),
        "a key of a store with the prefix 'z:'",
    ),
}


def settings_of(server: RedisServer, **default: Any) -> dict[str, Any]:
    stores = {
        'default': {'type': 'redis', **default},
        'cache': {'type': 'redis_ephemeral', 'expiry': 60, 'prefix': 'c:'},
        'elsewhere': {'type': 'redis', 'prefix': 'e:', 'redis_db': 7},
    }
    return {'kvs': stores, **at(server.port)}


@pytest.mark.parametrize(('put', 'message'), OTHERS.values(), ids=OTHERS.keys())
async def test_clearing_a_store_without_a_prefix_is_refused_where_others_have_keys_unless_it_is_forced(
    put: Callable[[Redis], Any], message: str, direct: Redis, redis_server: RedisServer
) -> None:
    async with KVSRouter.from_settings(settings_of(redis_server)) as router:
        store = router()
        await store.multiset({f'k{number}': number for number in range(1500)})
        put(direct)
        size = direct.dbsize()
        with pytest.raises(ForeignKeys, match=message) as raised:
            await store.clear()
        assert 'was not cleared' in str(raised.value)
        assert 'force=True' in str(raised.value)
        assert direct.dbsize() == size
        await store.clear(force=True)
        assert await store.keys() == []


async def test_clearing_a_store_without_a_prefix_is_not_refused_where_every_key_is_its_own(
    direct: Redis, redis_server: RedisServer
) -> None:
    async with KVSRouter.from_settings(settings_of(redis_server)) as router:
        await router().multiset({'k': 1, 'e:k': 2, 'Internal,r': 3})  # ``e:`` is the prefix of a store elsewhere
        await router.elsewhere().set('k', 1)
        await router().clear()
        assert await router().keys() == []
        assert await router.elsewhere().keys() == ['k']


async def test_clearing_a_store_whose_prefix_begins_that_of_another_is_refused_where_that_has_keys(
    direct: Redis, redis_server: RedisServer
) -> None:
    async with KVSRouter.from_settings(settings_of(redis_server, prefix='c')) as router:
        await router().set('k', 1)
        await router().clear()
        await router().set('k', 1)
        await router.cache().set('k', 1)
        direct.lpush('celery', 'x')  # below the prefix: whatever is there is its own
        with pytest.raises(ForeignKeys, match=r"'c:k', a key of a store with the prefix 'c:'"):
            await router().clear()
        await router.cache().clear()
        await router().clear()
        assert not direct.exists('celery')


async def test_a_store_that_a_new_configuration_adds_counts_and_one_that_it_removes_does_not(
    direct: Redis, redis_server: RedisServer
) -> None:
    settings = settings_of(redis_server)
    async with KVSRouter.from_settings(settings) as router:
        store = router()
        direct.set('c:k', '1')
        del settings['kvs']['cache']
        router.configure(parse(settings))
        assert router() is store
        await store.clear()
        direct.set('n:k', '1')
        settings['kvs']['new'] = {'type': 'redis', 'prefix': 'n:'}
        router.configure(parse(settings))
        with pytest.raises(ForeignKeys):
            await store.clear()


async def test_in_a_cluster_clear_removes_only_what_a_store_wrote_and_is_not_refused(redis_nodes: RedisNodes) -> None:
    redis_nodes.flush()
    connection = RedisConnection(
        {'redis_host': '127.0.0.1', 'redis_port': redis_nodes.nodes[0].port, 'redis_cluster': True}
    )
    async with (
        PersistentRedisKVS(connection=connection) as store,
        PersistentRedisKVS(prefix='c:', connection=connection) as other,
    ):
        await store.set('k', 1)
        await other.set('k', 1)
        await connection.client().lpush('celery', 'x')
        await store.clear()
        assert await store.keys() == []
        assert await other.keys() == ['k']
        assert await connection.client().exists('celery')
    await connection.close()


@pytest.mark.parametrize(('put', 'message'), OTHERS.values(), ids=OTHERS.keys())
async def test_the_live_check_warns_of_a_store_without_a_prefix_in_a_database_with_keys_of_others(
    put: Callable[[Redis], Any], message: str, direct: Redis, redis_server: RedisServer
) -> None:
    settings = parse(settings_of(redis_server))
    async with KVSRouter(connection=RedisConnection()) as router:
        router.configure(settings)
        await router().set('k', 1)
        assert 'KVS.W012' not in {problem.id for problem in await router.health_check()}
        put(direct)
        [problem] = [problem for problem in await router.health_check() if problem.id == 'KVS.W012']
    assert problem.subject == 'kvs.default'
    assert message in problem.message
