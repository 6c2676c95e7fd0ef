"""Several processes, threads and forked children that use one directory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.journal import IDLE, JOURNAL
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.programs import run

ADD = """
import asyncio, sys
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
async def main():
    async with FilesystemKVS(sys.argv[1]) as store:
        await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(100)))
asyncio.run(main())
"""


async def test_updates_of_several_processes_are_all_counted(store: FilesystemKVS, root: Path) -> None:
    await asyncio.gather(*(asyncio.to_thread(run, ADD, root) for _ in range(3)))
    assert await store['n'] == 300


FORK = """
import asyncio, os, sys
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
store = FilesystemKVS(sys.argv[1])
async def add(count):
    await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(count)))
async def main():
    adding = asyncio.ensure_future(add(50))
    await asyncio.sleep(0)
    child = os.fork()
    if not child:
        os._exit(os.system(f'"{sys.executable}" -c pass'))
    await adding
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
asyncio.run(main())
if not os.fork():
    asyncio.run(add(50))
    asyncio.run(store.close())
    os._exit(0)
asyncio.run(add(50))
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
asyncio.run(store.close())
"""


async def test_a_forked_child_uses_the_store_beside_its_parent(store: FilesystemKVS, root: Path) -> None:
    run(FORK, root)
    assert await store['n'] == 150


FORKED_WITH_THE_LOCK = """
import os, signal, sys
from learning_observer_kvs.stores.filesystem.directory import Directory
with Directory(sys.argv[1]).write_locked():
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    print('the child lives', flush=True)
    sys.stdin.read()
    os._exit(0)
"""


def test_a_forked_child_does_not_keep_the_lock_of_its_killed_parent(root: Path) -> None:
    command = [sys.executable, '-W', 'ignore', '-c', FORKED_WITH_THE_LOCK, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'the child lives\n'
        with Directory(str(root)).write_locked():
            pass


def test_waiting_for_the_lock_of_a_stopped_process_ends(root: Path) -> None:
    with (
        Directory(str(root)).write_locked(),
        pytest.raises(StoreUnavailable, match='held by another process'),
        Directory(str(root), 0.01).write_locked(),
    ):
        pass


def test_a_lock_file_that_is_replaced_while_it_is_waited_for_is_not_the_lock(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, entered = threading.Event(), threading.Event()
    lock = root / META_DIR / 'lock'
    flock = fcntl.flock

    def noting_flock(number: int, operation: int) -> None:
        try:
            flock(number, operation)
        except BlockingIOError:
            waiting.set()
            raise

    monkeypatch.setattr(fcntl, 'flock', noting_flock)

    def write() -> int:
        with Directory(str(root)).write_locked():
            entered.set()
            return lock.stat().st_ino

    with ThreadPoolExecutor(1) as pool:
        with Directory(str(root)).write_locked():
            writing = pool.submit(write)
            assert waiting.wait(20)
            lock.rename(lock.with_name('old'))
            held = Directory(str(root)).write_locked()
            held.__enter__()
        assert not entered.wait(0.1)
        held.__exit__(None, None, None)
        assert writing.result(20) == lock.stat().st_ino


async def test_writes_that_wait_for_the_lock_of_a_stopped_process_fail_together(
    store: FilesystemKVS, root: Path
) -> None:
    await store.set('k', 0)
    store.directory.lock.seconds = 0.3
    store.retry_timeout = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    with Directory(str(root)).write_locked():
        outcomes = await asyncio.gather(
            *(store.set(f'k{number}', number) for number in range(20)), return_exceptions=True
        )
    assert loop.time() - began < 5  # one after the other they would take 6
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    await store.set('k1', 1)
    assert await store['k1'] == 1


async def test_reading_takes_no_lock(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'a': 1, 'b': 2})
    with Directory(str(root)).write_locked():
        assert await store.multiget(['a', 'b']) == [1, 2]
        assert await store['a'] == 1
        assert await store.describe('a') is not None


async def test_several_keys_are_read_as_of_one_moment_while_they_change(store: FilesystemKVS) -> None:
    done = False

    async def write() -> None:
        number = 0
        while not done:
            number += 1
            await store.multiset({'a': number, 'b': number})

    await store.multiset({'a': 0, 'b': 0})
    writing = asyncio.ensure_future(write())
    seen: set[int] = set()
    while len(seen) < 100:
        a, b = await store.multiget(['a', 'b'])
        assert a == b
        seen.add(a)
    done = True
    await writing


def test_files_that_change_while_they_are_read_are_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, other = Directory(str(root)), Directory(str(root))

    def change(content: bytes) -> None:
        with other.write_locked():
            other.change({'a': content, 'b': content})

    contents = [b'newer', b'new']

    def read_and_change(path: str) -> bytes | None:
        found = Directory.read(directory, path)
        if contents:
            change(contents.pop())
        return found

    change(b'old')
    monkeypatch.setattr(directory, 'read', read_and_change)
    assert directory.read_together(['a', 'b']) == [b'newer', b'newer']


def test_a_file_that_was_replaced_while_it_was_opened_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Directory(str(root))
    with directory.write_locked():
        directory.change({'a': b'a', 'b': b'b'})
    opened = []
    open_file = os.open

    def open_another(path: str, *arguments: Any, **options: Any) -> int:
        if path.endswith('/a'):
            opened.append(path)
            if len(opened) == 1:  # as if the file of another key had been here a moment ago
                return open_file(str(root / 'b'), *arguments, **options)
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(os, 'open', open_another)
    assert directory.read_one('a') == b'a'
    assert len(opened) == 2


def test_a_journal_that_another_process_replaced_is_opened_anew(root: Path) -> None:
    one, other = Directory(str(root)), Directory(str(root))

    def change(directory: Directory, text: bytes) -> None:
        with directory.write_locked():
            directory.change({'a': text, 'b': text})

    def note(step: ChangeStep) -> None:
        if step == 'count':
            sizes.append((root / JOURNAL).stat().st_size)

    change(one, b'1')
    (root / JOURNAL).unlink()  # as after the change of a killed process was finished
    change(other, b'2')
    sizes: list[int] = []
    one.before_step = note
    change(one, b'3')
    assert len(sizes) == 1
    assert sizes[0] > len(IDLE)


LEFT_IN_A_CHILD = """
import os, sys
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.errors import StoreUnavailable
child = None
with Directory(sys.argv[1]).write_locked():
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        try:
            with Directory(sys.argv[1], 0.01).write_locked():
                sys.exit('the child released the lock of its parent')
        except StoreUnavailable:
            pass
if not child:
    os._exit(7)
"""


def test_a_forked_child_does_not_release_the_lock_of_its_parent(root: Path) -> None:
    run(LEFT_IN_A_CHILD, root)


FORKED_WHILE_A_THREAD_HOLDS_THE_LOCK = """
import os, sys, threading
from learning_observer_kvs.stores.filesystem.directory import Directory
directory = Directory(sys.argv[1], 30)
is_held, may_release = threading.Event(), threading.Event()
def hold():
    with directory.write_locked():
        is_held.set()
        may_release.wait()
threading.Thread(target=hold).start()
is_held.wait()
child = os.fork()
if not child:
    with directory.write_locked():
        os._exit(7)
may_release.set()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


def test_a_child_that_is_forked_while_a_thread_holds_the_lock_gets_it_after_that(root: Path) -> None:
    run(FORKED_WHILE_A_THREAD_HOLDS_THE_LOCK, root)
