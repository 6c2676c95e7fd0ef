"""Problems of the Redis servers that settings name, found before the server starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.kvs import live_problems
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Settings, read_settings
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.checks import parse
from tests.support.redis_server import RedisServer
from tests.support.watched import until


def at(port: int, **more: Any) -> dict[str, Any]:
    return {'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': port} | more}


async def problems_of(configuration: Settings) -> list[Problem]:
    return await live_problems(parse(configuration))


async def ids(configuration: Settings) -> list[str]:
    return [problem.id for problem in await problems_of(configuration)]


async def test_a_redis_that_works_has_no_problem_and_no_additional_key(redis_server: RedisServer) -> None:
    client = RedisConnection(at(redis_server.port)['redis_connection'])
    await client.client().flushall()
    configuration = read_settings(
        {'kvs': {'default': {'type': 'redis_ephemeral', 'expiry': 5}}} | at(redis_server.port)
    )
    assert await ids(configuration) == []
    assert await client.client().dbsize() == 0
    await client.close()


async def test_a_redis_without_persistence_is_a_warning_for_a_persistent_store(redis_server: RedisServer) -> None:
    configuration = read_settings(
        {
            'kvs': {
                'default': {'type': 'redis', 'prefix': 'a:'},
                'cache': {'type': 'redis_ephemeral', 'expiry': 5, 'prefix': 'c:'},
            }
        }
        | at(redis_server.port)
    )
    [problem] = await problems_of(configuration)
    assert (problem.id, problem.subject) == ('KVS.W007', 'kvs.default')
    assert f'Redis at 127.0.0.1:{redis_server.port}, which keeps its data in memory alone' in problem.message


@pytest.mark.parametrize('arguments', [('--appendonly', 'yes'), ('--save', '3600 1')], ids=['append-only', 'snapshots'])
async def test_a_redis_with_persistence_has_no_problem(arguments: tuple[str, ...]) -> None:
    with RedisServer(*arguments) as server:
        assert await ids(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port))) == []


@pytest.mark.parametrize('policy', ['allkeys-lru', 'allkeys-random'])
async def test_a_redis_that_removes_any_key_is_a_warning(policy: str) -> None:
    with RedisServer('--maxmemory-policy', policy, '--appendonly', 'yes') as server:
        [problem] = await problems_of(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port)))
    assert problem.id == 'KVS.W008'
    assert policy in problem.message


@pytest.mark.parametrize('policy', ['volatile-lru', 'volatile-ttl', 'volatile-random'])
async def test_a_redis_that_evicts_idempotency_records_is_a_warning_for_a_persistent_store(policy: str) -> None:
    arguments = ('--maxmemory-policy', policy, '--maxmemory', '100mb', '--appendonly', 'yes')
    with RedisServer(*arguments) as server:
        [problem] = await problems_of(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port)))
        cache = {'kvs': {'default': {'type': 'redis_ephemeral', 'expiry': 5}}}
        assert await ids(read_settings(cache | at(server.port))) == []
    assert problem.id == 'KVS.W013'
    assert f'({policy}), idempotency records too' in problem.message
    assert 'noeviction' in problem.hint


async def test_a_replica_is_an_error_that_names_the_master(redis_server: RedisServer) -> None:
    for writable in ('no', 'yes'):
        master = ('--replicaof', '127.0.0.1', str(redis_server.port), '--replica-read-only', writable)
        with RedisServer(*master) as server:
            [problem] = await problems_of(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port)))
            assert problem.id == 'KVS.E020'
            assert f'127.0.0.1:{redis_server.port}' in problem.hint


async def test_a_redis_whose_last_save_failed_is_a_warning() -> None:
    with RedisServer('--save', '3600 1', '--stop-writes-on-bgsave-error', 'no') as server:
        connection = RedisConnection(at(server.port)['redis_connection'])
        client = connection.client()
        await client.set('k', 1)
        server.folder.joinpath('dump.rdb').mkdir()
        await client.bgsave()
        async with asyncio.timeout(30):
            while (await client.info('persistence'))['rdb_last_bgsave_status'] != 'err':
                pass
        await connection.close()
        found = await problems_of(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port)))
    assert [problem.id for problem in found] == ['KVS.W009']


async def test_a_redis_that_refuses_info_and_config_has_no_problem() -> None:
    refused = ('--rename-command', 'INFO', '', '--rename-command', 'CONFIG', '')
    with RedisServer(*refused) as server:
        assert await ids(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port))) == []
    with RedisServer('--rename-command', 'CONFIG', '') as server:
        configuration = read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port))
        assert await ids(configuration) == ['KVS.W007']
        connection = RedisConnection(at(server.port)['redis_connection'])
        await connection.client().save()
        await connection.close()


async def test_a_redis_that_requires_a_password_has_a_hint_that_names_the_option() -> None:
    with RedisServer('--requirepass', 'hunter2', '--appendonly', 'yes') as server:
        stores = {'kvs': {'default': {'type': 'redis'}}}
        for wrong in ({}, {'redis_password': 'hunter3'}):
            [problem] = await problems_of(read_settings(stores | at(server.port, **wrong)))
            assert problem.id == 'KVS.E018'
            assert 'redis_connection.redis_password' in problem.hint
            assert 'hunter' not in str(problem)
        assert await ids(read_settings(stores | at(server.port, redis_password='hunter2'))) == []


async def test_a_redis_that_refuses_writes_is_an_error() -> None:
    with RedisServer('--maxmemory', '1', '--maxmemory-policy', 'noeviction', '--appendonly', 'yes') as server:
        [problem] = await problems_of(read_settings({'kvs': {'default': {'type': 'redis'}}} | at(server.port)))
    assert problem.id == 'KVS.E018'
    assert 'raise maxmemory' in problem.hint


async def speaks(answer: bytes) -> asyncio.Server:
    """Start a server that answers whatever comes like this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.write_eof()
        while await reader.read(1 << 16):
            pass
        writer.close()

    return await asyncio.start_server(serve, '127.0.0.1', 0)


@pytest.mark.parametrize(
    ('answer', 'hint'),
    [
        (b'HTTP/1.1 400 Bad Request\r\n\r\n', 'That is how a web server (HTTP) answers'),
        (b'<!DOCTYPE HTML>\n<html>', 'That is how a web server (HTTP) answers'),
        (b'\x15\x03\x01\x00\x02\x02\x16', 'speaks TLS answers; see redis_connection.redis_ssl'),
        (b'SSH-2.0-OpenSSH_9.2\r\n', 'It is not a Redis that answers there'),
    ],
    ids=['HTTP', 'old HTTP', 'TLS', 'SSH'],
)
@pytest.mark.parametrize('password', [None, 'x'], ids=['', 'with a password'])
async def test_a_port_where_no_redis_answers_is_one_problem_in_one_line_with_a_hint(
    answer: bytes, hint: str, password: str | None
) -> None:
    server = await speaks(answer)
    settings = at(server.sockets[0].getsockname()[1], redis_password=password)
    [problem] = await problems_of(read_settings({'kvs': {'default': {'type': 'redis'}}} | settings))
    assert problem.id == 'KVS.E018'
    assert hint in problem.hint
    assert '\n' not in str(problem)
    server.close()


async def test_a_redis_that_is_loading_when_a_server_starts_is_waited_for_and_a_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {'kvs': {'default': {'type': 'redis'}}}
    with RedisServer('--appendonly', 'yes') as server:
        await asyncio.to_thread(server.start_loading)
        with limited_to(0):
            [problem] = await problems_of(read_settings(settings | at(server.port)))
        assert 'still loading' in problem.hint
        checking = asyncio.ensure_future(ids(read_settings(settings | at(server.port))))
        await until(lambda: bool(caplog.records))
        await asyncio.to_thread(server.end_loading)
        assert await checking == []
    assert [record.getMessage() for record in caplog.records] == [
        f'Redis at 127.0.0.1:{server.port} is loading its data; the start waits for it, for 120 s at most.'
    ]
