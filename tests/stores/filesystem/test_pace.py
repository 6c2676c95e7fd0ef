"""Small writes in the event loop: when they are done there, and when in a thread."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem import pace
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.pace import (
    FIRST_PAUSE,
    LAST_PAUSE,
    MANY,
    MAX_BYTES,
    MAX_FILES,
    MAX_SECONDS,
    Pace,
)
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.support.changes import change_and_stop


def request(**options: Any) -> WriteRequest:
    return WriteRequest({'k': b'1'}, {}, lambda outcome: None, **options)


class Disk:
    """A disk, and a clock that goes on while it works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits = 0
        self.seconds = 0.0
        self.is_waited_for = True
        self.written = 0
        self.pace = Pace(lambda: self.now, lambda: self.waits)

    def write(self, batch: Sequence[WriteRequest]) -> bool:
        self.now += self.seconds
        self.waits += self.is_waited_for
        self.written += 1
        return True

    def try_write(self) -> bool:
        return self.pace.try_write(self.write, [request()])


def test_a_disk_that_was_slow_is_not_waited_for_again_for_some_time() -> None:
    disk = Disk()
    disk.seconds = 0.5
    for pause in (FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4):
        assert disk.try_write()
        assert not disk.try_write()
        disk.now += pause * 0.9
        assert not disk.try_write()
        disk.now += pause * 0.2
    for _ in range(30):
        disk.try_write()
        disk.now += LAST_PAUSE
    disk.seconds = 0.0
    assert all(disk.try_write() for _ in range(MANY))
    disk.seconds = 0.5
    disk.try_write()
    disk.now += FIRST_PAUSE * 1.1
    assert disk.try_write()


def test_a_few_fast_writes_between_slow_ones_do_not_shorten_the_pause() -> None:
    disk = Disk()
    for pause in (FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4):
        disk.seconds = 0.0
        assert all(disk.try_write() for _ in range(MANY - 1))
        disk.seconds = 0.5
        assert disk.try_write()
        disk.now += pause * 0.9
        assert not disk.try_write()
        disk.now += pause * 0.2


def test_a_write_that_waits_for_the_disk_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, 'FIRST_PAUSE', LAST_PAUSE)

    def wait(batch: Sequence[WriteRequest]) -> bool:
        time.sleep(2 * MAX_SECONDS)
        return True

    measured = Pace()
    assert measured.try_write(wait, [request()])
    assert not measured.try_write(wait, [request()])


def test_what_fails_here_is_left_to_a_thread() -> None:
    disk = Disk()
    disk.seconds = 0.5

    def fail(batch: Sequence[WriteRequest]) -> bool:
        disk.write(batch)
        raise StoreUnavailable('Nothing was written.')

    assert not disk.pace.try_write(fail, [request()])
    assert not disk.try_write()
    assert disk.written == 1


def test_a_write_during_which_others_had_the_processor_was_not_slow() -> None:
    disk = Disk()
    disk.seconds, disk.is_waited_for = 0.5, False
    assert all(disk.try_write() for _ in range(10))


@pytest.mark.parametrize(
    'batch',
    [
        [request(clear=True)],
        [WriteRequest({'k': None}, {}, lambda outcome: None)],
        [request()] * (MAX_FILES + 1),
        [request(), request(clear=True)],
        [WriteRequest(dict.fromkeys('abc', b'1'), {}, lambda outcome: None)] * 3,
        [WriteRequest({'k': b'x' * (MAX_BYTES // 2)}, {}, lambda outcome: None)] * 2,
        [WriteRequest({'k': b'x' * MAX_BYTES}, {}, lambda outcome: None)],
        [WriteRequest({'k': b'x'}, {'k': b'x' * MAX_BYTES}, lambda outcome: None)],
        [WriteRequest({}, dict.fromkeys('abcdefghij'), lambda outcome: None)],
    ],
)
def test_what_takes_long_is_for_a_thread(batch: list[WriteRequest]) -> None:
    disk = Disk()
    assert not disk.pace.try_write(disk.write, batch)
    assert disk.written == 0


async def written_by(store: FilesystemKVS, value: object) -> set[str]:
    """Write a pair; return the names of the threads that did."""
    names = set()
    store.directory.before_step = lambda step: names.add(threading.current_thread().name)
    await store.multiset({'a': value, 'b': value})
    return names


async def test_a_small_write_is_done_in_the_event_loop_and_a_large_one_is_not(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, '_note', lambda self, is_fast: None)
    here = threading.current_thread().name
    assert await written_by(store, 0) == {'kvs-writer'}  # it makes the folder, and looks at what is there
    assert await written_by(store, 1) == {here}
    assert await written_by(store, 'x' * MAX_BYTES) == {'kvs-writer'}
    assert await written_by(store, 2) == {here}
    await store.close()
    assert await written_by(store, 3) == {'kvs-writer'}


async def test_the_event_loop_never_waits_for_a_lock(
    store: FilesystemKVS, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.multiset({'a': 0, 'b': 0})
    sleep, slept_in = time.sleep, asyncio.Queue[str]()
    loop = asyncio.get_running_loop()

    def noted_sleep(seconds: float) -> None:
        loop.call_soon_threadsafe(slept_in.put_nowait, threading.current_thread().name)
        sleep(seconds)

    monkeypatch.setattr(time, 'sleep', noted_sleep)
    with Directory(str(root)).write_locked():
        writing = asyncio.ensure_future(written_by(store, 1))
        assert {await slept_in.get() for _ in range(5)} == {'kvs-writer'}
        assert not writing.done()
    assert await writing == {'kvs-writer'}
    assert await store.multiget(['a', 'b']) == [1, 1]


async def test_the_event_loop_does_not_finish_the_changes_of_killed_processes(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'a': 0, 'b': 0})
    change_and_stop(root, 'rename')
    assert await written_by(store, 1) == {'kvs-writer'}
    assert await store.multiget(['a', 'b']) == [1, 1]


@pytest.mark.parametrize(('step', 'error'), [('stage', StoreUnavailable), ('rename', WriteUnclear)])
async def test_what_fails_in_the_event_loop_is_reported_as_from_a_thread(
    store: FilesystemKVS, step: ChangeStep, error: type[Exception]
) -> None:
    await store.multiset({'a': 0, 'b': 0})

    def fail(this: ChangeStep) -> None:
        if this == step:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    store.directory.before_step = fail
    with pytest.raises(error):
        await store.multiset({'a': 1, 'b': 1})
    store.directory.before_step = lambda step: None
    found = await store.multiget(['a', 'b'])
    assert found == ([0, 0] if step == 'stage' else [1, 1])
