"""The lock of a directory: how long others wait, and the count of changes in it."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.lock import DirectoryLock, LockHeld


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
        Path(path).write_bytes(b'\xff' * len(counts[-1]))
        one.count_change()
        assert one.count() == bytes(len(counts[-1]))
    one.close()
    assert os.listdir('/proc/self/fd') == before
