"""A connection to Redis: whose settings hold, which client they make, and what is closed with it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from learning_observer_kvs.stores.redis import connection as module
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.invalidations import QUIET


def client_of(**options: Any) -> Any:
    """A client that was made elsewhere; it connects to nothing."""
    return SimpleNamespace(connection_pool=SimpleNamespace(connection_kwargs=options))


# Settings


def test_settings_hold_over_those_of_the_base_and_are_the_same_where_there_are_none() -> None:
    base = RedisConnection({'redis_host': 'h', 'redis_port': 5})
    assert RedisConnection().settings == {}
    assert RedisConnection(base=base).settings == base.settings == {'redis_host': 'h', 'redis_port': 5}
    own = RedisConnection({'redis_db': 3}, base=base)
    assert own.settings == {'redis_host': 'h', 'redis_port': 5, 'redis_db': 3}
    base.configure({'redis_host': 'g'})
    assert base.settings == {'redis_host': 'g'}
    assert own.address() == 'g:6379'


def test_settings_that_are_kept_do_not_follow_those_of_the_base() -> None:
    base = RedisConnection({'redis_host': 'h'})
    base.use(client_of(host='elsewhere', port=5))
    following, kept = RedisConnection(base=base), RedisConnection(base=base)
    kept.pin({'redis_host': 'kept', 'redis_timeout': 7})
    assert (following.address(), kept.address()) == ('elsewhere:5', 'elsewhere:5')
    base.use(client_of(host='another', port=5))
    assert (following.address(), kept.address()) == ('another:5', 'elsewhere:5')
    assert (kept.settings, kept.timeout) == ({'redis_host': 'kept', 'redis_timeout': 7}, 7.0)


def test_a_client_that_was_handed_in_to_the_base_is_used_unless_the_settings_differ() -> None:
    base = RedisConnection()
    client = client_of(host='h', port=5)
    base.use(client)
    assert RedisConnection(base=base).client() is client
    assert RedisConnection({'redis_host': 'own'}, base=base).address() == 'own:6379'
    own = RedisConnection(base=base)
    own.use(other := client_of(host='o', port=5))
    assert own.client() is other


def test_timeouts_are_those_of_the_settings() -> None:
    connection = RedisConnection({'redis_timeout': '7', 'redis_connect_timeout': '3'})
    assert (connection.timeout, connection.connect_timeout) == (7.0, 3.0)


@pytest.mark.parametrize('is_cluster', [False, True])
def test_whether_it_is_a_cluster_is_said_by_the_settings(is_cluster: bool) -> None:
    assert RedisConnection({'redis_cluster': is_cluster}).clustered is is_cluster
    assert RedisConnection().clustered is False


async def test_the_address_of_a_client_that_was_handed_in_is_where_it_connects_to() -> None:
    connection = RedisConnection({'redis_host': 'not this one'})
    for options, address in (({'host': 'h', 'port': 5}, 'h:5'), ({'path': '/run/redis'}, '/run/redis')):
        connection.use(client_of(**options))
        assert connection.address() == address
        assert connection.clustered is False
    connection.use(RedisCluster(startup_nodes=[ClusterNode('c', 7), ClusterNode('d', 8)]))
    assert connection.clustered is True
    assert sorted(connection.address().split(', ')) == ['c:7', 'd:8']


def test_a_hint_is_about_the_settings_only_where_they_made_the_client() -> None:
    refused = exceptions.ConnectionError('Error 111 connecting to h:5. Connection refused.')
    connection = RedisConnection({'redis_socket': '/run/redis'})
    assert 'redis_connection.redis_socket' in str(connection.unavailable(refused))
    connection.use(client_of(host='h', port=5))
    assert 'redis_socket' not in str(connection.unavailable(refused))
    assert 'Redis at h:5 cannot be used' in str(connection.unavailable(refused))


# Clients


async def test_a_client_is_made_once_and_anew_after_other_settings() -> None:
    connection = RedisConnection({'redis_host': 'h'})
    first = connection.client()
    assert isinstance(first, Redis)
    assert connection.client() is first
    connection.configure({'redis_host': 'h'})
    assert connection.client() is first
    connection.configure({'redis_host': 'g'})
    assert (second := connection.client()) is not first
    assert connection.client() is second
    assert second.connection_pool.connection_kwargs['host'] == 'g'
    connection.configure({'redis_host': 'c', 'redis_cluster': True})
    assert isinstance(connection.client(), RedisCluster)
    await connection.close()


async def test_closing_closes_every_client_that_was_made_and_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []

    async def of_server(self: Any, close_connection_pool: bool | None = None) -> None:
        closed.append((self, close_connection_pool))

    async def of_cluster(self: Any) -> None:
        closed.append((self, None))

    monkeypatch.setattr(Redis, 'aclose', of_server)
    monkeypatch.setattr(RedisCluster, 'aclose', of_cluster)
    connection = RedisConnection({'redis_host': 'h'})
    first = connection.client()
    connection.configure({'redis_host': 'g'})
    second = connection.client()
    await connection.close()
    assert closed == [(first, True), (second, True)]
    assert connection.client() not in (first, second)
    await connection.close()
    closed.clear()
    connection.configure({'redis_host': 'c', 'redis_cluster': True})
    cluster = connection.client()
    nodes: list[str] = []

    async def of_nodes(attribute: str = 'nodes_cache') -> None:
        nodes.append(attribute)

    cluster.nodes_manager = SimpleNamespace(aclose=of_nodes)
    await connection.close()
    assert closed == [(cluster, None)]
    assert nodes == ['nodes_cache', 'startup_nodes']


def test_a_loop_that_ends_closes_what_was_begun_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []

    async def of_server(self: Any, close_connection_pool: bool | None = None) -> None:
        closed.append(self)

    monkeypatch.setattr(Redis, 'aclose', of_server)
    connection = RedisConnection({'redis_host': 'h'})

    async def use() -> None:
        connection.client()

    asyncio.run(use())
    assert len(closed) == 1


async def test_closing_ends_the_iterators_over_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    closed: list[Any] = []

    class Tracker:
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)

        async def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(module, 'Tracker', Tracker)
    connection = RedisConnection({'redis_host': 'h'})
    tracker: Any = connection.tracker()
    assert connection.tracker() is tracker
    assert made == [(connection, QUIET)]
    await connection.close()
    assert closed == [tracker]
    await connection.close()
    assert closed == [tracker]


# A cluster


class Nodes:
    """Stands for the nodes of a cluster.

    Attributes:
        made: with what they were made.
        asked: what they were asked.
    """

    made: tuple[Any, ...] = ()
    asked: list[tuple[Any, ...]]

    def __init__(self, *arguments: Any) -> None:
        Nodes.made = arguments

    async def exchange(self, *arguments: Any) -> list[Any]:
        Nodes.asked.append(arguments)
        return [b'1']

    async def scan(self, *arguments: Any) -> tuple[list[bytes], str | None]:
        Nodes.asked.append(arguments)
        return [b'k'], 'h:1 7'

    async def info(self) -> dict[str, dict[str, str]]:
        return {'h:1': {}, 'h:2': {}}

    async def masters(self, *, refresh: bool) -> dict[str, Any]:
        return {f'refresh={refresh}': None}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> RedisConnection:
    monkeypatch.setattr(module, 'ClusterClient', Nodes)
    Nodes.asked = []
    return RedisConnection({'redis_host': 'h', 'redis_cluster': True, 'redis_timeout': 7, 'redis_max_connections': 4})


async def test_the_nodes_of_a_cluster_have_the_client_the_bounds_and_the_errors_of_the_connection(
    cluster: RedisConnection,
) -> None:
    cluster.cluster_client()
    client, permits, timeout, unavailable = Nodes.made
    assert (client, timeout, unavailable) == (cluster.client(), 7.0, cluster.unavailable)
    assert permits['h:1']._value == 4
    cluster.cluster_client()
    assert Nodes.made[1] is permits  # of all that talk to them in this loop
    await cluster.close()


async def test_in_a_cluster_its_nodes_get_every_exchange_page_and_question(cluster: RedisConnection) -> None:
    assert await cluster.exchange([('GET', 'k')], 0.5) == [b'1']
    assert await cluster.scan('h:1 7', 10, 'p*') == ([b'k'], 'h:1 7')
    assert Nodes.asked == [([('GET', 'k')], 0.5), ('h:1 7', 'MATCH', 'p*', 'COUNT', 10)]
    assert await cluster.info() == {'h:1': {}, 'h:2': {}}
    assert [*await cluster.masters()] == ['refresh=False']
    assert [*await cluster.masters(refresh=True)] == ['refresh=True']
    await cluster.close()


async def test_a_single_server_is_the_only_master_and_has_an_empty_name() -> None:
    connection = RedisConnection({'redis_host': 'h', 'redis_port': 5})
    [(name, make)] = (await connection.masters()).items()
    made = make()
    assert (name, made.host, made.port) == ('', 'h', 5)
    assert made is not make()
    await connection.close()
