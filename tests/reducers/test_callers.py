"""Callers that give up, their contexts, and waits for oneself."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from learning_observer_kvs.errors import (
    ReducerError,
)
from learning_observer_kvs.reducers import worker_of
from tests.support.watched import (
    EXTERNAL,
    INTERNAL,
    STEPS,
    Watched,
    count,
    count_slowly,
    process,
    until,
)


async def test_a_caller_that_gives_up_before_its_turn_takes_its_event_with_it(watched: Watched) -> None:
    ran = []

    async def step(state: Any) -> Any:
        ran.append(state)
        return await count(state)

    watched.gate.clear()
    first = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    second, third = process(watched, step), process(watched, count)
    await asyncio.sleep(0)
    second.cancel()
    watched.gate.set()
    assert [await first, await third] == [1, 2]
    assert second.cancelled()
    assert ran == []
    assert watched.texts[INTERNAL] == b'2'


@STEPS
async def test_a_caller_that_gives_up_during_the_commit_does_not_stop_it(watched: Watched, step: Any) -> None:
    watched.gate.clear()
    event = process(watched, step)
    await until(lambda: len(watched.commits) == 1)
    event.cancel()
    await asyncio.wait([event])
    following = process(watched, step)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(watched.commits) == 1, 'the next event did not wait for the outcome'
    watched.gate.set()
    assert await following == 2
    assert watched.texts == {INTERNAL: b'2', EXTERNAL: b'2'}
    assert watched.busy_keys() == 0


async def test_a_reducer_that_is_cancelled_changes_nothing_and_the_key_goes_on(watched: Watched) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(state: Any) -> Any:
        begun.set()
        await never.wait()

    event = process(watched, hang)
    await begun.wait()
    following = process(watched, count)
    event.cancel()
    assert await following == 1
    assert event.cancelled()
    assert watched.busy_keys() == 0


@STEPS
async def test_a_reducer_runs_in_the_context_of_its_caller(watched: Watched, step: Any) -> None:
    caller: contextvars.ContextVar[int] = contextvars.ContextVar('caller')
    seen: list[int] = []

    async def see(state: Any) -> Any:
        seen.append(caller.get(-1))
        return await step(state)

    async def see_at_once(state: Any) -> Any:
        seen.append(caller.get(-1))
        return 0, 0

    async def call(number: int) -> None:
        caller.set(number)
        await process(watched, see if number % 2 else see_at_once)

    watched.gate.clear()
    callers = [asyncio.create_task(call(number)) for number in range(8)]
    await until(lambda: len(watched.commits) == 1)
    watched.before = watched.another_writes(b'0')
    watched.gate.set()
    await asyncio.gather(*callers)
    assert seen[0] == 0
    assert sorted(seen[1:]) == list(range(8))  # the first ran again, as another process had written


async def test_a_task_that_a_reducer_began_may_send_events_to_its_key_later(watched: Watched) -> None:
    began: list[asyncio.Task[Any]] = []
    ended = asyncio.Event()

    async def later() -> Any:
        await ended.wait()
        return await asyncio.gather(*(worker_of(watched).process(INTERNAL, EXTERNAL, count_slowly) for _ in range(3)))

    async def begin(state: Any) -> Any:
        began.append(asyncio.create_task(later()))
        await asyncio.sleep(0)
        return 1, 1

    await process(watched, begin)
    ended.set()
    assert await began[0] == [2, 3, 4]


async def test_a_reducer_that_meets_a_cancelled_task_fails_its_own_event_alone(watched: Watched) -> None:
    gone = asyncio.ensure_future(asyncio.sleep(0, 1))
    gone.cancel()
    await asyncio.wait([gone])

    async def await_it(state: Any) -> Any:
        await asyncio.sleep(0)
        return await gone, None

    async def ask_it(state: Any) -> Any:
        return gone.result(), None

    watched.gate.clear()
    first = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    others = [process(watched, step) for step in (ask_it, count, await_it, count, ask_it, count)]
    await asyncio.sleep(0)
    watched.gate.set()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
        1,
        asyncio.CancelledError,
        2,
        asyncio.CancelledError,
        3,
        asyncio.CancelledError,
        4,
    ]
    assert watched.busy_keys() == 0


async def test_an_update_that_updates_its_own_key_raises_instead_of_waiting_forever(watched: Watched) -> None:
    async def again(value: Any) -> Any:
        return await watched.update('k', again)

    async def another(value: Any) -> Any:
        return await watched.update('l', lambda value: 1)

    async with asyncio.timeout(20):
        with pytest.raises(ReducerError, match=r"'k' is held by the reducer or update that asks for it.*its own key"):
            await watched.update('k', again)
        assert await watched.update('k', another) == 1
    assert watched.busy_keys() == 0


async def test_an_event_waits_while_every_key_is_held(watched: Watched) -> None:
    async with watched.key_locks.here().hold(None):
        event = process(watched, count)
        for _ in range(10):
            await asyncio.sleep(0)
        assert watched.commits == []
        assert not event.done()
    assert await event == 1
    assert watched.busy_keys() == 0


@STEPS
async def test_a_reducer_that_sends_an_event_to_its_own_key_raises_instead_of_waiting_forever(
    watched: Watched, step: Any
) -> None:
    async def again(state: Any) -> Any:
        await step(state)
        return await worker_of(watched).process(INTERNAL, EXTERNAL, count), 1

    async with asyncio.timeout(12):
        with pytest.raises(ReducerError, match=r"'Internal,r' is held by the reducer.*its own key"):
            await process(watched, again)
    assert await process(watched, count) == 1
    assert watched.busy_keys() == 0
