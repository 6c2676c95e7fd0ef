"""The threads of a store: what they write and read, and how many may wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import threads as threads_module
from learning_observer_kvs.stores.threads import ReaderThreads, StoreThreads
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest

LOCATION = 'the disk'


def request() -> WriteRequest:
    return WriteRequest({'k': b'1'}, {}, lambda outcome: None)


def make_threads(write: Callable[[list[WriteRequest]], None] = lambda requests: None) -> StoreThreads:
    return StoreThreads(LOCATION, write)


async def end(threads: StoreThreads) -> None:
    threads.end()
    assert await threads.wait_until_ended(20)


async def written(threads: StoreThreads, batch: list[WriteRequest]) -> None:
    """Have a batch written, and wait until it is done."""
    done: asyncio.Future[WriteBatch] = asyncio.get_running_loop().create_future()
    threads.writer.submit(batch, done.set_result)
    async with asyncio.timeout(20):
        await done


class Held:
    """A job that holds its thread up.

    Attributes:
        go: set to let it go on.
        sizes: of the batches that were written.
    """

    def __init__(self) -> None:
        self.go = threading.Event()
        self.sizes: list[int] = []
        self._entered = threading.Event()

    def wait(self) -> bool:
        self._entered.set()
        return self.go.wait(20)

    def write(self, requests: list[WriteRequest]) -> None:
        self.wait()
        self.sizes.append(len(requests))

    async def begun(self) -> None:
        """Wait until a thread is held up."""
        await asyncio.to_thread(self._entered.wait, 20)


async def test_threads_that_are_ended_in_one_of_them_end_when_its_job_is_done() -> None:
    threads = make_threads(lambda requests: threads.end())
    batch = [request()]
    await written(threads, batch)
    assert batch[0].error is None
    assert await threads.wait_until_ended(20)


async def test_what_waits_when_threads_end_is_written_and_what_comes_later_is_refused() -> None:
    held = Held()
    threads = make_threads(held.write)
    first = asyncio.ensure_future(written(threads, [request()]))
    await held.begun()
    second = asyncio.ensure_future(written(threads, [request(), request()]))
    await asyncio.sleep(0)
    threads.end()
    with pytest.raises(StoreUnavailable, match='was closed'):
        await written(threads, [request()])
    assert not await threads.wait_until_ended(0)
    held.go.set()
    async with asyncio.timeout(20):
        await asyncio.gather(first, second)
    assert await threads.wait_until_ended(20)
    assert held.sizes == [1, 2]


async def test_threads_that_were_never_started_end_at_once() -> None:
    threads = make_threads()
    threads.end()
    threads.end()
    assert await threads.wait_until_ended(0)


async def test_an_error_of_one_request_is_not_that_of_the_others() -> None:
    bad = request()

    def write(requests: list[WriteRequest]) -> None:
        if bad in requests:
            raise ValueError('bad')

    batch = [request(), bad, request()]
    threads = make_threads(write)
    await written(threads, batch)
    await end(threads)
    assert [type(each.error) for each in batch] == [type(None), ValueError, type(None)]


async def test_where_no_thread_can_be_started_nothing_is_written_and_the_next_write_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = make_threads()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', refused)
        with pytest.raises(StoreUnavailable, match='new thread') as caught:
            await written(threads, [request()])
        assert caught.value.retry
    await written(threads, [request()])
    await end(threads)


async def test_reads_are_answered_with_their_results_and_their_errors() -> None:
    threads = make_threads()
    readers = ReaderThreads(threads, 'kvs-reader', 2)

    def fail() -> None:
        raise ValueError('bad')

    outcomes = await asyncio.gather(
        *(readers.run(fail if number == 3 else lambda number=number: number) for number in range(6)),
        return_exceptions=True,
    )
    assert [str(outcome) for outcome in outcomes] == ['0', '1', '2', 'bad', '4', '5']
    await end(threads)


async def test_where_no_second_thread_can_be_started_the_first_one_makes_all_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = make_threads()
    readers = ReaderThreads(threads, 'kvs-reader', 2)
    assert await readers.run(lambda: 1) == 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', refused)
        assert await asyncio.gather(*(readers.run(lambda: 2) for _ in range(3))) == [2, 2, 2]
    await end(threads)


async def test_what_several_loops_submit_is_written_together_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, 'MAX_REQUESTS', 3)
    held = Held()
    threads = make_threads(held.write)
    first = asyncio.ensure_future(written(threads, [request()]))
    await held.begun()
    others = [asyncio.ensure_future(written(threads, [request()] * size)) for size in (1, 1, 1, 4, 1)]
    await asyncio.sleep(0)
    held.go.set()
    await asyncio.gather(first, *others)
    assert held.sizes == [1, 3, 4, 1]
    await end(threads)


async def test_a_read_beyond_the_bound_is_overloaded_and_those_that_wait_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads_module, 'MAX_QUEUED_READS', 3)
    held, threads = Held(), make_threads()
    readers = ReaderThreads(threads, 'kvs-reader')

    first = asyncio.ensure_future(readers.run(held.wait))
    await held.begun()
    waiting = [asyncio.ensure_future(readers.run(held.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match=f'3 reads wait for {LOCATION}'):
        await readers.run(held.wait)
    held.go.set()
    assert await asyncio.gather(first, *waiting) == [True] * 4
    assert await readers.run(held.wait)
    await end(threads)


async def test_a_read_whose_caller_was_cancelled_is_not_made() -> None:
    held, threads = Held(), make_threads()
    readers = ReaderThreads(threads, 'kvs-reader')
    made: list[str] = []

    first = asyncio.ensure_future(readers.run(held.wait))
    await held.begun()
    cancelled = asyncio.ensure_future(readers.run(made.append, 'cancelled'))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    held.go.set()
    await first
    await readers.run(made.append, 'last')
    assert made == ['last']
    await end(threads)
