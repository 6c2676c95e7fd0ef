"""What is special to ``type: sqlite``; the promise of every store stands in ``test_promise.py``."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import CorruptValue, StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.sqlite import database
from learning_observer_kvs.stores.sqlite.database import APPLICATION_ID, LOG_BYTES, after_prefix
from learning_observer_kvs.stores.sqlite.store import KEYS_HERE, READ_HERE, SQLiteKVS
from learning_observer_kvs.stores.types import Description
from tests.support.disks import folder_of_others, read_only, small_disk
from tests.support.killed_writer import check, killer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'state.sqlite3'


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteKVS]:
    async with SQLiteKVS(path) as store:
        yield store


def run(program: str, *arguments: object) -> None:
    """Run a program of Python to its end; it may fork."""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program, *map(str, arguments)], check=True, timeout=60)


def sql(path: Path, *statements: str) -> list[Any]:
    """What another program does with the file; the rows of the last statement."""
    rows: list[Any] = []
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def beside(path: Path) -> dict[str, bytes]:
    """The file and whatever SQLite put beside it."""
    return {found.name: found.read_bytes() for found in path.parent.iterdir() if found.is_file()}


def garble(path: Path) -> None:
    """Damage all but the first page."""
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


def plant(path: Path, text: str) -> None:
    """A file of somebody else."""
    path.write_text(text)


# The file


async def test_the_file_is_marked_as_ours_and_the_table_is_named_as_the_store(path: Path) -> None:
    async with SQLiteKVS(path, name='the "default"') as store:
        await store.set('k', {'a': 1})
        assert sql(path, 'SELECT key, value FROM "kvs the ""default"""') == [('k', b'{"a":1}')]
        assert sql(path, 'PRAGMA application_id') == [(APPLICATION_ID,)]
        assert sql(path, 'PRAGMA journal_mode') == [('wal',)]


async def test_stores_of_one_file_have_each_their_own_table(path: Path) -> None:
    async with SQLiteKVS(path, name='a') as a, SQLiteKVS(path, name='b') as b:
        await asyncio.gather(a.set('k', 1), b.set('k', 2))
        await a.clear()
        assert (await a.dump(), await b.dump()) == ({}, {'k': 2})


@pytest.mark.parametrize(('synchronous', 'level'), [('full', 2), ('normal', 1)])
async def test_the_level_of_synchronising_is_set_where_it_is_written(path: Path, synchronous: str, level: int) -> None:
    async with SQLiteKVS(path, synchronous) as store:
        await store.set('k', 1)
        await store['k']
        connections = list(store._connections._by_thread.values())
        assert len(connections) == 3
        assert {connection.execute('PRAGMA synchronous').fetchone() for connection in connections} == {(level,)}


async def test_a_relative_path_means_the_working_directory_of_the_beginning(
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


async def test_a_file_that_is_no_database_is_not_touched(path: Path) -> None:
    plant(path, 'precious ' * 100)
    await refused(path, 'no SQLite file')


async def test_a_folder_or_a_pipe_in_the_files_place_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    await refused(tmp_path / 'pipe', 'no regular file')
    async with SQLiteKVS(tmp_path) as store:
        with pytest.raises(StoreUnavailable, match='it is a folder'):
            await store.set('k', 1)


async def test_a_parent_that_is_a_file_is_told(tmp_path: Path) -> None:
    plant(tmp_path / 'file', 'x')
    async with SQLiteKVS(tmp_path / 'file' / 'state') as store:
        with pytest.raises(StoreUnavailable, match='Choose another path'):
            await store.set('k', 1)


async def test_an_empty_file_is_taken(path: Path) -> None:
    plant(path, '')
    async with SQLiteKVS(path) as store:
        await store.set('k', 1)
        assert await store['k'] == 1


# Corrupt


async def fold_anything(store: SQLiteKVS) -> Any:
    async def step(state: Any) -> Any:
        return 1, 2

    return await worker_of(store).process('k', 'External', step)


async def test_a_corrupt_row_is_told_and_not_overwritten(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    sql(path, """UPDATE "kvs sqlite" SET value = CAST('{"a": ' AS BLOB)""")
    for call in (
        lambda: store['k'],
        lambda: store.multiget(['other', 'k']),
        lambda: store.update('k', lambda value: 1),
        lambda: store.compare_and_set('k', 1, 2),
        lambda: fold_anything(store),
    ):
        with pytest.raises(CorruptValue, match='Nothing was overwritten'):
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


async def test_a_damaged_file_is_told(path: Path) -> None:
    async with SQLiteKVS(path) as store:
        await store.multiset({f'k{number}': 'x' * 5000 for number in range(100)})
    garble(path)
    async with SQLiteKVS(path) as store:
        with pytest.raises(StoreUnavailable, match=r'damaged; restore it'):
            await store.multiget([f'k{number}' for number in range(100)])


# Disks that refuse


async def test_a_full_disk_is_told_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with SQLiteKVS(disk / 'state') as store:
            await store.set('k', 'old')
            with pytest.raises(StoreUnavailable, match='Nothing was written'):
                await store.multiset({'k': 'new', 'l': 'x' * (2 << 20)})
            assert await store.dump() == {'k': 'old'}
            await store.set('k', 'small')
        async with SQLiteKVS(disk / 'state') as store:
            assert await store.dump() == {'k': 'small'}


async def test_a_folder_that_may_only_be_read_refuses_writes() -> None:
    with folder_of_others() as folder:
        async with SQLiteKVS(folder / 'state') as store:
            await store.set('k', 1)
            await store.close()
            with read_only(folder):
                for call in (store.set('k', 2), store.remove('k'), store.clear()):
                    with pytest.raises(StoreUnavailable, match='writable for this user'):
                        await call
            assert await store['k'] == 1


# Several processes

ADD = """
import asyncio, sys
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
async def main():
    async with SQLiteKVS(sys.argv[1]) as store:
        await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(100)))
asyncio.run(main())
"""


async def test_updates_of_several_processes_that_begin_together_are_all_counted(store: SQLiteKVS, path: Path) -> None:
    await asyncio.gather(*(asyncio.to_thread(run, ADD, path) for _ in range(4)))
    assert await store['n'] == 400


async def test_a_write_of_another_process_is_seen_at_once(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    assert await store['k'] == 1
    sql(path, """UPDATE "kvs sqlite" SET value = '2'""")
    assert await store['k'] == 2


async def test_reading_waits_for_no_writer(store: SQLiteKVS, path: Path) -> None:
    entries = {f'k{number}': number for number in range(KEYS_HERE + 1)}
    await store.multiset(entries)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        other.execute("""UPDATE "kvs sqlite" SET value = '"not yet"'""")
        assert await store['k1'] == 1
        assert await store.dump() == entries
        assert len(await store.keys()) == len(entries)
        other.execute('ROLLBACK')


async def test_where_reading_must_wait_it_is_not_the_loop_that_waits(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    assert await store['k'] == 1
    here = store._connections.here_without_waiting()
    assert here.execute('PRAGMA busy_timeout').fetchone() == (0,)
    await store.close()
    sql(path, 'PRAGMA journal_mode = DELETE')  # what locks readers out, too
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN EXCLUSIVE')
        reading = asyncio.ensure_future(store['k'])
        for _ in range(100):
            await asyncio.sleep(0)
        assert not reading.done()
        other.execute('COMMIT')
        assert await reading == 1


async def test_a_loop_that_finds_the_file_locked_leaves_the_waiting_to_a_thread(
    store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.set('k', 1)
    await store['k']

    class Locked:
        def execute(self, *_: object) -> None:
            error = sqlite3.OperationalError('database is locked')
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
            raise error

    monkeypatch.setattr(store._connections, 'here_without_waiting', Locked)
    assert await store['k'] == 1


async def test_a_file_that_others_hold_refuses_all_that_wait_together(
    store: SQLiteKVS, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, 'BUSY_MS', 50)
    await store.set('k', 1)
    await store.close()
    begun = threading.Event()
    writes = []
    execute = database.Database.write

    def count(self: Any, connection: Any, requests: Any) -> None:
        writes.append(len(requests))
        begun.set()
        execute(self, connection, requests)

    await store['k']
    monkeypatch.setattr(database.Database, 'write', count)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        outcomes = await asyncio.gather(*(store.set('k', number) for number in range(200)), return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert 'held it for too long' in str(outcomes[0])
        assert sum(writes) == 200
        assert await store['k'] == 1
        other.execute('ROLLBACK')
    await store.set('k', 2)
    assert await store['k'] == 2


async def killings(path: Path, count: int) -> None:
    seed = random.randrange(1 << 30)
    print('seed', seed)
    highest = written = 0
    with killer('sqlite', path, seed) as program:
        for _ in range(count):
            acknowledged = program.kill_one(highest)
            written += sum(acknowledged.values()) - 4 * highest
            async with SQLiteKVS(path) as store:
                highest = await check(store, acknowledged)
    assert written


async def test_a_writer_that_is_killed_leaves_all_that_was_acknowledged(path: Path) -> None:
    await killings(path, 20)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_writer_that_is_killed_two_hundred_times_leaves_all_that_was_acknowledged(path: Path) -> None:
    await killings(path, 200)


FORK = """
import asyncio, os, sys, weakref
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
store = SQLiteKVS(sys.argv[1])
async def add(count):
    await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(count)))
asyncio.run(add(50))
if not os.fork():
    of_the_parent = weakref.ref(store._connections)
    asyncio.run(add(50))
    asyncio.run(store.close())
    assert of_the_parent()._by_thread, 'they were closed'
    sys.exit(0)  # with all that an interpreter does at its end
asyncio.run(add(50))
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
asyncio.run(add(50))
asyncio.run(store.close())
"""


async def test_a_forked_child_uses_the_store_beside_its_parent(store: SQLiteKVS, path: Path) -> None:
    run(FORK, path)
    assert await store['n'] == 200
    assert sql(path, 'PRAGMA integrity_check') == [('ok',)]


# Reading, and the log


async def test_no_cursor_is_left_open(store: SQLiteKVS, path: Path) -> None:
    await store.multiset({f'k{number}': 'x' * 100 for number in range(500)})
    await store['k1']
    await store.multiget(['k1', 'k2', 'missing'])
    await store.multiget([f'k{number}' for number in range(200)])
    await store.scan('k', limit=3)
    await store.describe('k1')
    await store.set('k1', 2)
    assert sql(path, 'PRAGMA wal_checkpoint(TRUNCATE)') == [(0, 0, 0)]


async def test_the_log_stays_bounded_while_it_is_read_and_written(store: SQLiteKVS, path: Path) -> None:
    log, largest, done = Path(f'{path}-wal'), 0, False
    await store.multiset({f'k{number}': '' for number in range(100)})

    async def read() -> None:
        while not done:
            await store.multiget([f'k{number}' for number in range(100)])
            await asyncio.sleep(0)

    reading = [asyncio.ensure_future(read()) for _ in range(3)]
    for turn in range(100):
        await store.multiset({f'k{number}': str(turn) * 10_000 for number in range(100)})
        largest = max(largest, os.stat(log).st_size)
    done = True
    await asyncio.gather(*reading)
    assert largest < 3 * LOG_BYTES  # of 100 MB that were written


async def test_what_is_large_is_not_read_on_the_loop(store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        'small': 'x',
        'large': 'x' * (READ_HERE + 1),
        **{f'k{number}': 'x' * (READ_HERE // KEYS_HERE) for number in range(KEYS_HERE + 1)},
    }
    await store.multiset(entries)
    threads = []
    read_all = store._read_all

    def note(keys: Any) -> Any:
        threads.append(threading.current_thread())
        return read_all(keys)

    monkeypatch.setattr(store, '_read_all', note)
    for keys, here in [
        (['small'], True),
        (['small', 'missing'], True),
        (['large'], False),
        (['small', 'large'], False),
        ([f'k{number}' for number in range(KEYS_HERE)], False),
        (['k1'] * (KEYS_HERE + 1), False),
    ]:
        threads.clear()
        assert await store.multiget(keys) == [entries.get(key) for key in keys]
        assert (threads == []) is here, keys
        assert threading.main_thread() not in threads


async def test_writes_that_wait_are_one_transaction(store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.set('k', 0)
    loads = []
    write = database.Database.write

    def count(self: Any, connection: Any, requests: Any) -> None:
        loads.append(len(requests))
        write(self, connection, requests)

    monkeypatch.setattr(database.Database, 'write', count)
    await asyncio.gather(*(store.set(f'k{number}', number) for number in range(300)))
    assert sum(loads) == 300
    assert len(loads) < 30


@pytest.mark.parametrize(
    ('prefix', 'beyond'),
    [('', None), ('a', 'b'), ('a\U0010ffff', 'b'), ('\U0010ffff', None), ('a\ud7ff', 'a\ue000'), ('a\x00', 'a\x01')],
)
def test_the_end_of_a_prefix_is_known(prefix: str, beyond: str | None) -> None:
    assert after_prefix(prefix) == beyond


async def test_a_walk_uses_the_index(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    [plan] = sql(path, """EXPLAIN QUERY PLAN SELECT key FROM "kvs sqlite" WHERE key > 'a' AND key < 'b' ORDER BY key""")
    assert 'COVERING INDEX' in plan[3]
