"""``lo-kvs stats``: keys and bytes by reducer, and how many events are kept as failed."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs import failed_events
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.kvs import KVSRouter


@pytest.fixture
def _filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with the states of two reducers, and another key."""
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: k.sqlite3}}\n')
    states = {f'{state},a.r,STUDENT:{student}': 'x' * 8 for state in ('Internal', 'External') for student in 'bc'}

    async def fill() -> None:
        async with KVSRouter.from_settings('creds.yaml') as router:
            await router().multiset(states | {'Internal,a.r2,STUDENT:b': 1, 'other': 22})

    asyncio.run(fill())


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ['stats', *words])


@pytest.mark.usefixtures('_filled')
def test_keys_and_bytes_are_counted_by_reducer_and_the_rest_apart() -> None:
    found = json.loads(run('--json').stdout)
    assert found['reducers'] == {
        'a.r': {'internal_keys': 2, 'internal_bytes': 20, 'external_keys': 2, 'external_bytes': 20},
        'a.r2': {'internal_keys': 1, 'internal_bytes': 1, 'external_keys': 0, 'external_bytes': 0},
    }
    assert found['other'] == {'keys': 1, 'bytes': 2}
    assert found['failed_events'] == 0
    assert (found['store'], found['location']) == ('default', str(Path('k.sqlite3').absolute()))


@pytest.mark.usefixtures('_filled')
def test_people_get_a_line_for_each_reducer_and_the_store_by_its_path() -> None:
    shown = run()
    assert shown.stdout.splitlines()[0] == 'a.r: 2 internal states, 20 bytes; 2 external states, 20 bytes'
    assert 'Other keys: 1 key, 2 bytes' in shown.stdout
    assert "6 keys in store 'default'" in shown.stderr


@pytest.mark.usefixtures('_filled')
def test_events_that_are_kept_as_failed_are_counted() -> None:
    for number in range(3):
        failed_events.record(number, ValueError(), reducer='a.r', keys=['k'], folder='failed-events')
    assert json.loads(run('--json').stdout)['failed_events'] == 3


@pytest.mark.usefixtures('_filled')
def test_a_store_that_is_not_there_is_an_error_and_not_a_count_of_zero() -> None:
    Path('k.sqlite3').unlink()
    assert run('--json').exit_code == 3


@pytest.mark.usefixtures('_filled')
def test_what_has_the_name_of_a_file_of_failed_events_and_is_none_is_left_alone() -> None:
    failed_events.record(1, ValueError(), reducer='a.r', keys=['k'], folder='failed-events')
    os.mkfifo('failed-events/failed-events-1.jsonl')
    Path('failed-events/failed-events-2.jsonl').mkdir()
    Path('failed-events/failed-events-3.jsonl').symlink_to('none')
    shown = run('--json')
    found = json.loads(shown.stdout)
    assert (shown.exit_code, found['failed_events'], found['unreadable']) == (0, 1, 0)


@pytest.mark.usefixtures('_filled')
def test_lines_that_are_not_failed_events_are_counted_apart_and_named() -> None:
    path = failed_events.record(1, ValueError(), reducer='a.r', keys=['k'], folder='failed-events')
    failed_events.record({1}, ValueError(), reducer='a.r', keys=['k'], folder='failed-events')
    with path.open('a') as file:
        file.write('x\n' * 30)
    shown = run('--json')
    found = json.loads(shown.stdout)
    assert (shown.exit_code, found['failed_events'], found['unreadable']) == (1, 1, 31)
    assert len(found['messages']) == 20
    assert ':2  the event of a.r is not JSON' in found['messages'][0]
    said = run()
    assert said.exit_code == 1
    assert ':3  the line is not JSON' in said.stderr
    assert '… and 11 more.' in said.stderr
    assert 'Other keys: 1 key, 2 bytes' in said.stdout


@pytest.mark.usefixtures('_filled')
def test_a_folder_of_failed_events_that_cannot_be_read_is_named_beside_the_counts() -> None:
    Path('failed-events').write_text('a file')
    shown = run('--json')
    found = json.loads(shown.stdout)
    assert (shown.exit_code, found['other'], found['unreadable']) == (1, {'keys': 1, 'bytes': 2}, 1)
    assert found['messages'] == [f'{Path("failed-events").absolute()} cannot be read: Not a directory.']
