"""Pages give way while the event loop has much else to do; time is handed in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from learning_observer_kvs.debug import sending
from learning_observer_kvs.debug.pace import BURST_SECONDS, BUSY, LOOK_SECONDS, MAX_WAIT, SHARE, Load, Pace, Share
from tests.support.watched import until

SAVED = BURST_SECONDS * SHARE
"""For how many seconds pages may work without a wait after a rest."""


def test_after_a_rest_work_does_not_wait_until_what_was_saved_is_spent() -> None:
    share = Share(100.0)
    for _ in range(9):
        share.charge(100.0, SAVED / 10)
        assert share.wait(100.0) == 0
    share.charge(100.0, SAVED / 5)
    assert share.wait(100.0) == pytest.approx(SAVED / 10 / SHARE)


def test_work_that_never_rests_takes_its_share_of_the_time() -> None:
    share, now, worked = Share(0.0), 0.0, 0.0
    while now < 100:
        now += share.wait(now)
        share.charge(now, 0.002)
        worked += 0.002
    assert worked == pytest.approx(100 * SHARE + SAVED, rel=0.01)


def test_what_was_not_taken_for_long_is_not_saved_up_for_ever() -> None:
    share = Share(0.0)
    share.charge(1000.0, 2 * SAVED)
    assert share.wait(1000.0) == pytest.approx(min(SAVED / SHARE, MAX_WAIT))


def test_no_work_makes_what_comes_after_it_wait_for_longer_than_the_bound() -> None:
    share = Share(0.0)
    for _ in range(10):
        share.charge(5.0, 100.0)
    assert share.wait(5.0) == pytest.approx(MAX_WAIT)
    assert share.wait(5.0 + MAX_WAIT) == 0


@pytest.mark.parametrize(('of_others', 'is_busy'), [(0.0, False), (BUSY * 0.9, False), (BUSY * 1.1, True), (1.0, True)])
def test_a_loop_is_busy_by_what_it_does_for_others(of_others: float, is_busy: bool) -> None:
    load = Load(10.0, 3.0)
    load.note_page(0.5)  # which pages have taken
    assert load.is_busy(11.0, 3.0 + 0.5 + of_others) is is_busy
    assert load.is_busy(11.0 + LOOK_SECONDS / 2, 4.0) is is_busy  # nothing is concluded from a short time
    assert not load.is_busy(13.0, 3.0 + 0.5 + of_others)


class Clocks:
    """The clocks of a pace, which stand still; whatever sleeps is noted, and wakes at once, later by so much."""

    def __init__(self) -> None:
        self.now = self.worked = 0.0
        self.slept: list[float] = []

    def work(self, seconds: float) -> None:
        """Let the thread of the loop work."""
        self.now += seconds
        self.worked += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.work(seconds)  # for others, so that the loop stays busy
        await asyncio.sleep(0)


@contextmanager
def paced() -> Iterator[tuple[Pace, Clocks]]:
    clocks = Clocks()
    with ThreadPoolExecutor(1) as thread:
        pace = Pace(thread, now=lambda: clocks.now, worked=lambda: clocks.worked, sleep=clocks.sleep)
        assert not pace.is_busy()
        yield pace, clocks


async def page(clocks: Clocks, slices: int, seconds: float, note: Callable[[], object] = lambda: None) -> str:
    """A page that searches: it lets the loop go on after each slice."""
    for _ in range(slices):
        note()
        clocks.work(seconds)
        await asyncio.sleep(0)
    return 'page'


async def test_pages_of_a_loop_that_is_not_busy_do_not_wait() -> None:
    with paced() as (pace, clocks):
        clocks.now += 10
        for _ in range(5):
            assert await pace.run(page(clocks, 20, 0.01)) == 'page'
        assert clocks.slept == []


async def test_pages_of_a_busy_loop_take_a_twentieth_of_its_time() -> None:
    with paced() as (pace, clocks):
        clocks.work(10)
        began = clocks.now
        events = asyncio.create_task(page(clocks, 100_000, 0.002))  # of a class
        await asyncio.gather(*(pace.run(page(clocks, 50, 0.002)) for _ in range(4)))
        events.cancel()
        assert pytest.approx(SHARE * (clocks.now - began), rel=0.1) == 4 * 50 * 0.002 - SAVED
        assert max(clocks.slept) <= MAX_WAIT


async def test_the_pages_of_a_busy_loop_go_on_in_turn() -> None:
    order: list[str] = []
    with paced() as (pace, clocks):
        clocks.work(10)
        names = 'abc'
        await asyncio.gather(
            *(pace.run(page(clocks, 20, SAVED, lambda name=name: order.append(name))) for name in names)  # type: ignore[misc]
        )
        assert order == list(names) * 20


async def test_what_is_done_in_the_thread_counts_and_waits_in_turn() -> None:
    with paced() as (pace, clocks):
        clocks.work(10)
        began = clocks.now
        calls = [pace.in_thread(clocks.work, SAVED) for _ in range(6)]
        await asyncio.gather(*calls)
        assert sum(clocks.slept) == pytest.approx(4 * MAX_WAIT)  # the first has what was saved, so the second is due
        assert clocks.now - began == pytest.approx(6 * SAVED + 4 * MAX_WAIT)


async def test_a_single_page_of_a_busy_loop_comes_at_once() -> None:
    with paced() as (pace, clocks):
        clocks.work(10)
        for _ in range(5):
            await pace.run(page(clocks, 2, SAVED / 10))
            await pace.in_thread(clocks.work, SAVED / 10)
            clocks.work(2.0)  # someone looks at it
        assert clocks.slept == []


async def test_what_a_page_raises_and_its_cancellation_come_through() -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError('no such key')

    cancelled = []

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def timed(work: Any) -> None:
        async with asyncio.timeout(0):
            await work

    with paced() as (pace, _):
        with pytest.raises(ValueError, match='no such key'):
            await pace.run(failing())
        with pytest.raises(TimeoutError):
            await timed(pace.run(waiting()))
        assert cancelled == [True]


async def test_a_page_that_is_cancelled_while_it_waits_leaves_its_turn_to_others() -> None:
    with paced() as (pace, clocks):
        clocks.work(10)
        await pace.in_thread(clocks.work, 10 * SAVED)
        tasks = [asyncio.create_task(_awaited(pace.run(page(clocks, 1, 0.001)))) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in found] == [asyncio.CancelledError, asyncio.CancelledError, str]


async def _awaited(work: Any) -> Any:
    return await work


async def test_a_request_that_leaves_wakes_only_those_that_there_is_capacity_for() -> None:
    viewers, entered = sending.Viewers(2, 2), list[str]()

    async def view(client: str, leave: asyncio.Event) -> None:
        async with viewers.admit(client):
            entered.append(client)
            await leave.wait()

    events = [asyncio.Event() for _ in range(6)]
    tasks = [asyncio.create_task(view(name, event)) for name, event in zip('aabcde', events, strict=True)]
    for count in range(1, 6):
        await until(lambda: len(entered) == count + 1)  # noqa: B023
        assert entered == list('aabcde'[: count + 1])  # in the order in which they came
        events[count - 1].set()
    events[-1].set()
    await asyncio.gather(*tasks)


async def test_a_request_that_is_cancelled_when_it_was_just_admitted_gives_its_capacity_back() -> None:
    viewers = sending.Viewers(1, 1)

    async def view() -> None:
        async with viewers.admit('b'):
            raise AssertionError('it was cancelled before')

    async with viewers.admit('a'):
        task = asyncio.create_task(view())
        await asyncio.sleep(0)
    task.cancel()  # its turn has come, and it has not gone on yet
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    async with asyncio.timeout(10), viewers.admit('c'):
        pass
