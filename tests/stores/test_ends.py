"""How the threads of a store end: closed, collected, or with the interpreter, whatever holds them up."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores import base, threads
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.programs import run
from tests.support.redis_server import until

KINDS = ['sqlite', 'filesystem']


def make_store(kind: str, path: Path) -> Store:
    return SQLiteKVS(path) if kind == 'sqlite' else FilesystemKVS(path)


COLLECTED_UNDER_A_LOCK = """
import asyncio, gc, sys, threading
from learning_observer_kvs.kvs import KVS_MAP
async def use(store):
    await store.set('a', 1)
    return await store['a']
store = KVS_MAP[sys.argv[1]](sys.argv[2])
assert asyncio.run(use(store)) == 1
with threading._active_limbo_lock:  # which every thread needs when it begins and when it ends
    del store
    gc.collect()
"""


@pytest.mark.parametrize('kind', KINDS)
def test_a_store_is_collected_while_a_lock_of_the_interpreter_is_held(kind: str, tmp_path: Path) -> None:
    run(COLLECTED_UNDER_A_LOCK, kind, tmp_path / 'a')


COLLECTED_ANYWHERE = """
import asyncio, gc, sys, threading
from learning_observer_kvs.kvs import KVS_MAP
class Collecting:
    def __init__(self, lock):
        self.lock = lock
    def __enter__(self):
        self.lock.acquire()
        gc.collect()
    def __exit__(self, *_):
        self.lock.release()
    def __getattr__(self, name):
        return getattr(self.lock, name)
gc.disable()
gc.freeze()
threading._active_limbo_lock = Collecting(threading._active_limbo_lock)
for _ in range(20):
    assert asyncio.run(KVS_MAP[sys.argv[1]](sys.argv[2])['a']) is None
    asyncio.run(KVS_MAP[sys.argv[1]](sys.argv[2]).set('b', 1))
"""


@pytest.mark.parametrize('kind', KINDS)
def test_stores_that_are_never_closed_are_collected_in_any_thread_that_begins_or_ends(
    kind: str, tmp_path: Path
) -> None:
    run(COLLECTED_ANYWHERE, kind, tmp_path / 'a')


ENDS_WHILE_WRITING = """
import asyncio, atexit, sys, threading
from learning_observer_kvs.kvs import KVS_MAP
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.sqlite.database import Database
entered, go = threading.Event(), threading.Event()
atexit.register(go.set)
def wait(write):
    def waiting_write(*arguments):
        entered.set()
        go.wait()
        write(*arguments)
    return waiting_write
Files.write, Database.write = wait(Files.write), wait(Database.write)
store = KVS_MAP[sys.argv[1]](sys.argv[2])
async def begin():
    writing = asyncio.ensure_future(store.set('k', 1))
    await asyncio.to_thread(entered.wait)
asyncio.run(begin())
"""


@pytest.mark.parametrize('kind', KINDS)
async def test_a_write_that_has_begun_is_finished_when_the_interpreter_ends(kind: str, tmp_path: Path) -> None:
    await asyncio.to_thread(run, ENDS_WHILE_WRITING, kind, tmp_path / 'a')
    async with make_store(kind, tmp_path / 'a') as store:
        assert await store['k'] == 1


STUCK = """
import sys, asyncio, threading
from learning_observer_kvs.kvs import KVS_MAP
from learning_observer_kvs.stores import threads
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.sqlite.database import Database
threads.CLOSE_TIMEOUT = 0.1
Files.write = Files.read = Database.write = Database.read = lambda *_: threading.Event().wait()  # a disk that hangs
store = KVS_MAP[sys.argv[1]](sys.argv[2])
async def begin():
    await asyncio.wait([asyncio.ensure_future(store.set('k', 1))], timeout=0.1)
    await asyncio.wait([asyncio.ensure_future(store.multiget([f'k{number}' for number in range(999)]))], timeout=0.1)
loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
"""


@pytest.mark.parametrize('kind', KINDS)
def test_an_interpreter_ends_though_a_disk_hangs_and_says_what_it_waited_for(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, '-W', 'ignore', '-c', STUCK, kind, str(tmp_path / 'a')]
    process = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    reader = 'kvs-files-reader' if kind == 'filesystem' else 'kvs-sqlite-reader'
    assert f'{tmp_path}/a: closing does not wait any longer for {reader} and kvs-writer' in process.stderr


LOOP_IN_A_DAEMON = """
import asyncio, os, sys, threading
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVS_MAP
store = KVS_MAP[sys.argv[1]](sys.argv[2])
reads, read = 0, threading.Event()
async def read_for_ever():
    global reads
    await store.set('k', 1)
    while True:
        await store['k']
        reads += 1
        if reads > 100:
            read.set()
def work():
    try:
        asyncio.run(read_for_ever())
    except StoreUnavailable:
        pass  # the threads end, too
    except BaseException as error:
        print(repr(error), flush=True)
threading.Thread(target=work, daemon=True).start()
read.wait()
"""


@pytest.mark.parametrize('kind', KINDS)
def test_a_loop_that_reads_in_another_thread_gets_no_other_error_while_the_interpreter_ends(
    kind: str, tmp_path: Path
) -> None:
    command = [sys.executable, '-W', 'ignore', '-c', LOOP_IN_A_DAEMON, kind, str(tmp_path / 'a')]
    for _ in range(5):
        assert subprocess.check_output(command, text=True, timeout=20) == ''


async def test_closing_ends_though_the_disk_hangs_and_says_what_it_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entered, go = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        go.wait(20)

    store = FilesystemKVS(tmp_path)
    monkeypatch.setattr(base, 'CLOSE_TIMEOUT', 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(Files, 'write', hang)
        hanging = asyncio.ensure_future(store.set('k', 1))
        await asyncio.to_thread(entered.wait, 20)
        waiting = asyncio.ensure_future(store.set('l', 1))
        await asyncio.sleep(0)
        with caplog.at_level(logging.ERROR):
            async with asyncio.timeout(12):
                await store.close()
    [line] = caplog.messages
    assert line.startswith(f'{tmp_path}: closing does not wait any longer for kvs-writer')
    with pytest.raises(StoreUnavailable, match='closed before this was written'):
        await waiting
    assert not hanging.done()
    await store.set('m', 1)  # with threads of its own
    go.set()
    await hanging
    await store.close()
    await asyncio.to_thread(until, lambda: not threads._ALIVE, 'the end of the threads')  # those that hung, too
