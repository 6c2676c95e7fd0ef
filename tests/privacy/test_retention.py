"""States expire by when they were last written; both states of a reducer go together, and what is new stays."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from learning_observer_kvs.cli.main import main
from learning_observer_kvs.privacy.retention import expire
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.types import Described

YEAR = 365.25 * 86_400
OLD = ['Internal,m.r,STUDENT:ann', 'External,m.r,STUDENT:ann', 'Replayed,m.r,STUDENT:ann']
HALF = ['Internal,m.r,STUDENT:bob', 'External,m.r,STUDENT:bob']
NEW = ['Internal,m.r,STUDENT:eve', 'External,m.r,STUDENT:eve']
LONELY = ['External,m.s,STUDENT:ann']
OTHERS = ['roster:7', 'Internal,m.r,CLASS:7b']


@pytest.fixture(params=['sqlite', 'filesystem'])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with states that were last written six years ago, or in part, or now."""
    kind = SQLiteKVS if request.param == 'sqlite' else FilesystemKVS
    then = time.time() - 6 * YEAR
    old = [*OLD, HALF[0], *LONELY, *OTHERS]
    async with kind(tmp_path / 'store', name='k') as store:
        await store.multiset(dict.fromkeys([*old, HALF[1], *NEW], 1))
    if request.param == 'sqlite':
        with sqlite3.connect(tmp_path / 'store') as connection:
            connection.executemany('UPDATE "kvs k" SET written = ? WHERE key = ?', [(then, key) for key in old])
        connection.close()
    else:
        for key in old:
            name = ''.join(c if c.isalnum() or c == '_' else f'-{ord(c)}-' for c in key)
            os.utime(tmp_path / 'store' / name, (then, then))
    async with kind(tmp_path / 'store', name='k') as store:
        yield store


async def test_states_of_which_every_part_is_old_are_removed_and_nothing_else(store: Store) -> None:
    before = time.time() - 5 * YEAR
    seen: list[str] = []
    tried = await expire(store, before, dry_run=True, on_old=seen.append)
    assert (tried.states, tried.removed, tried.kept, tried.undated) == (2, 0, 2, 0)
    assert sorted(seen) == ['Internal,m.r,STUDENT:ann', 'Internal,m.s,STUDENT:ann']
    assert len(await store.keys()) == 10
    done = await expire(store, before)
    assert (done.states, done.removed) == (2, 2)
    assert sorted(await store.keys()) == sorted([*HALF, *NEW, *OTHERS])
    assert (await expire(store, before)).states == 0


async def test_a_state_that_is_written_meanwhile_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    describe_all = store.describe_all
    asked = []

    async def while_it_is_written(keys: Iterable[str]) -> list[Described]:
        found = await describe_all(keys)
        if OLD[0] in keys:
            asked.append(keys)
            if len(asked) == 2:  # the first time it is only asked whether it is there
                await store.set(OLD[0], 2)
        return found

    monkeypatch.setattr(store, 'describe_all', while_it_is_written)
    done = await expire(store, time.time() - 5 * YEAR)
    assert done.removed < done.states
    assert [await store[key] for key in OLD] == [2, 1, 1]


async def test_a_store_that_knows_no_times_removes_nothing_and_says_so() -> None:
    store = InMemoryKVS()
    await store.multiset(dict.fromkeys([*OLD, *OTHERS], 1))
    done = await expire(store, time.time() + 10)
    assert (done.states, done.removed, done.undated) == (0, 0, 1)
    assert len(await store.keys()) == 5


def test_the_command_takes_the_age_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, words)
        return result.exit_code, result.stdout

    Path('creds.yaml').write_text('kvs: {default: {type: filesystem, path: f}}')
    assert run('set', NEW[0], '1')[0] == 0
    assert run('expire')[0] == 2
    assert run('expire', '--older-than', 'soon')[0] == 2
    Path('creds.yaml').write_text('kvs: {default: {type: filesystem, path: f}}\nretention: {older_than: 5y}')
    assert run('expire')[0] == 0
    [file] = [path for path in (tmp_path / 'f').iterdir() if path.is_file()]
    os.utime(file, (1, 1))
    code, said = run('expire', '--dry-run', '--json')
    assert (code, json.loads(said)['states']) == (0, [NEW[0]])
    assert run('expire')[0] == 0
    assert not file.exists()
    Path('creds.yaml').write_text('kvs: {default: {type: filesystem, path: f}}\nretention: {older_than: 5 years}')
    assert run('expire')[0] == 1
