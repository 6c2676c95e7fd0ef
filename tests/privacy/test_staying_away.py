"""What was erased stays away: load, copy and replay leave out what is older, and take what is newer."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from learning_observer_kvs import failed_events, privacy
from learning_observer_kvs.errors import DumpFileError, UnknownStudent
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.replay import failures, study_log
from learning_observer_kvs.replay.retry import retry
from learning_observer_kvs.replay.runner import replay
from learning_observer_kvs.stores import copy, suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from learning_observer_kvs.stream_analytics.keys import Fields, both_state_keys, make_key
from learning_observer_kvs.testing.changes import following, keys_until

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


async def files_with(text: str, folder: Path) -> str:
    """The files of a folder that have a text; read here it would take SQLite's locks away."""
    grep = ['grep', '-rlaF', text, str(folder)]
    found = await asyncio.to_thread(subprocess.run, grep, capture_output=True, text=True, check=False)
    return found.stdout


async def erased(store: Store, *ids: str, at: float | None = None) -> None:
    clock = time.time if at is None else lambda: at
    assert (await erase({'default': store}, Ids(ids), who='a test', clock=clock)).is_complete


@pytest.mark.parametrize('kind', [FilesystemKVS, SQLiteKVS])
async def test_the_log_of_changes_has_no_key_of_the_student_and_those_who_read_it_go_on(
    tmp_path: Path, kind: type[Store]
) -> None:
    make: Any = kind
    async with make(tmp_path / 'state') as store, make(tmp_path / 'state') as writer, store.changes() as changes:
        await writer.multiset(DATA)
        await erased(writer, 'bob', 'b@x')
        assert await files_with('STUDENT:bob', tmp_path) == ''
        await writer.set('b', 1)
        seen = [(await following(changes))]
        while seen[-1].kind != 'resync':
            seen.append(await following(changes))
        await writer.set('c', 1)
        await keys_until(changes, 'c')
        await writer.set('d', 1)
        assert (await following(changes)).key == 'd'


@pytest.mark.parametrize('kind', [FilesystemKVS, SQLiteKVS])
async def test_of_a_student_who_is_in_a_roster_alone_no_file_has_anything(tmp_path: Path, kind: type[Store]) -> None:
    make: Any = kind
    async with make(tmp_path / 'state') as server, make(tmp_path / 'state') as store:
        for number in range(3):
            await server.set('roster:7', {'students': [{'id': 'eve'}, {'id': 'bob', 'name': 'Bob'}], 'n': number})
        await erased(store, 'bob')
        assert await files_with('bob', tmp_path) == ''
        await server.set('roster:7', {'students': []})
        assert await files_with('bob', tmp_path) == ''


@pytest.mark.parametrize('kind', [FilesystemKVS, SQLiteKVS])
async def test_an_erasure_that_was_interrupted_before_its_end_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Store]
) -> None:
    async def killed(store: Store) -> None:
        raise asyncio.CancelledError

    make: Any = kind
    async with make(tmp_path / 'state') as store, make(tmp_path / 'state') as reader:
        await store.multiset(DATA)
        await erased(store, 'eve', at=1.0)
        async with reader.changes():
            monkeypatch.setattr(kind, 'scrub', killed)
            with pytest.raises(asyncio.CancelledError):
                await erased(store, 'bob', 'b@x', at=2.0)
            monkeypatch.undo()
            assert await files_with('STUDENT:bob', tmp_path) != ''
            for ids in (['ann'], ['bob', 'b@x']):
                with pytest.raises(UnknownStudent):
                    await erased(store, *ids, at=3.0)
            assert await files_with('STUDENT:bob', tmp_path) == ''
        found = await suppression.read(store)
        assert [found.erased(text) for text in ('eve', 'ann', 'bob', 'b@x')] == [1.0, None, 3.0, 3.0]


async def test_what_no_call_can_read_is_named_as_not_searched(redis: RedisConnection) -> None:
    async with PersistentRedisKVS(connection=redis) as store:
        await store.set(BOB, 1)
        for number in range(25):
            await redis.client().rpush(f'list-{number}', 'bob')
        receipt = await erase({'default': store}, Ids(['bob']), who='a test')
        assert receipt.is_complete
        assert len(receipt.not_reached) == 21
        assert sum('holds a list' in text for text in receipt.not_reached) == 20
        assert '5 more keys' in receipt.not_reached[-1]
        await redis.client().flushdb()


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


@pytest.mark.parametrize('long', ['x' * 1001, 'é' * 400, 'a,b' * 500])
async def test_a_long_id_stays_away_and_is_lifted_also_where_keys_have_its_digest(tmp_path: Path, long: str) -> None:
    written = quote(long, safe='')
    fields: Fields = {KeyField.STUDENT: written, EventField('doc_id'): 'd' * MAX_KEY_BYTES}
    keys = [make_key('m.r', fields, KeyStateType.INTERNAL), f'Internal,m.r,STUDENT:{written}']
    async with InMemoryKVS() as store:
        await store.multiset(dict.fromkeys(keys, 1) | {EVE: 2, 'roster:7': {'students': [{'id': written}]}})
        await store.dump(tmp_path / 'dump.json')
        receipt = await erase({'default': store}, Ids([long]), who='a test')
        assert receipt.erased.total() == 3
        await store.load(tmp_path / 'dump.json')
        assert await store.dump() == {EVE: 2, 'roster:7': {'students': []}}
        found = await privacy.suppressed({'default': store}, long)
        await privacy.lift({'default': store}, found)
        assert await privacy.suppressed({'default': store}) == {'default': []}


async def test_lifting_takes_the_entries_that_are_chosen_and_no_others() -> None:
    stores = {name: InMemoryKVS(name=name) for name in ('one', 'two')}
    await stores['one'].multiset({BOB: 1, EVE: 1})
    for student in ('bob', 'eve'):
        await erase(stores, Ids([student]), who='a test')
    every = await privacy.suppressed(stores)
    assert {name: len(entries) for name, entries in every.items()} == {'one': 2, 'two': 2}
    [bobs] = (await privacy.suppressed(stores, 'bob'))['one']
    assert (await privacy.suppressed(stores, hashes=[bobs.hash]))['two'] == [bobs]
    assert await privacy.suppressed(stores, 'eve', [bobs.hash]) == {'one': [], 'two': []}
    await privacy.lift(stores, {'one': [bobs]})
    assert {name: len(entries) for name, entries in (await privacy.suppressed(stores)).items()} == {'one': 1, 'two': 2}


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
