"""``lo-kvs remove-reducer``: it counts, and with ``--yes`` it removes, also while servers run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli import remove_reducer
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries import Removed

KEYS = [
    f'{state},a.{name},STUDENT:{student}'
    for state in ('Internal', 'External')
    for name in ('r', 'r2')
    for student in ('bob', 'eve')
]
OTHERS = ['other', 'Replayed,a.r2,STUDENT:bob', *(key for key in KEYS if ',a.r2,' in key)]

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on a store with the keys of two reducers."""
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: k.sqlite3}}\n')

    async def fill() -> None:
        async with KVSRouter.from_settings('creds.yaml') as router:
            await router().multiset(dict.fromkeys([*KEYS, 'other', 'Replayed,a.r,STUDENT:bob', OTHERS[1]], 1))

    asyncio.run(fill())
    return lambda *words: CliRunner().invoke(main, ['remove-reducer', *words])


def keys() -> list[str]:
    async def read() -> list[str]:
        async with KVSRouter.from_settings('creds.yaml') as router:
            return sorted(await router().keys())

    return asyncio.run(read())


def test_without_yes_it_counts_and_removes_nothing(run: Run) -> None:
    before = keys()
    counted = run('a.r')
    assert counted.exit_code == 0
    assert counted.stdout == ''
    assert "5 keys of 'a.r' in store 'default'" in counted.stderr
    assert str(Path('k.sqlite3').absolute()) in counted.stderr
    assert counted.stderr.endswith('none removed. With --yes they are removed.\n')
    answer = json.loads(run('a.r', '--json').stdout)
    assert (answer['reducer'], answer['keys'], answer['store']) == ('a.r', 5, 'default')
    assert keys() == before


def test_with_yes_it_removes_every_key_of_the_reducer_and_no_other(run: Run) -> None:
    removed = run('a.r', '--yes')
    assert removed.exit_code == 0
    assert "5 keys of 'a.r' in store 'default'" in removed.stderr
    assert removed.stderr.endswith('removed.\n')
    assert keys() == sorted(OTHERS)
    again = run('a.r', '--yes')
    assert (again.exit_code, again.stdout) == (1, '')
    assert '0 keys' in again.stderr


@pytest.mark.parametrize('words', [['--yes'], []])
def test_the_json_says_what_was_done_and_a_reducer_without_keys_is_a_failure(run: Run, words: list[str]) -> None:
    answer = run('a.none', '--json', *words)
    assert answer.exit_code == 1
    found: dict[str, Any] = json.loads(answer.stdout)
    assert {name: found[name] for name in ('keys', 'removed', 'complete') if name in found} == (
        {'removed': 0, 'complete': True} if words else {'keys': 0}
    )


def test_keys_that_come_back_each_time_are_a_failure_that_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def in_vain(*arguments: object, **options: object) -> Removed:
        return Removed(7, False)

    monkeypatch.setattr(remove_reducer, 'remove_states', in_vain)
    ended = run('a.r', '--yes')
    assert ended.exit_code == 1
    assert 'came back each of 5 times' in ended.stderr
    assert 'Take it out of the servers' in ended.stderr


def test_a_store_in_memory_is_not_waited_for(run: Run) -> None:
    Path('creds.yaml').write_text('kvs: {default: {type: stub, flush_interval: 600}}\n')
    ended = run('a.r', '--yes')
    assert ended.exit_code == 3
    assert 'Waiting' not in ended.stderr
    assert 'cannot be seen from another one' in ended.stderr
