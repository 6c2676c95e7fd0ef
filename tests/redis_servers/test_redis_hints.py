"""What an error of a Redis says to do fits the fault and the settings in use; each in the words of a real server."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import unavailable
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.parts import missing
from tests.support.redis_guarded import PASSWORD
from tests.support.redis_server import RedisServer, free_port

Settings = dict[str, Any]

LOCAL = {'redis_host': '127.0.0.1'}


async def failure(settings: Settings) -> StoreUnavailable:
    """The error of a store that cannot be used; a read and a write raise it."""
    connection = RedisConnection(settings)
    store = PersistentRedisKVS(connection=connection, retry_timeout=0)
    try:
        with pytest.raises(StoreUnavailable) as read:
            await store['k']
        with pytest.raises(StoreUnavailable) as written:
            await store.set('k', 1)
    finally:
        await connection.close()
    for error in (read.value, written.value):
        assert '\n' not in str(error)
        assert '?.' not in str(error)
    assert read.value.retry == written.value.retry
    return written.value


def write(path: Path) -> None:
    path.write_text('another file')


def url_of(server: RedisServer, login: str = '', database: str = '', scheme: str = 'redis') -> Settings:
    return {'redis_url': f'{scheme}://{login}127.0.0.1:{server.port}{database}'}


# Passwords and rights


async def test_a_password_where_none_is_wanted(redis_server: RedisServer) -> None:
    at = {**LOCAL, 'redis_port': redis_server.port}
    for settings, option in (
        (at | {'redis_password': 'hunter2'}, 'redis_connection.redis_password'),
        (url_of(redis_server, ':hunter2@'), 'redis_connection.redis_url'),
    ):
        error = await failure(settings)
        assert f'The server wants no password: remove it from {option}' in str(error)
        assert 'hunter2' not in str(error)
        assert not error.retry


@pytest.mark.parametrize('login', [{}, {'redis_password': 'x'}, {'redis_username': 'x', 'redis_password': 'x'}])
async def test_a_login_that_the_server_does_not_accept(guarded: RedisServer, login: Settings) -> None:
    error = await failure({**LOCAL, 'redis_port': guarded.port, **login})
    assert 'Set redis_connection.redis_password (and redis_username) as the server expects it.' in str(error)


async def test_a_login_in_a_url_that_the_server_does_not_accept(guarded: RedisServer) -> None:
    error = await failure(url_of(guarded, 'class:hunter2@'))
    assert 'Set redis_connection.redis_url as the server expects it.' in str(error)
    assert 'hunter2' not in str(error)


@pytest.mark.parametrize('password', [f'{PASSWORD}\n', f'{PASSWORD}\r\n', f' {PASSWORD}'])
async def test_a_password_with_the_newline_of_its_file(guarded: RedisServer, password: str) -> None:
    error = await failure({**LOCAL, 'redis_port': guarded.port, 'redis_password': password})
    assert 'The password begins or ends with a blank or a newline' in str(error)
    assert PASSWORD not in str(error)


@pytest.mark.parametrize('rules', [('~*', '+get'), ('~other:*', '+@all')], ids=['commands', 'keys'])
async def test_a_user_who_may_not_do_what_the_store_does(rules: tuple[str, ...]) -> None:
    with RedisServer('--user', 'poor', 'on', '>x', *rules) as server:
        login = {'redis_username': 'poor', 'redis_password': 'x'}
        error = await failure({**LOCAL, 'redis_port': server.port, **login})
    assert 'o permissions to' in str(error)
    assert 'The store needs its keys and +evalsha' in str(error)
    assert not error.retry


def test_a_server_in_protected_mode() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(('192.0.2.1', 9))  # sends nothing; the address is for documentation
        address = probe.getsockname()[0]
    if address.startswith('127.'):
        missing('this machine has no address but the loopback ones')
    with RedisServer('--bind', '*', '--protected-mode', 'yes') as server:
        # Whether a client that sends something reads this is up to chance: the server closes the connection at once.
        words = _read_all(address, server.port)
    error = unavailable(ResponseError(words.removeprefix('-')), f'{address}:{server.port}', {})
    assert re.search('DENIED .*unning in protected mode', str(error))
    assert 'it serves its own machine alone: set a password there' in str(error)
    assert len(str(error)) < 350


def _read_all(host: str, port: int) -> str:
    with socket.create_connection((host, port)) as client, client.makefile('rb') as said:
        return said.read().decode()


# Limits


async def test_a_server_with_as_many_clients_as_it_allows() -> None:
    with RedisServer('--maxclients', '1') as server, server.client() as other:
        other.ping()
        error = await failure({**LOCAL, 'redis_port': server.port})
    assert 'Raise maxclients in redis.conf, or lower redis_connection.redis_max_connections' in str(error)
    assert error.retry


async def test_a_database_that_the_server_does_not_have(redis_server: RedisServer) -> None:
    error = await failure({**LOCAL, 'redis_port': redis_server.port, 'redis_db': 99})
    assert 'fewer databases; see redis_connection.redis_db.' in str(error)
    error = await failure(url_of(redis_server, database='/99'))
    assert 'fewer databases; see redis_connection.redis_url.' in str(error)


# Where it is


async def test_a_port_on_which_nothing_listens() -> None:
    port = free_port()
    error = await failure({**LOCAL, 'redis_port': port})
    assert 'Is it running there? See redis_connection.redis_host and redis_port.' in str(error)
    error = await failure({'redis_url': f'redis://127.0.0.1:{port}'})
    assert 'Is it running there? See redis_connection.redis_url.' in str(error)


async def test_a_host_that_does_not_exist() -> None:
    error = await failure({'redis_host': 'no-such-host.invalid'})
    assert 'There is no host of this name; see redis_connection.redis_host' in str(error)


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('s') / 'redis.sock'


def leave_socket(path: Path) -> None:
    """Leave a socket as a server does that was killed."""
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(os.path.relpath(path))  # the absolute path may be too long


@pytest.mark.parametrize('by_url', [False, True], ids=['option', 'url'])
class TestUnixSocket:
    def settings(self, path: object, by_url: bool) -> Settings:
        return {'redis_url': f'unix://{path}'} if by_url else {'redis_socket': str(path)}

    def option(self, by_url: bool) -> str:
        return 'redis_connection.redis_url' if by_url else 'redis_connection.redis_socket'

    async def test_one_that_is_not_there(self, by_url: bool, socket_path: Path) -> None:
        error = await failure(self.settings(socket_path, by_url))
        assert f'There is no such file; see {self.option(by_url)}, and unixsocket in redis.conf.' in str(error)

    async def test_one_on_which_nothing_listens(self, by_url: bool, socket_path: Path) -> None:
        leave_socket(socket_path)
        error = await failure(self.settings(socket_path, by_url))
        assert f'No server listens on this socket. Is it running? See {self.option(by_url)}.' in str(error)

    async def test_a_file_in_its_place(self, by_url: bool, socket_path: Path) -> None:
        write(socket_path)
        error = await failure(self.settings(socket_path, by_url))
        assert f'No server listens on this socket. Is it running? See {self.option(by_url)}.' in str(error)

    async def test_one_whose_path_is_too_long(self, by_url: bool, tmp_path: Path) -> None:
        error = await failure(self.settings(tmp_path / ('x' * 200), by_url))
        assert 'The path of a unix socket has at most 107 bytes.' in str(error)
        assert not error.retry


# TLS


async def test_tls_to_a_server_that_does_not_speak_it(redis_server: RedisServer) -> None:
    short = {'redis_connect_timeout': 0.3}
    error = await failure({**LOCAL, 'redis_port': redis_server.port, 'redis_ssl': True, **short})
    assert 'A server that does not speak TLS does not answer either; see redis_connection.redis_ssl.' in str(error)
    error = await failure(url_of(redis_server, scheme='rediss') | short)
    assert 'see redis_connection.redis_url, which begins with rediss://' in str(error)


async def test_no_tls_to_a_server_that_speaks_it(tls: Settings) -> None:
    for more in ({}, {'redis_password': 'x'}):
        error = await failure({**LOCAL, 'redis_port': tls['redis_port'], **more})
        assert 'It ended the connection. If it speaks TLS, set redis_connection.redis_ssl: true' in str(error)
    error = await failure({'redis_url': f'redis://127.0.0.1:{tls["redis_port"]}'})
    assert 'If it speaks TLS, write rediss:// in redis_connection.redis_url' in str(error)


async def test_a_server_that_wants_a_certificate_of_its_clients(tls_settings: Settings) -> None:
    del tls_settings['redis_ssl_certfile'], tls_settings['redis_ssl_keyfile']
    # Whether it says why, or the connection is reset before that can be read, is up to chance.
    error = await failure(tls_settings)
    assert 'If it wants a certificate of its clients, name it in redis_connection.redis_ssl_certfile' in str(error)


async def test_a_certificate_of_an_authority_that_is_not_known(tls_settings: Settings) -> None:
    del tls_settings['redis_ssl_ca_certs']
    error = await failure(tls_settings)
    assert 'Name the authority that signed its certificate in redis_connection.redis_ssl_ca_certs.' in str(error)
    assert not error.retry


async def test_a_certificate_for_another_host(tls_settings: Settings) -> None:
    error = await failure(tls_settings | {'redis_host': 'localhost'})
    assert 'Connect to the host that its certificate is for' in str(error)


@pytest.mark.parametrize('option', ['redis_ssl_ca_certs', 'redis_ssl_certfile', 'redis_ssl_keyfile'])
async def test_a_file_of_certificates_that_is_not_there_or_is_another(
    tls_settings: Settings, tmp_path: Path, option: str
) -> None:
    path = tmp_path / 'file.pem'
    error = await failure(tls_settings | {option: str(path)})
    assert f'the file {path} cannot be read (No such file or directory). See redis_connection.{option}.' in str(error)
    assert not error.retry
    write(path)
    error = await failure(tls_settings | {option: str(path)})
    assert 'are not in the file that is named, or do not belong together; see redis_connection.' in str(error)
    assert not error.retry


async def test_a_key_of_another_certificate(tls_settings: Settings) -> None:
    key = str(Path(tls_settings['redis_ssl_keyfile']).with_name('127.0.0.1.key'))
    error = await failure(tls_settings | {'redis_ssl_keyfile': key})
    assert 'do not belong together' in str(error)


# What it is


@pytest.fixture
def replica(redis_server: RedisServer) -> Iterator[RedisServer]:
    with RedisServer('--replicaof', '127.0.0.1', str(redis_server.port)) as server:
        yield server


async def test_a_replica(replica: RedisServer) -> None:
    connection = RedisConnection(url_of(replica))
    with pytest.raises(StoreUnavailable, match=r'is a replica; name the master in redis_connection\.redis_url, or use'):
        await PersistentRedisKVS(connection=connection, retry_timeout=0).set('k', 1)
    await connection.close()


async def test_a_server_that_is_not_a_cluster(redis_server: RedisServer) -> None:
    error = await failure({**LOCAL, 'redis_port': redis_server.port, 'redis_cluster': True})
    assert 'It is not a cluster; take redis_connection.redis_cluster out.' in str(error)
