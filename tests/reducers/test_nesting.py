"""Reducers that send events to other keys, or trouble the task that they run in."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from learning_observer_kvs.reducers import batch_worker, serving, worker_of
from learning_observer_kvs.stores.key_locks import Holder, current_holder
from tests.support.watched import INTERNAL, Watched, count, count_after, count_slowly, process, send, until


async def test_an_event_of_a_reducer_passes_those_that_wait_for_an_erasure(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    go_on = asyncio.Event()

    async def outer(state: Any) -> Any:
        await go_on.wait()
        worker_of(watched)._server.is_slice_over()
        time.sleep(0.001)  # noqa: ASYNC251  (the slice is over when the other event is sent)
        return await worker_of(watched).process('Internal,b', 'External,b', count), 1

    first = process(watched, outer)
    await asyncio.sleep(0.01)
    erased = asyncio.ensure_future(watched.clear())
    await until(lambda: watched.key_locks.here().barrier is not None)
    waiting = send(watched, 'b', count)
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(12):
        await erased
        assert await first == await waiting == 1
    assert watched.busy_keys() == 0


async def test_a_caller_that_waits_behind_a_reducer_does_not_count_as_what_it_waits_for(watched: Watched) -> None:
    inner_goes_on, update_goes_on = asyncio.Event(), asyncio.Event()

    async def inner(state: Any) -> Any:
        await inner_goes_on.wait()
        return 1, 1

    async def outer(state: Any) -> Any:
        await worker_of(watched).process('Internal,b', 'External,b', inner)
        return 1, 1

    async def update(value: Any) -> Any:
        await update_goes_on.wait()
        asyncio.get_running_loop().call_later(0.01, inner_goes_on.set)
        return await worker_of(watched).process('Internal,a', 'External,a', count)

    async with asyncio.timeout(12):
        first = send(watched, 'a', outer)
        updated = asyncio.ensure_future(watched.update('other', update))
        await asyncio.sleep(0.01)
        written = asyncio.ensure_future(watched.multiset({'Internal,b': 5, 'other': 5}))
        await asyncio.sleep(0.01)
        update_goes_on.set()
        await written
        assert (await first, await updated) == (1, 2)
    assert watched.busy_keys() == 0


async def test_a_reducer_sends_an_event_to_a_key_that_others_wait_for(watched: Watched) -> None:
    go_on = asyncio.Event()

    async def outer(state: Any) -> Any:
        sent = send(watched, 'b', count)
        await asyncio.sleep(0)
        go_on.set()
        return await sent, None

    before = [send(watched, 'b', step) for step in (count_after(go_on), count)]
    await until(lambda: worker_of(watched)._queued == {'Internal,b': 1})
    async with asyncio.timeout(12):
        assert await send(watched, 'a', outer) is None
        assert await asyncio.gather(*before) == [1, 2]
    assert await watched['Internal,a'] == 3


async def test_a_reducer_in_a_task_that_outlives_another_reducer_is_inside_of_none(watched: Watched) -> None:
    ended = asyncio.Event()
    outer: list[Holder | None] = []
    tasks: list[asyncio.Future[Any]] = []

    async def look(state: Any) -> Any:
        holder = current_holder()
        assert holder is not None
        outer.append(holder.outer)
        return await count(state)

    async def later() -> Any:
        await ended.wait()
        return await send(watched, 'b', look)

    async def begin(state: Any) -> Any:
        tasks.append(asyncio.ensure_future(later()))
        await send(watched, 'b', look)
        return await count(state)

    await process(watched, begin)
    ended.set()
    assert await tasks[0] == 2
    assert outer[0] is not None
    assert outer[1:] == [None]


async def test_a_reducer_that_cancels_its_task_fails_its_own_event_alone(watched: Watched) -> None:
    async def cancel(state: Any) -> Any:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    steps = [count, cancel, count_slowly]
    events = [process(watched, step) for step in steps]
    others = [send(watched, name, count_slowly) for name in 'bcd' for _ in range(3)]
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(*events, *others, return_exceptions=True)
    assert isinstance(outcomes.pop(1), asyncio.CancelledError)
    assert outcomes == [1, 2, *[1, 2, 3] * 3]
    assert watched.busy_keys() == 0


async def test_a_reducer_that_raises_stopiteration_fails_its_own_event_alone(watched: Watched) -> None:
    def stop(state: Any) -> Any:
        raise StopIteration

    events = [process(watched, step) for step in (count, stop, count)]
    async with asyncio.timeout(12):
        first, failed, last = await asyncio.gather(*events, return_exceptions=True)
    assert (first, last) == (1, 2)
    assert isinstance(failed, RuntimeError)
    assert isinstance(failed.__cause__, StopIteration)
    assert watched.texts[INTERNAL] == b'2'
    assert watched.busy_keys() == 0


async def test_events_that_were_all_withdrawn_are_not_committed(watched: Watched) -> None:
    watched.gate.clear()
    first = process(watched, count)
    await until(lambda: bool(watched.commits))
    others = [process(watched, count) for _ in range(3)]
    await asyncio.sleep(0)
    for event in others:
        event.cancel()
    reads = watched.reads
    watched.gate.set()
    await first
    await until(lambda: watched.busy_keys() == 0)
    assert len(watched.commits) == 1
    assert watched.reads == reads


async def test_reducers_of_large_states_that_wait_for_each_other_are_not_kept_by_their_number(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_worker, 'LARGE', 0)
    monkeypatch.setattr(batch_worker, 'LARGE_AT_ONCE', 1)
    go_on = asyncio.Event()

    async def outer(state: Any) -> Any:
        await go_on.wait()
        return await worker_of(watched).process('Internal,b', 'External,b', count), 1

    watched.texts |= {INTERNAL: b'10', 'Internal,b': b'20'}
    first = process(watched, outer)
    await asyncio.sleep(0.01)
    second = send(watched, 'b', count)
    await asyncio.sleep(0.01)
    go_on.set()
    async with asyncio.timeout(12):
        assert (await first, await second) == (1, 21)
    assert watched.busy_keys() == 0
    assert not worker_of(watched)._large.locked()


async def test_a_reducer_of_a_large_state_that_waits_for_a_key_lets_another_large_state_be_decoded(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_worker, 'LARGE', 0)
    monkeypatch.setattr(batch_worker, 'LARGE_AT_ONCE', 1)
    go_on = asyncio.Event()

    async def write_b(state: Any) -> Any:
        await go_on.wait()
        await watched.set('Internal,b', 5)
        return 1, 1

    watched.texts |= {INTERNAL: b'10', 'Internal,b': b'20'}
    first = process(watched, write_b)
    await asyncio.sleep(0.01)
    second = send(watched, 'b', count)
    await asyncio.sleep(0.01)
    assert watched.commits == []
    go_on.set()
    async with asyncio.timeout(12):
        assert (await first, await second) == (1, 21)
    assert watched.texts['Internal,b'] == b'5'
    assert watched.busy_keys() == 0
    assert not worker_of(watched)._large.locked()
