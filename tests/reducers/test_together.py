"""Many reducers with one event: one pass, one batch of commits, one wake-up; each as if it were alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, ReducerError
from learning_observer_kvs.reducers import event_queues, serving, worker_of
from learning_observer_kvs.reducers.joined import Run
from tests.support.watched import STEPS, Watched, count, count_after, count_slowly, process, until


def run(name: str, step: Any) -> Run:
    return Run(f'Internal,{name}', f'External,{name}', step)


def together(store: Watched, runs: Sequence[Run]) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(results_of(store, runs))


async def results_of(store: Watched, runs: Sequence[Run]) -> list[Any]:
    """What each reducer returned or raised."""
    outcomes = await worker_of(store).process_together(runs)
    return [json.loads(outcome) if isinstance(outcome, bytes) else outcome for outcome in outcomes]


async def behind_another(store: Watched) -> tuple[asyncio.Future[Any], asyncio.Task[list[Any]]]:
    """Hold up the commits of an event of one reducer, and of the next one, which is of two and waits behind it."""
    await together(store, [run('a', count), run('r', count)])
    store.gate.clear()
    before = process(store, count)
    await until(lambda: len(store.commits) == 3)
    event = together(store, [run('a', count), run('r', count)])
    await until(lambda: len(store.commits) == 4)
    return before, event


async def fail(state: Any) -> Any:
    raise LookupError('broken')


@STEPS
async def test_the_commits_of_all_reducers_are_begun_before_the_first_is_answered(watched: Watched, step: Any) -> None:
    names = 'abcdefgh'
    await together(watched, [run(name, step) for name in names])
    watched.commits.clear()
    watched.gate.clear()
    event = together(watched, [run(name, step) for name in names])
    await until(lambda: len(watched.commits) == len(names))
    assert not event.done()
    watched.gate.set()
    assert await event == [2] * len(names)


async def test_fresh_states_are_read_and_reduced_together(watched: Watched) -> None:
    watched.gate.clear()
    event = together(watched, [run(name, count) for name in 'abc'])
    await until(lambda: len(watched.commits) == 3)
    watched.gate.set()
    assert await event == [1, 1, 1]


@STEPS
async def test_one_that_fails_affects_no_other(watched: Watched, step: Any) -> None:
    runs = [run('a', step), run('b', fail), run('c', step)]
    for number in (1, 2):
        first, error, last = await together(watched, runs)
        assert (first, last) == (number, number)
        assert isinstance(error, LookupError)


async def test_one_whose_commit_fails_affects_no_other(watched: Watched) -> None:
    runs = [run('a', count), run('b', count), run('c', count)]
    await together(watched, runs)
    carried_out = 0

    def fail_the_second() -> None:
        nonlocal carried_out
        carried_out += 1
        if carried_out == 2:
            raise Overloaded('full')

    watched.before = fail_the_second
    first, error, last = await together(watched, runs)
    assert (first, last) == (2, 2)
    assert isinstance(error, Overloaded)


async def test_each_is_behind_the_events_of_its_key(watched: Watched) -> None:
    before, event = await behind_another(watched)
    watched.gate.set()
    assert await before == 2
    assert await event == [2, 3]


async def test_two_reducers_of_one_key_run_one_after_the_other(watched: Watched) -> None:
    for step, results in ((count, [1, 2]), (count_slowly, [3, 4]), (count, [5, 6])):
        assert await together(watched, [run('a', step), run('a', step)]) == results


async def test_a_reducer_that_waits_holds_up_no_other(watched: Watched) -> None:
    go_on = asyncio.Event()

    await together(watched, [run('a', count), run('b', count)])
    event = together(watched, [run('a', count_after(go_on)), run('b', count)])
    await until(lambda: watched.texts['Internal,b'] == b'2')
    go_on.set()
    assert await event == [2, 2]


async def test_cancelled_it_withdraws_those_whose_turn_has_not_come(watched: Watched) -> None:
    before, event = await behind_another(watched)
    event.cancel()
    with pytest.raises(asyncio.CancelledError):
        await event
    watched.gate.set()
    await before
    await worker_of(watched).close(5)
    assert {key: watched.texts[key] for key in ('Internal,a', 'Internal,r')} == {'Internal,a': b'2', 'Internal,r': b'2'}


async def test_what_another_process_wrote_is_read_and_that_reducer_alone_run_again(watched: Watched) -> None:
    runs = [run('r', count), run('b', count)]
    await together(watched, runs)
    watched.before = watched.another_writes(b'70')
    assert await together(watched, runs) == [71, 2]
    assert watched.texts['Internal,b'] == b'2'


async def test_a_key_with_too_many_events_rejects_its_own_alone(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queues, 'MAX_QUEUED_EVENTS', 0)
    before, event = await behind_another(watched)
    watched.gate.set()
    result, error = await event
    assert result == 2
    assert isinstance(error, Overloaded)
    assert await before == 2


async def test_inside_a_reducer_a_wait_for_its_own_key_raises_and_the_others_go_on(watched: Watched) -> None:
    async def outer(state: Any) -> Any:
        results = await results_of(watched, [run('r', count), run('b', count)])
        return state, [type(result).__name__ for result in results]

    async with asyncio.timeout(12):
        assert await process(watched, outer) == [ReducerError.__name__, 'int']


async def test_each_reducer_runs_in_the_callers_context(watched: Watched) -> None:
    caller: ContextVar[str] = ContextVar('caller', default='nobody')

    async def see(state: Any) -> Any:
        seen = caller.get()
        await asyncio.sleep(0)
        return seen, [seen, caller.get()]

    caller.set('the caller')
    for _ in range(2):
        assert await results_of(watched, [run('a', see), run('b', see)]) == [['the caller', 'the caller']] * 2


async def test_no_reducers_are_no_wait(watched: Watched) -> None:
    assert await worker_of(watched).process_together([]) == []


async def test_after_closing_none_is_processed(watched: Watched) -> None:
    at_work = worker_of(watched)
    await at_work.close(5)
    with pytest.raises(Exception, match='is being closed'):
        await at_work.process_together([run('a', count)])
    assert watched.texts == {}


async def test_a_pass_that_takes_long_lets_the_event_loop_go_on_and_is_completed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = 'abcdefgh'
    await together(watched, [run(name, count) for name in names])
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    assert await together(watched, [run(name, count) for name in names]) == [2] * len(names)
    counting.cancel()
    assert turns > len(names)


async def test_closing_waits_for_the_rest_of_a_pass(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    names = 'abcdefgh'
    await together(watched, [run(name, count) for name in names])
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    event = together(watched, [run(name, count) for name in names])
    await asyncio.sleep(0)
    await watched.close()
    assert await event == [2] * len(names)


async def test_cancelled_it_begins_no_more_of_a_pass(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    names = 'abcdefgh'
    await together(watched, [run(name, count) for name in names])
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    event = together(watched, [run(name, count) for name in names])
    await asyncio.sleep(0)
    event.cancel()
    with pytest.raises(asyncio.CancelledError):
        await event
    await watched.close()
    done = [watched.texts[f'Internal,{name}'] for name in names]
    assert done == sorted(done, reverse=True)
    assert done[-1] == b'1'


def test_the_end_of_the_event_loop_ends_a_pass() -> None:
    def end(loop: asyncio.AbstractEventLoop) -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    async def main() -> None:
        store = Watched()
        names = 'abcdefgh'
        await together(store, [run(name, count) for name in names])
        monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
        event = together(store, [run(name, count) for name in names])
        await asyncio.sleep(0)
        at_work = worker_of(store)
        asyncio.get_running_loop().call_soon(end, asyncio.get_running_loop())
        with pytest.raises(asyncio.CancelledError):
            await event
        await until(lambda: not at_work._server._tasks)
        assert (store.busy_keys(), at_work._busy) == (0, 0)

    with pytest.MonkeyPatch.context() as monkeypatch, suppress(asyncio.CancelledError):
        asyncio.run(main())
