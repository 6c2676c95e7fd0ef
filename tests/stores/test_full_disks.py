"""What works while a disk is full, and what a full disk or a lock means."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.sqlite.errors import of_sqlite
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.testing.calls import scan_all
from tests.support.disks import foreign_directory, full, no_more_files, read_only, small_disk

KINDS = ['sqlite', 'filesystem']
NEVER = 3600.0
OLD = {'k': 'old', 'x' * 300: 'old'}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    with small_disk(tmp_path / 'disk') as disk:
        yield disk


def make_store(kind: str, disk: Path, **options: Any) -> Store:
    """A store that tries once."""
    make = SQLiteKVS if kind == 'sqlite' else FilesystemKVS
    return make(disk / 'state', retry_timeout=0, **options)


async def process(store: Store, key: str, number: int) -> None:
    async def append(state: Any) -> Any:
        return [*state, number], len(state) + 1

    await worker_of(store).process(f'Internal,{key}', f'External,{key}', append, b'[]')


@pytest.mark.own_disk
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('interval', [None, NEVER])
async def test_everything_can_be_read_while_the_disk_is_full(disk: Path, kind: str, interval: float | None) -> None:
    async with make_store(kind, disk, flush_interval=interval) as store:
        await store.multiset(OLD)
        with full(disk):
            assert set(await store.keys()) == set(await scan_all(store, '', 100)) == OLD.keys()
            assert await store.dump() == OLD
            assert await store.multiget(OLD) == ['old', 'old']
            assert await store['k'] == 'old'
            assert await store.describe('k') is not None


@pytest.mark.own_disk
@pytest.mark.parametrize('kind', KINDS)
async def test_a_dump_of_a_full_disk_is_written_to_another(disk: Path, kind: str, tmp_path: Path) -> None:
    async with make_store(kind, disk) as store, SQLiteKVS(tmp_path / 'copy') as copy:
        await store.multiset(OLD)
        with full(disk):
            assert await store.dump(tmp_path / 'dump.json') == len(OLD)
        assert await copy.load(tmp_path / 'dump.json') == len(OLD)
        assert await copy.dump() == OLD


@pytest.mark.own_disk
@pytest.mark.parametrize('kind', KINDS)
async def test_states_that_cannot_be_flushed_are_read_and_listed_as_this_process_knows_them(
    disk: Path, kind: str
) -> None:
    async with make_store(kind, disk, flush_interval=NEVER) as store:
        await store.multiset(OLD)
        await process(store, 'a', 1)
        await store.flush()
        with full(disk):
            for number in range(2, 5):
                await process(store, 'a', number)
                await process(store, 'b', number)
            expected = {
                **OLD,
                'Internal,a': [1, 2, 3, 4],
                'External,a': 4,
                'Internal,b': [2, 3, 4],
                'External,b': 3,
            }
            for _ in range(2):
                assert sorted(await store.keys()) == sorted(expected)
                assert sorted(await scan_all(store, '', 1)) == sorted(expected)
                assert sorted(await store.keys('Internal,')) == ['Internal,a', 'Internal,b']
                assert await store.dump() == expected
                assert await store.dump(prefix='External,') == {'External,a': 4, 'External,b': 3}
                assert await store.multiget(expected) == list(expected.values())
                with pytest.raises(StoreUnavailable):
                    await store.flush()
        await store.flush()
    async with make_store(kind, disk) as store:
        assert await store.dump() == expected


@pytest.mark.parametrize('kind', KINDS)
async def test_a_key_that_is_flushed_while_it_is_listed_comes_once_in_a_page(
    disk: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_store(kind, disk, flush_interval=NEVER) as store:
        await process(store, 'a', 1)
        scan = store._scan

        async def flush_and_scan(prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
            await store.flush()
            return await scan(prefix, cursor, limit)

        monkeypatch.setattr(store, '_scan', flush_and_scan)
        assert sorted((await store.scan()).keys) == ['External,a', 'Internal,a']
        await process(store, 'b', 1)
        assert sorted(await store.keys()) == ['External,a', 'External,b', 'Internal,a', 'Internal,b']


@pytest.mark.own_disk
@pytest.mark.parametrize('kind', KINDS)
async def test_a_write_to_a_full_disk_may_be_tried_again(disk: Path, kind: str) -> None:
    async with make_store(kind, disk) as store:
        await store.multiset(OLD)
        with full(disk), pytest.raises(StoreUnavailable, match='Free some space') as caught:
            await store.set('k', 'x' * 10_000)
        assert caught.value.retry
        await store.set('k', 'x' * 10_000)


@pytest.mark.parametrize('kind', KINDS)
async def test_a_file_that_cannot_be_opened_because_too_many_are_open_may_be_tried_again(
    tmp_path: Path, kind: str
) -> None:
    async with make_store(kind, tmp_path) as store:
        await store.set('k', 'old')
        await store.close()
        with no_more_files():
            for call in (lambda: store['k'], lambda: store.set('k', 'new')):
                with pytest.raises(StoreUnavailable, match='Too many open files') as caught:
                    await call()
                assert caught.value.retry
        assert await store['k'] == 'old'


@pytest.mark.parametrize('kind', KINDS)
async def test_what_waiting_cannot_help_is_not_tried_again(kind: str) -> None:
    with foreign_directory() as directory:
        async with make_store(kind, directory) as store:
            await store.set('k', 'old')
            await store.close()
            with read_only(directory), pytest.raises(StoreUnavailable, match='writable') as caught:
                await store.set('k', 'new')
            assert not caught.value.retry


@pytest.mark.parametrize(
    ('code', 'retry'),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_RECOVERY, True),
        (sqlite3.SQLITE_IOERR_LOCK, True),
        (sqlite3.SQLITE_IOERR_SHMSIZE, True),
        (sqlite3.SQLITE_PROTOCOL, True),
        (sqlite3.SQLITE_IOERR_WRITE, False),
        (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_TOOBIG, False),
        (sqlite3.SQLITE_CANTOPEN, False),
    ],
)
def test_errors_of_sqlite_say_whether_waiting_may_help(tmp_path: Path, code: int, retry: bool) -> None:
    error = sqlite3.OperationalError('it failed')
    error.sqlite_errorcode = code
    assert of_sqlite(tmp_path / 'state', error).retry is retry


@pytest.mark.parametrize(
    ('number', 'retry'),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.ENOLCK, True),
        (errno.EMFILE, True),
        (errno.EIO, False),
        (errno.EROFS, False),
        (errno.EACCES, False),
        (errno.EFBIG, False),
    ],
)
async def test_errors_of_a_file_system_say_whether_waiting_may_help(tmp_path: Path, number: int, retry: bool) -> None:
    async with FilesystemKVS(tmp_path, retry_timeout=0) as store:
        await store.set('k', 1)

        def fail(step: ChangeStep) -> None:
            raise OSError(number, os.strerror(number))

        store.directory.before_step = fail
        with pytest.raises(StoreUnavailable) as caught:
            await store.set('k', 2)
        assert caught.value.retry is retry


async def test_where_the_system_gives_no_lock_the_hint_is_about_network_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    async with FilesystemKVS(tmp_path / 'files', retry_timeout=0) as store:
        monkeypatch.setattr('fcntl.flock', refuse)
        with pytest.raises(StoreUnavailable, match='a network disk without locks cannot hold a store'):
            await store.set('k', 1)
    for code in (sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_SHMLOCK):
        error = sqlite3.OperationalError('disk I/O error')
        error.sqlite_errorcode = code
        assert 'a network disk without locks' in str(of_sqlite(tmp_path / 'state', error))


async def test_a_lock_that_another_process_holds_may_be_tried_again(tmp_path: Path) -> None:
    async with FilesystemKVS(tmp_path, retry_timeout=0) as store:
        await store.set('k', 1)
        store.directory.lock.seconds = 0.01
        with Directory(str(tmp_path)).write_locked(), pytest.raises(StoreUnavailable, match='held by') as caught:
            await store.set('k', 2)
        assert caught.value.retry


async def test_an_error_of_the_system_without_a_number_is_named_by_its_text(tmp_path: Path) -> None:
    async with FilesystemKVS(tmp_path, retry_timeout=0) as store:
        await store.set('k', 1)

        def fail(step: ChangeStep) -> None:
            raise OSError('the disk is odd')

        store.directory.before_step = fail
        with pytest.raises(StoreUnavailable, match='the disk is odd') as caught:
            await store.set('k', 2)
        assert 'None' not in str(caught.value)
