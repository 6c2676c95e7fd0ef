"""Redis servers that refuse commands or keys: nothing is half applied, and the live check names what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import ClusterNames, slot_of
from learning_observer_kvs.stores.redis.permissions import CHANGES_RULES, CLUSTER_COMMANDS, COMMANDS, rules
from learning_observer_kvs.stores.redis.permissions import allow as allow_commands
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.types import MISSING
from tests.redis_servers.test_live_checks import problems_of
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer

PREFIX = 'p:'
PAIR = ('Internal,r', 'External,r')


async def mark(state: Any) -> Any:
    return 'mark', 'mark'


async def external_alone(state: Any) -> Any:
    return False, 'mark'


def run(client: Any, *command: str) -> Any:
    """Send a command."""
    return client.execute_command(*command)


def make_user(client: Redis, *rules: str) -> None:
    """Make the user ``class`` with some rules and no others."""
    run(client, 'ACL', 'SETUSER', 'class', 'reset', 'on', '>x', *rules)


def allow(client: Redis, *more: str) -> None:
    """Make the user ``class``, with all rights to the keys below the prefix but those that are taken away."""
    make_user(client, f'~{PREFIX}*', '+@all', *more)


def as_class(port: int, **more: Any) -> dict[str, Any]:
    return {'redis_host': '127.0.0.1', 'redis_port': port, 'redis_username': 'class', 'redis_password': 'x', **more}


@pytest.fixture
def limited(direct: Redis) -> Iterator[Redis]:
    """Another program's connection to the server, which has the user ``class``."""
    allow(direct)
    yield direct
    run(direct, 'ACL', 'DELUSER', 'class')


@pytest.fixture
async def connection(limited: Redis, redis_server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(as_class(redis_server.port))
    yield connection
    await connection.close()


# Nothing is half applied


@pytest.mark.parametrize('known', [True, False], ids=['script known', 'script flushed'])
@pytest.mark.parametrize('ephemeral', [False, True], ids=['redis', 'redis_ephemeral'])
@pytest.mark.parametrize('refused', ['unlink', 'pexpire', 'unlink pexpire', 'set', 'get', 'eval', 'evalsha', 'script'])
async def test_each_write_of_a_batch_is_applied_whole_or_refused_whole(
    refused: str, ephemeral: bool, known: bool, connection: RedisConnection, limited: Redis
) -> None:
    kind = EphemeralRedisKVS(600, prefix=PREFIX, connection=connection) if ephemeral else None
    async with kind or PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        before = {'a': 'old', 'b': 'old', 'c': 'old', 'd': 'old', **dict.fromkeys((*PAIR, 'Internal,s'), 'old')}
        await store.multiset(before)
        allow(limited, *(f'-{command}' for command in refused.split()))
        if not known:
            limited.script_flush()
        expected: list[tuple[Any, dict[str, Any]]] = [
            (store.set('a', 'mark'), {'a': 'mark'}),
            (store.commit({'b': 'mark', 'c': MISSING}, {'b': 'old', 'c': 'old'}), {'b': 'mark', 'c': None}),
            (store.remove('d'), {'d': None}),
            (worker_of(store).process(*PAIR, mark), dict.fromkeys(PAIR, 'mark')),
            (
                worker_of(store).process('Internal,s', 'External,s', external_alone),
                {'External,s': 'mark', 'Internal,s': 'old'},  # which begins its TTL anew
            ),
        ]
        outcomes = await asyncio.gather(*(write for write, _ in expected), return_exceptions=True)
        allow(limited)
        for outcome, (_, change) in zip(outcomes, expected, strict=True):
            stored = dict(zip(change, await store.multiget(change), strict=True))
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, StoreUnavailable), repr(outcome)
                assert stored == {key: before.get(key) for key in change}
            else:
                assert stored == change
        applied = [not isinstance(outcome, BaseException) for outcome in outcomes]
        if 'unlink' in refused or 'pexpire' in refused:
            no_unlink, no_refresh = 'unlink' in refused, ephemeral and 'pexpire' in refused
            assert applied == [True, not no_unlink, not no_unlink, True, not no_refresh]
        else:
            assert applied == [refused == 'script' or (refused == 'eval' and known)] * 5


@pytest.mark.parametrize('refused', ['set', 'unlink'])
async def test_of_a_commit_that_removes_one_key_and_sets_another_nothing_is_applied_where_one_is_refused(
    refused: str, connection: RedisConnection, limited: Redis
) -> None:
    async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        await store.multiset({'a': 'old', 'b': 'old'})
        allow(limited, f'-{refused}')
        for writes in ({'a': MISSING, 'b': 'mark'}, {'a': 'mark', 'b': MISSING}):
            with pytest.raises(StoreUnavailable):
                await store.commit(writes)
        allow(limited)
        assert await store.dump() == {'a': 'old', 'b': 'old'}


@pytest.mark.parametrize('refused', ['UNLINK', 'EVAL', 'SCRIPT'])
async def test_a_command_that_was_renamed_leaves_nothing_half_applied_and_its_name_in_the_error(refused: str) -> None:
    with RedisServer('--rename-command', refused, 'hidden') as server, server.client() as client:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        async with PersistentRedisKVS(connection=connection) as store:
            client.mset({'k': '"old"', 'l': '"old"'})
            outcomes = await asyncio.gather(
                store.commit({'k': 'mark', 'l': MISSING}), store.set('m', 'mark'), return_exceptions=True
            )
            expected = {'UNLINK': (b'"old"', b'"old"', b'"mark"'), 'EVAL': (b'"old"', b'"old"', None)}
            assert tuple(client.mget('k', 'l', 'm')) == expected.get(refused, (b'"mark"', None, b'"mark"'))
            errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert len(errors) == {'UNLINK': 1, 'EVAL': 2, 'SCRIPT': 0}[refused]
            for error in errors:
                assert isinstance(error, StoreUnavailable)
                assert refused in str(error)
                assert 'mark' not in str(error)
        await connection.close()


async def test_a_read_that_is_refused_is_not_taken_for_a_key_of_another_type(
    connection: RedisConnection, limited: Redis
) -> None:
    async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        await store.set('k', 1)
        allow(limited, '-get')
        with pytest.raises(StoreUnavailable, match=r'cannot be used.*lo-kvs check --live'):
            await store['k']


# What the live check says


async def found(port: int, *, prefix: str = PREFIX, **connection: Any) -> Problem | None:
    """The problem that a live check finds, beside that of a server without persistence."""
    store = {'type': 'redis', 'prefix': prefix}
    configuration = read_settings({'kvs': {'default': store}, 'redis_connection': as_class(port, **connection)})
    problems = [problem for problem in await problems_of(configuration) if problem.id != 'KVS.W007']
    assert len(problems) <= 1
    return problems[0] if problems else None


@pytest.mark.parametrize('command', COMMANDS)
async def test_the_live_check_names_a_command_that_is_refused_and_the_rules_that_suffice(
    command: str, limited: Redis, redis_server: RedisServer
) -> None:
    allow(limited, f'-{command.lower()}')
    limited.script_flush()
    problem = await found(redis_server.port)
    assert problem is not None
    assert problem.id == 'KVS.E022'
    assert f"refuses {command} to user 'class'" in problem.message.replace(' (and allows EVAL', " to user 'class'")
    assert (command == 'EVALSHA') == ('allows EVAL' in problem.message)
    rule = problem.hint.removeprefix('This suffices: ')
    make_user(limited)
    run(limited, *rule.split())
    assert await found(redis_server.port) is None
    assert list(limited.scan_iter(f'{PREFIX}*')) == (
        [] if command != 'UNLINK' else list(limited.scan_iter('p:*trial*'))
    )


async def test_the_live_check_tries_without_help_of_scripts_that_the_server_knows(
    limited: Redis, redis_server: RedisServer
) -> None:
    assert await found(redis_server.port) is None  # now it knows them
    allow(limited, '-eval')
    problem = await found(redis_server.port)
    assert problem is not None
    assert 'refuses EVAL to' in problem.message


async def test_the_live_check_says_that_keys_are_refused(limited: Redis, redis_server: RedisServer) -> None:
    allow(limited, 'resetkeys', '~q:*')
    problem = await found(redis_server.port)
    assert problem is not None
    assert "refuses keys that begin with 'p:' to user 'class'" in problem.message
    assert '~p:* +evalsha' in problem.hint


@pytest.mark.parametrize('command', ['UNLINK', 'EVALSHA'])
async def test_the_live_check_names_a_command_that_was_renamed(command: str) -> None:
    with RedisServer('--rename-command', command, '') as server:
        with server.client() as client:
            allow(client)
        problem = await found(server.port)
    assert problem is not None
    assert problem.id == 'KVS.E022'
    assert f'does not have {command}, which the store uses' in problem.message
    assert 'rename-command' in problem.hint


# What suffices


@pytest.mark.parametrize('more', [{}, {'redis_db': 3}], ids=['database 0', 'another database'])
async def test_a_list_limited_to_the_prefix_and_the_commands_suffices_for_everything_a_store_does(
    more: dict[str, Any], limited: Redis, redis_server: RedisServer
) -> None:
    settings = as_class(redis_server.port, **more)
    make_user(limited, '~p:*', *rules(settings, clustered=False).split())
    run(limited, 'ACL', 'LOG', 'RESET')
    connection = RedisConnection(settings)
    for store in (
        PersistentRedisKVS(prefix=PREFIX, connection=connection),
        EphemeralRedisKVS(60, prefix=PREFIX, connection=connection),
    ):
        await use(store)
        assert [problem.id for problem in await store.health_check()] == []
        await store.close()
    await connection.close()
    assert {entry['object'] for entry in limited.acl_log()} <= {'info'}


async def test_in_a_cluster_a_list_limited_to_the_prefix_suffices_also_while_a_slot_moves(
    redis_nodes: RedisNodes,
) -> None:
    redis_nodes.flush()
    settings = as_class(redis_nodes.nodes[0].port, redis_cluster=True)
    for node in redis_nodes.nodes:
        with node.client() as client:
            make_user(client, '~{????????????????}:p:*', *rules(settings, clustered=True).split())
            run(client, 'ACL', 'LOG', 'RESET')
    connection = RedisConnection(settings)
    async with PersistentRedisKVS(prefix=PREFIX, connection=connection) as store:
        await use(store)
        assert await store.health_check() == []
        await store.set('k', 1)
        slot = slot_of(store.names.redis_key('k'))
        with redis_nodes.moving(slot, keys=100):
            await store.update('k', lambda value: value + 1)
        assert await store['k'] == 2
    await connection.close()
    for node in redis_nodes.nodes:
        with node.client() as client:
            assert {entry['object'] for entry in client.acl_log()} <= {'info'}
            run(client, 'ACL', 'DELUSER', 'class')


async def test_in_a_cluster_a_command_that_one_node_refuses_is_found(redis_nodes: RedisNodes) -> None:
    redis_nodes.flush()
    for number, node in enumerate(redis_nodes.nodes):
        with node.client() as client:
            allow(client, '~*', *(['-unlink'] if number == 2 else []))
    try:
        problem = await found(redis_nodes.nodes[0].port, redis_cluster=True)
        assert problem is not None
        assert "refuses UNLINK to user 'class'" in problem.message
        assert '~{????????????????}:p:*' in problem.hint
    finally:
        for node in redis_nodes.nodes:
            with node.client() as client:
                run(client, 'ACL', 'DELUSER', 'class')


async def use(store: Store) -> None:
    """Call each method of a store once, and an event."""
    await worker_of(store).process(*PAIR, mark)
    await worker_of(store).process(*PAIR, external_alone)
    await store.set('k', 1)
    assert await store.multiget(['k', 'missing']) == [1, None]
    await store.update('k', lambda value: value + 1)
    assert await store.compare_and_set('k', 2, 3)
    assert sorted(await store.keys()) == sorted([*PAIR, 'k'])
    assert len(await store.dump()) == 3
    await store.scan('k', None, 10)
    assert await store.describe('k') is not None
    assert await store.remove('k')
    await store.clear()
    assert await store.keys() == []


def test_the_page_about_redis_lists_the_rules_that_suffice() -> None:
    page = (Path(__file__).parents[2] / 'docs/how-to/redis-for-production.md').read_text()
    assert f'`~state:* {allow_commands(COMMANDS)}`' in page
    assert f'`{allow_commands(CLUSTER_COMMANDS)}`' in page.replace('\\|', '|')
    assert f'`{CHANGES_RULES}`' in page.replace('\\|', '|')
    assert f'`~{ClusterNames("state:").scan_pattern("")}`' in page
