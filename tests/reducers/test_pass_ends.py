"""Passes of an event through many reducers: what they wait for, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from learning_observer_kvs.reducers import serving, worker_of
from learning_observer_kvs.reducers.joined import Run
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.key_locks import CURRENT
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.watched import Watched, count, count_after, decline, send, until

NAMES = 'abcdefgh'


def run(name: str, step: Any, *, may_wait: bool = True) -> Run:
    return Run(f'Internal,{name}', f'External,{name}', step, may_wait=may_wait)


def together(store: Store, runs: Sequence[Run]) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(worker_of(store).process_together(runs))


async def test_a_pass_waits_while_every_key_is_held(watched: Watched) -> None:
    await together(watched, [run(name, count) for name in 'ab'])
    watched.commits.clear()
    async with worker_of(watched).exclusive(None):
        event = together(watched, [run(name, count) for name in 'ab'])
        await asyncio.sleep(0.01)
        assert watched.commits == []
    assert await event == [b'2', b'2']


async def test_a_reducer_waits_for_a_key_whose_commit_was_begun_in_a_pass(watched: Watched) -> None:
    await together(watched, [run('a', count, may_wait=False)])
    watched.gate.clear()
    event = together(watched, [run('a', count, may_wait=False)])
    await until(lambda: len(watched.commits) == 2)

    async def nested(state: Any) -> Any:
        return await send(watched, 'a'), None

    other = send(watched, 'b', nested)
    await until(lambda: worker_of(watched)._queued == {'Internal,a': 1})
    watched.gate.set()
    async with asyncio.timeout(12):
        assert (await event, await other) == ([b'2'], None)
    assert await watched['Internal,b'] == 3


async def test_a_reducer_that_waits_is_not_taken_for_the_caller_of_those_after_it(watched: Watched) -> None:
    await together(watched, [run(name, count) for name in 'ab'])
    go_on, callers = asyncio.Event(), []

    async def behind_a(state: Any) -> Any:
        holder = CURRENT.get()
        assert holder is not None
        callers.append(holder.outer)
        go_on.set()
        return await worker_of(watched).process('Internal,a', 'External,a', count), None

    async with asyncio.timeout(12):
        await together(watched, [run('a', count_after(go_on)), run('b', behind_a)])
    assert callers == [None]
    assert await watched['Internal,b'] == 3


async def test_inside_a_reducer_one_that_declines_has_an_empty_text(watched: Watched) -> None:
    async def yes(state: Any) -> Any:
        return False, True

    async def outer(state: Any) -> Any:
        outcomes = await worker_of(watched).process_together([run('b', decline), run('c', yes)])
        return [outcome.decode() for outcome in outcomes if isinstance(outcome, bytes)], None

    await send(watched, 'a', outer)
    assert await watched['Internal,a'] == ['', 'true']


class Exit(BaseException):
    """What is not an ``Exception``, as what ends the interpreter."""


async def leave(state: Any) -> Any:
    raise Exit


@pytest.mark.parametrize('may_wait', [True, False])
async def test_what_ends_the_interpreter_passes_through_and_the_key_is_free(may_wait: bool) -> None:
    async with InMemoryKVS() as store:
        worker = worker_of(store)
        with pytest.raises(Exit):
            await worker.process_together([run('a', leave, may_wait=may_wait)])
        with pytest.raises(Exit):
            await worker.process('Internal,a', 'External,a', leave, may_wait=may_wait)
        assert store.busy_keys() == 0
        assert await send(store, 'a') == 1


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each reducer others have their turn."""
    monkeypatch.setattr(serving, 'TIME_SLICE', -1.0)


@pytest.mark.usefixtures('short_slices')
async def test_the_end_of_a_pass_in_memory_is_the_end_of_its_task_and_of_closing() -> None:
    store = InMemoryKVS()
    event = together(store, [run(name, count) for name in NAMES])
    await asyncio.sleep(0)
    [task] = worker_of(store)._server._tasks
    worker = worker_of(store)
    async with asyncio.timeout(12):
        await store.close()
        assert await event == [b'1'] * len(NAMES)
        await asyncio.wait([task])
    assert task.exception() is None
    assert worker._busy == 0
    event = together(store, [run(name, count) for name in NAMES])  # without a wait for its end
    await asyncio.sleep(0)
    [task] = worker_of(store)._server._tasks
    assert await event == [b'2'] * len(NAMES)
    await asyncio.wait([task])
    assert task.exception() is None
    await store.close()


@pytest.mark.usefixtures('short_slices')
@pytest.mark.parametrize('turns', [1, 4])
async def test_a_pass_that_is_not_served_any_more_ends_with_its_caller(turns: int) -> None:
    async with InMemoryKVS() as store:
        event = together(store, [run(name, count) for name in NAMES])
        for _ in range(turns):
            await asyncio.sleep(0)
        worker = worker_of(store)
        [task] = worker._server._tasks
        task.cancel()
        await asyncio.wait([event, task], timeout=3)
        assert event.cancelled()
        assert task.cancelled()
        assert (store.busy_keys(), worker._busy) == (0, 0)


async def cancel_while_it_waits(watched: Watched) -> tuple[asyncio.Task[list[Any]], asyncio.Task[None]]:
    """Cancel the task of a reducer of a pass; return the pass and that task."""
    await together(watched, [run('a', count)])
    watched.commits.clear()
    event = together(watched, [run('a', count_after(asyncio.Event()))])
    await until(lambda: len(worker_of(watched)._server._tasks) == 1)
    [task] = worker_of(watched)._server._tasks
    for _ in range(3):  # into the reducer
        await asyncio.sleep(0)
    task.cancel()
    return event, task


async def test_a_reducer_whose_task_is_cancelled_fails_its_own_event(watched: Watched) -> None:
    event, _ = await cancel_while_it_waits(watched)
    async with asyncio.timeout(12):
        [outcome] = await event
    assert isinstance(outcome, asyncio.CancelledError)
    assert await send(watched, 'a') == 2


async def test_a_reducer_whose_task_and_caller_are_cancelled_is_given_up(watched: Watched) -> None:
    event, task = await cancel_while_it_waits(watched)
    event.cancel()
    async with asyncio.timeout(12):
        await asyncio.wait([event, task])
    assert event.cancelled()
    assert task.cancelled()
    assert (watched.commits, watched.busy_keys(), worker_of(watched)._busy) == ([], 0, 0)
    assert await send(watched, 'a') == 2


async def test_a_reducer_of_a_batch_whose_task_is_cancelled_fails_its_own_event_alone(watched: Watched) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(state: Any) -> Any:
        begun.set()
        await never.wait()

    watched.gate.clear()
    events = [send(watched, 'a', step) for step in (count, hang, count)]
    await until(lambda: len(watched.commits) == 1)
    watched.gate.set()
    await begun.wait()
    [task] = worker_of(watched)._server._tasks
    task.cancel()
    async with asyncio.timeout(12):
        first, second, third = await asyncio.gather(*events, return_exceptions=True)
    assert (first, type(second), third) == (1, asyncio.CancelledError, 2)


@pytest.mark.usefixtures('short_slices')
async def test_a_batch_that_takes_long_lets_the_event_loop_go_on(watched: Watched) -> None:
    turns, seen = 0, []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def note(state: Any) -> Any:
        seen.append(turns)
        return await count(state)

    watched.gate.clear()
    first = send(watched, 'a')
    await until(lambda: len(watched.commits) == 1)
    events = [send(watched, 'a', note) for _ in range(5)]
    await asyncio.sleep(0)
    counting = asyncio.create_task(count_turns())
    watched.gate.set()
    assert await asyncio.gather(first, *events) == [1, 2, 3, 4, 5, 6]
    counting.cancel()
    assert len(set(seen)) > 1


async def test_closing_waits_for_an_event_behind_what_is_not_an_event(watched: Watched) -> None:
    worker = worker_of(watched)
    async with worker.exclusive(['Internal,a']):
        event = send(watched, 'a')
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(worker.close(20))
        await asyncio.sleep(0.01)
        assert not closing.done()
    async with asyncio.timeout(12):
        assert await event == 1
        await closing


async def test_what_was_read_is_not_compared_where_nothing_is_written(watched: Watched) -> None:
    watched.texts['Internal,a'] = b'1'
    await send(watched, 'a', decline)
    assert watched.commits == []
