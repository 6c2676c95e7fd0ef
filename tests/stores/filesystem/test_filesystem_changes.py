"""The log of changes of a directory: there only while a process reads it, and true whichever writer is killed when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.private_files import PRIVATE
from learning_observer_kvs.stores.filesystem import change_file
from learning_observer_kvs.stores.filesystem.change_file import ChangeFile
from learning_observer_kvs.stores.filesystem.change_log import FilesystemChangeLog
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS, FilesystemThreads
from learning_observer_kvs.testing.changes import following, keys_until
from tests.support.programs import run

LONG = 'k' * 300
WRITE = """
import asyncio, sys
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
async def main():
    async with FilesystemKVS(sys.argv[1]) as store:
        await store.multiset({'a': 1, 'k' * 300: 2})
        await store.remove('k' * 300)
asyncio.run(main())
"""
BEGIN = """
import asyncio, os, sys
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
async def main():
    changes = await FilesystemKVS(sys.argv[1]).changes().__aenter__()
    os._exit(0)  # as if it were killed
asyncio.run(main())
"""
KILL_AT_STEP = """
import asyncio, os, signal, sys
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
steps = []
def before_step(step):
    steps.append(step)
    if len(steps) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with FilesystemKVS(sys.argv[1]) as store:
        store.directory.before_step = before_step
        await store.multiset({'a': 'new', 'b': 'new'})
if os.fork():
    os.wait()
else:
    asyncio.run(main())
    os._exit(0)
"""
STEPS = 8


def beside_the_lock(root: Path) -> list[str]:
    commits = ('lock', 'journal', 'spare-')
    return sorted(name for name in os.listdir(root / META_DIR) if not name.startswith(commits))


async def test_a_directory_that_is_not_followed_has_no_log(store: FilesystemKVS, root: Path) -> None:
    await store.set('k', 1)
    assert beside_the_lock(root) == []
    async with store.changes(), store.changes('k'):
        [log, reader] = beside_the_lock(root)
        assert (log, reader[:7]) == ('changes', 'reader-')
    assert beside_the_lock(root) == []


async def test_changes_of_another_process_are_announced(store: FilesystemKVS, root: Path) -> None:
    async with store.changes() as changes:
        await asyncio.to_thread(run, WRITE, root)
        assert set(await keys_until(changes, LONG)) <= {'a', LONG}


@pytest.mark.parametrize('step', range(1, STEPS + 1))
async def test_what_a_killed_writer_has_changed_is_announced(store: FilesystemKVS, root: Path, step: int) -> None:
    await store.multiset({'a': 'old', 'b': 'old'})
    async with store.changes() as changes:
        await asyncio.to_thread(run, KILL_AT_STEP, root, step)
        if await store['a'] == 'new':
            assert {(await following(changes)).key for _ in 'ab'} == {'a', 'b'}
            assert await store['b'] == 'new'
        await store.set('c', 1)
        assert set(await keys_until(changes, 'c')) <= {'a', 'b', 'c'}


async def test_what_a_killed_writer_has_changed_is_announced_though_no_other_process_comes(
    store: FilesystemKVS, root: Path
) -> None:
    await store.multiset({'a': 'old', 'b': 'old'})
    async with store.changes() as changes:
        await asyncio.to_thread(run, KILL_AT_STEP, root, 4)  # the journal is there, and the change is not counted
        for change in [await following(changes), await following(changes)]:
            assert await change.value() == 'new'


async def test_a_reader_goes_on_from_one_log_to_the_next(
    store: FilesystemKVS, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_file, 'MAX_BYTES', 200)
    async with store.changes() as changes, FilesystemKVS(root) as other:
        for number in range(100):
            await other.set(f'a key with a number: {number}', 1)
            assert (await following(changes)).key == f'a key with a number: {number}'


async def test_a_reader_that_is_far_behind_reads_everything_again_and_then_goes_on(
    store: FilesystemKVS, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_file, 'MAX_BYTES', 200)
    async with store.changes() as changes:
        with store.directory.write_locked():
            for number in range(100):
                store.directory.change({'a': str(number).encode()}, keys=[f'a key with a number: {number}'])
        assert (await following(changes)).kind == 'resync'
        await store.set('k', 1)
        assert await keys_until(changes, 'k') == ['k']


async def test_a_reader_that_was_killed_is_given_up_and_its_log_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_file, 'MAX_BYTES', 200)
    await asyncio.to_thread(run, BEGIN, root)
    async with FilesystemKVS(root) as store:
        await store.set('k', 1)
        assert 'changes' in beside_the_lock(root)
        for number in range(10):
            await store.set('k' * 100, number)
        assert beside_the_lock(root) == []


async def test_a_store_that_others_have_emptied_is_announced_by_a_resync(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'a': 1, 'b': 1})
    async with store.changes() as changes, FilesystemKVS(root) as other:
        await other.clear()
        assert (await following(changes)).kind == 'resync'


@pytest.fixture
def log(tmp_path: Path) -> ChangeFile:
    return ChangeFile(str(tmp_path), PRIVATE)


def read(log: ChangeFile, position: int) -> list[str] | None:
    """The keys behind a position; ``None`` if the reader has to begin anew."""
    found = log.read('r', position)
    return found and list(found[2] or ())


def test_a_line_that_a_killed_writer_left_unfinished_is_not_a_key(log: ChangeFile, tmp_path: Path) -> None:
    position = log.register('r')
    log.append(['a'])
    with open(tmp_path / 'changes', 'ab') as file:
        file.write(b'\n"unfin')
    log.append(['é\n'])
    assert read(log, position) == ['a', 'é\n']


def test_a_log_whose_writer_was_killed_when_it_began_a_new_one_begins_anew(log: ChangeFile, tmp_path: Path) -> None:
    position = log.register('r')
    (tmp_path / 'changes').rename(tmp_path / 'changes-before')
    (tmp_path / 'changes-new').write_bytes(b'000')
    log.append(['a'])
    assert read(log, position) is None
    position = log.register('r')
    log.append(['b'])
    assert read(log, position) == ['b']


@pytest.fixture
async def looking(root: Path) -> AsyncIterator[FilesystemChangeLog]:
    """A reader of the log of a directory, whose lock it waits for in vain for a moment only."""
    threads = FilesystemThreads(str(root), Files(Directory(str(root), lock_seconds=0.01), subdirs=False))
    log = FilesystemChangeLog(threads.files, threads.readers)
    await log.begin()
    yield log
    await log.end()
    assert beside_the_lock(root) == []
    threads.end()
    assert await threads.wait_until_ended(20)


async def test_a_look_at_a_directory_where_nothing_changed_takes_no_lock(
    looking: FilesystemChangeLog, root: Path
) -> None:
    with Directory(str(root)).write_locked():
        assert await looking.read() == ()


async def test_a_reader_notes_where_it_is_once_for_each_log_and_misses_nothing(
    looking: FilesystemChangeLog, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_file, 'MAX_BYTES', 200)
    [noted] = [root / META_DIR / name for name in beside_the_lock(root) if name.startswith('reader-')]
    other = Directory(str(root))
    logs, notes = set(), set()
    for number in range(60):
        with other.write_locked():
            other.change({'a': str(number).encode()}, keys=[f'a key with a number: {number}'])
        assert list(await looking.read() or ()) == [f'a key with a number: {number}']
        logs.add((root / META_DIR / 'changes').read_bytes()[:20])
        notes.add(noted.read_text())
    assert 5 < len(notes) <= len(logs) < 20


async def test_a_directory_that_is_replaced_ends_its_iterators_with_the_error(store: FilesystemKVS, root: Path) -> None:
    await store.set('k', 1)
    async with store.changes() as changes:
        os.rename(root, root.with_name('moved'))
        with pytest.raises(StoreUnavailable):
            await following(changes)
