"""A router that is configured again: its stores are where the new settings say, and nothing is left of the old ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from learning_observer_kvs import redis_connection, settings
from learning_observer_kvs.kvs import KVS, KVSRouter, kvs_startup_check
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.checks import parse
from tests.support.loops import loop_in_thread
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer, until
from tests.support.write_behind import INTERNAL, NEVER, event


def source(server: RedisServer | None, store: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Settings with one Redis store; without a server they have no ``redis_connection``."""
    block = {'redis_host': '127.0.0.1', 'redis_port': server.port, **options} if server is not None else None
    return {'kvs': {'default': {'type': 'redis', **(store or {})}}} | ({'redis_connection': block} if block else {})


@pytest.fixture
async def servers(redis_server: RedisServer) -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """Two servers without any key."""
    with RedisServer() as other:
        for server in (redis_server, other):
            with server.client() as client:
                client.flushall()
        yield redis_server, other


def clients_of(server: RedisServer) -> int:
    """How many connections a server has, without the one that asks."""
    with server.client() as client:
        return len(client.client_list()) - 1


@pytest.mark.parametrize('interval', [None, NEVER], ids=['at once', 'write-behind'])
async def test_stores_move_with_the_connection_and_what_was_acknowledged_before_is_on_the_former_server(
    servers: tuple[RedisServer, RedisServer], interval: float | None
) -> None:
    options = {'flush_interval': interval} if interval else {}
    router = KVSRouter.from_settings(source(servers[0], options))
    await event(1, former := router())
    router.configure(parse(source(servers[1], options)))
    assert router() is not former
    assert await router()[INTERNAL] is None
    await event(2, router())
    await router.close()
    for number, server in enumerate(servers, start=1):
        with server.client() as client:
            assert client.get(INTERNAL) == b'{"seen":[%d]}' % number


@pytest.mark.parametrize('interval', [None, NEVER], ids=['at once', 'write-behind'])
async def test_a_store_that_is_used_after_it_was_replaced_is_flushed_and_closed_with_the_router(
    servers: tuple[RedisServer, RedisServer], interval: float | None
) -> None:
    options = {'flush_interval': interval} if interval else {}
    router = KVSRouter.from_settings(source(servers[0], options))
    former, before = router(), clients_of(servers[0])
    await event(1, former)
    router.configure(parse(source(servers[1], options)))
    await router.health_check()
    await event(2, former)  # of a connection that was opened before
    await router.close()
    with servers[0].client() as client:
        assert client.get(INTERNAL) == b'{"seen":[1,2]}'
    until(lambda: clients_of(servers[0]) == before, 'the connections to close')


async def test_a_replaced_store_whose_connection_another_used_on_leaves_none_though_it_is_used_again(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    server = servers[1]
    router = KVSRouter.from_settings(source(server))
    former = router()
    router.configure(parse(source(server, {'cache_bytes': 1 << 20})))
    await event(1, router())
    router.configure(parse(source(server, redis_timeout=4)))
    await event(2, router())
    await asyncio.sleep(0.1)
    await event(3, former)  # of a student whose connection is open
    await router.close()
    await asyncio.to_thread(until, lambda: clients_of(server) == 0, 'the end of all connections')


async def test_replaced_and_removed_stores_leave_no_connection(servers: tuple[RedisServer, RedisServer]) -> None:
    before = clients_of(servers[0])
    own = {'redis_host': '127.0.0.1', 'redis_port': servers[0].port, 'prefix': 'own:'}
    router = KVSRouter.from_settings(source(servers[0], own))

    async def use_all() -> None:
        for name in router.names():
            await asyncio.gather(*(router[name][f'k{number}'] for number in range(50)))
            await router[name].set('k', 1)

    await use_all()
    router.configure(parse(source(servers[0])))  # without a connection of its own
    await use_all()
    router.configure(parse(source(servers[0], redis_max_connections=3)))
    await use_all()
    router.configure(parse(source(servers[1])))
    await use_all()
    router.add_item('again', router())
    router.remove_item('default')
    await use_all()
    router.configure(parse({'kvs': {'default': {'type': 'stub'}}}))
    await router.health_check()  # waits for what is being closed
    for server in servers:
        until(lambda server=server: clients_of(server) <= before, 'the connections to close')  # type: ignore[misc]
    await router.close()


async def test_two_names_of_a_store_share_its_connection_which_closes_with_the_second(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    before = clients_of(servers[0])
    own = {'redis_host': '127.0.0.1', 'redis_port': servers[0].port}
    router = KVSRouter.from_settings(source(servers[0], own))
    router.add_item('second', router())
    router.remove_item('default')
    await router.second().set('k', 1)
    router.remove_item('second')
    await router.health_check()
    until(lambda: clients_of(servers[0]) <= before, 'the connections to close')


async def test_a_configuration_without_redis_connection_forgets_host_and_password() -> None:
    settings.load_settings(
        {**source(None), 'redis_connection': {'redis_host': 'elsewhere', 'redis_password': 'secret'}}
    )
    kvs_startup_check()
    assert KVS().location() == 'Redis at elsewhere:6379'
    settings.load_settings(source(None))
    kvs_startup_check()
    assert KVS().location() == 'Redis at localhost:6379'
    assert redis_connection.shared.settings == {}


async def test_a_router_of_items_alone_leaves_the_connection_of_the_program_as_it_is(
    redis_server: RedisServer,
) -> None:
    settings.load_settings(source(redis_server))
    kvs_startup_check()
    async with KVSRouter(items={'default': {'type': 'redis', 'prefix': 'items:'}}) as router:
        assert str(redis_server.port) in router().location()
        await router().set('k', 1)
        assert await redis_connection.get('items:k') == b'1'
    assert str(redis_server.port) in KVS().location()


async def test_a_router_that_is_configured_leaves_the_connection_of_the_program_as_it_is(
    redis_server: RedisServer,
) -> None:
    settings.load_settings(source(redis_server))
    kvs_startup_check()
    router = KVSRouter(items={'default': {'type': 'redis'}})
    before = router()
    router.configure(parse({**source(None), 'redis_connection': {'redis_host': 'elsewhere'}}))
    assert before.location() == KVS().location() == f'Redis at 127.0.0.1:{redis_server.port}'
    assert router().location() == 'Redis at elsewhere:6379'
    await router.close()


async def test_a_client_that_was_handed_in_is_what_the_stores_of_a_router_use(redis: RedisConnection) -> None:
    given = RedisConnection()
    given.use(redis.client())
    async with KVSRouter(items={'default': {'type': 'redis'}}, connection=given) as router:
        await router().set('k', 1)
        assert await redis.client().get('k') == b'1'
    assert await redis.client().get('k') == b'1'


@pytest.mark.parametrize('first', ['server', 'cluster'])
async def test_the_names_of_keys_are_those_of_the_server_or_cluster_that_is_configured(
    redis_server: RedisServer, redis_nodes: RedisNodes, first: str
) -> None:
    with redis_server.client() as client:
        client.flushall()
    redis_nodes.flush()
    single, cluster = source(redis_server), source(redis_nodes.nodes[0], redis_cluster=True)
    router = KVSRouter()
    for each in [single, cluster, single] if first == 'server' else [cluster, single, cluster]:
        router.configure(parse(each))
        await router().set('k', 1)
        assert await router().keys() == ['k']
    await router.close()
    with redis_server.client() as client:
        assert client.keys('*k') == [b'k']
    [[in_cluster]] = [found for node in redis_nodes.nodes if (found := node.client().keys('*:k'))]
    assert str(in_cluster).startswith("b'{")


async def test_a_store_on_the_connection_of_the_program_has_other_names_once_it_was_closed(
    redis_server: RedisServer, redis_nodes: RedisNodes
) -> None:
    store = PersistentRedisKVS(prefix='direct:')
    for port, cluster in ((redis_server.port, False), (redis_nodes.nodes[0].port, True)):
        redis_connection.shared.configure({'redis_host': '127.0.0.1', 'redis_port': port, 'redis_cluster': cluster})
        await store.set('k', 1)
        assert await store.keys() == ['k']
        await store.close()
        await redis_connection.shared.close()


def test_what_another_event_loop_buffered_in_a_replaced_store_is_flushed_when_that_loop_closes_the_router(
    redis_server: RedisServer,
) -> None:
    options = {'flush_interval': NEVER}
    router = KVSRouter.from_settings(source(redis_server, {**options, 'prefix': 'a:'}))
    former = router()

    async def send() -> None:
        await event(1, former)

    async def replace() -> None:
        router.configure(parse(source(redis_server, {**options, 'prefix': 'b:'})))
        await router.close()

    with redis_server.client() as client, loop_in_thread() as here, loop_in_thread() as there:
        client.flushall()
        there(send())
        here(replace())
        assert client.get(f'a:{INTERNAL}') is None
        there(router.close())
        assert client.get(f'a:{INTERNAL}') == b'{"seen":[1]}'
