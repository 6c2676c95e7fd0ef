"""The rules of the commit, one by one: what reducers rely on when others write, callers give up, or a commit fails.

``Watched`` is a store that keeps a list of its commits and lets a test stop or spoil each of them. Where the rule is
about other processes, a second store of the same data on a real backend stands for one.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from learning_observer_kvs.errors import (
    Conflict,
    InvalidValue,
    Overloaded,
    ReducerError,
    StoreUnavailable,
    WriteUnclear,
)
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.redis_server import RedisServer

INTERNAL, EXTERNAL = 'Internal,r', 'External,r'
Texts = Mapping[str, bytes | None]


class Watched(Store):
    """A dictionary of texts.

    Attributes:
        commits: what was written and expected, in order.
        reads: how often something was read.
        gate: commits wait here.
        before: called before each commit is carried out; it may raise.
        after: called after each, before its answer is given; it may raise.
    """

    TYPE: ClassVar[str] = 'watched'

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, bytes] = {}
        self.commits: list[tuple[Texts, Texts]] = []
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def location(self) -> str:
        return 'a test'

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += 1
        await asyncio.sleep(0)
        return [self.texts.get(key) for key in keys]

    async def commit_bytes(self, writes: Texts, expected: Texts) -> bool:
        self.commits.append((dict(writes), dict(expected)))
        await self.gate.wait()
        self.before()
        if any(self.texts.get(key) != text for key, text in expected.items()):
            return False
        for key, text in writes.items():
            if text is None:
                self.texts.pop(key, None)
            else:
                self.texts[key] = text
        self.after()
        return True

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        return [key for key in self.texts if key.startswith(prefix)], None

    def another_writes(self, text: bytes) -> Callable[[], None]:
        """For ``before``: another process writes the internal state, once."""

        def write() -> None:
            self.texts[INTERNAL] = text
            self.before = lambda: None

        return write


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with Watched() as store:
        yield store


def fold(store: Store, step: Callable[[Any], Awaitable[Any]], null_text: bytes = b'null') -> asyncio.Future[Any]:
    return asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, step, null_text))


async def count(state: Any) -> Any:
    return (state or 0) + 1, (state or 0) + 1


async def count_slowly(state: Any) -> Any:
    await asyncio.sleep(0)
    return (state or 0) + 1, (state or 0) + 1


async def decline(state: Any) -> Any:
    return False, False


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  (what is looked at belongs to the store, which tells nobody)
            await asyncio.sleep(0)


STEPS = pytest.mark.parametrize('step', [count, count_slowly], ids=['at once', 'waiting'])


# One write, on condition


async def test_both_states_are_one_write_on_condition_of_what_was_read(watched: Watched) -> None:
    await fold(watched, count)
    await fold(watched, count)
    assert watched.commits == [
        ({INTERNAL: b'1', EXTERNAL: b'1'}, {INTERNAL: None}),
        ({INTERNAL: b'2', EXTERNAL: b'2'}, {INTERNAL: b'1'}),
    ]


async def test_a_hot_key_is_read_once(watched: Watched) -> None:
    watched.texts[INTERNAL] = b'5'
    for _ in range(10):
        await fold(watched, count)
    assert watched.reads == 1
    assert len(watched.commits) == 10
    assert watched.texts[INTERNAL] == b'15'


@STEPS
async def test_events_that_wait_behind_a_key_are_committed_once(watched: Watched, step: Any) -> None:
    watched.gate.clear()
    events = [fold(watched, step) for _ in range(11)]
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
    await fold(watched, see, b'"fresh"')
    assert seen == ['fresh', None]
    assert watched.commits[-1][1] == {INTERNAL: b'null'}


@STEPS
async def test_what_another_wrote_in_between_is_read_and_the_event_reduced_again(watched: Watched, step: Any) -> None:
    await fold(watched, step)
    watched.before = watched.another_writes(b'70')
    assert await fold(watched, step) == 71
    assert watched.texts == {INTERNAL: b'71', EXTERNAL: b'71'}


async def test_a_whole_batch_that_lost_is_reduced_again_in_order(watched: Watched) -> None:
    def event(number: int) -> asyncio.Future[Any]:
        async def append(state: Any) -> Any:
            if number % 2:
                await asyncio.sleep(0)
            return [*state, number], number

        return fold(watched, append, b'[]')

    watched.gate.clear()
    events = [event(number) for number in range(9)]
    await until(lambda: len(watched.commits) == 1)
    events += [event(number) for number in range(9, 12)]
    watched.before = watched.another_writes(b'["other"]')
    watched.gate.set()
    assert await asyncio.gather(*events) == list(range(12))
    assert watched.texts[INTERNAL] == str(['other', *range(12)]).replace("'", '"').replace(' ', '').encode()


# A guess decides nothing alone


async def test_a_decision_not_to_write_counts_only_when_the_guess_is_confirmed(watched: Watched) -> None:
    await fold(watched, count)
    watched.texts[INTERNAL] = b'40'  # another process

    async def only_above_ten(state: Any) -> Any:
        return (state + 1, 'done') if state > 10 else (False, False)

    assert await fold(watched, only_above_ten) == 'done'
    assert watched.texts[INTERNAL] == b'41'


async def test_an_error_counts_only_when_the_guess_is_confirmed(watched: Watched) -> None:
    await fold(watched, count)
    watched.texts[INTERNAL] = b'40'

    async def only_above_ten(state: Any) -> Any:
        if state <= 10:
            raise LookupError
        return state + 1, 'done'

    assert await fold(watched, only_above_ten) == 'done'


@pytest.mark.parametrize('declines', [True, False], ids=['declines', 'raises'])
async def test_what_is_confirmed_counts_and_writes_nothing(watched: Watched, declines: bool) -> None:
    async def step(state: Any) -> Any:
        if declines:
            return False, False
        raise LookupError

    await fold(watched, count)
    event = fold(watched, step)
    await asyncio.wait([event])
    assert event.result() is False if declines else isinstance(event.exception(), LookupError)
    assert watched.commits[1:] == [({}, {INTERNAL: b'1'})]
    assert watched.texts == {INTERNAL: b'1', EXTERNAL: b'1'}


async def test_reads_of_users_never_see_a_guess(watched: Watched) -> None:
    await fold(watched, count)
    watched.texts |= {INTERNAL: b'40', EXTERNAL: b'41'}
    assert await watched[INTERNAL] == 40
    assert await watched.multiget([INTERNAL, EXTERNAL]) == [40, 41]
    assert await watched.dump() == {INTERNAL: 40, EXTERNAL: 41}
    assert await watched.update(INTERNAL, lambda value: value + 1) == 41


@pytest.mark.parametrize('way', ['set', 'multiset', 'commit', 'update', 'remove', 'clear'])
async def test_a_local_write_is_known_before_the_next_event_is_reduced(watched: Watched, way: str) -> None:
    await fold(watched, count)
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

    await fold(watched, see)
    assert seen == [None if way in ('remove', 'clear') else 7]


# What an event sees


async def test_the_next_event_of_a_batch_sees_what_json_gives_back(watched: Watched) -> None:
    seen = []

    async def step(state: Any) -> Any:
        seen.append(state)
        return {1: (1, 2)}, None

    watched.gate.clear()
    events = [fold(watched, step) for _ in range(4)]
    await until(lambda: len(watched.commits) == 1)
    watched.gate.set()
    await asyncio.gather(*events)
    assert seen == [None, *[{'1': [1, 2]}] * 3]


async def test_both_states_are_encoded_before_the_next_event_is_reduced(watched: Watched) -> None:
    shared: list[int] = []

    def event(number: int) -> asyncio.Future[Any]:
        async def step(state: Any) -> Any:
            shared.append(number)
            return (shared, shared) if number == 1 else (False, False)

        return fold(watched, step)

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

        return fold(watched, step, b'[]')

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
    await fold(watched, spoil, b'{"runs":0}')
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

    await fold(watched, external_only, b'{"n":0}')
    await fold(watched, decline, b'{"n":0}')
    assert watched.commits == [
        ({INTERNAL: b'{"n":0}', EXTERNAL: b'0'}, {INTERNAL: None}),
        ({}, {INTERNAL: b'{"n":0}'}),
    ]


async def test_a_fresh_key_gets_none_as_null(watched: Watched) -> None:
    await fold(watched, decline)
    assert watched.texts == {INTERNAL: b'null'}


async def test_a_null_state_never_replaces_what_another_wrote_first(watched: Watched) -> None:
    watched.before = watched.another_writes(b'5')
    await fold(watched, decline, b'0')
    assert watched.texts == {INTERNAL: b'5'}


# Callers that give up


async def test_a_caller_that_gives_up_before_its_turn_takes_its_event_with_it(watched: Watched) -> None:
    ran = []

    async def step(state: Any) -> Any:
        ran.append(state)
        return await count(state)

    watched.gate.clear()
    first = fold(watched, count)
    await until(lambda: len(watched.commits) == 1)
    second, third = fold(watched, step), fold(watched, count)
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
    event = fold(watched, step)
    await until(lambda: len(watched.commits) == 1)
    event.cancel()
    await asyncio.wait([event])
    following = fold(watched, step)
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

    event = fold(watched, hang)
    await begun.wait()
    following = fold(watched, count)
    event.cancel()
    assert await following == 1
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
        await fold(watched, see if number % 2 else see_at_once)

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

    await fold(watched, begin)
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
    first = fold(watched, count)
    await until(lambda: len(watched.commits) == 1)
    others = [fold(watched, step) for step in (ask_it, count, await_it, count, ask_it, count)]
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


async def test_an_update_that_updates_its_own_key_raises_instead_of_waiting_for_ever(watched: Watched) -> None:
    async def again(value: Any) -> Any:
        return await watched.update('k', again)

    async def another(value: Any) -> Any:
        return await watched.update('l', lambda value: 1)

    async with asyncio.timeout(20):
        with pytest.raises(ReducerError, match=r"'k' is held by the reducer or update that asks for it.*its own key"):
            await watched.update('k', again)
        assert await watched.update('k', another) == 1
    assert watched.busy_keys() == 0


# Commits that fail


@pytest.mark.parametrize('error', [StoreUnavailable('down'), WriteUnclear('lost'), OSError('fault')])
async def test_a_commit_that_fails_fails_its_events_and_the_next_is_reduced_on_what_is_there(
    watched: Watched, error: Exception
) -> None:
    def fail() -> None:
        watched.after = lambda: None
        raise error

    seen = []

    async def see(state: Any) -> Any:
        seen.append(state)
        return await count_slowly(state)

    await fold(watched, count)
    watched.gate.clear()
    watched.after = fail
    events = [fold(watched, count), fold(watched, see)]
    await until(lambda: len(watched.commits) == 2)
    watched.gate.set()
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert outcomes[0] is error
    assert outcomes[1] == 3  # the write had been carried out, as an unclear one may
    assert seen == [2]
    assert watched.texts[INTERNAL] == b'3'
    assert watched.busy_keys() == 0


async def test_a_state_that_cannot_be_read_fails_the_events_and_not_those_after_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(keys: Sequence[str]) -> list[bytes | None]:
        await asyncio.sleep(0)
        raise StoreUnavailable('down')

    with monkeypatch.context() as patch:
        patch.setattr(watched, 'read_bytes', down)
        outcomes = await asyncio.gather(*(fold(watched, count) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert await fold(watched, count) == 1


async def test_it_gives_up_with_conflict_after_a_bounded_number_of_tries(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ('reducers.worker', 'stores.base', 'stores.backend'):
        monkeypatch.setattr(f'learning_observer_kvs.{module}.MAX_TRIES', 5)
    numbers = iter(range(100, 200))

    def another_writes() -> None:
        watched.texts[INTERNAL] = b'%d' % next(numbers)

    watched.before = another_writes
    with pytest.raises(Conflict, match=r'Internal,r.*after 5 tries'):
        await fold(watched, count)
    with pytest.raises(Conflict, match=r'Internal,r.*after 5 tries'):
        await watched.update(INTERNAL, lambda value: 'new')
    assert len(watched.commits) == 10
    assert EXTERNAL not in watched.texts
    assert watched.busy_keys() == 0


async def test_more_events_than_may_wait_are_refused_and_the_others_are_not(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.worker.MAX_QUEUED_EVENTS', 3)
    watched.gate.clear()
    events = [fold(watched, count)]
    await until(lambda: len(watched.commits) == 1)
    events += [fold(watched, count) for _ in range(5)]
    await asyncio.sleep(0)
    watched.gate.set()
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert outcomes[:4] == [1, 2, 3, 4]
    assert [type(outcome) for outcome in outcomes[4:]] == [Overloaded, Overloaded]


# Other processes, on real backends


@pytest.fixture(params=['filesystem', 'sqlite', 'redis', 'redis_ephemeral'])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection
) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores of the same data, as two processes have them."""

    def one() -> Store:
        match request.param:
            case 'filesystem':
                return FilesystemKVS(tmp_path / 'files')
            case 'sqlite':
                return SQLiteKVS(tmp_path / 'a.sqlite3')
            case 'redis':
                return PersistentRedisKVS(connection=redis)
            case _:
                return EphemeralRedisKVS(600, connection=redis)

    async with one() as first, one() as second:
        yield first, second


Pair = tuple[Store, Store]


@STEPS
async def test_processes_that_take_turns_lose_nothing(pair: Pair, step: Any) -> None:
    for _ in range(5):
        for store in pair:
            await fold(store, step)
    assert await pair[0].multiget([INTERNAL, EXTERNAL]) == [10, 10]


@STEPS
async def test_processes_at_once_lose_nothing(pair: Pair, step: Any) -> None:
    await asyncio.gather(*(fold(store, step) for _ in range(25) for store in pair))
    assert await pair[0].multiget([INTERNAL, EXTERNAL]) == [50, 50]
    assert [store.busy_keys() for store in pair] == [0, 0]


@pytest.mark.parametrize('size', [10, 1_000, 100_000])
async def test_processes_that_take_turns_lose_nothing_of_states_of_any_size(pair: Pair, size: int) -> None:
    async def append(state: Any) -> Any:
        return [*state, str(len(state)) * size], len(state) + 1

    for _ in range(3):
        for store in pair:
            await fold(store, append, b'[]')
    assert await pair[0].multiget([INTERNAL, EXTERNAL]) == [[str(number) * size for number in range(6)], 6]


async def test_an_event_on_a_hot_key_is_reduced_once(pair: Pair) -> None:
    runs = []

    async def step(state: Any) -> Any:
        runs.append(state)
        return {'count': len(runs), 'big': 'x' * 10_000}, {'é': len(runs)}

    for _ in range(5):
        await fold(pair[0], step)
    assert len(runs) == 5


async def test_a_key_that_another_process_removed_is_fresh_again(pair: Pair) -> None:
    seen = []

    async def see(state: Any) -> Any:
        seen.append(state)
        return None, None

    await fold(pair[0], see, b'"fresh"')
    await fold(pair[0], see, b'"fresh"')
    assert await pair[1].remove(INTERNAL)
    await fold(pair[0], see, b'"fresh"')
    assert seen[0] == seen[-1] == 'fresh'
    assert seen[1] is None


async def test_a_decision_not_to_write_is_made_on_what_another_process_wrote(pair: Pair) -> None:
    await fold(pair[0], count)
    await pair[1].set(INTERNAL, 40)

    async def only_above_ten(state: Any) -> Any:
        return (state + 1, 'done') if state > 10 else (False, False)

    assert await fold(pair[0], only_above_ten) == 'done'
    assert await pair[1][INTERNAL] == 41


async def test_a_state_written_with_other_spaces_is_the_same_state(pair: Pair) -> None:
    """As a program that knows nothing of us writes it: Python's ``json`` puts a space after each comma."""
    assert await pair[1].commit_bytes({INTERNAL: b'{"a": [1, 2]}'}, {})

    async def see(state: Any) -> Any:
        assert state == {'a': [1, 2]}
        return state, state

    await fold(pair[0], see)
    assert await pair[1].compare_and_set(INTERNAL, {'a': [1, 2]}, 'new')


async def test_records_of_the_commit_are_no_keys(pair: Pair) -> None:
    await fold(pair[0], count)
    for store in pair:
        assert sorted(await store.keys()) == [EXTERNAL, INTERNAL]
        assert await store.dump() == {INTERNAL: 1, EXTERNAL: 1}
    await pair[1].clear()
    assert await fold(pair[0], count) == 1


@pytest.mark.parametrize('declined', ['neither', 'internal', 'external'])
@pytest.mark.parametrize('interval', [None, 3600], ids=['every event', 'put off'])
async def test_both_states_get_the_same_time_to_live_and_each_commit_renews_it(
    redis: RedisConnection, declined: str, interval: float | None
) -> None:
    async def count(state: Any) -> Any:
        state = (state or 0) + 1
        return declined != 'internal' and state, declined != 'external' and state

    async with EphemeralRedisKVS(600, connection=redis, flush_interval=interval) as store:
        await store.multiset({INTERNAL: 1, EXTERNAL: 1})
        await fold(store, count)
        client = redis.client()
        for key in (INTERNAL, EXTERNAL):
            await client.pexpire(key, 5_000)
        await fold(store, count)
        await store.flush()
        lives = [await client.pttl(key) for key in (INTERNAL, EXTERNAL)]
    assert all(590_000 < left <= 600_000 for left in lives)
    assert abs(lives[0] - lives[1]) < 1_000


FORK = """
import asyncio, json, os, sys
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.reducers import worker_of

async def count(state):
    return (state or 0) + 1, (state or 0) + 1

async def fold(router, times):
    for _ in range(times):
        await worker_of(router()).process('Internal,r', 'External,r', count)

async def read(router):
    async with router:
        return await router()['Internal,r']

router = KVSRouter.from_settings(json.loads(sys.argv[1]))
asyncio.run(fold(router, 5))
child = os.fork()
asyncio.run(fold(router, 20))
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
asyncio.run(fold(router, 5))
print(asyncio.run(read(router)))
"""


@pytest.mark.parametrize('kind', ['filesystem', 'sqlite', 'redis'])
def test_a_forked_child_uses_connections_of_its_own(kind: str, tmp_path: Path, redis_server: RedisServer) -> None:
    options = {'type': kind} if kind == 'redis' else {'type': kind, 'path': str(tmp_path / 'store')}
    prefix = {'prefix': f'{tmp_path}:'} if kind == 'redis' else {}
    settings = {
        'kvs': {'default': options | prefix},
        'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': redis_server.port},
    }
    done = subprocess.run(
        [sys.executable, '-c', FORK, json.dumps(settings)],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, '50\n'), done.stderr
