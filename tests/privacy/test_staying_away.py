"""What was erased stays away: load, copy and replay leave out what is older, and take what is newer."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.replay import failures, study_log
from learning_observer_kvs.replay.retry import retry
from learning_observer_kvs.replay.runner import replay
from learning_observer_kvs.stores import copy, suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from learning_observer_kvs.stream_analytics.keys import both_state_keys

BOB, EVE = ('Internal,m.r,STUDENT:bob', 'Internal,m.r,STUDENT:eve')
ROSTER = {'students': [{'id': 'bob', 'email': 'b@x'}, {'id': 'eve'}]}
DATA = {BOB: {'n': 1}, EVE: {'n': 2}, 'roster:7': ROSTER, 'email-studentID-mapping:b@x': 'bob'}
LEFT = {EVE: {'n': 2}, 'roster:7': {'students': [{'id': 'eve'}]}}


@kvs_pipeline(null_state={'n': 0}, module_override='m', qualname_override='r')
async def counting(event: Any, state: Any) -> Any:
    state['n'] += 1
    return state, state


@pytest.fixture(params=['stub', 'filesystem', 'sqlite', 'redis'])
async def store(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection) -> AsyncIterator[Store]:
    kinds: dict[str, Callable[[], Store]] = {
        'stub': InMemoryKVS,
        'filesystem': lambda: FilesystemKVS(tmp_path / 'files'),
        'sqlite': lambda: SQLiteKVS(tmp_path / 's'),
        'redis': lambda: PersistentRedisKVS(connection=redis),
    }
    async with kinds[request.param]() as store:
        await store.multiset(DATA)
        yield store


async def erased(store: Store, *ids: str, at: float | None = None) -> None:
    clock = time.time if at is None else lambda: at
    assert (await erase({'default': store}, Ids(ids), who='a test', clock=clock)).is_complete


async def test_an_older_dump_does_not_bring_the_student_back(store: Store, tmp_path: Path) -> None:
    dump = tmp_path / 'dump.json'
    await store.dump(dump)
    await erased(store, 'bob', 'b@x')
    assert await store.dump() == LEFT
    assert await store.load(dump) == 2
    assert await store.dump() == LEFT
    report = await copy.load(store, dump, overwrite=True)
    assert (report.erased, report.differing, report.doubtful) == (2, 0, 0)
    assert await store.dump() == LEFT


BACK = {BOB: {'n': 5}, EVE: {'n': 2}, 'roster:7': {'students': [{'id': 'eve'}, {'id': 'bob'}]}}


async def returned(store: Store) -> None:
    """The student was erased, and is back."""
    await erased(store, 'bob', 'b@x')
    await store.multiset(BACK)


async def by_store(store: Store, dump: Path) -> None:
    await store.load(dump)


async def by_copy(store: Store, dump: Path) -> None:
    report = await copy.load(store, dump, overwrite=True)
    assert (report.erased, report.differing, report.doubtful) == (0, 0, 0)


Load = Callable[[Store, Path], Awaitable[None]]
each_load = pytest.mark.parametrize('load', [by_store, by_copy])


@each_load
async def test_a_later_dump_brings_back_what_a_student_who_returned_has_done(
    store: Store, tmp_path: Path, load: Load
) -> None:
    await returned(store)
    assert await store.dump(tmp_path / 'dump.json') == 3
    await store.clear()
    await load(store, tmp_path / 'dump.json')
    assert await store.dump() == BACK


async def test_what_a_process_keeps_of_an_erased_student_is_in_no_dump_before_it_is_written(tmp_path: Path) -> None:
    store = InMemoryKVS(flush_interval=60)
    process_event = await counting({'auth': {'safe_user_id': 'bob'}}, router=KVSRouter(store))
    await process_event({})
    await store.flush()
    await process_event({})
    await store.commit_bytes(dict.fromkeys(both_state_keys(BOB)), {})  # another process erases the student
    await suppression.change(store, lambda found: found.with_erased(['bob'], time.time()))
    assert await store[BOB] == {'n': 2}
    assert await store.dump(tmp_path / 'dump.json') == 0
    await store.flush()
    await process_event({})
    await store.flush()
    assert await store.dump(tmp_path / 'dump.json') == 2
    assert json.loads((tmp_path / 'dump.json').read_bytes())[BOB] == {'n': 1}
    await store.close()


@each_load
async def test_a_dump_of_before_the_last_erasure_of_a_student_does_not(
    store: Store, tmp_path: Path, load: Load
) -> None:
    await returned(store)
    await store.dump(tmp_path / 'dump.json')
    await erased(store, 'bob', 'b@x')
    assert await store.load(tmp_path / 'dump.json') == 2
    assert (await copy.load(store, tmp_path / 'dump.json')).erased == 1
    assert await store.dump() == LEFT


@each_load
async def test_a_store_that_takes_a_dump_knows_who_was_erased_and_older_dumps_bring_no_student_back(
    store: Store, tmp_path: Path, load: Load
) -> None:
    await store.dump(tmp_path / 'older.json')
    await returned(store)
    await store.dump(tmp_path / 'dump.json')
    target = InMemoryKVS()
    await load(target, tmp_path / 'dump.json')
    assert await target.dump() == BACK
    assert list(await suppression.read(target)) == list(await suppression.read(store))
    assert (await copy.load(target, tmp_path / 'older.json', overwrite=True)).erased == 2
    assert await target[BOB] == {'n': 5}
    await target.dump(tmp_path / 'again.json')
    await store.clear()
    await load(store, tmp_path / 'again.json')
    assert await store[BOB] == {'n': 5}


async def test_what_a_store_has_of_a_student_when_it_hears_of_the_erasure_is_named(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = InMemoryKVS()
    await source.multiset(DATA)
    await returned(source)
    await source.dump(tmp_path / 'dump.json')
    report = await copy.load(store, tmp_path / 'dump.json')
    assert report.doubtful == 1
    assert f'{BOB!r} is in' in report.messages[0]
    assert 'erase the student here, too' in report.messages[0]
    await suppression.change(store, lambda found: suppression.Suppression())
    with caplog.at_level(logging.WARNING):
        await store.load(tmp_path / 'dump.json')
    assert 'has 1 states' in caplog.text
    await suppression.change(store, lambda found: suppression.Suppression())
    assert (await copy.copy(source, store)).doubtful == 1


async def test_a_dump_has_a_record_of_erased_students_only_where_some_were_erased(store: Store, tmp_path: Path) -> None:
    await store.dump(tmp_path / 'dump.json')
    assert json.loads((tmp_path / 'dump.json').read_bytes()) == DATA
    await erased(store, 'bob', 'b@x')
    await store.dump(tmp_path / 'dump.json', prefix='Internal')
    found = json.loads((tmp_path / 'dump.json').read_bytes())
    assert found == {'': {'suppressed': (await suppression.read(store)).as_json()}, EVE: {'n': 2}}
    assert not {'bob', 'b@x'} & {*json.dumps(found).split('"')}
    assert await store.dump() == LEFT


@pytest.mark.parametrize('layout', [{'indent': 2}, {'sort_keys': True}, {'separators': (',', ':')}])
async def test_the_record_in_a_dump_counts_in_any_layout_and_is_no_entry(tmp_path: Path, layout: Any) -> None:
    store = InMemoryKVS()
    await store.multiset(DATA)
    await returned(store)
    await store.dump(tmp_path / 'dump.json')
    about, *rest = json.loads((tmp_path / 'dump.json').read_bytes()).items()
    (tmp_path / 'dump.json').write_text(json.dumps(dict([*rest, about]), **layout))
    await store.clear()
    assert await store.load(tmp_path / 'dump.json') == 3
    assert await store.dump() == BACK


KEY = '0' * 32


@pytest.mark.parametrize(
    'record',
    [
        5, [1], 'text', {'key': {}, KEY: 5}, {KEY[1:]: {'a': 1}}, {'x' * 32: {'a': 1}}, {KEY: {'a': '1'}},
        {KEY: {'a': None}}, {KEY: {'a': -1}}, {KEY: [1]}, {f'{KEY}{KEY}': {'a': 1.0}}, {KEY: {'a': 1e999}},
    ],
)  # fmt: skip
async def test_a_dump_whose_record_is_damaged_is_refused_before_anything_is_stored(tmp_path: Path, record: Any) -> None:
    store = InMemoryKVS()
    (tmp_path / 'dump.json').write_text(json.dumps({'': {'suppressed': record}, 'a': 1}))
    for load in (store.load, functools.partial(copy.load, store)):
        with pytest.raises(DumpFileError, match='Nothing was loaded'):
            await load(tmp_path / 'dump.json')
    assert (await store.keys(), list(await suppression.read(store))) == ([], [])


async def test_an_empty_key_with_anything_else_is_an_error(tmp_path: Path) -> None:
    values: list[Any] = [1, {}, {'other': {}}, {'suppressed': {}, 'other': {}}]
    for value in values:
        (tmp_path / 'dump.json').write_text(json.dumps({'': value}))
        with pytest.raises(DumpFileError, match=r"entry 1 \(''\): A key must have at least one character"):
            await InMemoryKVS().load(tmp_path / 'dump.json')


async def test_after_clear_it_does_not_come_back_either(store: Store, tmp_path: Path) -> None:
    dump = tmp_path / 'dump.json'
    await store.dump(dump)
    await erased(store, 'bob', 'b@x')
    await store.clear()
    await store.load(dump)
    assert await store.dump() == LEFT


async def test_where_no_rule_is_known_an_entry_is_loaded_and_named(store: Store, tmp_path: Path) -> None:
    await erased(store, 'bob', 'b@x')
    (tmp_path / 'dump.json').write_text(json.dumps({'notes': {'owner': 'bob'}}))
    report = await copy.load(store, tmp_path / 'dump.json')
    assert (report.copied, report.doubtful) == (1, 1)
    assert "'notes' names an erased student" in report.messages[0]


async def test_a_copy_into_the_store_leaves_out_what_is_older_and_is_verified_all_the_same(store: Store) -> None:
    source = InMemoryKVS()
    await source.multiset(DATA)
    await erased(store, 'bob', 'b@x')
    report = await copy.copy(source, store)
    assert report.verified
    assert report.erased == 2
    assert await store.dump() == LEFT


async def test_a_copy_of_a_state_that_was_written_after_the_erasure_is_taken(store: Store, tmp_path: Path) -> None:
    async with SQLiteKVS(tmp_path / 'source') as source:
        await source.set(BOB, {'n': 9})
        await erased(store, 'bob', 'b@x', at=time.time() - 60)
        report = await copy.copy(source, store)
        assert (report.erased, report.copied, report.verified) == (0, 1, True)
        assert await store[BOB] == {'n': 9}


async def test_a_copy_takes_who_was_erased_along_and_what_came_after(store: Store, tmp_path: Path) -> None:
    dump = tmp_path / 'dump.json'
    await store.dump(dump)
    await erased(store, 'bob', 'b@x')
    await store.set(BOB, {'n': 5})  # the student is back
    target = InMemoryKVS()
    assert (await copy.copy(store, target)).verified
    assert await target[BOB] == {'n': 5}
    assert await target.load(dump) == 2
    assert await target[BOB] == {'n': 5}
    assert (await suppression.read(target)).erased('bob') is not None


def event(student: str, at: float | None) -> dict[str, Any]:
    server = {} if at is None else {'server': {'time': at}}
    return {'client': {'event': 'x'}, **server, 'metadata': {'auth': {'user_id': 'g', 'safe_user_id': student}}}


@pytest.mark.parametrize('student', ['bob', 'b%40x'])
async def test_a_replay_leaves_out_older_events_and_takes_newer_ones(
    store: Store, tmp_path: Path, student: str
) -> None:
    await erased(store, 'bob', 'b@x', at=1000.0)
    log = tmp_path / 'a.study.log'
    times = [999.0, 1000.0, None, 1001.0]
    log.write_bytes(b''.join(study_log.format_line(event(student, at), 'now') for at in times))
    report = await replay([log], [counting], router=KVSRouter(store))
    assert (report.suppressed, report.events, report.failures) == (3, 1, [])
    assert await store[f'Internal,m.r,STUDENT:{student}'] == {'n': 1}


async def test_a_replay_of_failed_events_leaves_out_older_ones_and_takes_newer_ones(
    store: Store, tmp_path: Path
) -> None:
    await erased(store, 'bob', 'b@x', at=1000.0)
    for at in (999.0, 1001.0):
        for key in (BOB, EVE):
            failed = event('[guest]', at)
            failed_events.record(failed, OSError('x'), reducer='m.r', keys=[key], folder=tmp_path / 'failed')
    rows = failures.read(failed_events.find(tmp_path / 'failed'))
    report = await retry(rows, [counting], router=KVSRouter(store))
    assert (report.suppressed, report.replayed, report.failures) == (1, 3, [])
    assert [await store[BOB], await store[EVE]] == [{'n': 1}, {'n': 4}]


async def test_an_event_of_a_student_who_returns_counts_at_once(store: Store) -> None:
    await erased(store, 'bob', 'b@x')
    process_event = await counting({'auth': {'safe_user_id': 'bob'}}, router=KVSRouter(store))
    await asyncio.gather(process_event({}), process_event({}))
    assert await store[BOB] == {'n': 2}


async def test_lifting_lets_older_data_come_back(store: Store, tmp_path: Path) -> None:
    dump = tmp_path / 'dump.json'
    await store.dump(dump)
    await erased(store, 'bob', 'b@x')
    found = await suppression.read(store)
    await suppression.change(store, lambda now: now.without([*found.hashes_of('b@x'), *found.hashes_of('bob')]))
    assert await store.load(dump) == 4
    assert (await store.dump())[BOB] == {'n': 1}


async def test_all_stores_of_an_erasure_know_one_another(tmp_path: Path) -> None:
    one, other = InMemoryKVS(name='one'), InMemoryKVS(name='other')
    await suppression.change(other, lambda found: found.with_erased(['ann'], 1.0))
    await one.multiset(DATA)
    await erase({'one': one, 'other': other}, Ids(['bob', 'b@x']), who='a test')
    first, second = await suppression.read(one), await suppression.read(other)
    assert [list(first.newer_than(second)), first.erased('bob') == second.erased('bob')] == [[], True]
    assert first.erased('ann') is None
    assert second.erased('ann') == 1.0
