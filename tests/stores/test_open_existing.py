"""Stores that are opened without creating anything: missing ones, and those that cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreMissing, StoreUnavailable
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.disks import foreign_directory, read_only

MakeStore = Callable[[Path], Store]

stores = pytest.mark.parametrize(
    'make', [lambda path: SQLiteKVS(path, retry_timeout=0), FilesystemKVS], ids=['sqlite', 'filesystem']
)


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob('*')}


def is_locked(path: Path) -> bool:
    """Whether this process holds the lock of an SQLite file that every connection to it shares."""
    lock = (
        'import fcntl, sys\n'
        'with open(sys.argv[1], "r+b") as file:\n'
        '    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)'
    )
    found = subprocess.run([sys.executable, '-c', lock, path], capture_output=True, text=True, check=False)
    return 'BlockingIOError' in found.stderr


@stores
async def test_a_store_that_is_not_there_is_missing_and_is_not_made(tmp_path: Path, make: MakeStore) -> None:
    async with make(tmp_path / 'a' / 'store') as store:
        with pytest.raises(StoreMissing, match=str(tmp_path / 'a' / 'store')):
            await store.open_existing()
    assert names(tmp_path) == set()


@stores
async def test_a_store_that_is_there_is_read_and_written_as_ever(tmp_path: Path, make: MakeStore) -> None:
    async with make(tmp_path / 'store') as store:
        await store.set('a', 1)
    before = names(tmp_path)
    async with make(tmp_path / 'store') as store:
        await store.open_existing()
        assert (await store['a'], await store.keys(), await store.dump()) == (1, ['a'], {'a': 1})
    assert names(tmp_path) == before
    async with make(tmp_path / 'store') as store:
        await store.open_existing()
        await store.set('b', 2)
        assert await store.remove('a')
        assert await store.keys() == ['b']


async def test_a_file_without_the_table_of_the_store_names_the_stores_it_holds(tmp_path: Path) -> None:
    path = tmp_path / 'store'
    async with SQLiteKVS(path, name='states') as store:
        await store.set('a', 1)
    content = path.read_bytes()
    async with SQLiteKVS(path) as store:
        with pytest.raises(StoreMissing, match="holds 'states'"):
            await store.open_existing()
    assert (names(tmp_path), path.read_bytes()) == ({'store'}, content)


async def test_an_empty_file_is_a_missing_store_and_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / 'store'
    path.touch()
    async with SQLiteKVS(path) as store:
        with pytest.raises(StoreMissing):
            await store.open_existing()
    assert path.stat().st_size == 0


@stores
async def test_a_link_that_leads_to_nothing_is_a_missing_store_and_nothing_is_made(
    tmp_path: Path, make: MakeStore
) -> None:
    (tmp_path / 'store').symlink_to(tmp_path / 'elsewhere')
    async with make(tmp_path / 'store') as store:
        with pytest.raises(StoreMissing, match=str(tmp_path / 'store')):
            await store.open_existing()
    assert names(tmp_path) == {'store'}


async def test_what_is_in_memory_is_missing() -> None:
    with pytest.raises(StoreMissing, match='type stub'):
        await InMemoryKVS().open_existing()


@stores
async def test_a_store_that_cannot_be_written_is_read(make: MakeStore) -> None:
    with foreign_directory() as directory:
        async with make(directory / 'store') as store:
            await store.multiset({'a': 1, 'b': 'x' * 1_000_000})
        before = names(directory)
        with read_only(directory):
            async with make(directory / 'store') as store:
                await store.open_existing()
                assert await store['a'] == 1
                assert sorted(await store.keys()) == ['a', 'b']
                assert len((await store.dump())['b']) == 1_000_000
                assert await store.describe('a') is not None
                found = {problem.id for problem in await store.health_check()}
                assert found <= {'KVS.W020'}  # that all may read it
                with pytest.raises(StoreUnavailable, match='Nothing was written'):
                    await store.set('a', 2)
        assert names(directory) == before


@stores
async def test_the_changes_of_a_store_that_cannot_be_written_cannot_be_seen(make: MakeStore) -> None:
    with foreign_directory() as directory:
        async with make(directory / 'store') as store:
            await store.set('a', 1)
        before = names(directory)
        with read_only(directory):
            async with make(directory / 'store') as store:
                await store.open_existing()
                with pytest.raises(StoreUnavailable):
                    await store.changes().__aenter__()
        assert names(directory) == before


async def test_a_file_that_a_server_has_open_and_this_user_may_not_write_is_read_with_its_log() -> None:
    with foreign_directory() as directory:
        async with SQLiteKVS(directory / 'store') as server:
            await server.set('a', 1)
            before = names(directory)
            with read_only(directory):
                async with SQLiteKVS(directory / 'store') as store:
                    await store.open_existing()
                    assert await store['a'] == 1
            assert names(directory) == before
            await server.set('a', 2)


async def test_opening_a_file_to_read_it_leaves_the_locks_that_this_process_has_on_it() -> None:
    with foreign_directory() as directory:
        path = directory / 'store'
        async with SQLiteKVS(path) as server:
            await server.set('a', 1)
            with read_only(directory):
                async with SQLiteKVS(path) as store:
                    await store.open_existing()
                    assert await store['a'] == 1
            assert is_locked(path)


async def test_a_copy_without_the_shared_memory_of_its_log_is_not_read_without_the_log() -> None:
    with foreign_directory() as directory:
        async with SQLiteKVS(directory / 'live') as server:
            await server.set('a', 1)
            for suffix in ('', '-wal'):
                shutil.copy(directory / f'live{suffix}', directory / f'copy{suffix}')
        with read_only(directory):
            async with SQLiteKVS(directory / 'copy', retry_timeout=0) as store:
                with pytest.raises(StoreUnavailable, match='has changes that are not in it yet'):
                    await store.open_existing()


async def test_what_was_read_while_another_program_began_to_write_is_not_returned() -> None:
    with foreign_directory() as directory:
        async with SQLiteKVS(directory / 'store') as server:
            await server.set('a', 1)
        with read_only(directory):
            async with SQLiteKVS(directory / 'store', retry_timeout=0) as store:
                await store.open_existing()
                assert await store['a'] == 1
                if os.getuid() == 0:
                    os.seteuid(0)
                (directory / 'store-wal').write_bytes(b'x')
                for read in (store.keys(), store['a'], store.dump(), store.describe('a'), store.multiget(['a'] * 99)):
                    with pytest.raises(StoreUnavailable, match='has begun to write'):
                        await read
        (directory / 'store-wal').unlink()
