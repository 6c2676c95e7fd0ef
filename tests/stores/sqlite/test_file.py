"""The file of a store: opened, refused, damaged, on disks that fail."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import CorruptValue, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.sqlite.file import APPLICATION_ID
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.types import Description
from tests.support.disks import foreign_directory, read_only, small_disk
from tests.support.programs import run
from tests.support.reducing import reduce_anything
from tests.support.sqlite import sql


def beside(path: Path) -> dict[str, bytes]:
    """The files in the directory: the database and what SQLite put beside it."""
    return {found.name: found.read_bytes() for found in path.parent.iterdir() if found.is_file()}


def garble(path: Path) -> None:
    """Damage all but the first page."""
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


def plant(path: Path, text: str) -> None:
    """Write a file as another program would."""
    path.write_text(text)


async def test_the_file_is_marked_and_the_table_is_named_as_the_store(path: Path) -> None:
    async with SQLiteKVS(path, name='the "default"') as store:
        await store.set('k', {'a': 1})
        assert sql(path, 'SELECT key, value FROM "kvs the ""default"""') == [('k', b'{"a":1}')]
        assert sql(path, 'PRAGMA application_id') == [(APPLICATION_ID,)]
        assert sql(path, 'PRAGMA journal_mode') == [('wal',)]


async def test_stores_of_one_file_have_a_table_each(path: Path) -> None:
    async with SQLiteKVS(path, name='a') as a, SQLiteKVS(path, name='b') as b:
        await asyncio.gather(a.set('k', 1), b.set('k', 2))
        await a.clear()
        assert (await a.dump(), await b.dump()) == ({}, {'k': 2})


@pytest.mark.parametrize(('synchronous', 'level'), [('full', 2), ('normal', 1)])
async def test_every_connection_has_the_chosen_level_of_synchronising(
    path: Path, synchronous: str, level: int, opened: list[sqlite3.Connection]
) -> None:
    async with SQLiteKVS(path, synchronous) as store:
        await store.set('k', 1)
        await store['k']
        assert len(opened) == 3
        assert {connection.execute('PRAGMA synchronous').fetchone() for connection in opened} == {(level,)}


async def test_a_connection_that_cannot_be_set_up_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[sqlite3.Connection] = []

    class Failing(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if 'fullfsync' in arguments[0]:
                raise sqlite3.OperationalError('disk I/O error')
            return super().execute(*arguments)

        def close(self) -> None:
            closed.append(self)
            super().close()

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, 'connect', lambda *given, **options: connect(*given, factory=Failing, **options))
    async with SQLiteKVS(path, retry_timeout=0) as store:
        with pytest.raises(StoreUnavailable, match='disk I/O error'):
            await store.set('k', 1)
    assert len(closed) == 1


async def test_a_relative_path_is_taken_from_the_working_directory_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with SQLiteKVS('a/b/state') as store:
        monkeypatch.chdir('/')
        await store.set('k', 1)
    assert (tmp_path / 'a' / 'b' / 'state').exists()


async def test_closing_leaves_one_file(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    await store['k']
    await store.close()
    assert list(beside(path)) == [path.name]


FOREIGN = {
    'a database': ['CREATE TABLE t (x)', "INSERT INTO t VALUES ('precious')"],
    'an empty database': ['CREATE TABLE t (x)', 'DROP TABLE t'],
    'a database with its own mark': ['PRAGMA application_id = 7'],
}


async def refused(path: Path, match: str) -> None:
    before = beside(path)
    async with SQLiteKVS(path) as store:
        for call in (lambda: store['k'], lambda: store.set('k', 1), store.clear, store.keys):
            with pytest.raises(StoreUnavailable, match=match):
                await call()
    assert beside(path) == before


@pytest.mark.parametrize('mode', ['delete', 'wal'])
@pytest.mark.parametrize('statements', FOREIGN.values(), ids=FOREIGN.keys())
async def test_another_programs_database_is_not_touched(path: Path, statements: list[str], mode: str) -> None:
    sql(path, f'PRAGMA journal_mode = {mode}', *statements)
    await refused(path, 'another program')


DIES_WITH_A_LOG = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA journal_mode = WAL')
connection.execute('CREATE TABLE t (x)')
os._exit(0)
"""


async def test_the_log_that_another_program_left_is_not_touched(path: Path) -> None:
    run(DIES_WITH_A_LOG, path)
    assert beside(path).keys() == {path.name, f'{path.name}-wal', f'{path.name}-shm'}
    await refused(path, 'another program')


async def test_a_file_that_is_not_a_database_is_not_touched(path: Path) -> None:
    plant(path, 'precious ' * 100)
    await refused(path, 'not an SQLite file')


async def test_a_directory_or_a_pipe_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    await refused(tmp_path / 'pipe', 'not a regular file')
    async with SQLiteKVS(tmp_path) as store:
        with pytest.raises(StoreUnavailable, match='it is a folder'):
            await store.set('k', 1)


async def test_a_parent_that_is_a_file_is_reported(tmp_path: Path) -> None:
    plant(tmp_path / 'file', 'x')
    async with SQLiteKVS(tmp_path / 'file' / 'state') as store:
        with pytest.raises(StoreUnavailable, match='Choose another path'):
            await store.set('k', 1)


async def test_an_empty_file_is_used(path: Path) -> None:
    plant(path, '')
    async with SQLiteKVS(path) as store:
        await store.set('k', 1)
        assert await store['k'] == 1


# Damage


async def test_a_corrupt_row_is_reported_and_not_overwritten(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    sql(path, """UPDATE "kvs sqlite" SET value = CAST('{"a": ' AS BLOB)""")
    for call in (
        lambda: store['k'],
        lambda: store.multiget(['other', 'k']),
        lambda: store.update('k', lambda value: 1),
        lambda: store.compare_and_set('k', 1, 2),
        lambda: reduce_anything(store, 'k'),
    ):
        with pytest.raises(CorruptValue, match='Remove the key, or repair'):
            await call()
    assert sql(path, 'SELECT value FROM "kvs sqlite"') == [(b'{"a": ',)]
    assert await store.remove('k')


async def test_a_key_is_described_by_its_row(store: SQLiteKVS, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, 'time', lambda: 1_700_000_000.5)
    await store.set('k', {'a': 'é'})
    assert await store.describe('k') == Description(len('{"a":"é"}'.encode()), None, 1_700_000_000.5)
    await store.close()
    assert await store.describe('k') == Description(10, None, 1_700_000_000.5)


async def test_a_row_that_was_put_in_by_hand_as_text_is_read_and_compared(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    sql(path, """UPDATE "kvs sqlite" SET value = '{"é": 1}'""")
    assert await store['k'] == {'é': 1}
    assert await store.compare_and_set('k', {'é': 1}, 2)
    assert await store['k'] == 2


async def test_a_damaged_file_is_reported(path: Path) -> None:
    async with SQLiteKVS(path) as store:
        await store.multiset({f'k{number}': 'x' * 5000 for number in range(100)})
    garble(path)
    async with SQLiteKVS(path) as store:
        with pytest.raises(StoreUnavailable, match=r'damaged; restore it'):
            await store.multiget([f'k{number}' for number in range(100)])


# Disks that fail


async def test_a_full_disk_is_reported_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with SQLiteKVS(disk / 'state', retry_timeout=0.5) as store:
            await store.set('k', 'old')
            with pytest.raises(StoreUnavailable, match='Nothing was written'):
                await store.multiset({'k': 'new', 'l': 'x' * (2 << 20)})
            assert await store.dump() == {'k': 'old'}
            await store.set('k', 'small')
        async with SQLiteKVS(disk / 'state') as store:
            assert await store.dump() == {'k': 'small'}


async def test_a_read_only_directory_refuses_writes() -> None:
    with foreign_directory() as directory:
        async with SQLiteKVS(directory / 'state') as store:
            await store.set('k', 1)
            await store.close()
            with read_only(directory):
                for call in (store.set('k', 2), store.remove('k'), store.clear()):
                    with pytest.raises(StoreUnavailable, match='writable for this user'):
                        await call
            assert await store['k'] == 1


@pytest.mark.parametrize(
    ('code', 'kind'),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, WriteUnclear),
        (sqlite3.SQLITE_IOERR_WRITE, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreUnavailable),
    ],
)
async def test_a_commit_that_fails_is_unclear_where_its_end_may_be_in_the_log(
    path: Path, code: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = False

    class Connection(sqlite3.Connection):
        def execute(self, executed: str, *arguments: Any) -> sqlite3.Cursor:
            if not armed or executed != 'COMMIT':
                return super().execute(executed, *arguments)
            error = sqlite3.OperationalError('disk I/O error')
            error.sqlite_errorcode = code
            raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, 'connect', lambda *args, **options: connect(*args, **options, factory=Connection))
    async with SQLiteKVS(path, retry_timeout=0) as store:
        await store.set('k', 1)
        armed = True
        with pytest.raises(kind, match='disk I/O error'):
            await store.set('k', 2)
        armed = False
        await store.set('l', 3)
        assert await store.dump() == {'k': 1, 'l': 3}
