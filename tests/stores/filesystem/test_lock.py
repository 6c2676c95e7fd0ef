"""The lock of a directory: how long others wait, and the count of changes in it."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.lock import DirectoryLock, LockHeld
from tests.support.disks import foreign_directory, read_only
from tests.support.files import opened_paths


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / 'lock')


def hold_at_once(path: str) -> None:
    with DirectoryLock(path, seconds=0).held():
        pass


def test_a_lock_that_is_held_for_too_long_is_an_error_that_may_pass(path: str) -> None:
    with DirectoryLock(path).held(create=True):
        with pytest.raises(LockHeld, match='has been held by another process for 0 seconds') as failure:
            hold_at_once(path)
        assert (failure.value.retry, path in str(failure.value)) == (True, True)
    hold_at_once(path)


def test_a_lock_is_waited_for(path: str) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with DirectoryLock(path).held(create=True):
            held.set()
            go_on.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(20)
    threading.Timer(0.01, go_on.set).start()
    with DirectoryLock(path, seconds=20).held():
        assert go_on.is_set()
    other.join()


def test_a_lock_is_released_by_a_block_that_fails(path: str) -> None:
    one = DirectoryLock(path, seconds=0)
    for create in (True, False):
        with pytest.raises(ZeroDivisionError), one.held(create=create):
            raise ZeroDivisionError
        hold_at_once(path)


def test_a_lock_that_was_opened_to_read_is_opened_anew_for_a_change() -> None:
    with foreign_directory() as directory:
        path = str(directory / 'lock')
        with DirectoryLock(path).held(create=True):
            pass
        one, other = DirectoryLock(path), DirectoryLock(path)
        with read_only(directory):
            for lock in (one, other):
                with lock.held(), pytest.raises(PermissionError):
                    lock.count_change()
        with one.held():
            one.count_change()
        with other.held(create=True):
            other.count_change()
        assert one.count() == (2).to_bytes(8, 'big')


def test_threads_that_share_a_lock_exclude_one_another(path: str) -> None:
    one = DirectoryLock(path, seconds=0.01)
    entered: list[object] = []

    def hold_too(wait: bool) -> None:
        with one.held(wait=wait):
            entered.append(None)

    def try_to_hold(wait: bool) -> None:
        try:
            hold_too(wait)
        except LockHeld as failure:
            entered.append(failure.retry)

    with one.held(create=True):
        for wait in (True, False):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(try_to_hold, wait).result(20)
    assert entered == [True, True]
    hold_too(wait=True)
    assert len(entered) == 3


def test_a_lock_file_is_kept_open_and_no_call_opens_it_anew(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = DirectoryLock(path)
    assert not one.is_open()
    with one.held(create=True):
        one.count_change()
    opened = opened_paths(monkeypatch)
    for create in (True, False):
        with one.held(create=create):
            one.count_change()
            one.count()
    assert (one.is_open(), opened) == (True, [])
    one.close()
    assert not one.is_open()
    assert one.count() == (3).to_bytes(8, 'big')
    with one.held(create=True):
        one.count_change()
    assert opened == [path]


def test_a_lock_that_is_a_link_is_not_followed(path: str) -> None:
    with DirectoryLock(f'{path}-elsewhere').held(create=True):
        pass
    os.symlink(f'{path}-elsewhere', path)
    one = DirectoryLock(path)
    for create in (False, True):
        with pytest.raises(OSError, match='symbolic links'), one.held(create=create):
            raise AssertionError
    with pytest.raises(OSError, match='symbolic links'):
        one.count()


def test_a_lock_file_that_was_replaced_is_locked_anew(path: str) -> None:
    with DirectoryLock(path).held(create=True):
        Path(path).unlink()
        with DirectoryLock(path, seconds=0).held(create=True), pytest.raises(LockHeld):
            hold_at_once(path)


def test_a_lock_file_that_is_removed_while_it_is_waited_for_is_made_anew(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    waiting = threading.Event()
    flock = fcntl.flock

    def noting_flock(number: int, operation: int) -> None:
        try:
            flock(number, operation)
        except BlockingIOError:
            waiting.set()
            raise

    def hold() -> None:
        with DirectoryLock(path, seconds=20).held(create=True):
            there.append(Path(path).exists())

    other = threading.Thread(target=hold)
    with DirectoryLock(path).held(create=True):
        monkeypatch.setattr(fcntl, 'flock', noting_flock)
        other.start()
        assert waiting.wait(20)
        Path(path).unlink()
    other.join()
    assert there == [True]


def test_without_a_lock_file_there_is_no_change_and_a_lock_is_an_error(path: str) -> None:
    one = DirectoryLock(path)
    assert (one.exists(), one.count()) == (False, b'')
    assert DirectoryLock(f'{__file__}/lock').count() == b''
    with pytest.raises(FileNotFoundError), one.held():
        raise AssertionError
    assert not one.exists()


def test_every_change_counts_and_the_count_begins_anew_at_its_end(path: str) -> None:
    one = DirectoryLock(path)
    before = os.listdir('/proc/self/fd')
    with one.held(create=True):
        counts = [one.count()]
        for _ in range(300):
            one.count_change()
            counts.append(one.count())
        assert len(set(counts)) == 301
        Path(path).write_bytes(b'\xff' * 8)
        one.count_change()
        assert one.count() == bytes(8)
    one.close()
    assert os.listdir('/proc/self/fd') == before
