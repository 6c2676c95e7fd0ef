"""Reducers that never return: they are named in the log, and with ``reducer_timeout`` their keys go on without them."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.failed_events import FailedEvent
from learning_observer_kvs.reducers import batch_worker, time_limit, worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.watched import EXTERNAL, INTERNAL, Watched, count, process, send, until
from tests.support.write_behind import NEVER, Away

TIMEOUT = 0.02


async def never(state: Any) -> Any:
    await asyncio.get_running_loop().create_future()


# The log


@pytest.fixture
async def look(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Looks at what is held, at a time."""
    watch = watched.key_locks.here().watch
    monkeypatch.setattr(watch.__class__, 'start', lambda self: None)
    return watch.look


async def test_a_reducer_that_has_not_ended_after_ten_seconds_is_named_once(
    watched: Watched, look: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    running = process(watched, never)
    await asyncio.sleep(0.001)
    for now in (100.0, 105.0, 109.9):
        look(now)
    assert caplog.text == ''
    for now in (110.0, 111.0, 200.0):
        look(now)
    [record] = caplog.records
    assert record.getMessage() == (
        f"The reducer of '{INTERNAL}' has not ended for 10 s; what else is to be done with this key waits for it."
    )
    assert record.levelno == logging.WARNING
    running.cancel()
    await asyncio.wait([running])


async def test_each_event_of_a_key_has_its_own_ten_seconds(
    watched: Watched, look: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10):
        running = process(watched, never)
        await until(lambda: INTERNAL in watched.key_locks.here().held)
        await asyncio.sleep(0.001)
        look(number * 5.0)
        look(number * 5.0 + 4.9)
        running.cancel()
        await asyncio.wait([running])
    assert caplog.text == ''


async def test_an_update_that_has_not_ended_is_named_and_a_write_that_waits_for_the_backend_too(
    watched: Watched, look: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    watched.gate.clear()
    tasks = [asyncio.ensure_future(watched.update('u', never)), asyncio.ensure_future(watched.set('w', 1))]
    await asyncio.sleep(0.001)
    look(0.0)
    look(10.0)
    assert [record.getMessage().partition(' has')[0] for record in caplog.records] == [
        "An update or a write of 'u'",
        "An update or a write of 'w'",
    ]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_reducer_that_has_ended_and_only_waits_for_the_backend_is_not_named(
    watched: Watched, look: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    watched.gate.clear()
    running = process(watched, count)
    await until(lambda: bool(watched.commits))
    look(0.0)
    look(100.0)
    assert caplog.text == ''
    watched.gate.set()
    await running


async def test_it_is_looked_while_keys_are_held_and_not_once_the_store_is_idle(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.hold_watch.INTERVAL', 0.001)
    watch = watched.key_locks.here().watch
    assert not watch.is_running
    running = process(watched, never)
    await until(lambda: watch.is_running)
    await asyncio.sleep(0.01)
    assert watch.is_running
    running.cancel()
    await until(lambda: not watch.is_running)
    updated = asyncio.ensure_future(watched.update('k', never))
    await until(lambda: watch.is_running)
    updated.cancel()
    await until(lambda: not watch.is_running)


# reducer_timeout


@pytest.fixture(params=[None, NEVER], ids=['each event', 'flush_interval'])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store: Store = Away(reducer_timeout=TIMEOUT, flush_interval=request.param)
    async with asyncio.timeout(20), store:
        yield store


@pytest.mark.parametrize('before', [0, 3], ids=['of an idle key', 'that waited for its turn'])
async def test_a_reducer_that_does_not_return_fails_its_own_event_alone(store: Store, before: int) -> None:
    states = []

    async def hang(state: Any) -> Any:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            states.append(state)

    events = [process(store, count) for _ in range(before)]
    hanging = process(store, hang)
    after = [process(store, count) for _ in range(3)]
    with pytest.raises(ReducerError, match=rf"'{INTERNAL}' did not return within 0.02 s \(reducer_timeout\)"):
        await hanging
    assert await asyncio.gather(*events, *after) == list(range(1, before + 4))
    assert await store.multiget([INTERNAL, EXTERNAL]) == [before + 3] * 2
    assert store.busy_keys() == 0
    await store.flush()
    assert set(states) == {before or None}


async def test_a_reducer_that_returns_in_time_is_as_without_the_option(store: Store) -> None:
    store.reducer_timeout = 20

    async def wait(state: Any) -> Any:
        await asyncio.sleep(0)
        return await count(state)

    async def fail(state: Any) -> Any:
        raise LookupError('wrong event')

    async def cancel(state: Any) -> Any:
        raise asyncio.CancelledError

    steps = [count, wait, fail, wait, cancel, lambda state: asyncio.ensure_future(count(state))]
    outcomes = await asyncio.gather(*(process(store, step) for step in steps), return_exceptions=True)
    assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
        1,
        2,
        LookupError,
        3,
        asyncio.CancelledError,
        4,
    ]
    assert store.busy_keys() == 0


async def test_a_timeout_of_the_reducers_own_is_not_taken_for_ours(store: Store) -> None:
    async def give_up(state: Any) -> Any:
        async with asyncio.timeout(0):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        await process(store, give_up)


async def test_a_reducer_that_cleans_up_when_it_is_cancelled_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limit, 'CANCEL_TIMEOUT', 20)
    cleaned_up = []

    async def clean_up(state: Any) -> Any:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            cleaned_up.append(True)
            return 'too', 'late'

    with pytest.raises(ReducerError, match='did not return'):
        await process(store, clean_up)
    assert cleaned_up
    assert await process(store, count) == 1


async def test_a_reducer_that_ignores_its_cancellation_is_left_behind_and_what_it_returns_is_dropped(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time_limit, 'CANCEL_TIMEOUT', 0.01)
    go_on, ends, inner = asyncio.Event(), [], []

    async def ignore(state: Any) -> Any:
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()
        inner.append(await worker_of(store).process(INTERNAL, EXTERNAL, count))  # it does not hold the key any more
        ends.append(state)
        raise LookupError

    with pytest.raises(ReducerError, match='did not return'):
        await process(store, ignore)
    assert f"The reducer of '{INTERNAL}' goes on although it was cancelled" in caplog.text
    assert await process(store, count) == 1
    go_on.set()
    await until(lambda: bool(ends) and not time_limit._LEFT_BEHIND)
    assert inner == [2]
    assert await store[INTERNAL] == 2
    assert store.busy_keys() == 0


async def test_a_caller_that_is_cancelled_meanwhile_cancels_its_reducer(store: Store) -> None:
    store.reducer_timeout = 20
    ended = []

    async def hang(state: Any) -> Any:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    hanging = process(store, hang)
    await asyncio.sleep(0.001)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert ended
    assert await process(store, count) == 1


async def test_a_reducer_that_waits_for_another_key_withdraws_what_it_sent(store: Store) -> None:
    async def hang(state: Any) -> Any:
        await asyncio.sleep(TIMEOUT * 0.8)
        await asyncio.get_running_loop().create_future()

    async def send(state: Any) -> Any:
        return await worker_of(store).process('Internal,b', 'External,b', count), 1

    blocking = asyncio.ensure_future(worker_of(store).process('Internal,b', 'External,b', hang))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(blocking, process(store, send), return_exceptions=True)
    assert isinstance(outcomes[0], ReducerError)
    assert await store['Internal,b'] in (None, 1)
    assert store.busy_keys() == 0


async def test_an_acknowledged_event_whose_reducer_hangs_when_it_is_reduced_again_is_kept(tmp_path: Path) -> None:
    store = Away(reducer_timeout=TIMEOUT, flush_interval=NEVER)

    async def hang_later(event: str, state: Any) -> Any:
        return await (never(state) if state else count(state))

    call = functools.partial(hang_later, 'the event')
    await worker_of(store).process(INTERNAL, EXTERNAL, call)
    store._texts[INTERNAL] = b'50'
    await process(store, count)
    await store.flush()
    assert store._texts[INTERNAL] == b'51'
    [path] = failed_events.find(tmp_path)
    [line] = failed_events.read(path)
    assert isinstance(line, FailedEvent)
    assert (line.event, line.error.partition(':')[0]) == ('the event', 'ReducerError')


def test_without_the_option_no_reducer_has_a_task_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_worker, 'run_within', None)

    async def main() -> None:
        assert await process(InMemoryKVS(), count) == 1

    asyncio.run(main())


# Reducers that cancel the task that they run in


async def cancel_and_return(state: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return await count(state)


async def cancel_and_wait(state: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize('step', [cancel_and_return, cancel_and_wait])
async def test_a_reducer_that_cancels_its_task_troubles_no_event_behind_it(watched: Watched, step: Any) -> None:
    async def wait(state: Any) -> Any:
        await asyncio.sleep(0)
        return await count(state)

    events = [process(watched, each) for each in (count, step, wait, step, count)]
    others = [send(watched, name, wait) for name in 'bcd' for _ in range(3)]
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*events, *others, return_exceptions=True)
    if step is cancel_and_return:
        assert outcomes[:5] == [1, 2, 3, 4, 5]
    else:
        assert [type(outcome) for outcome in outcomes[:5]] == [int, asyncio.CancelledError] * 2 + [int]
    assert outcomes[5:] == [1, 2, 3] * 3
    assert watched.busy_keys() == 0


async def test_a_reducer_that_cancels_its_task_when_it_is_reduced_again_fails_its_own_event_alone(
    tmp_path: Path,
) -> None:
    store = Away(flush_interval=NEVER)

    async def cancel_later(state: Any) -> Any:
        return await (cancel_and_wait(state) if state else count(state))

    await process(store, cancel_later)
    await process(store, count)
    store._texts[INTERNAL] = b'50'
    async with asyncio.timeout(20):
        await store.flush()
    assert store._texts == {INTERNAL: b'51', EXTERNAL: b'51'}
    left_out = worker_of(store)
    assert isinstance(left_out, WriteBehindWorker)
    assert left_out.left_out.kept == 1
    assert failed_events.find(tmp_path)
