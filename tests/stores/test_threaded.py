"""Which event loops and processes share the threads of a store."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.sqlite.connections import SQLiteThreads
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.threads import StoreThreads
from learning_observer_kvs.stores.types import Outcome
from tests.support.loops import Run, loop_in_thread
from tests.support.programs import run

MakeStore: TypeAlias = Callable[[], Store]
Threads: TypeAlias = Callable[[], set[threading.Thread]]


@pytest.fixture(params=['sqlite', 'filesystem'])
def make_store(tmp_path: Path, request: pytest.FixtureRequest) -> MakeStore:
    """Makes a store of each backend that has threads."""
    if request.param == 'sqlite':
        return lambda: SQLiteKVS(tmp_path / 'a.sqlite3')
    return lambda: FilesystemKVS(tmp_path / 'a')


@pytest.fixture
def threads_of_stores() -> Iterator[Threads]:
    """Returns the threads of stores that run now; the test must leave none."""
    before = set(threading.enumerate())

    def found() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith('kvs-')} - before

    yield found
    assert found() == set()


@pytest.fixture
def loops() -> Iterator[tuple[Run, Run]]:
    """Two event loops that run in two threads."""
    with loop_in_thread() as first, loop_in_thread() as second:
        yield first, second


async def use(store: Store) -> None:
    """Write, read and list."""
    await store.update('n', lambda value: int(str(value or 0)) + 1)
    await store['n']
    await store.keys()


def test_a_store_without_references_is_collected_and_its_threads_end(
    make_store: MakeStore, threads_of_stores: Threads
) -> None:
    async def use_one() -> weakref.ref[Store]:
        store = make_store()
        await use(store)
        return weakref.ref(store)

    held = asyncio.run(use_one())
    threads = threads_of_stores()
    for _ in range(3):
        gc.collect()
    assert held() is None
    for thread in threads:
        thread.join(20)
    assert threads_of_stores() == set()


def test_loops_share_the_threads_of_a_store(
    make_store: MakeStore, threads_of_stores: Threads, loops: tuple[Run, Run]
) -> None:
    store = make_store()
    first, second = loops
    first(use(store))
    threads = threads_of_stores()
    assert {thread.name.split('_')[0] for thread in threads} >= {'kvs-writer'}
    second(use(store))
    assert len([thread for thread in threads_of_stores() if thread.name == 'kvs-writer']) == 1
    first(store.close())
    second(store.close())


def test_loops_that_begin_at_once_share_the_threads_of_a_store(tmp_path: Path, loops: tuple[Run, Run]) -> None:
    opened: list[SQLiteThreads] = []
    opened_twice = threading.Event()
    first, second = loops
    other = threading.Thread(target=lambda: second(use(store)))

    class Opening(SQLiteKVS):
        def _open_threads(self) -> SQLiteThreads:
            opened.append(super()._open_threads())
            if len(opened) == 1:
                other.start()
                opened_twice.wait(0.2)  # it never is: the other loop waits until this returns
            else:
                opened_twice.set()
            return opened[-1]

    store = Opening(tmp_path / 'a.sqlite3')
    first(use(store))
    other.join()
    assert len(opened) == 1
    first(store.close())
    second(store.close())


def test_the_last_loop_that_closes_a_store_ends_its_threads(
    make_store: MakeStore, threads_of_stores: Threads, loops: tuple[Run, Run]
) -> None:
    store = make_store()
    first, second = loops
    first(use(store))
    second(use(store))
    threads = threads_of_stores()
    first(store.close())
    assert threads_of_stores() == threads
    second(use(store))
    assert threads_of_stores() >= threads
    second(store.close())
    assert threads_of_stores() == set()


def test_a_loop_that_uses_a_store_again_after_it_closed_it_is_counted_again(
    make_store: MakeStore, threads_of_stores: Threads, loops: tuple[Run, Run]
) -> None:
    store = make_store()
    first, second = loops
    first(use(store))
    second(use(store))
    first(store.close())
    first(use(store))
    second(store.close())
    threads = threads_of_stores()
    assert threads
    first(use(store))
    assert threads_of_stores() >= threads
    first(store.close())
    assert threads_of_stores() == set()
    assert asyncio.run(value_of(store)) == 4


async def value_of(store: Store) -> object:
    async with store:
        return await store['n']


def test_a_loop_that_ended_without_closing_the_store_is_not_waited_for(
    make_store: MakeStore, threads_of_stores: Threads
) -> None:
    store = make_store()
    asyncio.run(use(store))
    assert threads_of_stores()
    asyncio.run(store.close())
    assert threads_of_stores() == set()


def test_a_loop_that_ended_without_closing_the_store_is_not_kept_by_it(make_store: MakeStore) -> None:
    async def use_in_loop() -> weakref.ref[asyncio.AbstractEventLoop]:
        await use(store)
        return weakref.ref(asyncio.get_running_loop())

    store = make_store()
    ended = asyncio.run(use_in_loop())
    with asyncio.Runner() as runner:
        runner.run(use(store))
        gc.collect()
        assert ended() is None
        runner.run(store.close())


def test_nothing_is_kept_of_threads_that_were_closed(make_store: MakeStore, threads_of_stores: Threads) -> None:
    store = make_store()
    for _ in range(3):
        asyncio.run(use(store))
        asyncio.run(store.close())
    gc.collect()
    assert [found for found in gc.get_objects() if isinstance(found, StoreThreads)] == []


async def test_closing_has_everything_written_that_waits_for_its_batch(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    monkeypatch.setattr(type(store), 'MAX_REQUESTS', 1)
    outcomes: list[Outcome] = []
    for number in range(20):
        store.submit({f'k{number}': b'1'}, {}, outcomes.append)
    await store.close()
    assert outcomes == [True] * 20
    assert len(await store.keys()) == 20
    await store.close()


def test_closing_in_one_loop_waits_for_the_writes_of_that_loop_and_fails_none_of_another(
    make_store: MakeStore, threads_of_stores: Threads, loops: tuple[Run, Run]
) -> None:
    store = make_store()
    first, second = loops

    async def write_and_close() -> None:
        writing = [asyncio.ensure_future(use(store)) for _ in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*writing)
        await store.close()

    async def close_often() -> None:
        for _ in range(20):
            await use(store)
            await store.close()

    thread = threading.Thread(target=lambda: first(write_and_close()))
    thread.start()
    second(close_often())
    thread.join()
    assert asyncio.run(value_of(store)) == 40


def count_open(opened: list[sqlite3.Connection]) -> int:
    """How many of the connections are open."""
    count = 0
    for connection in opened:
        with suppress(sqlite3.ProgrammingError):  # it is closed
            count += connection.total_changes >= 0
    return count


def test_closing_in_one_loop_closes_its_connection_and_no_other(
    tmp_path: Path, opened: list[sqlite3.Connection], threads_of_stores: Threads, loops: tuple[Run, Run]
) -> None:
    store = SQLiteKVS(tmp_path / 'a.sqlite3')
    first, second = loops
    first(use(store))
    second(use(store))
    assert count_open(opened) == 4  # of the writer, the reader and two loops
    first(store.close())
    assert count_open(opened) == 3
    second(use(store))
    assert (count_open(opened), len(opened)) == (3, 4)
    second(store.close())
    assert count_open(opened) == 0


def test_when_the_interpreter_ends_a_loop_that_runs_keeps_its_connection_and_no_other_does(
    tmp_path: Path, opened: list[sqlite3.Connection], loops: tuple[Run, Run]
) -> None:
    made: list[SQLiteThreads] = []

    class Opening(SQLiteKVS):
        def _open_threads(self) -> SQLiteThreads:
            made.append(super()._open_threads())
            return made[-1]

    store = Opening(tmp_path / 'a.sqlite3')
    first, _ = loops
    first(use(store))
    with asyncio.Runner() as ended:
        ended.run(use(store))
    assert count_open(opened) == 4  # of the writer, the reader and two loops
    [threads] = made
    threads.end(exiting=True)
    threads.join(20)
    assert count_open(opened) == 1
    first(store.close())
    for connection in opened:
        connection.close()


FORK = """
import asyncio, gc, os, sys, threading, time
from learning_observer_kvs.kvs import KVS_MAP
store = KVS_MAP[sys.argv[1]](sys.argv[2])
async def add():
    await store.update('n', lambda value: (value or 0) + 1)
def writers():
    return [thread for thread in threading.enumerate() if thread.name == 'kvs-writer']
def in_child(function):
    if not os.fork():
        function()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
def use():
    asyncio.run(add())
    assert len(writers()) == 1
    asyncio.run(store.close())
    assert not writers()
def only_close():
    began = time.monotonic()
    asyncio.run(store.close())
    assert time.monotonic() - began < 4, 'it waited for threads that are not in this process'
def drop():
    globals().pop('store')
    gc.collect()
asyncio.run(add())
[writer] = writers()
in_child(use)
in_child(only_close)
in_child(drop)
assert writers() == [writer]
asyncio.run(add())
assert writers() == [writer]
asyncio.run(store.close())
assert not writers()
assert asyncio.run(store.update('n', lambda value: value)) == 3
"""


@pytest.mark.parametrize('kind', ['sqlite', 'filesystem'])
def test_a_forked_child_has_threads_of_its_own_and_leaves_those_of_its_parent_alone(kind: str, tmp_path: Path) -> None:
    run(FORK, kind, tmp_path / 'a')


PER_LOOP_FORK = """
import asyncio, gc, os, sys, weakref
from learning_observer_kvs.per_loop import PerLoop
class Made:
    pass
async def call(function):
    return function()
objects, loop = PerLoop(Made), asyncio.new_event_loop()
of_the_parent = weakref.ref(loop.run_until_complete(call(objects.here)))
for first in (objects.peek, objects.pop, lambda: next(iter(objects), None), lambda: objects.here() is of_the_parent()):
    if not os.fork():
        assert not loop.run_until_complete(call(first))
        made = loop.run_until_complete(call(objects.here))
        assert list(objects) == [made]
        gc.collect()
        assert of_the_parent() not in (None, made), 'it was dropped, which may close it'
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
    assert list(objects) == [of_the_parent()]
"""


def test_a_forked_child_starts_with_no_objects_of_loops_and_keeps_what_its_parent_has_open() -> None:
    run(PER_LOOP_FORK)
