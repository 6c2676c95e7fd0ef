"""``lo-kvs dump`` of what is kept for students and by reducers: as a dump, and as rows for analysts."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli.main import main
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import kept
from learning_observer_kvs.queries.rows import flat
from learning_observer_kvs.queries.rows import rows as queries_rows
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.memory import InMemoryKVS

BOB = 'STUDENT:bob'
STATE = {
    'words': 12,
    'text': 'a, "b"\n=1',
    'ok': True,
    'rate': 0.5,
    'none': None,
    'last': {'tab': 't.0', 'list': [1, {'a': 2}]},
}
ENTRIES = {
    'Internal,a.count,STUDENT:bob': {'n': 3},
    'External,a.count,STUDENT:bob': {'events': 3, 'bytes': 7},
    'External,a.count2,STUDENT:bob': {'events': 9},
    r'External,a.count,STUDENT:doe\2c jane': [1, 2],
    'External,a.words,EventField.doc_id:D1,STUDENT:bob': STATE,
    'Internal,a.words,EventField.doc_id:D1,STUDENT:bob': {'n': 1},
    'Replayed,a.words,EventField.doc_id:D1,STUDENT:bob': ['e1'],
    'memo': {'events': 1},
}

Run = Callable[..., Result]


@pytest.fixture(params=['sqlite', 'filesystem'])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``lo-kvs dump`` on a store with the states of three reducers."""
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(f'kvs: {{default: {{type: {request.param}, path: state}}}}\n')

    async def fill() -> None:
        async with KVSRouter.from_settings('creds.yaml') as router:
            await router().multiset(ENTRIES)

    asyncio.run(fill())

    def run(*words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(main, ['dump', *words])
        assert result.exit_code == status, result.stderr
        return result

    return run


def rows(result: Result) -> list[dict[str, Any]]:
    return sorted(map(json.loads, result.stdout.splitlines()), key=lambda row: [row['reducer'], row['STUDENT']])


def test_each_external_state_is_a_row_with_a_column_for_each_entry(run: Run) -> None:
    ended = run('-', '--ndjson')
    assert '4 rows of store' in ended.stderr
    found = rows(ended)
    assert [(row['reducer'], row['STUDENT']) for row in found] == [
        ('a.count', 'bob'), ('a.count', 'doe, jane'), ('a.count2', 'bob'), ('a.words', 'bob'),
    ]  # fmt: skip
    written = [row.pop('written') for row in found]
    sizes = [len(json.dumps(value, separators=(',', ':'))) for key, value in ENTRIES.items() if 'External' in key]
    assert all(row.pop('bytes') >= min(sizes) for row in found)  # files are indented
    assert all(each is None or each.endswith('+00:00') for each in written)
    assert found[0] == {'reducer': 'a.count', 'STUDENT': 'bob', 'events': 3, 'state.bytes': 7}
    assert found[1] == {'reducer': 'a.count', 'STUDENT': 'doe, jane', 'state': [1, 2]}
    assert found[3] == {
        'reducer': 'a.words', 'EventField.doc_id': 'D1', 'STUDENT': 'bob', 'words': 12, 'text': STATE['text'],
        'ok': True, 'rate': 0.5, 'none': None, 'last.tab': 't.0', 'last.list': [1, {'a': 2}],
    }  # fmt: skip


def test_csv_has_the_columns_of_all_rows_and_reads_back_as_it_was(run: Run) -> None:
    assert '4 rows' in run('rows.csv', '--csv').stderr
    with open('rows.csv', newline='', encoding='utf-8') as file:
        read = csv.DictReader(file)
        found = sorted(read, key=lambda row: (row['reducer'], row['STUDENT']))
    columns = list(read.fieldnames or ())
    assert columns[0] == 'reducer'
    assert set(columns[1:5]) == {'STUDENT', 'EventField.doc_id', 'written', 'bytes'}
    assert set(columns[3:5]) == {'written', 'bytes'}
    words = found[3]
    assert {name: words[name] for name in ('words', 'text', 'ok', 'rate', 'none', 'last.list', 'events')} == {
        'words': '12', 'text': STATE['text'], 'ok': 'true', 'rate': '0.5', 'none': '', 'events': '',
        'last.list': '[1,{"a":2}]',
    }  # fmt: skip
    assert found[1]['state'] == '[1,2]'


@pytest.mark.parametrize(
    ('words', 'wanted'),
    [
        (['--reducer', 'a.count'], {'a.count bob', 'a.count doe, jane'}),
        (['--reducer', 'a.count', '--reducer', 'a.count2'], {'a.count bob', 'a.count doe, jane', 'a.count2 bob'}),
        (['--student', 'doe, jane'], {'a.count doe, jane'}),
        (['--student', 'bob', '--reducer', 'a.words'], {'a.words bob'}),
        (['--student', 'bob', '--student', 'doe, jane', '--reducer', 'a.count'], {'a.count bob', 'a.count doe, jane'}),
        (['--state', 'internal'], {'a.count bob', 'a.words bob'}),
    ],
)
def test_rows_are_chosen_by_student_reducer_and_state(run: Run, words: list[str], wanted: set[str]) -> None:
    found = rows(run('--ndjson', *words))
    assert {f'{row["reducer"]} {row["STUDENT"]}' for row in found} == wanted
    assert len(found) == len(wanted)


def test_without_rows_a_choice_is_a_dump_that_can_be_loaded(run: Run) -> None:
    run('bob.json', '--student', 'bob')
    dumped = json.loads(Path('bob.json').read_text())
    assert dumped == {key: value for key, value in ENTRIES.items() if key.endswith(BOB)}
    run('external.json', '--student', 'bob', '--state', 'external')
    assert {key for key in dumped if key.startswith('External')} == {*json.loads(Path('external.json').read_text())}


def test_a_file_is_not_replaced_by_nothing_or_by_what_failed(run: Run) -> None:
    Path('rows.csv').write_text('old')
    run('rows.csv', '--csv', '--student', 'absent', status=1)
    assert Path('rows.csv').read_text() == 'old'
    run('rows.csv', '--csv', '--student', 'absent', '--allow-empty')
    assert Path('rows.csv').read_text() == 'reducer\n'
    assert [path.name for path in Path().iterdir() if path.name.startswith('.rows')] == []


def test_a_prefix_goes_with_the_whole_store_alone(run: Run) -> None:
    assert '--prefix goes with none of' in run('--prefix', 'a', '--csv', status=2).stderr


@pytest.mark.parametrize(
    ('state', 'wanted'),
    [
        ({}, {}),
        (None, {'state': None}),
        (5, {'state': 5}),
        ({'a': {}, 'b': []}, {'a': {}, 'b': []}),
        ({'a.b': 1, 'a': {'b': 2}}, {r'a\.b': 1, 'a.b': 2}),
        ({'a\\': {'b': 1}}, {r'a\\.b': 1}),
        ({'STUDENT': 1, 'reducer': 2, 'written': 3}, {'state.STUDENT': 1, 'state.reducer': 2, 'state.written': 3}),
        ({'EventField': {'doc_id': 1}}, {'state.EventField.doc_id': 1}),
        ({'state': {'bytes': 1}, 'bytes': 2}, {'state.state.bytes': 1, 'state.bytes': 2}),
        ({'state': 5}, {'state.state': 5}),
        ({'': {'a': 1}, 'a': 2}, {r'\empty.a': 1, 'a': 2}),
        ({'': 1}, {r'\empty': 1}),
        ({'': {'': {'': 1}}, 'a': {'': 2}}, {r'\empty.\empty.\empty': 1, r'a.\empty': 2}),
        ({r'\empty': 1, 'empty': 2, '': 3}, {r'\\empty': 1, 'empty': 2, r'\empty': 3}),
        ({'': 1, 'state': 2}, {r'\empty': 1, 'state.state': 2}),
        ({'KeyField': {'': 1}}, {r'state.KeyField.\empty': 1}),
    ],
)
def test_no_two_entries_of_a_state_have_one_column(state: Any, wanted: dict[str, Any]) -> None:
    assert flat(state) == wanted


async def test_no_field_of_a_key_takes_the_place_of_another_column() -> None:
    names = ('reducer', 'written', 'bytes', 'state', 'n', 'KeyField.n', '', 'STUDENT', 'TEACHER', 'EventField.doc_id')
    key = ','.join(['External', 'm.f', *(f'{name}:{name}!' for name in names)])
    async with InMemoryKVS() as store:
        await store.set(key, {'n': 5, 'KeyField': {'n': 6}})
        [row] = [row async for row in queries_rows(store, kept(students=['STUDENT!']))]
    assert row == {
        'reducer': 'm.f', 'STUDENT': 'STUDENT!', 'TEACHER': 'TEACHER!', 'EventField.doc_id': 'EventField.doc_id!',
        'KeyField.reducer': 'reducer!', 'KeyField.written': 'written!', 'KeyField.bytes': 'bytes!',
        'KeyField.state': 'state!', 'KeyField.n': 'n!', 'KeyField.KeyField.n': 'KeyField.n!', 'KeyField.': '!',
        'written': None, 'bytes': 26, 'n': 5, 'state.KeyField.n': 6,
    }  # fmt: skip


def test_columns_of_fields_stand_before_those_of_the_state(run: Run) -> None:
    async def add() -> None:
        async with KVSRouter.from_settings('creds.yaml') as router:
            await router().set('External,m.f,STUDENT:ann,reducer:other', {'': 1})

    asyncio.run(add())
    header, row = run('-', '--csv', '--student', 'ann').stdout.splitlines()
    assert header == r'reducer,STUDENT,KeyField.reducer,written,bytes,\empty'
    assert row.startswith('m.f,ann,other,')


def test_a_dump_has_the_record_of_those_erased_students_whom_it_may_be_about_and_pseudonyms_of_none(run: Run) -> None:
    async def erase() -> None:
        async with KVSRouter.from_settings('creds.yaml') as router:
            await suppression.change(router(), lambda found: found.with_erased(['bob', 'ann'], 1.0))

    def erased(*words: str) -> list[str]:
        content = json.loads(run('--allow-empty', *words).stdout).get('', {'suppressed': None})
        found = suppression.Suppression(content['suppressed'])
        return [student for student in ('ann', 'bob') if found.erased(student)]

    asyncio.run(erase())
    assert erased() == erased('--reducer', 'a.count') == erased('--prefix', 'memo') == ['ann', 'bob']
    assert erased('--student', 'bob') == ['bob']
    assert erased('--student', 'doe, jane') == []
    assert erased('--pseudonymize', 'school.key') == []
