"""The log of changes of an SQLite store: there only while a process reads it, whichever program writes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.sqlite.change_table import KEPT, NOTED, TRIMMED
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.testing.changes import following, keys_until
from tests.support.programs import run
from tests.support.sqlite import sql

OF_A_STORE = [('table', 'kvs sqlite'), ('index', 'sqlite_autoindex_kvs sqlite_1')]
LISTED = 'SELECT type, name FROM sqlite_master'
BEGIN = """
import asyncio, os, sys
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
async def main():
    changes = await SQLiteKVS(sys.argv[1]).changes().__aenter__()
    os._exit(0)  # as if it were killed
asyncio.run(main())
"""
WRITE = """
import asyncio, sys
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
async def main():
    async with SQLiteKVS(sys.argv[1]) as store:
        await store.multiset({'a': 1, 'b': 2})
        await store.remove('b')
asyncio.run(main())
"""


async def test_a_file_that_is_not_followed_has_nothing_but_its_table(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    assert sql(path, LISTED) == OF_A_STORE
    async with store.changes(), store.changes('k'):
        assert len(sql(path, LISTED)) > len(OF_A_STORE)
    assert sql(path, LISTED) == OF_A_STORE


async def test_changes_of_another_process_and_of_other_programs_are_announced(store: SQLiteKVS, path: Path) -> None:
    async with store.changes() as changes:
        await asyncio.to_thread(run, WRITE, path)
        assert set(await keys_until(changes, 'b')) <= {'a', 'b'}
        sql(path, """UPDATE "kvs sqlite" SET value = '2' WHERE key = 'a'""")
        assert [await change.value() for change in [await following(changes)]] == [2]
        sql(path, """INSERT INTO "kvs sqlite" VALUES ('c', '3', 0)""")
        assert (await following(changes)).key == 'c'
        sql(path, """DELETE FROM "kvs sqlite" WHERE key = 'c'""")
        assert (await following(changes)).key == 'c'


async def test_several_processes_and_stores_of_one_file_follow_it_apart(path: Path) -> None:
    async with SQLiteKVS(path) as one, SQLiteKVS(path) as same, SQLiteKVS(path, name='other') as other:
        first, apart = await one.changes().__aenter__(), await other.changes().__aenter__()
        async with same.changes() as second:
            await one.set('k', 1)
            assert (await following(first)).key == (await following(second)).key == 'k'
        await same.set('l', 1)
        assert (await following(first)).key == 'l'
        await other.set('m', 1)
        assert (await following(apart)).key == 'm'
    assert len(sql(path, LISTED)) == 2 * len(OF_A_STORE)


async def test_a_reader_that_is_far_behind_reads_everything_again_and_then_goes_on(
    store: SQLiteKVS, path: Path
) -> None:
    async with store.changes() as changes, SQLiteKVS(path) as other:
        await other.multiset(dict.fromkeys(map(str, range(KEPT + TRIMMED)), 1))
        assert (await following(changes)).kind == 'resync'
        await other.set('k', 1)
        assert await keys_until(changes, 'k') == ['k']


async def test_a_reader_that_keeps_up_misses_nothing_however_much_is_changed(store: SQLiteKVS, path: Path) -> None:
    async with store.changes() as changes, SQLiteKVS(path) as other:
        for part in range(2 * KEPT // NOTED):
            await other.multiset({f'{part}:{number}': 1 for number in range(NOTED)})
            keys: set[str] = set()
            while len(keys) < NOTED:
                keys.update(change.key for change in await changes.together())
            assert '' not in keys


async def test_a_reader_that_was_killed_is_given_up_and_its_log_removed(path: Path) -> None:
    await asyncio.to_thread(run, BEGIN, path)
    async with SQLiteKVS(path) as store:
        await store.set('k', 1)
        assert sql(path, 'SELECT count(*) FROM "changes of kvs sqlite"') == [(1,)]
        for start in range(0, KEPT + TRIMMED, 1000):
            await store.multiset(dict.fromkeys(map(str, range(start, start + 1000)), 1))
        assert sql(path, 'SELECT count(*) FROM "readers of changes of kvs sqlite"') == [(0,)]
        last = sql(path, 'SELECT max(number) FROM "changes of kvs sqlite"')
        await store.set('k', 2)
        assert sql(path, 'SELECT max(number) FROM "changes of kvs sqlite"') == last
    async with SQLiteKVS(path) as store:
        assert await store['k'] == 2
        assert sql(path, LISTED) == OF_A_STORE


async def test_a_store_that_others_have_emptied_announces_every_key(store: SQLiteKVS, path: Path) -> None:
    await store.multiset({'a': 1, 'b': 1})
    async with store.changes() as changes, SQLiteKVS(path) as other:
        await other.clear()
        assert {(await following(changes)).key for _ in 'ab'} == {'a', 'b'}


async def test_a_file_that_is_replaced_ends_its_iterators_with_the_error(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    async with store.changes() as changes:
        os.rename(path, path.with_name('moved'))
        with pytest.raises(StoreUnavailable):
            await following(changes)
        os.rename(path.with_name('moved'), path)
