"""Both states are one write on condition, and what is computed from cached text counts only once it is confirmed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.watched import (
    EXTERNAL,
    INTERNAL,
    STEPS,
    Watched,
    count,
    process,
    until,
)


async def test_both_states_are_one_write_on_condition_of_what_was_read(watched: Watched) -> None:
    await process(watched, count)
    await process(watched, count)
    assert watched.commits == [
        ({INTERNAL: b'1', EXTERNAL: b'1'}, {INTERNAL: None}),
        ({INTERNAL: b'2', EXTERNAL: b'2'}, {INTERNAL: b'1'}),
    ]


async def test_a_key_in_use_is_read_once(watched: Watched) -> None:
    watched.texts[INTERNAL] = b'5'
    for _ in range(10):
        await process(watched, count)
    assert watched.reads == 1
    assert len(watched.commits) == 10
    assert watched.texts[INTERNAL] == b'15'


@STEPS
async def test_events_that_wait_behind_a_key_are_committed_once(watched: Watched, step: Any) -> None:
    watched.gate.clear()
    events = [process(watched, step) for _ in range(11)]
    await until(lambda: len(watched.commits) == 1)
    watched.gate.set()
    assert await asyncio.gather(*events) == list(range(1, 12))
    assert watched.commits[1:] == [({INTERNAL: b'11', EXTERNAL: b'11'}, {INTERNAL: b'1'})]


@STEPS
async def test_the_state_of_a_null_is_not_that_of_a_missing_key(watched: Watched, step: Any) -> None:
    seen = []

    async def see(state: Any) -> Any:
        seen.append(state)
        await step(1)
        return 'new', 'new'

    watched.before = watched.another_writes(b'null')
    await process(watched, see, b'"fresh"')
    assert seen == ['fresh', None]
    assert watched.commits[-1][1] == {INTERNAL: b'null'}


@STEPS
async def test_what_another_wrote_in_between_is_read_and_the_event_reduced_again(watched: Watched, step: Any) -> None:
    await process(watched, step)
    watched.before = watched.another_writes(b'70')
    assert await process(watched, step) == 71
    assert watched.texts == {INTERNAL: b'71', EXTERNAL: b'71'}


async def test_a_whole_batch_that_lost_is_reduced_again_in_order(watched: Watched) -> None:
    def event(number: int) -> asyncio.Future[Any]:
        async def append(state: Any) -> Any:
            if number % 2:
                await asyncio.sleep(0)
            return [*state, number], number

        return process(watched, append, b'[]')

    watched.gate.clear()
    events = [event(number) for number in range(9)]
    await until(lambda: len(watched.commits) == 1)
    events += [event(number) for number in range(9, 12)]
    watched.before = watched.another_writes(b'["other"]')
    watched.gate.set()
    assert await asyncio.gather(*events) == list(range(12))
    assert watched.texts[INTERNAL] == str(['other', *range(12)]).replace("'", '"').replace(' ', '').encode()


# Cached text decides nothing alone


async def test_a_decision_not_to_write_counts_only_when_the_cached_text_is_confirmed(watched: Watched) -> None:
    await process(watched, count)
    watched.texts[INTERNAL] = b'40'  # another process

    async def only_above_ten(state: Any) -> Any:
        return (state + 1, 'done') if state > 10 else (False, False)

    assert await process(watched, only_above_ten) == 'done'
    assert watched.texts[INTERNAL] == b'41'


async def test_an_error_counts_only_when_the_cached_text_is_confirmed(watched: Watched) -> None:
    await process(watched, count)
    watched.texts[INTERNAL] = b'40'

    async def only_above_ten(state: Any) -> Any:
        if state <= 10:
            raise LookupError
        return state + 1, 'done'

    assert await process(watched, only_above_ten) == 'done'


@pytest.mark.parametrize('declines', [True, False], ids=['declines', 'raises'])
async def test_what_is_confirmed_counts_and_writes_nothing(watched: Watched, declines: bool) -> None:
    async def step(state: Any) -> Any:
        if declines:
            return False, False
        raise LookupError

    await process(watched, count)
    event = process(watched, step)
    await asyncio.wait([event])
    assert event.result() is False if declines else isinstance(event.exception(), LookupError)
    assert watched.commits[1:] == [({}, {INTERNAL: b'1'})]
    assert watched.texts == {INTERNAL: b'1', EXTERNAL: b'1'}


async def test_reads_of_users_never_see_cached_text(watched: Watched) -> None:
    await process(watched, count)
    watched.texts |= {INTERNAL: b'40', EXTERNAL: b'41'}
    assert await watched[INTERNAL] == 40
    assert await watched.multiget([INTERNAL, EXTERNAL]) == [40, 41]
    assert await watched.dump() == {INTERNAL: 40, EXTERNAL: 41}
    assert await watched.update(INTERNAL, lambda value: value + 1) == 41


@pytest.mark.parametrize('way', ['set', 'multiset', 'commit', 'update', 'remove', 'clear'])
async def test_a_local_write_is_known_before_the_next_event_is_reduced(watched: Watched, way: str) -> None:
    await process(watched, count)
    match way:
        case 'set':
            await watched.set(INTERNAL, 7)
        case 'multiset':
            await watched.multiset({INTERNAL: 7})
        case 'commit':
            await watched.commit({INTERNAL: 7})
        case 'update':
            await watched.update(INTERNAL, lambda value: 7)
        case 'remove':
            await watched.remove(INTERNAL)
        case 'clear':
            await watched.clear()
    seen = []

    async def see(state: Any) -> Any:
        seen.append(state)
        return False, False

    await process(watched, see)
    assert seen == [None if way in ('remove', 'clear') else 7]


@STEPS
async def test_a_state_that_is_returned_twice_is_encoded_once(watched: Watched, step: Any) -> None:
    async def return_twice(state: Any) -> Any:
        await step(1)
        state = {'n': (state or {'n': 0})['n'] + 1}
        return state, state

    for number in (1, 2):
        assert await process(watched, return_twice) == {'n': number}
        writes, _ = watched.commits[-1]
        assert writes[INTERNAL] == b'{"n":%d}' % number
        assert writes[INTERNAL] is writes[EXTERNAL]


@STEPS
async def test_an_internal_state_that_did_not_change_is_not_written_again(watched: Watched, step: Any) -> None:
    async def keep(state: Any) -> Any:
        await step(1)
        return 'kept', len(watched.commits)

    for _ in range(2):
        await process(watched, keep)
    assert watched.commits == [
        ({INTERNAL: b'"kept"', EXTERNAL: b'0'}, {INTERNAL: None}),
        ({EXTERNAL: b'1'}, {INTERNAL: b'"kept"'}),
    ]


async def test_an_internal_state_that_goes_back_to_what_is_stored_is_written_when_events_share_a_commit(
    watched: Watched,
) -> None:
    async def flip(state: Any) -> Any:
        return 1 - state, state

    await process(watched, flip, b'0')
    watched.gate.clear()
    events = [process(watched, flip) for _ in range(3)]
    await until(lambda: len(watched.commits) == 2)
    watched.gate.set()
    assert await asyncio.gather(*events) == [1, 0, 1]
    assert watched.texts == {INTERNAL: b'0', EXTERNAL: b'1'}
