"""The connection to a Redis: the errors of one that fails, connections of stores, event loops and processes."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import traceback
from typing import Any

import fakeredis
import pytest
from redis.asyncio import RedisCluster

from learning_observer_kvs import redis_connection
from learning_observer_kvs.errors import InvalidKey, InvalidValue, StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.options import address
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_guarded import PASSWORD
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer, free_port, until

LOCAL = {'redis_host': '127.0.0.1'}


# An error has a hint


async def failure(settings: dict[str, Any]) -> str:
    """The message of a store that cannot be reached."""
    connection = RedisConnection(settings)
    try:
        with pytest.raises(StoreUnavailable) as error:
            await PersistentRedisKVS(connection=connection, retry_timeout=0)['k']
        with pytest.raises(StoreUnavailable):
            await PersistentRedisKVS(connection=connection, retry_timeout=0).set('k', 1)
    finally:
        await connection.close()
    return str(error.value)


async def test_a_port_without_a_server_is_an_error_at_once_with_the_address_and_a_hint() -> None:
    port, loop = free_port(), asyncio.get_running_loop()
    began = loop.time()
    text = await failure({**LOCAL, 'redis_port': port})
    assert loop.time() - began < 10
    assert f'Redis at 127.0.0.1:{port} cannot be used' in text
    assert 'Is it running there? See redis_connection.redis_host' in text


LOGINS: list[dict[str, Any]] = [
    {'redis_password': PASSWORD},
    {'redis_username': 'class', 'redis_password': 'for class', 'redis_db': 2},
    {'redis_url': 'redis://class:for%20class@127.0.0.1:{port}/2'},
]


@pytest.mark.parametrize('login', LOGINS, ids=['password', 'user and database', 'url'])
async def test_a_guarded_server_accepts(guarded: RedisServer, login: dict[str, Any]) -> None:
    settings = {**LOCAL, 'redis_port': guarded.port, **login}
    if 'redis_url' in login:
        settings = {'redis_url': login['redis_url'].format(port=guarded.port)}
    connection = RedisConnection(settings)
    [info] = await connection.ask(['CLIENT', 'INFO'])
    assert f'db={2 if login is not LOGINS[0] else 0} '.encode() in info
    assert f'user={"class" if login is not LOGINS[0] else "default"} '.encode() in info
    await connection.close()


async def test_a_user_with_no_more_rights_than_documented_can_do_everything(guarded: RedisServer) -> None:
    settings = {
        **LOCAL,
        'redis_port': guarded.port,
        'redis_username': 'limited',
        'redis_password': 'less',
        'redis_db': 8,
    }
    connection = RedisConnection(settings)
    async with PersistentRedisKVS(prefix='p:', connection=connection) as store:
        await store.multiset({'a': 1, 'b': 2})
        assert await store.update('a', lambda value: value + 1) == 2
        assert await store.dump() == {'a': 2, 'b': 2}
        assert await store.describe('a') is not None
        assert await store.remove('b')
        await store.clear()
        assert [problem.id for problem in await store.health_check()] == []
    await connection.close()


@pytest.mark.parametrize('secret', [None, 'geheim'], ids=['right password', 'wrong password'])
async def test_no_secret_is_in_errors_representations_or_logs_at_any_level(
    secret: str | None, guarded: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    url = f'redis://class:{secret or "for%20class"}@127.0.0.1:{guarded.port}/2'
    found = read_settings(
        {
            'kvs': {'default': {'type': 'redis'}, 'cache': {'type': 'redis', 'prefix': 'c:', 'redis_url': url}},
            'redis_connection': {**LOCAL, 'redis_port': guarded.port, 'redis_password': secret or PASSWORD},
        }
    )
    sentinels = {'redis_sentinels': ['h:1'], 'redis_service_name': 's', 'redis_sentinel_password': 'geheim'}
    texts = [repr(found), str(found), repr(RedisConnection(sentinels).client()), address(sentinels)]
    async with KVSRouter.from_settings(found) as router:
        texts += map(str, await router.health_check())
        for store in (router(), router.cache()):
            try:
                await store.set('k', 1)
            except StoreUnavailable as error:
                texts += traceback.format_exception(error)
            assert isinstance(store, PersistentRedisKVS)
            connection = store.connection
            client = connection.client()
            texts += map(repr, (store, connection, client, client.connection_pool, connection._clients.here()))
            texts += [store.location(), connection.address()]
        texts += map(repr, (router, asyncio.all_tasks()))
    for text in (*texts, caplog.text):
        for secret_text in ('geheim', PASSWORD, 'for%20class', 'for class'):
            assert secret_text not in text
    assert any('cannot be used' in text for text in texts) is (secret is not None)


async def test_a_certificate_for_another_host_is_refused_unless_the_settings_allow_it(
    tls_settings: dict[str, Any],
) -> None:
    tls_settings['redis_host'] = 'localhost'
    assert 'Connect to the host that its certificate is for' in await failure(tls_settings)
    connection = RedisConnection({**tls_settings, 'redis_ssl_check_hostname': False})
    assert await connection.ask(['PING']) == [b'PONG']
    await connection.close()


# Connections of stores


async def test_a_store_with_redis_options_has_a_separate_connection(
    redis_server: RedisServer, guarded: RedisServer
) -> None:
    shared = {**LOCAL, 'redis_port': guarded.port, 'redis_password': PASSWORD}
    items = {
        'default': {'type': 'redis', 'prefix': 'own:'},
        'cache': {'type': 'redis_ephemeral', 'expiry': 60, 'prefix': 'own:', 'redis_db': 7},
        'other': {'type': 'redis', 'prefix': 'own:', 'redis_port': redis_server.port, 'redis_password': None},
    }
    async with KVSRouter.from_settings({'kvs': items, 'redis_connection': shared}) as router:
        stores = [router(), router.cache(), router.other()]
        for number, store in enumerate(stores):
            await store.set('k', number)
        assert [await store['k'] for store in stores] == [0, 1, 2]
        for store in stores:
            await store.clear()
        assert router.other().location() == f"Redis at 127.0.0.1:{redis_server.port}, prefix 'own:'"


async def test_the_shared_connection_is_filled_in_place_and_used_by_stores_made_before(
    redis_server: RedisServer,
) -> None:
    store, before = PersistentRedisKVS(prefix='shared:'), redis_connection.shared
    redis_connection.shared.configure({**LOCAL, 'redis_port': redis_server.port})
    await store.set('k', 1)
    assert await redis_connection.get('shared:k') == b'1'
    redis_connection.shared.configure({**LOCAL, 'redis_port': redis_server.port, 'redis_db': 9})
    assert await redis_connection.get('shared:k') is None
    await store.set('k', 2)
    assert await redis_connection.get('shared:k') == b'2'
    redis_connection.shared.configure({**LOCAL, 'redis_port': redis_server.port})
    assert await redis_connection.get('shared:k') == b'1'
    assert redis_connection.shared is before
    await redis_connection.shared.close()


async def test_keys_and_values_that_are_not_unicode_are_rejected_before_anything_is_sent() -> None:
    redis_connection.shared.configure({**LOCAL, 'redis_port': 1})
    bad = 'a\ud800'
    for call in (
        lambda: redis_connection.get(bad),
        lambda: redis_connection.mget(['k', bad]),
        lambda: redis_connection.set(bad, 'x'),
        lambda: redis_connection.delete(bad),
    ):
        with pytest.raises(InvalidKey, match='not valid Unicode at character 1'):
            await call()
    with pytest.raises(InvalidValue, match=r"value for 'k' is not valid Unicode at character 1"):
        await redis_connection.set('k', bad)


@pytest.mark.parametrize('cursor', ['', 'x', '-1', '1 ', '9' * 21, '١'])
async def test_what_is_not_a_cursor_is_rejected_before_anything_is_sent(cursor: str) -> None:
    async with PersistentRedisKVS(connection=RedisConnection({**LOCAL, 'redis_port': 1})) as store:
        with pytest.raises(InvalidKey, match='is not the cursor of a page'):
            await store.scan('', cursor)


async def test_a_client_that_was_handed_in_is_used_and_never_closed() -> None:
    async with fakeredis.FakeAsyncRedis(host='fake', port=1) as client:
        connection = RedisConnection()
        connection.use(client)
        async with PersistentRedisKVS(connection=connection) as store:
            await store.set('k', 1)
            assert store.location() == 'Redis at fake:1'
        await connection.close()
        assert await client.get('k') == b'1'


async def test_whether_it_is_a_cluster_is_known_from_a_client_that_was_handed_in(redis_nodes: RedisNodes) -> None:
    connection = RedisConnection()
    async with RedisCluster(host='127.0.0.1', port=redis_nodes.nodes[0].port) as cluster:
        connection.use(cluster)
        assert connection.clustered is True
    async with fakeredis.FakeAsyncRedis() as client:
        connection.use(client)
        assert connection.clustered is False


# Exchanges on one connection


WAIT = ('BLPOP', 'an empty list', 0)
"""A command that is not answered."""


@pytest.mark.parametrize(('by_settings', 'of_the_exchange'), [(0.05, None), (20, 0.05)])
async def test_an_exchange_without_an_answer_ends_in_time(
    by_settings: float, of_the_exchange: float | None, redis_server: RedisServer
) -> None:
    connection = RedisConnection({**LOCAL, 'redis_port': redis_server.port, 'redis_timeout': by_settings})
    pinned = PinnedConnection(connection)
    async with asyncio.timeout(12):
        [reply] = await pinned.exchange([WAIT], of_the_exchange)
    assert isinstance(reply, ReplyLost)
    await pinned.close()
    await connection.close()


async def test_what_follows_a_lost_reply_does_not_wait_behind_it(redis: RedisConnection) -> None:
    pinned = PinnedConnection(redis)
    replies = await pinned.exchange([('ECHO', 'first'), WAIT], 0.05)
    assert [type(reply) for reply in replies] == [bytes, ReplyLost]
    assert await pinned.exchange([('ECHO', 'second')]) == [b'second']
    await pinned.close()


# Loops and processes


def clients_of(server: RedisServer) -> int:
    """How many connections a server has, without the one that asks."""
    with server.client() as client:
        return len(client.client_list()) - 1


def test_many_loops_one_after_the_other_use_a_store_and_leave_no_connection(redis_server: RedisServer) -> None:
    connection = RedisConnection({**LOCAL, 'redis_port': redis_server.port})
    store = PersistentRedisKVS(prefix='loops:', connection=connection)
    before = clients_of(redis_server)
    for number in range(20):
        assert asyncio.run(store['k']) == (number - 1 if number else None)
        asyncio.run(store.set('k', number))
    assert asyncio.run(store.remove('k'))
    until(lambda: clients_of(redis_server) <= before, 'the connections to close')


async def test_a_forked_child_opens_other_connections_than_its_parent(
    redis: RedisConnection, redis_server: RedisServer
) -> None:
    store = PersistentRedisKVS(connection=redis)
    await store.set('k', 'of the parent')
    assert await store['k'] == 'of the parent'
    with redis_server.client() as client:
        before = {entry['id'] for entry in client.client_list()} - {str(client.client_id())}

    def child() -> None:
        async def work() -> None:
            assert await store['k'] == 'of the parent'
            gc.collect()  # what the child found of its parent's must not be closed with it
            await store.set('child', os.getpid())
            await store.close()
            await redis.close()

        asyncio.run(work())

    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    await asyncio.to_thread(process.join)
    assert process.exitcode == 0
    assert await store.multiget(['k', 'child']) == ['of the parent', process.pid]
    await store.set('k', 'of the parent again')
    with redis_server.client() as client:
        assert before <= {entry['id'] for entry in client.client_list()}


async def test_closing_leaves_no_connection_and_the_store_works_again(redis_server: RedisServer) -> None:
    before = clients_of(redis_server)
    connection = RedisConnection({**LOCAL, 'redis_port': redis_server.port})
    store = PersistentRedisKVS(connection=connection)
    await asyncio.gather(*(store.set(f'k{number}', number) for number in range(100)))
    assert clients_of(redis_server) > before
    for _ in range(2):
        await store.close()
        await connection.close()
        await asyncio.to_thread(until, lambda: clients_of(redis_server) <= before, 'the connections to close')
    assert await store['k7'] == 7
    await connection.close()
