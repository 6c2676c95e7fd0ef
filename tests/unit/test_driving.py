"""How reducers are driven: which of them may wait, and that those that cannot are run in one step."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.reducers.driving import may_wait, run_in
from learning_observer_kvs.stores.key_locks import CURRENT
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.watched import EXTERNAL, INTERNAL, Watched

Reducer = Callable[[JSON], Awaitable[Any]]


async def count(state: JSON) -> Any:
    return (state or 0) + 1, True


async def count_after_a_pause(state: JSON) -> Any:
    await asyncio.sleep(0)
    return (state or 0) + 1, True


async def count_in_a_block(state: JSON) -> Any:
    async with asyncio.Lock():
        return (state or 0) + 1, True


async def count_in_a_loop(state: JSON) -> Any:
    async for step in _once():
        state = (state or 0) + step
    return state, True


async def _once() -> Any:
    yield 1


def plain(state: JSON) -> Awaitable[Any]:
    return count(state)


@functools.wraps(count)
async def wrapped(state: JSON) -> Any:
    return await count(state)


def test_a_coroutine_function_without_an_await_cannot_wait() -> None:
    assert not may_wait(count)


@pytest.mark.parametrize(
    'reducer', [count_after_a_pause, count_in_a_block, count_in_a_loop, plain, wrapped, functools.partial(count), _once]
)
def test_everything_else_may_wait(reducer: Reducer) -> None:
    assert may_wait(reducer)


async def test_what_cannot_wait_is_not_noted_as_holding_its_key() -> None:
    holders = []

    async def note(state: JSON) -> Any:
        holders.append(CURRENT.get())
        return state, True

    async with InMemoryKVS() as store:
        await worker_of(store).process('Internal,a', 'External,a', note, may_wait=may_wait(note))
    assert holders == [None]


async def test_what_cannot_wait_has_the_errors_of_every_reducer() -> None:
    async def fail(state: JSON) -> Any:
        raise ZeroDivisionError

    async def not_a_pair(state: JSON) -> Any:
        return 1

    async with InMemoryKVS() as store:
        process = functools.partial(worker_of(store).process, 'Internal,a', 'External,a', may_wait=False)
        with pytest.raises(ZeroDivisionError):
            await process(fail)
        with pytest.raises(ReducerError, match='must return'):
            await process(not_a_pair)
        assert await store['Internal,a'] is None


async def test_events_behind_one_that_waits_are_run_in_one_step_each_in_order() -> None:
    async with InMemoryKVS() as store:
        process = functools.partial(worker_of(store).process, 'Internal,a', 'External,a')
        await asyncio.gather(
            process(count_after_a_pause), *(process(count, may_wait=may_wait(count)) for _ in range(250))
        )
        assert await store['Internal,a'] == 251


async def test_an_error_on_a_state_that_another_process_replaced_does_not_count(watched: Watched) -> None:
    async def count_up_to_two(state: JSON) -> Any:
        if state == 2:
            raise LookupError('too many')
        assert isinstance(state, int | None)
        return (state or 0) + 1, (state or 0) + 1

    for _ in range(2):
        await worker_of(watched).process(INTERNAL, EXTERNAL, count_up_to_two, may_wait=False)
    watched.before = watched.another_writes(b'5')
    assert await worker_of(watched).process(INTERNAL, EXTERNAL, count_up_to_two, may_wait=False) == 6


async def test_what_runs_in_another_context_returns_what_it_would_in_its_own() -> None:
    name: ContextVar[str] = ContextVar('name', default='none')

    async def tell() -> str:
        await asyncio.sleep(0)
        return name.get()

    context = copy_context()
    context.run(name.set, 'another')
    assert await run_in(context, tell()) == 'another'
    assert name.get() == 'none'
