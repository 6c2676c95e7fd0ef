"""Every way to a Redis, the settings that say it, and the clients that come of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import traceback
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from learning_observer_kvs import redis_connection
from learning_observer_kvs.errors import StartupCheck, StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.options import OPTIONS, address, overriding
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.checks import check
from tests.support.redis_guarded import PASSWORD
from tests.support.redis_sentinels import Sentinels
from tests.support.redis_server import RedisServer, free_port, until

LOCAL = {'redis_host': '127.0.0.1'}


# What is wrong is told with its cure


async def failure(settings: dict[str, Any]) -> str:
    """What a store says that cannot be reached."""
    connection = RedisConnection(settings)
    try:
        with pytest.raises(StoreUnavailable) as error:
            await PersistentRedisKVS(connection=connection)['k']
        with pytest.raises(StoreUnavailable):
            await PersistentRedisKVS(connection=connection).set('k', 1)
    finally:
        await connection.close()
    return str(error.value)


async def test_nobody_there_is_told_at_once_with_the_address_and_the_cure() -> None:
    port, loop = free_port(), asyncio.get_running_loop()
    began = loop.time()
    text = await failure({**LOCAL, 'redis_port': port})
    assert loop.time() - began < 1
    assert f'Redis at 127.0.0.1:{port} cannot be used' in text
    assert 'Is it running there? See redis_connection.redis_host' in text


WAYS_IN: list[dict[str, Any]] = [
    {'redis_password': PASSWORD},
    {'redis_username': 'class', 'redis_password': 'for class', 'redis_db': 2},
    {'redis_url': 'redis://class:for%20class@127.0.0.1:{port}/2'},
]


@pytest.mark.parametrize('way', WAYS_IN, ids=['password', 'user and database', 'url'])
async def test_a_guarded_server_opens_to(guarded: RedisServer, way: dict[str, Any]) -> None:
    settings = {**LOCAL, 'redis_port': guarded.port, **way}
    if 'redis_url' in way:
        settings = {'redis_url': way['redis_url'].format(port=guarded.port)}
    connection = RedisConnection(settings)
    [info] = await connection.ask(['CLIENT', 'INFO'])
    assert f'db={2 if way is not WAYS_IN[0] else 0} '.encode() in info
    assert f'user={"class" if way is not WAYS_IN[0] else "default"} '.encode() in info
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
        assert [finding.id for finding in await store.health_check()] == []
    await connection.close()


@pytest.mark.parametrize('given', [{}, {'redis_password': 'secret-but-wrong'}], ids=['none', 'wrong'])
async def test_a_missing_or_wrong_password_is_told_and_never_printed(guarded: RedisServer, given: Any) -> None:
    text = await failure({**LOCAL, 'redis_port': guarded.port, **given})
    assert 'Set redis_connection.redis_password' in text
    assert 'secret' not in text


@pytest.mark.parametrize('secret', [None, 'geheim'], ids=['let in', 'turned away'])
async def test_no_secret_is_in_what_is_raised_shown_or_logged_whatever_is_logged(
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
    said = [repr(found), str(found), repr(RedisConnection(sentinels).client()), address(sentinels)]
    async with KVSRouter.from_settings(found) as router:
        said += map(str, await router.health_check())
        for store in (router(), router.cache()):
            try:
                await store.set('k', 1)
            except StoreUnavailable as error:
                said += traceback.format_exception(error)
            assert isinstance(store, PersistentRedisKVS)
            connection = store.connection
            client = connection.client()
            said += map(repr, (store, connection, client, client.connection_pool, connection._clients.here()))
            said += [store.location(), connection.address()]
        said += map(repr, (router, asyncio.all_tasks()))
    for text in (*said, caplog.text):
        for hidden in ('geheim', PASSWORD, 'for%20class', 'for class'):
            assert hidden not in text
    assert any('cannot be used' in text for text in said) is (secret is not None)


async def test_a_certificate_of_an_unknown_authority_is_refused_with_the_cure(tls_settings: dict[str, Any]) -> None:
    del tls_settings['redis_ssl_ca_certs']
    assert 'redis_connection.redis_ssl_ca_certs' in await failure(tls_settings)


async def test_a_certificate_for_another_host_is_refused_unless_the_settings_allow_it(
    tls_settings: dict[str, Any],
) -> None:
    tls_settings['redis_host'] = 'localhost'
    assert 'connect to the host the certificate is for' in await failure(tls_settings)
    connection = RedisConnection({**tls_settings, 'redis_ssl_check_hostname': False})
    assert await connection.ask(['PING']) == [b'PONG']
    await connection.close()


async def test_tls_to_a_server_without_it_is_told(redis_server: RedisServer) -> None:
    text = await failure({**LOCAL, 'redis_port': redis_server.port, 'redis_ssl': True, 'redis_timeout': 1})
    assert f'127.0.0.1:{redis_server.port} cannot be used' in text


async def test_a_database_the_server_has_not_is_told(redis_server: RedisServer) -> None:
    assert 'redis_connection.redis_db' in await failure({**LOCAL, 'redis_port': redis_server.port, 'redis_db': 999})


async def test_a_service_the_sentinels_do_not_know_is_told(sentinels: Sentinels) -> None:
    text = await failure({'redis_sentinels': sentinels.addresses(), 'redis_service_name': 'nobody'})
    assert 'nobody (Sentinels 127.0.0.1:' in text
    assert 'redis_service_name' in text


async def test_a_replica_named_as_the_server_is_told(sentinels: Sentinels) -> None:
    connection = RedisConnection({**LOCAL, 'redis_port': sentinels.replica.port})
    with pytest.raises(StoreUnavailable, match='This is a replica; name the master'):
        await PersistentRedisKVS(connection=connection).set('k', 1)
    await connection.close()


# Settings


def problems(redis: dict[str, Any] | None = None, **store: Any) -> list[str]:
    settings: dict[str, Any] = {'kvs': {'default': {'type': 'redis', **store}}}
    if redis is not None:
        settings['redis_connection'] = redis
    return [str(problem) for problem in check(settings)]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({'redis_url': 'redis://h', 'redis_host': 'h'}, 'redis_host is given besides redis_url'),
    ({'redis_socket': '/s', 'redis_sentinels': ['h:1'], 'redis_service_name': 'x'}, 'is given besides redis_socket'),
    ({'redis_sentinels': ['h:1']}, 'Add redis_service_name'),
    ({'redis_service_name': 'x'}, 'Add redis_sentinels'),
    ({'redis_sentinels': ['h'], 'redis_service_name': 'x'}, 'each as host:port'),
    ({'redis_sentinels': 3, 'redis_service_name': 'x'}, 'each as host:port'),
    ({'redis_cluster': True, 'redis_db': 2}, 'no databases but 0'),
    ({'redis_cluster': True, 'redis_socket': '/s'}, 'redis_cluster cannot be combined with redis_socket'),
    ({'redis_socket': '/s', 'redis_ssl': True}, 'redis_ssl cannot be combined with redis_socket'),
    ({'redis_ssl_ca_certs': '/c'}, 'Add redis_ssl: true'),
    ({'redis_ssl': True, 'redis_ssl_keyfile': '/k'}, 'Add redis_ssl_certfile'),
    ({'redis_url': 'http://h'}, 'does not begin with redis://'),
    ({'redis_url': 'redis://[::1'}, 'is not a URL'),
    ({'redis_url': 'redis://h:0'}, 'port that is not a number'),
    ({'redis_url': 'redis://h:99999'}, 'port that is not a number'),
    ({'redis_url': 'redis://h/one'}, 'database that is not a number'),
    ({'redis_url': 'unix://'}, 'does not name a socket'),
    ({'redis_url': 'redis://h?decode_responses=true'}, "the option 'decode_responses'"),
    ({'redis_url': 'redis://h', 'redis_ssl': True}, 'Write rediss://'),
    ({'redis_timeout': 0}, 'positive number of seconds'),
]


@pytest.mark.parametrize(('block', 'fault'), WRONG, ids=[fault for _, fault in WRONG])
def test_settings_that_cannot_hold_together_are_errors_wherever_they_stand(block: Any, fault: str) -> None:
    for found in (problems(block), problems({}, **block)):
        assert len(found) == 1, found
        assert fault in found[0]


def test_a_secret_in_a_url_is_in_no_message() -> None:
    url = 'http://user:geheim@h:6379'
    assert 'geheim' not in ''.join(problems({'redis_url': url}))
    assert address({'redis_url': url}) == 'http://h:6379'


def test_what_a_pmss_file_can_write_is_understood() -> None:
    written = {'redis_sentinels': 'a:1, [::1]:2', 'redis_service_name': 'x', 'redis_url': 'None', 'redis_socket': ''}
    assert problems(written) == []
    assert address(written) == 'x (Sentinels a:1, ::1:2)'


def test_a_store_that_names_another_place_takes_nothing_of_the_shared_place() -> None:
    shared = {'redis_url': 'redis://a/1', 'redis_password': 'p', 'redis_timeout': 1}
    assert overriding(shared, {'redis_port': 7}) == {'redis_port': 7, 'redis_password': 'p', 'redis_timeout': 1}
    assert overriding(shared, {'redis_timeout': 2}) == {**shared, 'redis_timeout': 2}
    assert overriding({'redis_host': 'a', 'redis_port': 1}, {'redis_port': 2}) == {'redis_host': 'a', 'redis_port': 2}


def test_a_url_of_a_store_that_says_who_takes_no_user_or_password_of_the_shared_settings() -> None:
    shared = {'redis_username': 'u', 'redis_password': 'p', 'redis_timeout': 1}
    for url in ('redis://:q@b', 'redis://v@b/1', 'redis://v:q@b'):
        assert overriding(shared, {'redis_url': url}) == {'redis_url': url, 'redis_timeout': 1}
    for url in ('redis://b/1', 'unix:///tmp/a@b'):
        assert overriding(shared, {'redis_url': url}) == {**shared, 'redis_url': url}
    own = {'redis_url': 'redis://v@b', 'redis_password': 'q'}
    assert overriding(shared, own) == {**own, 'redis_timeout': 1}


def test_every_setting_says_what_it_is() -> None:
    for option in OPTIONS:
        assert option.doc.endswith('.'), option.name


# Connections of stores


async def test_a_store_with_settings_of_its_own_has_a_connection_of_its_own(
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


def test_a_redis_word_in_a_store_of_another_type_is_a_warning() -> None:
    [found] = problems({}, type='stub', redis_port=1)
    assert 'KVS.W001' in found


def test_a_wrong_word_in_a_store_names_its_place(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs:\n  default:\n    type: redis\n    redis_port: 0\n')
    with pytest.raises(StartupCheck, match=r'creds\.yaml:4  kvs\.default\.redis_port is 0'):
        KVSRouter.from_settings(tmp_path / 'creds.yaml')


def test_two_stores_on_two_servers_do_not_share_their_keys() -> None:
    def warned(**other: Any) -> bool:
        items = {'default': {'type': 'redis'}, 'other': {'type': 'redis', **other}}
        found = check({'kvs': items})
        return any(problem.id == 'KVS.W003' for problem in found)

    assert warned()
    assert warned(redis_host='localhost')
    assert not warned(redis_host='elsewhere')
    assert not warned(redis_db=1)


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


async def test_a_client_that_was_handed_in_is_used_and_never_closed() -> None:
    async with fakeredis.FakeAsyncRedis(host='fake', port=1) as client:
        connection = RedisConnection()
        connection.use(client)
        async with PersistentRedisKVS(connection=connection) as store:
            await store.set('k', 1)
            assert store.location() == 'Redis at fake:1'
        await connection.close()
        assert await client.get('k') == b'1'


# Loops and processes


def clients_of(server: RedisServer) -> int:
    """How many connections a server has, but for the one that asks."""
    with server.client() as client:
        return len(client.client_list()) - 1


def test_many_loops_one_after_the_other_use_a_store_and_leave_no_connection(redis_server: RedisServer) -> None:
    connection = RedisConnection({**LOCAL, 'redis_port': redis_server.port})
    store = PersistentRedisKVS(prefix='loops:', connection=connection)
    before = clients_of(redis_server)
    for turn in range(20):
        assert asyncio.run(store['k']) == (turn - 1 if turn else None)
        asyncio.run(store.set('k', turn))
    assert asyncio.run(store.remove('k'))
    until(lambda: clients_of(redis_server) <= before, 'the connections to close')


async def test_a_forked_child_opens_connections_of_its_own(redis: RedisConnection, redis_server: RedisServer) -> None:
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
    await store.set('k', 'still of the parent')
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
