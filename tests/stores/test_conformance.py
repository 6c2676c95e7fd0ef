"""The promise, on every backend. What is special to one stands in its own file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.keys import check_key
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS, RedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.types import MISSING
from learning_observer_kvs.testing import StoreContract
from learning_observer_kvs.testing.calls import CallsContract
from learning_observer_kvs.testing.contents import ContentsContract
from learning_observer_kvs.testing.reducers import ReducersContract
from learning_observer_kvs.testing.writes import WritesContract
from tests.support.brief_contract import BriefContract
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_sentinels import SERVICE
from tests.support.redis_server import RedisServer


async def write_raw_file(store: Store, key: str, text: bytes) -> None:
    """Write a text that need not be JSON where a readable key has its file."""
    assert isinstance(store, FilesystemKVS)
    os.makedirs(store.path, exist_ok=True)
    await asyncio.to_thread(Path(store.path, key).write_bytes, text)


class TestFilesystem(StoreContract):
    @pytest.fixture(params=[False, True], ids=['flat', 'subdirs'])
    async def store(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
        async with FilesystemKVS(tmp_path / 'store', request.param) as store:
            yield store

    async def write_raw(self, store: Store, key: str, text: bytes) -> None:
        await write_raw_file(store, key, text)


class TestSQLite(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        async with SQLiteKVS(tmp_path / 'store.sqlite3') as store:
            yield store


class OwnConnection(CallsContract):
    async def leave_loop(self, store: Store) -> None:
        assert isinstance(store, RedisKVS)
        await store.close()
        await store.connection.close()


class TestRedis(OwnConnection, StoreContract):
    @pytest.fixture(params=['', 'lo*:'], ids=['bare', 'prefix'])
    async def store(self, redis: RedisConnection, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
        async with PersistentRedisKVS(prefix=request.param, connection=redis) as store:
            yield store


class TestEphemeralRedis(OwnConnection, BriefContract):
    @pytest.fixture
    async def store(self, redis: RedisConnection) -> AsyncIterator[Store]:
        async with EphemeralRedisKVS(600, connection=redis) as store:
            yield store


class TestValkey(OwnConnection, BriefContract):
    @pytest.fixture
    async def store(self, valkey_server: RedisServer) -> AsyncIterator[Store]:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': valkey_server.port})
        await connection.client().flushall()
        async with PersistentRedisKVS(connection=connection) as store:
            yield store
        await connection.close()


class TestRedisByOtherRoads(BriefContract):
    @pytest.fixture(params=['unix socket', 'password', 'tls', 'sentinel'])
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
        settings: dict[str, Any] = {}
        match request.param:
            case 'unix socket':
                settings = {'redis_socket': str(request.getfixturevalue('redis_server').socket), 'redis_db': 3}
            case 'password':
                port = request.getfixturevalue('guarded').port
                settings = {'redis_url': f'redis://class:for%20class@127.0.0.1:{port}/5'}
            case 'tls':
                settings = request.getfixturevalue('tls')
            case 'sentinel':
                addresses = request.getfixturevalue('sentinels').addresses()
                settings = {'redis_sentinels': addresses, 'redis_service_name': SERVICE}
        connection = RedisConnection(settings)
        await connection.client().flushall()
        async with PersistentRedisKVS(connection=connection) as store:
            yield store
        await connection.close()


class TestFakeRedis(ContentsContract, CallsContract, WritesContract, ReducersContract):  # it cannot track changes
    test_a_second_event_loop_uses_the_store = None  # type: ignore[assignment]  # a client handed in is of one loop

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        connection = RedisConnection()
        async with fakeredis.FakeAsyncRedis() as client:
            connection.use(client)
            async with PersistentRedisKVS(connection=connection) as store:
                yield store


class Spread(PersistentRedisKVS):
    """The tests set many keys up at once, which a cluster refuses; here they are set one by one."""

    async def multiset(self, mapping: Mapping[str, Any]) -> None:
        for key, value in mapping.items():
            self.encode(check_key(key), value)
        for key, value in mapping.items():
            await self.set(key, value)


class TestCluster(BriefContract):
    # Several keys at once are promised for those of one slot only; see test_redis_cluster.
    test_readers_never_see_half_of_a_multiset = None  # type: ignore[assignment]
    test_what_is_moved_between_keys_is_never_doubled_or_lost = None  # type: ignore[assignment]
    test_a_cancelled_write_leaves_all_of_its_keys_or_none = None  # type: ignore[assignment]

    @pytest.fixture
    async def store(self, redis_nodes: RedisNodes) -> AsyncIterator[Store]:
        redis_nodes.flush()
        connection = RedisConnection(
            {'redis_host': '127.0.0.1', 'redis_port': redis_nodes.nodes[0].port, 'redis_cluster': True}
        )
        async with Spread(prefix='lo*:', connection=connection) as store:
            yield store
        await connection.close()

    async def test_commit_writes_and_removes_only_if_the_condition_holds(self, store: Store) -> None:
        internal, external = 'Internal,r,STUDENT:{bob}', 'External,r,STUDENT:{bob}'
        await store.set(external, {'x': [1]})
        assert not await store.commit({internal: 2}, {external: {'x': [2]}})
        assert not await store.commit({internal: 2}, {external: MISSING})
        assert await store.dump() == {external: {'x': [1]}}
        assert await store.commit({internal: 2, external: MISSING}, {external: {'x': [1]}, internal: MISSING})
        assert await store.dump() == {internal: 2}


NEIGHBOURS: dict[str, list[dict[str, Any]]] = {
    'stub': [{'type': 'stub'}, {'type': 'stub'}],
    'one SQLite file': [{'type': 'sqlite', 'path': 'a.sqlite3'}, {'type': 'sqlite', 'path': 'a.sqlite3'}],
    'two folders': [{'type': 'filesystem', 'path': 'a'}, {'type': 'filesystem', 'path': 'b'}],
    'a folder in a folder': [
        {'type': 'filesystem', 'path': 'a', 'subdirs': True},
        {'type': 'filesystem', 'path': 'a/b'},
    ],
    'one Redis': [{'type': 'redis', 'prefix': 'a*:'}, {'type': 'redis', 'prefix': 'ab:'}],
    'one Redis, for a while': [
        {'type': 'redis_ephemeral', 'expiry': 60, 'prefix': 'a:'},
        {'type': 'redis', 'prefix': 'b:'},
    ],
}


@pytest.mark.parametrize('options', NEIGHBOURS.values(), ids=NEIGHBOURS.keys())
async def test_named_stores_never_share_data(
    options: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisConnection
) -> None:
    monkeypatch.chdir(tmp_path)
    _, port = redis.address().split(':')
    settings = {
        'kvs': {'default': options[0], 'other': options[1]},
        'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': int(port)},
    }

    async def count(state: Any) -> Any:
        return (state or 0) + 1, (state or 0) + 1

    async with KVSRouter.from_settings(settings) as router:
        stores = [router(), router.other()]
        for number, store in enumerate(stores):
            await store.multiset({'k': number, 'b/k': number, f'own{number}': number})
            for _ in range(number + 1):
                await worker_of(store).process('Internal,r', 'External,r', count)
        held = [{'k': n, 'b/k': n, f'own{n}': n, 'Internal,r': n + 1, 'External,r': n + 1} for n in range(len(stores))]
        assert [await store.dump() for store in stores] == held
        assert await stores[0].remove('k')
        assert not await stores[0].remove('own1')
        assert not await stores[0].compare_and_set('own1', 1, 'mine')
        await stores[0].clear()
        assert [await store.dump() for store in stores] == [{}, held[1]]
        assert await worker_of(stores[0]).process('Internal,r', 'External,r', count) == 1
        assert await worker_of(stores[1]).process('Internal,r', 'External,r', count) == 3
