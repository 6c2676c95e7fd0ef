"""What dashboards ask, on every backend: round trips, what is found while reducers run, what is gone when removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import queries
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import Pipeline, kvs_pipeline
from tests.support.redis_nodes import RedisNodes, settings_of
from tests.support.redis_server import RedisServer

STUDENTS = [f'ls-{number:02}' for number in range(30)]
DOCUMENTS = Scope([KeyField.STUDENT, EventField('doc_id')])


def reducer(name: str, scope: Scope | None = None) -> Pipeline:
    @kvs_pipeline(null_state={'n': 0}, scope=scope, module_override='lesson', qualname_override=name)
    async def count(event: Any, state: Any) -> Any:
        return {'n': state['n'] + 1}, {'events': state['n'] + 1}

    return count


REDUCERS = [reducer(f'r{number}') for number in range(4)] + [reducer('by_document', DOCUMENTS)]


@pytest.fixture(params=['stub', 'sqlite', 'filesystem', 'redis', 'cluster'])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    connection = None
    found: Store
    match request.param:
        case 'stub':
            found = InMemoryKVS()
        case 'sqlite':
            found = SQLiteKVS(tmp_path / 'k.sqlite3')
        case 'filesystem':
            found = FilesystemKVS(tmp_path / 'files')
        case 'redis':
            server: RedisServer = request.getfixturevalue('redis_server')
            with server.client() as client:
                client.flushall()
            connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
            found = PersistentRedisKVS(connection=connection)
        case _:
            nodes: RedisNodes = request.getfixturevalue('redis_nodes')
            nodes.flush()
            connection = RedisConnection(settings_of(nodes))
            found = PersistentRedisKVS(connection=connection)
    async with found:
        yield found
    if connection is not None:
        await connection.close()


async def lesson(store: Store, students: Sequence[str] = STUDENTS, events: int = 2) -> None:
    """Every reducer gets some events of each student."""
    router = KVSRouter(default=store)

    async def one(pipeline: Pipeline, student: str) -> None:
        process_event = await pipeline({'auth': {'safe_user_id': student}}, router=router)
        for number in range(events):
            await process_event(number, {'doc_id': f'doc-{student}'})

    await asyncio.gather(*(one(pipeline, student) for pipeline in REDUCERS for student in students))


async def listed(found: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in found]


async def test_a_class_is_read_and_found_on_every_backend(store: Store) -> None:
    await lesson(store)
    documents = {student: f'doc-{student}' for student in STUDENTS}
    rows = await queries.table(store, REDUCERS, [*reversed(STUDENTS), 'absent'], documents=documents)
    assert [row.student for row in rows] == [*reversed(STUDENTS), 'absent']
    assert all(cell == ({'events': 2}, cell.key, True) for row in rows[:-1] for cell in row.cells.values())
    assert [cell.found for cell in rows[-1].cells.values()] == [False] * 5
    assert sorted(await listed(queries.students(store))) == STUDENTS
    assert sorted(await listed(queries.students(store, REDUCERS[4]))) == STUDENTS
    assert await listed(queries.documents(store, 'ls-07')) == ['doc-ls-07']
    assert await listed(queries.students_of(store, 'doc-ls-07')) == ['ls-07']
    assert sorted(await listed(queries.reducers(store))) == sorted(
        ['lesson.by_document', *(f'lesson.r{n}' for n in range(4))]
    )
    assert len(await listed(queries.states_of(store, 'ls-07'))) == 5
    assert len(await listed(queries.states_by(store, REDUCERS[0]))) == 30


async def test_pages_have_each_key_with_the_prefix_and_no_other(store: Store) -> None:
    await lesson(store, STUDENTS[:10], 1)
    for prefix in ('', 'Internal,lesson.r1,', 'nothing'):
        found = [key for page in await listed(store.pages(prefix, 7)) for key in page]
        assert sorted({*found}) == sorted(await store.keys(prefix))
    with pytest.raises(ValueError, match='limit'):
        await anext(store.pages('', 0))


async def test_reducers_that_run_begin_again_when_their_states_were_removed(store: Store) -> None:
    await lesson(store, STUDENTS[:3])
    assert await queries.remove_states(store, REDUCERS[0]) == (6, True)
    assert await queries.remove_states(store, 'lesson.r0') == (0, True)
    await lesson(store, STUDENTS[:3], 1)
    rows = await queries.table(store, REDUCERS[:2], STUDENTS[:3])
    assert [[cell.value for cell in row.cells.values()] for row in rows] == [[{'events': 1}, {'events': 3}]] * 3


async def test_what_is_not_written_yet_is_read_found_and_removed(tmp_path: Path) -> None:
    async with SQLiteKVS(tmp_path / 'k.sqlite3', flush_interval=600) as store:
        await lesson(store, STUDENTS[:3])
        [row] = await queries.table(store, REDUCERS[:1], ['ls-01'])
        assert row.cells['lesson.r0'].value == {'events': 2}
        assert sorted(await listed(queries.students(store))) == STUDENTS[:3]
        assert len(await listed(queries.states_by(store, 'lesson.r1'))) == 3
        await store.flush()
        await lesson(store, STUDENTS[:3], 1)
        assert len([key for page in await listed(store.pages('Internal,')) for key in page]) == 5 * 3
        waited = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        assert await queries.remove_states(store, 'lesson.r1', sleep=sleep) == (6, True)
        assert waited == [601]
        await store.flush()
        assert await store.keys('Internal,lesson.r1,') == []
        assert len(await store.keys('Internal,')) == 4 * 3


async def test_a_table_of_30_students_and_5_reducers_is_one_round_trip_on_redis(
    redis: RedisConnection, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PersistentRedisKVS(connection=redis) as store:
        await lesson(store, events=1)
        documents = {student: f'doc-{student}' for student in STUDENTS}
        await queries.table(store, REDUCERS, STUDENTS, documents=documents)  # the server knows the script now
        packets: list[int] = []
        exchange = PinnedConnection.exchange

        async def counted(
            connection: PinnedConnection, commands: Sequence[Command], timeout: float | None
        ) -> list[Any]:
            packets.append(len(commands))
            return await exchange(connection, commands, timeout)

        monkeypatch.setattr(PinnedConnection, 'exchange', counted)
        with redis_server.client() as client:
            before = client.info('commandstats')
            rows = await queries.table(store, REDUCERS, STUDENTS, documents=documents, state='internal')
            after = client.info('commandstats')
    assert all(cell == ({'n': 1}, cell.key, True) for row in rows for cell in row.cells.values())
    calls = {
        name: stats['calls'] - before.get(name, {'calls': 0})['calls']
        for name, stats in after.items()
        if name not in ('cmdstat_info', 'cmdstat_hello', 'cmdstat_client|setinfo', 'cmdstat_select')
    }
    assert packets == [8]  # 150 keys, twenty in each call of the script that reads
    assert {name: number for name, number in calls.items() if number} == {'cmdstat_evalsha': 8, 'cmdstat_get': 150}
