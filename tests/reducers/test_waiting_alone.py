"""Events whose key is free, and that wait because the slice of time is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.reducers import serving, worker_of
from learning_observer_kvs.reducers.worker import ReducerWorker
from tests.support.watched import Watched, count, count_after, send, until

NAMES = 'abc'


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """One whose states are cached, in slices of a single event."""
    store = Watched()
    await asyncio.gather(*(send(store, name) for name in NAMES))
    store.commits.clear()
    monkeypatch.setattr(serving, 'TIME_SLICE', -1.0)
    return store


def waiting_events(store: Watched) -> int:
    worker = worker_of(store)
    assert isinstance(worker, ReducerWorker)
    return worker.metrics()['queued_events']


async def send_all(store: Watched, step: Any = count) -> list[asyncio.Future[Any]]:
    """Send an event of each key, of which the first alone is reduced."""
    events = [send(store, name, step) for name in NAMES]
    await asyncio.sleep(0)
    assert waiting_events(store) == len(NAMES) - 1
    return events


async def test_those_that_come_behind_one_are_committed_with_it_in_order(store: Watched) -> None:
    seen: list[int] = []

    async def note(state: Any) -> Any:
        seen.append(state)
        return await count(state)

    events = await send_all(store, note)
    seen.clear()
    more = [send(store, 'c', note) for _ in range(3)]
    assert await asyncio.gather(*events, *more) == [2, 2, 2, 3, 4, 5]
    assert [expected for _, expected in store.commits if 'Internal,c' in expected] == [{'Internal,c': b'1'}]
    assert seen[-4:] == [1, 2, 3, 4]
    assert waiting_events(store) == 0


async def test_an_update_that_came_behind_one_is_made_between_it_and_the_later_events(store: Watched) -> None:
    events = await send_all(store)

    def add_ten(state: Any) -> Any:
        return state + 10

    update = asyncio.ensure_future(store.update('Internal,c', add_ten))
    await asyncio.sleep(0)
    later = [send(store, 'c') for _ in range(2)]
    assert await asyncio.gather(*events, *later) == [2, 2, 2, 13, 14]
    assert await update == 12


async def test_one_whose_caller_was_cancelled_is_not_reduced_and_its_key_is_free(store: Watched) -> None:
    events = await send_all(store)
    events[2].cancel()
    await asyncio.gather(*events, return_exceptions=True)
    assert not [writes for writes, _ in store.commits if 'Internal,c' in writes]
    assert await send(store, 'c') == 2


async def test_one_whose_caller_was_cancelled_keeps_none_back_that_came_behind_it(store: Watched) -> None:
    events = await send_all(store)
    later = [send(store, 'c') for _ in range(2)]
    await asyncio.sleep(0)
    events[2].cancel()
    assert await asyncio.gather(*later) == [2, 3]


async def test_a_reducer_that_waits_keeps_no_other_from_being_served(store: Watched) -> None:
    go_on = asyncio.Event()
    first, *_ = await send_all(store)
    waiting = [send(store, name, count_after(go_on)) for name in 'de']
    others = [send(store, name) for name in 'fgh']
    assert await asyncio.gather(first, *others) == [2, 1, 1, 1]
    go_on.set()
    assert await asyncio.gather(*waiting) == [1, 1]


async def test_a_reducer_with_a_cached_state_that_waits_keeps_no_other_from_being_served(store: Watched) -> None:
    go_on = asyncio.Event()
    events = [send(store, name, count_after(go_on) if name == 'b' else count) for name in NAMES]
    assert [await events[0], await events[2]] == [2, 2]
    assert not events[1].done()
    go_on.set()
    assert await events[1] == 2


async def test_what_a_reducer_raises_is_given_to_its_own_caller_alone(store: Watched) -> None:
    async def fail(state: Any) -> Any:
        raise KeyError(state)

    events = [send(store, name, fail if name == 'b' else count) for name in NAMES]
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ['2', 'KeyError(1)', '2']
    assert await send(store, 'b') == 2


async def test_a_reducer_that_cancels_the_task_it_runs_in_stops_no_other(store: Watched) -> None:
    async def cancel(state: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await count(state)

    events = [send(store, name, cancel if name == 'b' else count) for name in NAMES]
    assert await asyncio.gather(*events) == [2, 2, 2]
    assert await send(store, 'b') == 3


async def test_the_end_of_the_event_loop_leaves_no_caller_waiting_and_no_key_held(store: Watched) -> None:
    events = await send_all(store)
    [task] = worker_of(store)._server._tasks
    task.cancel()
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert outcomes[0] == 2
    assert [type(outcome) for outcome in outcomes[1:]] == [asyncio.CancelledError] * 2
    await until(lambda: not store.key_locks.here().held)
    assert await asyncio.gather(*(send(store, name) for name in 'bc')) == [2, 2]


async def test_closing_waits_for_it(store: Watched) -> None:
    events = await send_all(store)
    await store.close()
    assert await asyncio.gather(*events) == [2, 2, 2]
