"""``lo-kvs stats``: keys and bytes by reducer, and how many events are kept as failed."""

from __future__ import annotations

import asyncio
import json
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
