"""Files and folders that are removed or replaced while a store has them open: it stops, and acknowledges nothing."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.directory import ChangeStep
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.pinned_files import PinnedFiles, mark_replaced
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.support.files import link
from tests.support.reducing import reduce_anything

Replace: TypeAlias = Callable[[Path], None]

LONG = 'x' * 300
"""A key without a readable file name."""

STOPPED = 'was removed or replaced while it was in use'


def make_store(kind: str, path: Path) -> Store:
    return SQLiteKVS(path) if kind == 'sqlite' else FilesystemKVS(path)


async def fill(kind: str, path: Path, value: str) -> None:
    async with make_store(kind, path) as store:
        await store.multiset({'k': value, LONG: value})


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name('away'))


def remove_with_all_beside(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_the_folder_above(path: Path) -> None:
    path.parent.rename(path.parent.with_name('away'))


def replace_by_another(path: Path) -> None:
    move_away(path)
    path.with_name('another').rename(path)


def replace_by_an_empty_one(path: Path) -> None:
    is_dir = path.is_dir()
    remove(path)
    path.mkdir() if is_dir else path.touch()


def remove_log(path: Path) -> None:
    path.with_name(f'{path.name}-wal').unlink()


def replace_log(path: Path) -> None:
    log = path.with_name(f'{path.name}-wal')
    copy = path.with_name('copy')
    shutil.copy(log, copy)
    copy.replace(log)


def remove_shared_memory(path: Path) -> None:
    path.with_name(f'{path.name}-shm').unlink()


def remove_hidden_folder(path: Path) -> None:
    shutil.rmtree(path / META_DIR)


def remove_lock(path: Path) -> None:
    (path / META_DIR / 'lock').unlink()


EACH: list[Replace] = [
    remove,
    move_away,
    remove_with_all_beside,
    move_the_folder_above,
    replace_by_another,
    replace_by_an_empty_one,
]
CASES = [
    *(('sqlite', replace) for replace in (*EACH, remove_log, replace_log, remove_shared_memory)),
    *(('filesystem', replace) for replace in (*EACH, remove_hidden_folder, remove_lock)),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is, in a folder of its own."""
    (tmp_path / 'data').mkdir()
    return tmp_path / 'data' / 'store'


async def stopped(call: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(StoreUnavailable, match=STOPPED) as caught:
        await call()
    assert not caught.value.retry


async def stops_soon(call: Callable[[], Awaitable[Any]]) -> None:
    """Small reads of SQLite look at the file ten times a second."""
    async with asyncio.timeout(20):
        while True:
            outcome: object
            [outcome] = await asyncio.gather(call(), return_exceptions=True)
            if isinstance(outcome, StoreUnavailable) and STOPPED in str(outcome):
                return


def found(path: Path) -> set[Path]:
    return {below for below in path.parent.parent.rglob('*') if '-wal' not in below.name and '-shm' not in below.name}


@pytest.mark.parametrize(('kind', 'replace'), CASES)
async def test_after_a_replacement_every_write_is_refused_and_nothing_new_is_made(
    kind: str, replace: Replace, path: Path
) -> None:
    await fill(kind, path.with_name('another'), 'another')
    await fill(kind, path, 'old')
    async with make_store(kind, path) as store:
        await store.set('k', 'new')
        assert await store['k'] == 'new'
        replace(path)
        before = found(path)
        for _ in range(2):
            await stopped(lambda: store.set('k', 'newer'))
            await stopped(lambda: store.multiset({'k': 'newer', LONG: 'newer'}))
            await stopped(lambda: store.remove('k'))
            await stopped(store.clear)
            await stopped(lambda: store.compare_and_set('k', 'new', 'newer'))
            await stopped(lambda: store.update('k', lambda value: 'newer'))
            await stopped(lambda: reduce_anything(store, 'k'))
        assert found(path) == before


@pytest.mark.parametrize(('kind', 'replace'), CASES)
async def test_after_a_replacement_reads_are_refused_and_say_why(kind: str, replace: Replace, path: Path) -> None:
    await fill(kind, path.with_name('another'), 'another')
    async with make_store(kind, path) as store:
        await store.multiset({'k': 'old', LONG: 'old'})
        assert await store['k'] == 'old'
        replace(path)
        await stops_soon(lambda: store['k'])
        await stopped(lambda: store['k'])
        for call in (store.keys, store.dump, store.health_check, lambda: store.describe('k')):
            await stopped(call)
        await stopped(lambda: store.multiget(['k'] * 99))


@pytest.mark.parametrize('kind', ['sqlite', 'filesystem'])
async def test_a_store_that_was_closed_after_a_replacement_opens_what_is_there(kind: str, path: Path) -> None:
    await fill(kind, path.with_name('another'), 'another')
    async with make_store(kind, path) as store:
        await store.set('k', 'old')
        replace_by_another(path)
        await stopped(lambda: store.set('k', 'new'))
        await store.close()
        assert await store['k'] == 'another'
        await store.set('k', 'new')
        assert await store.dump() == {'k': 'new', LONG: 'another'}
    async with make_store(kind, path.with_name('away')) as store:
        assert await store['k'] == 'old'


@pytest.mark.parametrize('kind', ['sqlite', 'filesystem'])
async def test_a_store_behind_a_link_stops_when_the_link_leads_elsewhere(kind: str, path: Path) -> None:
    await fill(kind, path.with_name('a'), 'a')
    await fill(kind, path.with_name('b'), 'b')
    link(path, path.with_name('a'))
    async with make_store(kind, path) as store:
        assert await store['k'] == 'a'
        await store.set('k', 'new')
        remove(path)
        link(path, path.with_name('b'))
        await stopped(lambda: store.set('k', 'newer'))


@pytest.mark.parametrize('kind', ['sqlite', 'filesystem'])
async def test_a_store_that_another_thread_or_loop_opens_after_a_replacement_is_not_opened_anew(
    kind: str, path: Path
) -> None:
    async with make_store(kind, path) as store:
        await store.set('k', 'old')
        remove(path)
        before = found(path)

        async def use() -> None:
            await stopped(lambda: store['k'])

        await asyncio.to_thread(asyncio.run, use())
        assert found(path) == before


@pytest.mark.parametrize('is_noticed', [True, False])
async def test_what_was_acknowledged_before_the_log_was_removed_is_there_when_the_store_was_closed(
    path: Path, is_noticed: bool
) -> None:
    async with SQLiteKVS(path) as store:
        await store.multiset({f'k{number}': number for number in range(100)})
        remove_log(path)
        if is_noticed:
            await stopped(lambda: store.set('k', 1))
    async with SQLiteKVS(path) as store:
        assert await store.dump() == {f'k{number}': number for number in range(100)}


@pytest.mark.parametrize('is_noticed', [True, False])
async def test_what_another_program_has_written_to_the_log_since_stays_there(path: Path, is_noticed: bool) -> None:
    await fill('sqlite', path.with_name('another'), 'another')
    async with SQLiteKVS(path) as store:
        await store.set('k', 'old')
        replace_by_another(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("""UPDATE "kvs sqlite" SET value = CAST('"others"' AS BLOB)""")
            if is_noticed:
                await stopped(lambda: store.set('k', 'new'))
            await store.close()
            rows = other.execute('SELECT value FROM "kvs sqlite"').fetchall()
        assert set(rows) == {(b'"others"',)}


# The moment between looking and acknowledging


def test_of_a_batch_during_which_the_file_was_replaced_what_may_be_written_is_unclear() -> None:
    written, refused, lost, failed = requests = [WriteRequest({}, {}, lambda outcome: None) for _ in range(4)]
    written.result = True
    lost.error = WriteUnclear('perhaps')
    failed.result, failed.error = True, StoreUnavailable('full')
    mark_replaced(requests, replaced := StoreUnavailable('replaced'))
    assert [type(request.error) for request in (written, lost)] == [WriteUnclear] * 2
    assert [request.error for request in (refused, failed)] == [replaced] * 2


@pytest.mark.parametrize('statement', ['BEGIN IMMEDIATE', 'COMMIT'])
@pytest.mark.parametrize('after', [False, True])
async def test_a_write_during_which_the_file_is_replaced_is_not_acknowledged(
    path: Path, statement: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = False

    class Connection(sqlite3.Connection):
        def execute(self, executed: str, *arguments: Any) -> sqlite3.Cursor:
            nonlocal armed
            if not armed or executed != statement:
                return super().execute(executed, *arguments)
            armed = False
            if not after:
                replace_by_another(path)
            result = super().execute(executed, *arguments)
            if after:
                replace_by_another(path)
            return result

    connect = sqlite3.connect
    await fill('sqlite', path.with_name('another'), 'another')
    monkeypatch.setattr(sqlite3, 'connect', lambda *rest, **options: connect(*rest, factory=Connection, **options))
    async with SQLiteKVS(path) as store:
        await store.set('k', 'old')
        armed = True
        with pytest.raises(WriteUnclear, match=STOPPED):
            await store.set('k', 'new')
        await stopped(lambda: store.set('k', 'newer'))


@pytest.mark.parametrize('keys', [['k'], ['k', LONG]])
@pytest.mark.parametrize('replace', [*EACH, remove_hidden_folder])
@pytest.mark.parametrize('step', ['stage', 'journal', 'count', 'rename', 'finish'])
async def test_a_change_during_which_the_folder_is_replaced_is_not_acknowledged(
    path: Path, step: ChangeStep, replace: Replace, keys: list[str]
) -> None:
    await fill('filesystem', path.with_name('another'), 'another')
    async with FilesystemKVS(path) as store:
        await store.multiset(dict.fromkeys(['k', LONG], 'old'))
        reached: list[ChangeStep] = []

        def replace_at(this: ChangeStep) -> None:
            if this == step and not reached:
                reached.append(this)
                replace(path)

        store.directory.before_step = replace_at
        [outcome] = await asyncio.gather(store.multiset(dict.fromkeys(keys, 'new')), return_exceptions=True)
        if reached:  # a single file needs no journal
            assert isinstance(outcome, StoreUnavailable | WriteUnclear)
            assert STOPPED in str(outcome)
            await stopped(lambda: store.set('k', 'newer'))


async def test_of_changes_after_which_the_folder_was_replaced_what_was_written_is_unclear(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FilesystemKVS(path, retry_timeout=0) as store:
        await store.set('k', 1)
        change, loop = store.directory.change, asyncio.get_running_loop()

        def fail(pinned: PinnedFiles) -> None:
            raise StoreUnavailable('replaced')

        with monkeypatch.context() as patch:

            def change_and_replace(*arguments: Any) -> None:
                change(*arguments)
                patch.setattr(PinnedFiles, 'check', fail)

            patch.setattr(store.directory, 'change', change_and_replace)
            written, refused = loop.create_future(), loop.create_future()
            store.submit({'k': b'2'}, {}, written.set_result)
            store.submit({'l': b'3'}, {'l': b'2'}, refused.set_result)
            outcomes = await asyncio.gather(written, refused)
        assert [type(outcome) for outcome in outcomes] == [WriteUnclear, StoreUnavailable]
        assert await store['k'] == 2
