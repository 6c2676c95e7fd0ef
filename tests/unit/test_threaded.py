"""The thread that writes, and what belongs to each event loop: several loops at once, and ends of every kind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import pytest

from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.threaded import WriterThread
from learning_observer_kvs.stores.write_queue import WriteBatch, WriteRequest


def request() -> WriteRequest:
    return WriteRequest({'k': b'1'}, {}, lambda outcome: None)


async def answered(writer: WriterThread, load: list[WriteRequest]) -> None:
    """Have a load written, and wait for its answer."""
    done: asyncio.Future[WriteBatch] = asyncio.get_running_loop().create_future()
    writer.submit(load, done.set_result)
    async with asyncio.timeout(20):
        await done


async def test_a_writer_that_is_closed_in_its_own_thread_ends_when_it_has_answered() -> None:
    ended = threading.Event()
    writer = WriterThread(lambda requests: writer.close(), ended.set)
    load = [request()]
    await answered(writer, load)
    assert load[0].error is None
    assert await asyncio.to_thread(ended.wait, 20)


async def test_what_comes_while_a_writer_closes_is_written_and_the_close_ends() -> None:
    entered, go = threading.Event(), threading.Event()
    written: list[int] = []

    def process(requests: list[WriteRequest]) -> None:
        entered.set()
        go.wait(20)
        written.append(len(requests))

    writer = WriterThread(process, lambda: None)
    first = asyncio.ensure_future(answered(writer, [request()]))
    await asyncio.to_thread(entered.wait, 20)
    closing = asyncio.ensure_future(asyncio.to_thread(writer.close))
    second = asyncio.ensure_future(answered(writer, [request(), request()]))
    await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(20):
        await asyncio.gather(first, second, closing)
        await asyncio.to_thread(writer.close)
    assert sum(written) == 3


async def test_a_write_that_cannot_begin_is_answered_and_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with SQLiteKVS(tmp_path / 'a.sqlite3') as store, asyncio.timeout(20):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', refused)
            with pytest.raises(RuntimeError, match='new thread'):
                await store.set('k', 1)
        await store.set('k', 2)
        assert await store.dump() == {'k': 2}


def test_a_store_that_nobody_holds_is_collected_and_its_threads_end(tmp_path: Path) -> None:
    threads = set(threading.enumerate())

    async def use() -> weakref.ref[SQLiteKVS]:
        store = SQLiteKVS(tmp_path / 'a.sqlite3')
        await store.set('k', 1)
        return weakref.ref(store)

    held = asyncio.run(use())
    for _ in range(3):
        gc.collect()
    assert held() is None
    assert set(threading.enumerate()) <= threads


def test_loops_that_run_at_once_never_get_what_is_anothers() -> None:
    """Another loop asks between the look at the last one and its answer."""
    things: PerLoop[object] = PerLoop(object)

    class Asking(asyncio.SelectorEventLoop):
        """A loop that lets another one ask whenever somebody asks which thread it runs in."""

        def __getattribute__(self, name: str) -> object:
            found = super().__getattribute__(name)
            if name == '_thread_id' and asks.is_set():
                asks.clear()
                other = threading.Thread(target=lambda: asyncio.run(ask()))
                other.start()
                other.join()
            return found

    async def ask() -> object:
        return things.here()

    async def ask_twice() -> None:
        mine = things.here()
        asks.set()
        assert things.here() is mine
        assert not asks.is_set()

    asks = threading.Event()
    with asyncio.Runner(loop_factory=Asking) as runner:
        runner.run(ask_twice())
