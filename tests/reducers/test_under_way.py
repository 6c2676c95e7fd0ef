"""What a worker counts as under way: rejected commits, withdrawn events, and closing a store meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.reducers import batch_worker, worker_of
from learning_observer_kvs.stores import base, key_locks
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.key_locks import Holder, current_holder
from tests.support.watched import EXTERNAL, INTERNAL, Watched, count, count_slowly, process, send, until


def under_way(store: Store) -> tuple[int, int, dict[str, int]]:
    """The keys that are held, the commits and the queued events of each key."""
    at_work = worker_of(store)
    return store.busy_keys(), at_work._busy, at_work._queued


async def test_a_rejected_commit_fails_its_events_and_the_next_is_accepted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(*arguments: Any) -> None:
        raise Overloaded('full')

    with monkeypatch.context() as patch:
        patch.setattr(worker_of(watched), '_submit', reject)
        async with asyncio.timeout(12):
            outcomes = await asyncio.gather(*(process(watched, count) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ['full'] * 3
    assert under_way(watched) == (0, 0, {})
    assert await process(watched, count) == 1


async def test_a_write_of_an_external_state_waits_for_the_reducer_of_its_pair(watched: Watched) -> None:
    at_work = worker_of(watched)
    assert [at_work.queue_of(key) for key in (INTERNAL, EXTERNAL, 'External', 'k')] == [
        INTERNAL,
        INTERNAL,
        'External',
        'k',
    ]
    watched.gate.clear()
    event = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    written = asyncio.ensure_future(watched.set(EXTERNAL, 7))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(watched.commits) == 1
    watched.gate.set()
    await asyncio.gather(event, written)
    assert watched.texts == {INTERNAL: b'1', EXTERNAL: b'7'}


async def test_more_events_than_a_batch_are_committed_in_several(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_worker, 'MAX_BATCH', 3)
    watched.gate.clear()
    events = [process(watched, count_slowly)]
    await until(lambda: len(watched.commits) == 1)
    events += [process(watched, count_slowly) for _ in range(7)]
    await asyncio.sleep(0)
    assert under_way(watched) == (1, 1, {INTERNAL: 7})
    watched.gate.set()
    assert await asyncio.gather(*events) == list(range(1, 9))
    assert [writes[INTERNAL] for writes, _ in watched.commits] == [b'1', b'4', b'7', b'8']
    assert under_way(watched) == (0, 0, {})


async def test_an_event_comes_after_those_that_a_batch_left(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_worker, 'MAX_BATCH', 1)
    served: list[int] = []

    def numbered(number: int) -> Any:
        async def step(state: Any) -> Any:
            served.append(number)
            return await count(state)

        return step

    async def send_another() -> None:
        await worker_of(watched).process(INTERNAL, EXTERNAL, numbered(1))
        await worker_of(watched).process(INTERNAL, EXTERNAL, numbered(3))  # the key is held for the other one

    watched.gate.clear()
    events = [process(watched, numbered(0))]
    await until(lambda: len(watched.commits) == 1)
    events += [asyncio.ensure_future(send_another()), process(watched, numbered(2))]
    await asyncio.sleep(0)
    watched.gate.set()
    await asyncio.gather(*events)
    assert served == [0, 1, 2, 3]
    assert under_way(watched) == (0, 0, {})


async def test_withdrawn_events_do_not_count(watched: Watched) -> None:
    watched.gate.clear()
    events = [process(watched, count)]
    await until(lambda: len(watched.commits) == 1)
    events += [process(watched, count) for _ in range(4)]
    await asyncio.sleep(0)
    for event in events[1:3]:
        event.cancel()
    watched.gate.set()
    assert await asyncio.gather(events[0], *events[3:]) == [1, 2, 3]
    assert under_way(watched) == (0, 0, {})
    async with asyncio.timeout(12):
        await watched.close()


async def test_closing_waits_for_events_and_rejects_others(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.gate.clear()
    events = [process(watched, count) for _ in range(3)]
    await until(lambda: len(watched.commits) == 1)
    closings = [asyncio.ensure_future(watched.close()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="'watched' is being closed"):
        await process(watched, count)
    assert not any(closing.done() for closing in closings)
    watched.gate.set()
    assert await asyncio.gather(*events) == [1, 2, 3]
    async with asyncio.timeout(12):
        await asyncio.gather(*closings)
    assert 'not saved' not in caplog.text
    assert await process(watched, count) == 4


async def test_closing_counts_what_could_not_be_saved_in_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(base, 'CLOSE_TIMEOUT', 0.01)
    watched.gate.clear()
    events = [process(watched, count) for _ in range(3)]
    await until(lambda: len(watched.commits) == 1)
    former = worker_of(watched)
    with caplog.at_level(logging.ERROR):
        await watched.close()
    assert 'was closed with 3 events not saved' in caplog.text
    events.append(process(watched, count))  # the last one by another worker, in the same line
    await asyncio.sleep(0)
    assert worker_of(watched) is not former
    watched.gate.set()
    assert await asyncio.gather(*events) == [1, 2, 3, 4]
    assert (former._busy, former._queued) == (0, {})
    assert under_way(watched) == (0, 0, {})


async def test_a_store_whose_closing_was_cancelled_accepts_events(watched: Watched) -> None:
    watched.gate.clear()
    first = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    closing = asyncio.ensure_future(watched.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    second = process(watched, count)
    watched.gate.set()
    assert closing.cancelled()
    assert (await first, await second) == (1, 2)
    assert under_way(watched) == (0, 0, {})


async def test_an_update_that_waited_for_an_event_waits_for_it_no_more(watched: Watched) -> None:
    watched.gate.clear()
    event = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    holders: list[Holder] = []

    async def update(value: Any) -> Any:
        holder = current_holder()
        assert holder is not None
        holders.append(holder)
        result = await worker_of(watched).process(INTERNAL, EXTERNAL, count)
        assert list(holder.waits) == []
        return result

    updated = asyncio.ensure_future(watched.update('k', update))
    await until(lambda: bool(holders and holders[0].waits))
    watched.gate.set()
    assert (await event, await updated) == (1, 2)
    assert under_way(watched) == (0, 0, {})


async def test_events_that_are_withdrawn_when_their_key_is_granted_let_it_go(watched: Watched) -> None:
    watched.gate.clear()
    others: list[asyncio.Future[Any]] = []

    async def first() -> None:
        await worker_of(watched).process(INTERNAL, EXTERNAL, count)
        for event in others:
            event.cancel()

    running = asyncio.ensure_future(first())
    await until(lambda: len(watched.commits) == 1)
    others += [process(watched, count) for _ in range(3)]
    await asyncio.sleep(0)
    watched.gate.set()
    await running
    async with asyncio.timeout(12):
        assert await process(watched, count) == 2
    assert all(event.cancelled() for event in others)
    assert len(watched.commits) == 2
    assert under_way(watched) == (0, 0, {})


async def test_a_queue_is_served_while_a_reducer_of_another_waits(watched: Watched) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(state: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await count(state)

    async def let_go(state: Any) -> Any:
        go_on.set()
        return await count(state)

    watched.gate.clear()
    events = [send(watched, name, count) for name in 'ab']
    await until(lambda: len(watched.commits) == 2)
    events += [send(watched, 'a', wait), send(watched, 'b', let_go)]
    await asyncio.sleep(0)
    watched.gate.set()
    async with asyncio.timeout(12):
        assert await asyncio.gather(*events) == [1, 1, 2, 2]
    assert begun.is_set()
    assert under_way(watched) == (0, 0, {})


async def test_a_queue_is_served_while_the_state_of_another_is_read(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.cache_bytes = 0
    go_on, read_bytes = asyncio.Event(), watched.read_bytes

    async def read(keys: Any) -> Any:
        if keys == ['Internal,a'] and watched.texts:
            await go_on.wait()
        return await read_bytes(keys)

    async def let_go(state: Any) -> Any:
        go_on.set()
        return await count(state)

    monkeypatch.setattr(watched, 'read_bytes', read)
    watched.gate.clear()
    events = [send(watched, name, count) for name in 'ab']
    await until(lambda: len(watched.commits) == 2)
    events += [send(watched, 'a', count), send(watched, 'b', let_go)]
    await asyncio.sleep(0)
    watched.gate.set()
    async with asyncio.timeout(12):
        assert await asyncio.gather(*events) == [1, 1, 2, 2]
    assert under_way(watched) == (0, 0, {})


async def test_a_queue_whose_state_cannot_be_read_ends_its_task_without_an_error(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(keys: Any) -> Any:
        await asyncio.sleep(0)
        raise StoreUnavailable('down')

    monkeypatch.setattr(watched, 'read_bytes', down)
    events = [process(watched, count) for _ in range(3)]
    tasks: set[asyncio.Task[None]] = set()

    def all_done() -> bool:
        tasks.update(worker_of(watched)._server._tasks)
        return all(event.done() for event in events)

    await until(all_done)
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    await asyncio.wait(tasks, timeout=3)
    assert [task.exception() for task in tasks] == [None] * len(tasks)
    assert under_way(watched) == (0, 0, {})


async def test_events_that_an_erasure_of_everything_keeps_waiting_are_bounded_by_key_and_reduced_together(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_locks, 'MAX_WAITERS', 3)
    erases = asyncio.Event()

    async def erase() -> None:
        await erases.wait()

    monkeypatch.setattr(watched, '_clear', erase)
    worker_of(watched)
    erased = asyncio.ensure_future(watched.clear())
    await until(lambda: watched.key_locks.here().barrier is not None)
    events = [
        asyncio.ensure_future(worker_of(watched).process(f'Internal,{key}', f'External,{key}', count))
        for _ in range(10)
        for key in 'abcdefgh'
    ]
    await asyncio.sleep(0)
    erases.set()
    assert await asyncio.gather(*events) == [number for number in range(1, 11) for key in 'abcdefgh']
    await erased
    assert len(watched.commits) == 8
    assert watched.busy_keys() == 0
