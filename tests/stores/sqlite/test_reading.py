"""Reading on the loop and in a thread, batches of writes, and the write-ahead log."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.stores.sqlite.database import WAL_BYTES, Database, prefix_end
from learning_observer_kvs.stores.sqlite.store import MAX_BYTES_ON_LOOP, MAX_KEYS_ON_LOOP, SQLiteKVS
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.support.sqlite import sql


async def test_no_cursor_is_left_open(store: SQLiteKVS, path: Path) -> None:
    await store.multiset({f'k{number}': 'x' * 100 for number in range(500)})
    await store['k1']
    await store.multiget(['k1', 'k2', 'missing'])
    await store.multiget([f'k{number}' for number in range(200)])
    await store.scan('k', limit=3)
    await store.describe('k1')
    await store.set('k1', 2)
    assert sql(path, 'PRAGMA wal_checkpoint(TRUNCATE)') == [(0, 0, 0)]


async def test_small_keys_are_read_without_a_thread_once_the_file_is_open(
    store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.set('k', 1)
    assert await store['k'] == 1

    async def fail(*arguments: Any) -> Any:
        raise AssertionError(arguments)

    monkeypatch.setattr(store, '_in_thread', fail)
    assert await store.multiget(['k', 'missing']) == [1, None]


def test_each_loop_keeps_its_connection_while_another_one_reads(path: Path, opened: list[sqlite3.Connection]) -> None:
    store = SQLiteKVS(path)
    with asyncio.Runner() as first, asyncio.Runner() as second:

        async def read() -> None:
            await store['k']

        for runner in (first, second, first, second):
            runner.run(read())
        before = len(opened)
        for runner in (first, second):
            runner.run(read())
        assert len(opened) == before
        for runner in (first, second):
            runner.run(store.close())


async def test_the_log_stays_bounded_while_it_is_read_and_written(store: SQLiteKVS, path: Path) -> None:
    log, largest, done = Path(f'{path}-wal'), 0, False
    await store.multiset({f'k{number}': '' for number in range(100)})

    async def read() -> None:
        while not done:
            await store.multiget([f'k{number}' for number in range(100)])
            await asyncio.sleep(0)

    reading = [asyncio.ensure_future(read()) for _ in range(3)]
    for number in range(100):
        await store.multiset({f'k{key}': str(number) * 10_000 for key in range(100)})
        largest = max(largest, os.stat(log).st_size)
    done = True
    await asyncio.gather(*reading)
    assert largest < 3 * WAL_BYTES  # of 100 MB that were written


async def test_large_values_and_many_keys_are_not_read_on_the_loop(
    store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {
        'small': 'x',
        'large': 'x' * (MAX_BYTES_ON_LOOP + 1),
        **{f'k{number}': 'x' * (MAX_BYTES_ON_LOOP // MAX_KEYS_ON_LOOP) for number in range(MAX_KEYS_ON_LOOP + 1)},
    }
    await store.multiset(entries)
    threads = []
    read = Database.read

    def note(self: Database, connection: sqlite3.Connection, keys: Sequence[str]) -> Any:
        threads.append(threading.current_thread())
        return read(self, connection, keys)

    monkeypatch.setattr(Database, 'read', note)
    for keys, on_loop in [
        (['small'], True),
        (['small', 'missing'], True),
        (['large'], False),
        (['small', 'large'], False),
        ([f'k{number}' for number in range(MAX_KEYS_ON_LOOP)], False),
        (['k1'] * (MAX_KEYS_ON_LOOP + 1), False),
    ]:
        threads.clear()
        assert await store.multiget(keys) == [entries.get(key) for key in keys]
        assert (threads == []) is on_loop, keys
        assert threading.main_thread() not in threads


async def test_writes_that_wait_are_one_transaction(store: SQLiteKVS, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.set('k', 0)
    batches = []
    write = Database.write

    def count(self: Database, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        batches.append(len(requests))
        write(self, connection, requests)

    monkeypatch.setattr(Database, 'write', count)
    await asyncio.gather(*(store.set(f'k{number}', number) for number in range(300)))
    assert sum(batches) == 300
    assert len(batches) < 30


@pytest.mark.parametrize(
    ('prefix', 'beyond'),
    [('', None), ('a', 'b'), ('a\U0010ffff', 'b'), ('\U0010ffff', None), ('a\ud7ff', 'a\ue000'), ('a\x00', 'a\x01')],
)
def test_the_first_text_after_a_prefix_is_known(prefix: str, beyond: str | None) -> None:
    assert prefix_end(prefix) == beyond


async def test_a_scan_uses_the_index(store: SQLiteKVS, path: Path) -> None:
    await store.set('k', 1)
    [plan] = sql(path, """EXPLAIN QUERY PLAN SELECT key FROM "kvs sqlite" WHERE key > 'a' AND key < 'b' ORDER BY key""")
    assert 'COVERING INDEX' in plan[3]
