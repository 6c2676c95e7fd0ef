"""Several processes and forked children that use one file; writers that are killed."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.sqlite import database
from learning_observer_kvs.stores.sqlite.connections import Connections
from learning_observer_kvs.stores.sqlite.database import BUSY_MS, Database
from learning_observer_kvs.stores.sqlite.store import MAX_KEYS_ON_LOOP, SQLiteKVS
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.support.killed_writer import check, killer
from tests.support.programs import run
from tests.support.sqlite import sql

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


async def test_reading_does_not_wait_for_a_writer(store: SQLiteKVS, path: Path) -> None:
    entries = {f'k{number}': number for number in range(MAX_KEYS_ON_LOOP + 1)}
    await store.multiset(entries)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        other.execute("""UPDATE "kvs sqlite" SET value = '"not yet"'""")
        assert await store['k1'] == 1
        assert await store.dump() == entries
        assert len(await store.keys()) == len(entries)
        other.execute('ROLLBACK')


async def test_the_loop_never_waits_where_reading_must_wait(
    store: SQLiteKVS, path: Path, opened: list[sqlite3.Connection]
) -> None:
    await store.set('k', 1)
    assert await store['k'] == 1
    timeouts = [connection.execute('PRAGMA busy_timeout').fetchone()[0] for connection in opened]
    assert sorted(timeouts) == [0, BUSY_MS, BUSY_MS]  # the loop's, and those of the two threads
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


async def test_a_thread_waits_where_the_loop_finds_the_file_locked(
    store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.set('k', 1)
    await store['k']

    class Locked:
        def execute(self, *_: object) -> None:
            error = sqlite3.OperationalError('database is locked')
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
            raise error

    monkeypatch.setattr(Connections, 'of_loop', lambda self: Locked())
    assert await store['k'] == 1


async def test_writes_that_wait_for_another_process_fail_together(
    store: SQLiteKVS, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, 'BUSY_MS', 50)
    store.retry_timeout = 0
    await store.set('k', 1)
    await store.close()
    writes = []
    write = Database.write

    def count(self: Database, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        writes.append(len(requests))
        write(self, connection, requests)

    await store['k']
    monkeypatch.setattr(Database, 'write', count)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        outcomes = await asyncio.gather(
            *(store.set(f'k{number}', number) for number in range(200)), return_exceptions=True
        )
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert 'held it for too long' in str(outcomes[0])
        assert sum(writes) == 200
        assert len(writes) < 10
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
import asyncio, gc, os, sqlite3, sys, weakref
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
class Noted(sqlite3.Connection):
    pass
opened, connect = [], sqlite3.connect
def note(*arguments, **options):
    connection = connect(*arguments, factory=Noted, **options)
    opened.append(weakref.ref(connection))
    return connection
sqlite3.connect = note
store, reading = SQLiteKVS(sys.argv[1]), SQLiteKVS(sys.argv[1], name='other')
async def add(count):
    await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(count)))
    await reading['n']
async def close():
    await store.close()
    await reading.close()
def check_open(connections):
    for _ in range(3):  # a finalizer keeps things for one collection more
        gc.collect()
    for connection in connections:
        connection().total_changes  # raises if it was closed
def fork(function):
    if not os.fork():
        function()
        check_open(of_the_parent)
        sys.exit(7)  # with all that an interpreter does at its end
def wait():
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
def use_and_drop():
    global store, reading
    asyncio.run(add(50))
    asyncio.run(close())
    check_open(of_the_parent)
    store = reading = None
def close_unused():
    asyncio.run(close())
def drop_unused():
    global store, reading
    store = reading = None
loop = asyncio.new_event_loop()
loop.run_until_complete(add(50))
of_the_parent = list(opened)
assert len(of_the_parent) == 5
fork(use_and_drop)
loop.run_until_complete(add(50))
wait()
fork(close_unused)
wait()
fork(drop_unused)
wait()
check_open(of_the_parent)
loop.run_until_complete(add(50))
loop.run_until_complete(close())
loop.close()
"""


async def test_a_forked_child_uses_the_store_beside_its_parent(store: SQLiteKVS, path: Path) -> None:
    run(FORK, path)
    assert await store['n'] == 200
    assert sql(path, 'PRAGMA integrity_check') == [('ok',)]
