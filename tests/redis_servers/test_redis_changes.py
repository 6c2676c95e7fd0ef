"""Changes on real servers: whatever changes a key is announced, and a lost connection costs one ``resync``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from learning_observer_kvs import queries
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.changes import Change
from learning_observer_kvs.stores.redis import invalidations
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import Names
from learning_observer_kvs.stores.redis.permissions import CHANGES_COMMANDS, CHANGES_RULES, COMMANDS, allow
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.redis.tracker import without_overlaps
from learning_observer_kvs.stream_analytics.helpers import KeyField, KeyStateType, kvs_pipeline, make_key
from learning_observer_kvs.testing.changes import SECONDS, following, keys_until, nothing_left
from tests.redis_servers.test_redis_permissions import as_class, make_user, run
from tests.support.proxy import Proxy
from tests.support.redis_sentinels import SERVICE, Sentinels
from tests.support.redis_server import RedisServer
from tests.support.watched import until


@pytest.fixture
async def store(redis: RedisConnection) -> AsyncIterator[Store]:
    async with PersistentRedisKVS(prefix='p:', connection=redis) as store:
        yield store


@pytest.fixture
def soon_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is silent is asked after a twentieth of a second whether it is there."""
    monkeypatch.setattr(invalidations, 'QUIET', 0.05)


def followers(client: Redis) -> list[Any]:
    """The connections on which a server announces changes."""
    return [entry for entry in client.client_list() if int(entry['sub'])]


async def test_what_other_programs_do_is_announced(store: Store, direct: Redis) -> None:
    async with store.changes() as changes:
        direct.set('p:a', '1')
        assert await (await following(changes)).value() == 1
        direct.append('p:a', '2')
        assert await (await following(changes)).value() == 12
        direct.rename('p:a', 'p:b')
        assert {(await following(changes)).key for _ in 'ab'} == {'a', 'b'}
        direct.delete('p:b')
        assert await (await following(changes)).value() is None
        direct.set('q:a', '1')
        direct.set('p:end', '1')
        assert await keys_until(changes, 'end') == ['end']


async def test_a_key_that_expires_is_announced(redis: RedisConnection) -> None:
    async with EphemeralRedisKVS(0.05, connection=redis) as store, store.changes() as changes:
        await store.set('k', 1)
        change = await following(changes)
        assert change.key == 'k'
        while await change.value() is not None:  # where both come late they are one change
            change = await following(changes)
            assert change.key == 'k'


async def test_a_key_that_is_evicted_is_announced() -> None:
    with RedisServer('--maxmemory', '3mb', '--maxmemory-policy', 'allkeys-lru') as server, server.client() as client:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        async with PersistentRedisKVS(connection=connection) as store:
            await store.set('old', 1)
            async with store.changes('old') as changes:
                number = 0
                while client.exists('old'):
                    number += 1
                    client.set(f'new{number}', 'x' * 10_000)
                assert (await following(changes)).key == 'old'
        await connection.close()


async def test_a_database_that_is_emptied_is_one_resync(store: Store, direct: Redis) -> None:
    async with store.changes() as changes:
        direct.flushdb()
        await store.set('k', 1)
        assert [(await following(changes)).kind, (await following(changes)).key] == ['resync', 'k']


async def test_all_iterators_of_a_server_share_one_connection_that_commands_do_not_need(
    redis_server: RedisServer, direct: Redis
) -> None:
    connection = RedisConnection(
        {'redis_host': '127.0.0.1', 'redis_port': redis_server.port, 'redis_max_connections': 3}
    )
    async with (
        PersistentRedisKVS(prefix='a:', connection=connection) as a,
        PersistentRedisKVS(prefix='b:', connection=connection) as b,
    ):
        opened = [
            await store.changes(prefix).__aenter__() for prefix in ('k1', 'k', 'k12', '', 'x') for store in (a, b)
        ]
        assert len(followers(direct)) == 1
        await a.set('k1', 1)
        await b.set('k1', 1)
        for changes in opened[:4]:
            assert (await following(changes)).key == 'k1'
        for changes in opened[:-1]:
            await changes.aclose()
        assert len(followers(direct)) == 1
        await opened[-1].aclose()
        assert await nothing_left(a)
        assert await nothing_left(b)
        await until(lambda: not followers(direct))
    await connection.close()


def test_of_prefixes_that_overlap_the_shortest_is_asked_for() -> None:
    assert without_overlaps(['ab', 'a', 'abc', 'b', 'b']) == ('a', 'b')
    assert without_overlaps(['ab', '', 'b']) == ('',)
    assert without_overlaps([]) == ()
    assert Names('p:').tracked_prefix('k') == 'p:k'


async def test_a_second_prefix_loses_no_change_of_the_first(store: Store) -> None:
    async with store.changes('a') as changes:
        for number in range(20):
            writing = asyncio.create_task(store.set(f'a{number}', 1))
            async with store.changes(f'b{number}'):
                await writing
            assert (await following(changes)).key == f'a{number}'


async def test_a_client_that_speaks_resp3_is_followed_too(redis_server: RedisServer, direct: Redis) -> None:
    connection = RedisConnection()
    async with AsyncRedis(host='127.0.0.1', port=redis_server.port, protocol=3) as client:
        connection.use(client)
        async with PersistentRedisKVS(connection=connection) as store, store.changes() as changes:
            await store.set('k', 1)
            assert (await following(changes)).key == 'k'
            run(direct, 'CLIENT', 'KILL', 'TYPE', 'PUBSUB')
            assert (await following(changes)).kind == 'resync'


# Lost connections


async def test_a_connection_that_is_cut_is_one_resync_for_each_iterator(store: Store, direct: Redis) -> None:
    async with store.changes() as one, store.changes('k') as other:
        for number in range(3):
            run(direct, 'CLIENT', 'KILL', 'TYPE', 'PUBSUB')
            assert {(await following(one)).kind, (await following(other)).kind} == {'resync'}
            await store.set(f'k{number}', 1)
            assert {(await following(one)).key, (await following(other)).key} == {f'k{number}'}


async def test_a_server_that_falls_silent_is_noticed(proxy: Proxy, direct: Redis, soon_asked: None) -> None:
    connection = proxy.connection()
    async with PersistentRedisKVS(connection=connection) as store, store.changes() as changes:
        proxy.pause()
        opened = proxy.accepted
        await until(lambda: proxy.accepted > opened)  # the silent connection was given up, and another one is tried
        direct.set('k', '1')
        proxy.resume()
        assert (await following(changes)).kind == 'resync'
    await connection.close()


async def test_a_server_that_restarts_is_one_resync() -> None:
    with RedisServer() as server:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        async with PersistentRedisKVS(connection=connection) as store, store.changes() as changes:
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            assert (await following(changes)).kind == 'resync'
            await store.set('k', 1)
            assert (await following(changes)).key == 'k'
        await connection.close()


async def test_a_server_that_is_away_is_waited_for_and_then_an_error() -> None:
    with RedisServer() as server:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        async with PersistentRedisKVS(connection=connection) as store:
            await asyncio.to_thread(server.stop)
            store.retry_timeout = 2
            with pytest.raises(StoreUnavailable, match='Is it running there'):
                await store.changes().__aenter__()
            assert await nothing_left(store)
            store.retry_timeout = SECONDS
            beginning = asyncio.ensure_future(store.changes().__aenter__())
            await asyncio.to_thread(server.start)
            changes = await beginning
            await store.set('k', 1)
            assert (await following(changes)).key == 'k'
        await connection.close()


async def test_closing_the_connection_ends_the_iterators(redis: RedisConnection, store: Store) -> None:
    async with store.changes() as changes:
        await redis.close()
        with pytest.raises(StopAsyncIteration):
            await following(changes)
        assert await nothing_left(store)


WRITER = """
import asyncio, random, sys
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS

async def main(port, name):
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': int(port)})
    async with PersistentRedisKVS(connection=connection) as store:
        number = 0
        while line := await asyncio.to_thread(sys.stdin.readline):
            for _ in range(int(line)):
                number += 1
                key = f'{random.choice("ab")}{random.randrange(100)}'
                if number % 5:
                    await store.set(key, f'{name} {number}')
                else:
                    await store.remove(key)
            print('done', flush=True)
    await connection.close()

asyncio.run(main(*sys.argv[1:]))
"""
CUTS, PROCESSES, WRITES = 50, 4, 10_000


class View:
    """What a dashboard knows of a store by its changes.

    Args:
        store: the store.
        prefix: which keys it shows.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self.resyncs = 0
        self.values: dict[str, Any] = {}
        self._store = store
        self._prefix = prefix
        self.began = asyncio.Event()

    async def follow(self) -> None:
        async with self._store.changes(self._prefix) as changes:
            self.began.set()
            async for change in changes:
                await self._show(change)

    async def _show(self, change: Change) -> None:
        if change.kind == 'resync':
            self.resyncs += 1
            self.values = await self._store.dump(prefix=self._prefix)
        elif (value := await change.value()) is None:
            self.values.pop(change.key, None)
        else:
            self.values[change.key] = value


async def test_four_processes_and_fifty_cuts_lose_no_final_state(
    proxy: Proxy, redis_server: RedisServer, direct: Redis
) -> None:
    connection = proxy.connection()
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, '-c', WRITER, str(redis_server.port), f'writer {number}'),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]
    async with PersistentRedisKVS(connection=connection) as store:
        views = {prefix: View(store, prefix) for prefix in ('', 'a')}
        async with asyncio.TaskGroup() as group:
            following_ = [group.create_task(view.follow()) for view in views.values()]
            for view in views.values():
                await view.began.wait()
            for _ in range(CUTS):
                for writer in writers:
                    assert writer.stdin is not None
                    writer.stdin.write(f'{WRITES // PROCESSES // CUTS}\n'.encode())
                proxy.cut()
                for writer in writers:
                    assert writer.stdout is not None
                    assert await writer.stdout.readline() == b'done\n'
            truth = await store.dump()
            assert len(truth) > 100
            await until(lambda: views[''].values == truth)
            await until(lambda: views['a'].values == {key: truth[key] for key in truth if key.startswith('a')})
            for task in following_:
                task.cancel()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.close()
            await writer.wait()
    for view in views.values():
        assert 0 < view.resyncs < CUTS + 1
    await connection.close()


# Sentinels and clusters


async def test_the_changes_of_the_new_master_are_announced_after_a_fail_over() -> None:
    with Sentinels() as sentinels:
        connection = RedisConnection({'redis_sentinels': sentinels.addresses(), 'redis_service_name': SERVICE})
        async with PersistentRedisKVS(connection=connection) as store, store.changes() as changes:
            await asyncio.to_thread(sentinels.fail_over_without_loss)
            assert (await following(changes)).kind == 'resync'
            await store.set('new', 1)
            while (change := await following(changes)).kind == 'resync':  # the connection was made in between
                pass
            assert change.key == 'new'
        await connection.close()


# Permissions


@asynccontextmanager
async def store_of_class(server: RedisServer) -> AsyncIterator[Store]:
    connection = RedisConnection(as_class(server.port))
    async with PersistentRedisKVS(prefix='p:', connection=connection) as store:
        yield store
    await connection.close()


@pytest.fixture
def limited(direct: Redis) -> Iterator[Redis]:
    """A server with the user ``class``, who may do what stores do without changes."""
    make_user(direct, '~p:*', *allow(COMMANDS).split())
    yield direct
    run(direct, 'ACL', 'DELUSER', 'class')


async def test_a_user_needs_these_rules_for_changes_and_no_others(limited: Redis, redis_server: RedisServer) -> None:
    make_user(limited, '~p:*', *allow(COMMANDS).split(), *CHANGES_RULES.split())
    async with store_of_class(redis_server) as store, store.changes() as changes:
        await store.set('k', 1)
        assert (await following(changes)).key == 'k'


@pytest.mark.parametrize('missing', [*allow(CHANGES_COMMANDS).split(), '&__redis__:invalidate'])
async def test_an_error_names_the_rules_that_changes_need(
    limited: Redis, redis_server: RedisServer, missing: str
) -> None:
    make_user(limited, '~p:*', *allow(COMMANDS).split(), *(set(CHANGES_RULES.split()) - {missing}), 'resetchannels')
    if missing != '&__redis__:invalidate':
        run(limited, 'ACL', 'SETUSER', 'class', '&__redis__:invalidate')
    async with store_of_class(redis_server) as store:
        await store.set('k', 1)
        with pytest.raises(StoreUnavailable) as raised:
            await store.changes().__aenter__()
        assert str(raised.value).endswith(f'To see changes, this user needs {CHANGES_RULES}.')


async def test_a_user_who_loses_the_rights_gets_the_error_in_the_loop(
    limited: Redis, redis_server: RedisServer
) -> None:
    make_user(limited, '~p:*', *allow(COMMANDS).split(), *CHANGES_RULES.split())
    async with store_of_class(redis_server) as store, store.changes() as changes:
        run(limited, 'ACL', 'SETUSER', 'class', '-client|tracking')
        run(limited, 'CLIENT', 'KILL', 'TYPE', 'PUBSUB')
        with pytest.raises(StoreUnavailable, match=r'\+client\|tracking'):
            await following(changes)
        assert await nothing_left(store)


# A class in which nothing changes


@kvs_pipeline()
async def words(event: Any, state: Any) -> Any:
    return state, state


async def test_as_long_as_nothing_changes_in_a_class_nothing_is_read(
    redis_server: RedisServer, direct: Redis, soon_asked: None
) -> None:
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': redis_server.port})
    async with PersistentRedisKVS(connection=connection) as store:
        watching = queries.watch(store, [words], map(str, range(30)))
        async with aclosing(watching), AsyncRedis(port=redis_server.port) as client, asyncio.timeout(SECONDS):
            assert len(await anext(watching)) == 30
            async with client.monitor() as monitor:
                waiting = asyncio.ensure_future(anext(watching))
                asked = [(await monitor.next_command())['command'] for _ in range(6)]  # as often as in a minute
                assert set(asked) == {'SUBSCRIBE __redis__:invalidate'}
                direct.set(make_key(words, {KeyField.STUDENT: '7'}, KeyStateType.EXTERNAL), '1')
                assert [row.student for row in await waiting] == ['7']
    await connection.close()
