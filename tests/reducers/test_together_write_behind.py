"""Many reducers with one event, with ``flush_interval``: each is answered when it is buffered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from tests.reducers.test_together import results_of, run, together
from tests.support.watched import INTERNAL, STEPS, Watched, count, count_after, process, until
from tests.support.write_behind import NEVER

CALLER: ContextVar[str] = ContextVar('caller', default='none')


@pytest.fixture
async def buffered() -> AsyncIterator[Watched]:
    async with Watched(flush_interval=NEVER) as store:
        yield store


@STEPS
async def test_an_event_is_answered_before_it_is_written(buffered: Watched, step: Any) -> None:
    async with asyncio.timeout(12):
        for number in (1, 2, 3):
            assert await results_of(buffered, [run('a', step), run('b', step)]) == [number, number]
    assert buffered.commits == []
    await buffered.flush()
    assert {key: text for key, text in buffered.texts.items() if key.startswith('I')} == {
        'Internal,a': b'3',
        'Internal,b': b'3',
    }


async def test_behind_another_event_of_its_key_it_is_answered_before_it_is_written(buffered: Watched) -> None:
    go_on = asyncio.Event()
    before = process(buffered, count_after(go_on))
    event = together(buffered, [run('a', count), run('r', count)])
    await until(lambda: buffered.busy_keys() == 1)
    go_on.set()
    async with asyncio.timeout(12):
        assert await before == 1
        assert await event == [1, 2]
    assert buffered.commits == []


@pytest.mark.parametrize('is_known', [False, True], ids=['a state that is read', 'a state that is known'])
async def test_reduced_again_it_runs_in_the_callers_context(buffered: Watched, *, is_known: bool) -> None:
    seen: list[str] = []

    async def see(state: Any) -> Any:
        seen.append(CALLER.get())
        return await count(state)

    if is_known:
        await results_of(buffered, [run('r', count), run('b', count)])
        await buffered.flush()
    CALLER.set('the caller')
    async with asyncio.timeout(12):
        await asyncio.create_task(results_of(buffered, [run('r', see), run('b', see)]))
    CALLER.set('the one that flushes')
    buffered.before = buffered.another_writes(b'70')
    await buffered.flush()
    assert buffered.texts[INTERNAL] == b'71'
    assert seen == ['the caller'] * 3


async def test_what_was_buffered_before_the_caller_was_cancelled_is_not_lost_when_it_is_reduced_again(
    buffered: Watched,
) -> None:
    has_begun, go_on = asyncio.Event(), asyncio.Event()

    async def count_later(state: Any) -> Any:
        has_begun.set()
        await go_on.wait()
        return await count(state)

    event = together(buffered, [run('r', count), run('b', count_later)])
    await has_begun.wait()
    await until(lambda: buffered.busy_keys() == 1)
    event.cancel()
    with pytest.raises(asyncio.CancelledError):
        await event
    buffered.before = buffered.another_writes(b'70')
    await buffered.flush()
    assert buffered.texts[INTERNAL] == b'71'
    go_on.set()
    await until(lambda: not buffered.busy_keys())
    await buffered.flush()
    assert buffered.texts['Internal,b'] == b'1'
