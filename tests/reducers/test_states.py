"""What a reducer is given, and what a fresh key starts from."""

from __future__ import annotations

import asyncio
from typing import Any

from learning_observer_kvs.errors import (
    InvalidValue,
)
from tests.support.watched import (
    EXTERNAL,
    INTERNAL,
    STEPS,
    Watched,
    count,
    decline,
    process,
    until,
)


async def test_the_next_event_of_a_batch_sees_what_json_gives_back(watched: Watched) -> None:
    seen = []

    async def step(state: Any) -> Any:
        seen.append(state)
        return {1: (1, 2)}, None

    watched.gate.clear()
    events = [process(watched, step) for _ in range(4)]
    await until(lambda: len(watched.commits) == 1)
    watched.gate.set()
    await asyncio.gather(*events)
    assert seen == [None, *[{'1': [1, 2]}] * 3]


async def test_a_reducer_may_return_any_awaitable(watched: Watched) -> None:
    assert await process(watched, lambda state: asyncio.ensure_future(count(state))) == 1


async def test_both_states_are_encoded_before_the_next_event_is_reduced(watched: Watched) -> None:
    shared: list[int] = []

    def event(number: int) -> asyncio.Future[Any]:
        async def step(state: Any) -> Any:
            shared.append(number)
            return (shared, shared) if number == 1 else (False, False)

        return process(watched, step)

    watched.gate.clear()
    events = [event(number) for number in range(4)]
    await until(lambda: len(watched.commits) == 1)
    watched.gate.set()
    await asyncio.gather(*events)
    assert watched.texts == {INTERNAL: b'[0,1]', EXTERNAL: b'[0,1]'}


async def test_a_reducer_that_fails_in_a_batch_leaves_no_trace_in_it(watched: Watched) -> None:
    def event(number: int) -> asyncio.Future[Any]:
        async def step(state: Any) -> Any:
            state.append(number)
            if number == 2:
                raise LookupError(number)
            return (state, {number}) if number == 3 else (state, number)

        return process(watched, step, b'[]')

    watched.gate.clear()
    events = [event(number) for number in range(6)]
    await until(lambda: len(watched.commits) == 1)
    watched.gate.set()
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, int, LookupError, InvalidValue, int, int]
    assert watched.texts == {INTERNAL: b'[0,1,4,5]', EXTERNAL: b'5'}


@STEPS
async def test_each_run_gets_a_fresh_copy(watched: Watched, step: Any) -> None:
    async def spoil(state: Any) -> Any:
        state['runs'] += 1
        await step(0)
        return state, False

    watched.before = watched.another_writes(b'{"runs":10}')
    await process(watched, spoil, b'{"runs":0}')
    assert watched.texts[INTERNAL] == b'{"runs":11}'

    def spoil_too(value: Any) -> Any:
        value['runs'] += 1
        return value

    watched.before = watched.another_writes(b'{"runs":20}')
    await watched.update(INTERNAL, spoil_too)
    assert watched.texts[INTERNAL] == b'{"runs":21}'


# A fresh key


async def test_a_fresh_key_gets_its_null_state_in_the_same_commit_and_once(watched: Watched) -> None:
    async def external_only(state: Any) -> Any:
        return False, state['n']

    await process(watched, external_only, b'{"n":0}')
    await process(watched, decline, b'{"n":0}')
    assert watched.commits == [
        ({INTERNAL: b'{"n":0}', EXTERNAL: b'0'}, {INTERNAL: None}),
        ({}, {INTERNAL: b'{"n":0}'}),
    ]


async def test_a_fresh_key_gets_none_as_null(watched: Watched) -> None:
    await process(watched, decline)
    assert watched.texts == {INTERNAL: b'null'}


async def test_a_null_state_never_replaces_what_another_wrote_first(watched: Watched) -> None:
    watched.before = watched.another_writes(b'5')
    await process(watched, decline, b'0')
    assert watched.texts == {INTERNAL: b'5'}
