"""What the clients of redis-py are made with, and what connections to a master behind Sentinels do."""

from __future__ import annotations

import asyncio
import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Connection, Redis, Sentinel, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection

from learning_observer_kvs.stores.redis import client as clients
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.client import (
    MasterConnection,
    MasterTLSConnection,
    Pool,
    SentinelPool,
    client_of,
    cluster_of,
)

SECONDS: dict[str, Any] = {'redis_timeout': '7', 'redis_connect_timeout': '3', 'redis_max_connections': '4'}
LOGIN: dict[str, Any] = {'redis_username': 'class', 'redis_password': 'secret'}
TLS: dict[str, Any] = {
    'redis_ssl': True,
    'redis_ssl_ca_certs': 'ca',
    'redis_ssl_certfile': 'cert',
    'redis_ssl_keyfile': 'key',
}
BEHIND_SENTINELS: dict[str, Any] = {'redis_sentinels': ['s:1', 't:2'], 'redis_service_name': 'class'}


def pool_of(**settings: Any) -> Any:
    return client_of(settings).connection_pool


def options_of(options: Any, *names: str) -> dict[str, Any]:
    return {name: options.get(name, 'missing') for name in names}


def check_safe(options: Any) -> None:
    """Nothing is sent again, decoded, or told by redis-py itself, and no reply has redis-py's own deadline."""
    assert options['retry'].get_retries() == 0
    assert options_of(options, 'protocol', 'driver_info') == {'protocol': 2, 'driver_info': None}


def test_a_client_of_a_server_has_the_address_the_login_and_the_bounds_of_the_settings() -> None:
    pool = pool_of(redis_host='h', redis_port='5', redis_db='3', **SECONDS, **LOGIN)
    assert (type(pool), pool.connection_class) == (Pool, Connection)
    options = pool.connection_kwargs
    check_safe(options)
    assert options_of(options, 'host', 'port', 'username', 'password', 'db') == {
        'host': 'h',
        'port': 5,
        'username': 'class',
        'password': 'secret',
        'db': 3,
    }
    assert options_of(options, 'socket_timeout', 'socket_connect_timeout') == {
        'socket_timeout': None,
        'socket_connect_timeout': 3.0,
    }
    assert (pool.max_connections, pool.timeout, pool._within) == (4, 7.0, 10.0)
    assert not [name for name in options if name.startswith('ssl')]


def test_a_password_in_the_url_is_used_unless_there_is_an_option() -> None:
    url = 'redis://class:of%20url@h:5/2'
    in_url, beside = pool_of(redis_url=url), pool_of(redis_url=url, redis_password='of the option')
    names = ('host', 'port', 'username', 'password', 'db')
    assert list(options_of(in_url.connection_kwargs, *names).values()) == ['h', 5, 'class', 'of url', 2]
    assert list(options_of(beside.connection_kwargs, *names).values()) == ['h', 5, 'class', 'of the option', 2]


def test_a_socket_is_used_instead_of_a_host() -> None:
    pool = pool_of(redis_socket='/run/redis', **LOGIN, **SECONDS)
    assert (type(pool), pool.connection_class) == (Pool, UnixDomainSocketConnection)
    assert options_of(pool.connection_kwargs, 'path', 'password', 'host') == {
        'path': '/run/redis',
        'password': 'secret',
        'host': 'missing',
    }
    check_safe(pool.connection_kwargs)


@pytest.mark.parametrize('checks', [{}, {'redis_ssl_check_hostname': False}])
def test_tls_is_spoken_with_the_certificates_of_the_settings(checks: dict[str, Any]) -> None:
    expected = {
        'ssl_ca_certs': 'ca',
        'ssl_certfile': 'cert',
        'ssl_keyfile': 'key',
        'ssl_check_hostname': not checks,
    }
    pool = pool_of(redis_host='h', **TLS, **checks, **LOGIN)
    assert pool.connection_class is SSLConnection
    assert options_of(pool.connection_kwargs, *expected) == expected
    assert pool.connection_kwargs['password'] == 'secret'
    check_safe(pool.connection_kwargs)
    pool = pool_of(**BEHIND_SENTINELS, **TLS, **checks)
    assert pool.connection_class is MasterTLSConnection
    assert options_of(pool.connection_kwargs, *expected) == expected
    for sentinel in pool.sentinel_manager.sentinels:
        assert sentinel.connection_pool.connection_class is SSLConnection
        assert options_of(sentinel.connection_pool.connection_kwargs, *expected) == expected


def test_sentinels_have_a_login_of_their_own_and_bounds_of_their_own() -> None:
    login = {'redis_sentinel_username': 'watcher', 'redis_sentinel_password': 'of sentinels'}
    for settings, expected in (
        ({**SECONDS, **LOGIN, **login}, ('watcher', 'of sentinels')),
        ({**SECONDS, **LOGIN}, (None, None)),
    ):
        pool = pool_of(redis_db='3', **BEHIND_SENTINELS, **settings)
        assert (type(pool), pool.connection_class, pool.service_name) == (SentinelPool, MasterConnection, 'class')
        check_safe(pool.connection_kwargs)
        assert options_of(pool.connection_kwargs, 'username', 'password', 'db') == {
            'username': 'class',
            'password': 'secret',
            'db': 3,
        }
        assert (pool.max_connections, pool.timeout, pool._within) == (4, 7.0, 10.0)
        sentinels = pool.sentinel_manager.sentinels
        found = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
        assert [(options['host'], options['port']) for options in found] == [('s', 1), ('t', 2)]
        for options, sentinel in zip(found, sentinels, strict=True):
            check_safe(options)
            assert sentinel.connection_pool.connection_class is Connection
            assert (options['username'], options['password'], options['db']) == (*expected, 0)
            assert options_of(options, 'socket_timeout', 'socket_connect_timeout') == {
                'socket_timeout': None,
                'socket_connect_timeout': 3.0,
            }


async def test_a_client_of_a_cluster_has_the_address_the_login_and_the_bounds_of_the_settings() -> None:
    cluster = cluster_of({'redis_host': 'h', 'redis_port': '5', **SECONDS, **LOGIN})
    [node] = cluster.startup_nodes
    manager = cluster.nodes_manager
    options = manager.connection_kwargs
    check_safe({**options, 'retry': cluster.retry})
    assert (node.host, node.port, node.max_connections, node.connection_class) == ('h', 5, 4, Connection)
    assert options_of(options, 'username', 'password') == {'username': 'class', 'password': 'secret'}
    assert options_of(options, 'socket_timeout', 'socket_connect_timeout') == {
        'socket_timeout': 7.0,
        'socket_connect_timeout': 3.0,
    }
    assert manager.require_full_coverage is False
    [node] = cluster_of({'redis_host': 'h', **TLS}).startup_nodes
    assert node.connection_class is SSLConnection
    assert node.connection_kwargs['ssl_ca_certs'] == 'ca'


def test_redis_py_is_imported_once_and_only_the_modules_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(redis_py), 'crc', raising=False)
    assert redis_py.crc is importlib.import_module('redis.crc')
    assert 'crc' in vars(redis_py)
    with pytest.raises(AttributeError, match='has no attribute'):
        redis_py.client  # noqa: B018


# Connections of a pool


class Slow(Connection):
    """A connection that is never ready."""

    async def connect(self, **options: Any) -> None:
        await asyncio.get_running_loop().create_future()


async def test_a_connection_that_is_not_ready_in_time_is_an_error_that_says_how_long() -> None:
    pool: Any = Pool(within=0.01, connection_class=Slow, timeout=5)
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError, match=r'It accepts connections, but did not answer within 0\.01 s') as raised:
            await pool.get_connection()
    assert raised.value.__suppress_context__


class Watch:
    """Stands for the watch of the master: the master is where a test says."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = list(addresses)
        self.closed = False

    def is_master(self, address: tuple[str, int]) -> bool:
        return address == self.addresses[0]

    async def master(self) -> tuple[str, int]:
        return self.addresses[0]

    async def close(self) -> None:
        self.closed = True


A, B = ('a', 1), ('b', 2)


@pytest.fixture
def pool() -> Any:
    pool = pool_of(**BEHIND_SENTINELS, **SECONDS)
    pool.watch = Watch(A)
    return pool


class Reached:
    """The servers that connections have been made to, instead of making them.

    Attributes:
        errors: what a connection to a server ends with.
        addresses: in order; after ``-`` the connection was closed.
    """

    def __init__(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: dict[tuple[str, int], Exception] = {}
        self.addresses: list[Any] = []
        self.moves_to: list[tuple[str, int]] = []

        async def connect_to(_: Any, address: tuple[str, int]) -> None:
            self.addresses.append(address)
            if self.moves_to:
                watch.addresses = [self.moves_to.pop(0)]
            if address in self.errors:
                raise self.errors[address]

        async def disconnect(_: Any, nowait: bool = False, **options: Any) -> None:
            assert nowait
            self.addresses.append('-')

        monkeypatch.setattr(SentinelManagedConnection, 'connect_to', connect_to)
        monkeypatch.setattr(SentinelManagedConnection, 'disconnect', disconnect)


async def test_a_connection_to_the_master_is_used_if_it_is_still_the_master(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = Reached(pool.watch, monkeypatch)
    await pool.make_connection().connect_to(A)
    assert reached.addresses == [A]


async def test_a_master_that_cannot_be_reached_is_an_error(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Reached(pool.watch, monkeypatch)
    for error in (exceptions.ConnectionError('refused'), exceptions.TimeoutError('silent')):
        reached.errors = {A: error}
        with pytest.raises(type(error), match=str(error)):
            await pool.make_connection().connect_to(A)
    assert reached.addresses == [A, A]


@pytest.mark.parametrize('error', [None, exceptions.ConnectionError('refused'), exceptions.TimeoutError('silent')])
async def test_a_connection_to_a_server_that_is_not_the_master_any_more_goes_to_the_new_one(
    error: Exception | None, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = Reached(pool.watch, monkeypatch)
    reached.moves_to = [B]
    reached.errors = {A: error} if error is not None else {}
    await pool.make_connection().connect_to(A)
    assert reached.addresses == [A, '-', B]


async def test_a_refusal_to_log_in_is_an_error_wherever_the_master_is(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = Reached(pool.watch, monkeypatch)
    reached.moves_to, reached.errors = [B], {A: exceptions.ResponseError('DB index is out of range')}
    with pytest.raises(exceptions.ResponseError):
        await pool.make_connection().connect_to(A)


async def test_a_server_that_is_a_replica_refuses_a_write_and_is_not_a_lost_connection(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    async def read_response(self: Any, *args: Any, **options: Any) -> Any:
        given.append((self, args, options))
        if len(given) == 1:
            raise exceptions.ReadOnlyError('READONLY')
        return b'OK'

    monkeypatch.setattr(Connection, 'read_response', read_response)
    connection = pool.make_connection()
    with pytest.raises(exceptions.ReadOnlyError):
        await connection.read_response()
    assert await connection.read_response(True, timeout=5) == b'OK'
    assert given[1] == (connection, (True,), {'timeout': 5})


async def test_when_the_master_moves_all_open_connections_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(**BEHIND_SENTINELS)
    cut: list[str] = []

    def opened(name: str) -> Any:
        connection = pool.make_connection()
        connection._writer = SimpleNamespace(transport=SimpleNamespace(abort=lambda: cut.append(name)))
        connection._parser = SimpleNamespace(on_disconnect=lambda: cut.append(f'parser of {name}'))
        return connection

    kept = [opened('first'), opened('second'), pool.make_connection()]
    pool.watch._on_move()
    assert sorted(cut) == ['first', 'parser of first', 'parser of second', 'second']
    for connection in kept:
        connection._writer = None


async def test_closing_ends_the_watch_the_connections_and_those_to_the_sentinels(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def aclose(self: Any, *args: Any) -> None:
        closed.append(type(self).__name__)

    monkeypatch.setattr(Sentinel, 'aclose', aclose, raising=False)
    monkeypatch.setattr(SentinelConnectionPool, 'aclose', aclose)
    assert await pool.get_master_address() == A
    await pool.aclose()
    assert pool.watch.closed
    assert closed == ['SentinelPool', 'Sentinel']


async def test_the_watch_has_the_names_and_the_timeout_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(clients, 'MasterWatch', lambda *arguments: given.extend(arguments))
    pool = pool_of(**BEHIND_SENTINELS, **SECONDS)
    service, location, sentinels, timeout, on_move = given
    assert (service, location, timeout) == ('class', 'class (Sentinels s:1, t:2)', 7.0)
    assert sentinels == pool.sentinel_manager.sentinels
    assert all(isinstance(sentinel, Redis) for sentinel in sentinels)
    assert on_move == pool._abort
