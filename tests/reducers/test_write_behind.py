"""``flush_interval``: what the process knows, what others see, and what a conflict, a fault or an end leaves."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from learning_observer_kvs.errors import Conflict, Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import write_behind
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.testing import StoreContract
from tests.stores.test_conformance import write_raw_file

NEVER = 3600.0
"""Longer than a test: what is written is written because somebody asked for it."""

INTERNAL, EXTERNAL = 'Internal,m.r,STUDENT:bob', 'External,m.r,STUDENT:bob'


def store_of(kind: str, folder: Path, redis: RedisConnection, interval: float | None) -> Store:
    match kind:
        case 'stub':
            return InMemoryKVS(flush_interval=interval)
        case 'filesystem':
            return FilesystemKVS(folder / 'files', flush_interval=interval)
        case 'sqlite':
            return SQLiteKVS(folder / 'state.sqlite3', name='k', flush_interval=interval)
    return PersistentRedisKVS(connection=redis, flush_interval=interval)


class TestThePromiseHoldsBetweenFlushes(StoreContract):
    """The same class as for every store."""

    @pytest.fixture(params=['stub', 'filesystem', 'sqlite', 'redis'])
    async def store(
        self, request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection
    ) -> AsyncIterator[Store]:
        async with store_of(request.param, tmp_path, redis, NEVER) as store:
            yield store

    async def write_raw(self, store: Store, key: str, text: bytes) -> None:
        if isinstance(store, FilesystemKVS):
            await write_raw_file(store, key, text)
        else:
            await super().write_raw(store, key, text)

    async def leave_loop(self, store: Store) -> None:
        await super().leave_loop(store)
        if isinstance(store, PersistentRedisKVS):
            await store.close()
            await store.connection.close()

    async def test_writes_in_between_are_seen_and_the_event_is_folded_again(self, store: Store) -> None:
        runs = []

        async def step(state: Any) -> Any:
            runs.append(state)
            if state != 2:
                await store.set('Internal,r', (state or 0) + 1)
            return [state], state

        await store.fold('Internal,r', 'External,r', step)
        await store.flush()
        assert runs[0] is None
        assert runs[-1] == 2
        assert await store.multiget(['Internal,r', 'External,r']) == [[2], 2]


Pair = tuple[Store, Store]


@pytest.fixture(params=['filesystem', 'sqlite', 'redis'])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection) -> AsyncIterator[Pair]:
    """A store that puts off, and what another process has of the same data."""
    async with (
        store_of(request.param, tmp_path, redis, NEVER) as store,
        store_of(request.param, tmp_path, redis, None) as other,
    ):
        yield store, other


def event(number: int, store: Store, seen: list[int] | None = None) -> Any:
    async def step(state: Any) -> Any:
        if seen is not None:
            seen.append(number)
        state['seen'].append(number)
        return state, {'count': len(state['seen'])}

    return store.fold(INTERNAL, EXTERNAL, step, b'{"seen":[]}')


async def test_this_process_sees_the_newest_state_and_others_the_flushed_one(pair: Pair) -> None:
    store, other = pair
    assert await event(1, store) == {'count': 1}
    assert await event(2, store) == {'count': 2}
    assert await store.multiget([EXTERNAL, INTERNAL, 'k']) == [{'count': 2}, {'seen': [1, 2]}, None]
    assert await store[EXTERNAL] == {'count': 2}
    assert await other.multiget([INTERNAL, EXTERNAL]) == [None, None]
    await store.flush()
    assert await other.multiget([INTERNAL, EXTERNAL]) == [{'seen': [1, 2]}, {'count': 2}]


async def test_many_events_of_a_key_are_one_commit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = pair
    commits = []
    begin = type(store)._committer

    def counting(self: Any) -> Any:
        def commit(writes: Any, expected: Any, tell: Any, renew: Any) -> None:
            commits.append(sorted(writes))
            begin(self)(writes, expected, tell, renew)

        return commit

    monkeypatch.setattr(type(store), '_committer', counting)
    for number in range(50):
        await event(number, store)
    await store.flush()
    assert commits == [sorted([INTERNAL, EXTERNAL])]


async def test_what_another_process_wrote_meanwhile_is_folded_onto(pair: Pair) -> None:
    store, other = pair
    await event(1, store)
    await event(2, other)
    await event(3, store)
    await store.flush()
    assert await other.multiget([INTERNAL, EXTERNAL]) == [{'seen': [2, 1, 3]}, {'count': 3}]
    assert await event(4, store) == {'count': 4}


async def test_an_event_whose_caller_got_an_error_is_not_folded_again(pair: Pair) -> None:
    store, other = pair

    async def picky(state: Any) -> Any:
        if not state['seen'] or state['seen'][0] != 2:
            raise LookupError
        return {'seen': [99]}, None

    await event(1, store)
    with pytest.raises(LookupError):
        await store.fold(INTERNAL, EXTERNAL, picky, b'{"seen":[]}')
    await event(2, other)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2, 1]}


async def first_only(state: Any) -> Any:
    """A reducer that takes an event of a fresh key only."""
    if state['seen']:
        raise LookupError('too late')
    return {'seen': ['first']}, None


async def test_an_event_that_cannot_be_folded_onto_what_another_wrote_is_logged(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = pair

    await store.fold(INTERNAL, EXTERNAL, first_only, b'{"seen":[]}')
    await event(2, other)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2]}
    assert 'left out' in caplog.text


async def test_a_flush_goes_on_when_the_event_it_waits_for_is_withdrawn(pair: Pair) -> None:
    store, other = pair
    await event(1, store)
    entered = asyncio.Event()

    async def slow(state: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    first = asyncio.ensure_future(store.fold(INTERNAL, EXTERNAL, slow, b'{"seen":[]}'))
    await entered.wait()
    second = asyncio.ensure_future(event(2, store))
    await asyncio.sleep(0)
    flush = asyncio.ensure_future(store.flush())
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    async with asyncio.timeout(20):
        await flush
    assert await other[INTERNAL] == {'seen': [1]}
    assert store.busy_keys() == 0


@pytest.mark.parametrize('erase', ['remove', 'clear', 'set', 'commit', 'update'])
async def test_a_flush_never_brings_back_what_was_written_over(pair: Pair, erase: str) -> None:
    store, other = pair
    await event(1, store)
    calls: dict[str, Callable[[], Any]] = {
        'remove': lambda: store.remove(INTERNAL),
        'clear': store.clear,
        'set': lambda: store.set(INTERNAL, {'seen': ['new']}),
        'commit': lambda: store.commit({INTERNAL: {'seen': ['new']}}, {EXTERNAL: {'count': 1}}),
        'update': lambda: store.update(INTERNAL, lambda state: {'seen': ['new']} if state['seen'] == [1] else None),
    }
    await calls[erase]()
    await store.flush()
    kept = {'remove': None, 'clear': None}.get(erase, {'seen': ['new']})
    assert await other[INTERNAL] == kept
    assert await store[INTERNAL] == kept
    await event(5, store)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [*(kept or {'seen': []})['seen'], 5]}


async def test_keys_scan_dump_and_describe_know_what_is_put_off(pair: Pair) -> None:
    store, _ = pair
    await event(1, store)
    assert sorted(await store.keys()) == sorted([INTERNAL, EXTERNAL])
    await event(2, store)
    assert (await store.dump())[EXTERNAL] == {'count': 2}
    await event(3, store)
    assert await store.describe(EXTERNAL) is not None


async def test_it_is_flushed_when_the_interval_is_over(
    tmp_path: Path, redis: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store_of('sqlite', tmp_path, redis, 0.01) as store:
        written = asyncio.Event()
        begin = store._committer()

        def commit(writes: Any, expected: Any, tell: Any, renew: Any) -> None:
            begin(writes, expected, tell, renew)
            written.set()

        monkeypatch.setattr(store, '_committer', lambda: commit)
        await event(1, store)
        async with asyncio.timeout(20):
            await written.wait()
            await store.flush()
        async with store_of('sqlite', tmp_path, redis, None) as other:
            assert await other[EXTERNAL] == {'count': 1}


async def test_closing_writes_what_was_put_off(pair: Pair) -> None:
    store, other = pair
    await asyncio.gather(*(event(number, store) for number in range(10)))
    await store.close()
    assert await other[EXTERNAL] == {'count': 10}
    assert await event(10, store) == {'count': 11}


async def test_a_key_with_very_many_events_is_flushed_early(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = pair
    monkeypatch.setattr(write_behind, 'MAX_OF_KEY', 10)
    for number in range(25):
        await event(number, store)
    assert len((await other[INTERNAL])['seen']) >= 10
    await store.flush()
    assert await other[INTERNAL] == {'seen': list(range(25))}


class Away(InMemoryKVS):
    """A store whose backend can be away."""

    away: Exception | Literal[False] | None = None
    """What every write comes to; ``None`` while it is there."""

    def _committer(self) -> Any:
        begin = super()._committer()

        def commit(writes: Any, expected: Any, tell: Any, renew: Any) -> None:
            if self.away is None:
                begin(writes, expected, tell)
            elif isinstance(self.away, WriteUnclear):
                begin(writes, expected, lambda outcome: tell(self.away))
            else:
                tell(self.away)

        return commit


async def test_while_the_backend_is_away_events_are_kept_and_at_the_bound_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(write_behind, 'MAX_EVENTS', 20)
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    for number in range(20):
        await event(number, store)
    with pytest.raises(Overloaded, match='gone fishing'):
        await event(99, store)
    with pytest.raises(StoreUnavailable):
        await store.flush()
    assert await store[EXTERNAL] == {'count': 20}
    store.away = None
    await store.flush()
    assert store._texts[EXTERNAL] == b'{"count":20}'
    assert await event(20, store) == {'count': 21}
    assert caplog.text.count('cannot be written') == 1


async def test_at_the_bound_of_a_backend_that_answers_events_only_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, 'MAX_EVENTS', 20)
    store = InMemoryKVS(flush_interval=NEVER)
    await asyncio.gather(*(event(number, store) for number in range(200)))
    assert await store[EXTERNAL] == {'count': 200}


async def test_a_flush_that_was_written_though_its_answer_was_lost_is_not_written_twice() -> None:
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = WriteUnclear('no answer')
    with pytest.raises(WriteUnclear):
        await store.flush()
    store.away = None
    await store.flush()
    assert await store[INTERNAL] == {'seen': [1]}


async def test_closing_a_store_whose_backend_is_away_counts_what_was_not_saved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSING', 0.01)
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    for number in range(3):
        await event(number, store)
    with caplog.at_level(logging.ERROR):
        await store.close()
    assert '3 events not saved' in caplog.text


async def test_no_event_is_taken_while_the_store_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    await event(1, store)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match='being closed'):
        await event(2, store)
    store.away = None
    await closing
    assert store._texts[EXTERNAL] == b'{"count":1}'


async def test_an_event_that_joined_an_unclear_flush_does_not_bring_it_in_twice() -> None:
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = WriteUnclear('no answer')
    with pytest.raises(WriteUnclear):
        await store.flush()
    await event(2, store)
    store.away = None
    await store.flush()
    assert await store[INTERNAL] == {'seen': [1, 2]}
    assert store._texts[INTERNAL] == b'{"seen":[1,2]}'
    assert store._texts[EXTERNAL] == b'{"count":2}'


async def test_an_event_that_was_taken_is_not_refused_because_its_flush_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_behind, 'MAX_OF_KEY', 3)
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    assert [await event(number, store) for number in range(3)] == [{'count': 1}, {'count': 2}, {'count': 3}]
    store.away = None
    await store.flush()
    assert await store[INTERNAL] == {'seen': [0, 1, 2]}


async def test_what_could_not_be_folded_again_is_flushed_as_soon_as_it_can_be_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = pair

    async def down(keys: Any) -> Any:
        raise StoreUnavailable('gone fishing')

    await event(1, store)
    await event(2, other)
    async with asyncio.timeout(20):
        with monkeypatch.context() as patch:
            patch.setattr(store, 'read_bytes', down)
            with pytest.raises(StoreUnavailable, match='gone fishing'):
                await store.flush()
            assert await event(3, store) == {'count': 2}
        await store.flush()
    assert await other[INTERNAL] == {'seen': [2, 1, 3]}
    assert store.busy_keys() == 0


async def test_those_who_wait_for_room_share_one_flush(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, 'MAX_EVENTS', 20)
    store, _ = pair
    flushes = []
    begin = write_behind.WriteBehind._flush_if_free

    def counting(self: Any, key: str) -> None:
        flushes.append(key)
        begin(self, key)

    monkeypatch.setattr(write_behind.WriteBehind, '_flush_if_free', counting)

    async def count(state: Any) -> Any:
        return (state or 0) + 1, (state or 0) + 1

    async def one(key: int) -> Any:
        return await store.fold(f'Internal,{key}', f'External,{key}', count)

    assert await asyncio.gather(*(one(number % 20) for number in range(20))) == [1] * 20
    assert await asyncio.gather(*(one(number % 20) for number in range(20))) == [2] * 20
    assert len(flushes) <= 2 * 20


async def test_a_flush_that_loses_against_others_too_often_keeps_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.worker.MAX_TRIES', 3)
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = False
    async with asyncio.timeout(20):
        with pytest.raises(Conflict, match='3 times'):
            await store.flush()
        store.away = None
        await store.flush()
    assert store._texts[INTERNAL] == b'{"seen":[1]}'


async def test_an_event_left_out_is_logged_also_when_its_flush_fails_at_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = pair

    await store.fold(INTERNAL, EXTERNAL, first_only, b'{"seen":[]}')
    await event(1, store)
    await event(2, other)
    folder = store._folders.here()
    begin = folder._begin_commit
    refused = []

    def refuse_the_second(writes: Any, expected: Any, tell: Any, renew: Any) -> None:
        refused.append(expected)
        if len(refused) == 2:
            tell(StoreUnavailable('gone fishing'))
        else:
            begin(writes, expected, tell, renew)

    monkeypatch.setattr(folder, '_begin_commit', refuse_the_second)
    with pytest.raises(StoreUnavailable):
        await store.flush()
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2, 1]}
    assert 'left out' in caplog.text


async def test_an_error_that_was_computed_from_a_guess_counts_only_when_it_is_confirmed(pair: Pair) -> None:
    store, other = pair

    async def picky(state: Any) -> Any:
        if state['seen'] != [1, 2]:
            raise LookupError
        return {'seen': [*state['seen'], 3]}, 'done'

    await event(1, store)
    await store.flush()
    with pytest.raises(LookupError):
        await store.fold(INTERNAL, EXTERNAL, picky, b'{"seen":[]}')
    await event(2, other)
    assert await store.fold(INTERNAL, EXTERNAL, picky, b'{"seen":[]}') == 'done'
    assert await other[INTERNAL] == {'seen': [1, 2, 3]}


async def test_a_closed_store_tries_no_more(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSING', 0.01)
    store = Away(flush_interval=0.01)
    store.away = StoreUnavailable('gone fishing')
    await event(1, store)
    folder = store._folders.here()
    assert isinstance(folder, write_behind.WriteBehind)
    await store.close()
    assert '1 events not saved' in caplog.text
    assert folder._timer is None or folder._timer.cancelled()


KILLED = """
import asyncio, sys
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

async def main():
    store = SQLiteKVS(sys.argv[1], name='k', flush_interval=0.05)
    number = 0
    while True:
        number += 1
        async def step(state):
            return number, {'count': number}
        await store.fold('Internal,r', 'External,r', step)
        if number % 100 == 0:
            print(number, flush=True)
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


def test_a_killed_process_loses_at_most_an_interval_and_never_half_of_a_pair(tmp_path: Path) -> None:
    path = tmp_path / 'state.sqlite3'
    process = subprocess.Popen(
        [sys.executable, '-c', KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {'PYTHONPATH': os.getcwd()},
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(120)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with sqlite3.connect(path) as database:
        rows = dict(database.execute('SELECT key, value FROM "kvs k"').fetchall())
    database.close()
    internal = int(rows['Internal,r'])
    assert rows['External,r'] == b'{"count":%d}' % internal
    # A hundred events take a millisecond and more, so an interval holds fifty hundreds at most; as much again for the
    # flush that was under way.
    assert told[-1] - internal <= 100 * 100
