"""``flush_interval``: what is seen when, by which process, and that nothing is lost or written twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Pair, event, store_of


async def test_this_process_sees_the_newest_state_and_others_the_flushed_one(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    assert await event(1, store) == {'count': 1}
    assert await event(2, store) == {'count': 2}
    assert await store.multiget([EXTERNAL, INTERNAL, 'k']) == [{'count': 2}, {'seen': [1, 2]}, None]
    assert await store[EXTERNAL] == {'count': 2}
    assert await other.multiget([INTERNAL, EXTERNAL]) == [None, None]
    await store.flush()
    assert await other.multiget([INTERNAL, EXTERNAL]) == [{'seen': [1, 2]}, {'count': 2}]


async def test_an_event_that_changes_nothing_of_a_state_that_was_read_leaves_nothing_to_flush(
    delayed_pair: Pair,
) -> None:
    store, other = delayed_pair
    await event(1, other)

    async def decline(state: Any) -> Any:
        return False, False

    for reader in (store, InMemoryKVS(flush_interval=NEVER)):
        await reader.set(INTERNAL, {'seen': [1]})
        await worker_of(reader).process(INTERNAL, EXTERNAL, decline)
        worker = worker_of(reader)
        assert isinstance(worker, WriteBehindWorker)
        assert (worker._pending, worker._timer) == ({}, None)


async def test_many_events_of_a_key_are_one_commit(delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = delayed_pair
    commits = []
    submit = store.submit

    def counting(writes: Any, *rest: Any) -> None:
        commits.append(sorted(writes))
        submit(writes, *rest)

    monkeypatch.setattr(worker_of(store), '_submit', counting)
    for number in range(50):
        await event(number, store)
    await store.flush()
    assert commits == [sorted([INTERNAL, EXTERNAL])]


async def test_what_another_process_wrote_meanwhile_is_reduced_onto(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    await event(1, store)
    await event(2, other)
    await event(3, store)
    await store.flush()
    assert await other.multiget([INTERNAL, EXTERNAL]) == [{'seen': [2, 1, 3]}, {'count': 3}]
    assert await event(4, store) == {'count': 4}


async def test_an_event_whose_caller_got_an_error_is_not_reduced_again(delayed_pair: Pair) -> None:
    store, other = delayed_pair

    async def picky(state: Any) -> Any:
        if not state['seen'] or state['seen'][0] != 2:
            raise LookupError
        return {'seen': [99]}, None

    await event(1, store)
    with pytest.raises(LookupError):
        await worker_of(store).process(INTERNAL, EXTERNAL, picky, b'{"seen":[]}')
    await event(2, other)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2, 1]}


async def test_a_flush_goes_on_when_the_event_it_waits_for_is_withdrawn(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    await event(1, store)
    entered = asyncio.Event()

    async def slow(state: Any) -> Any:
        entered.set()
        await asyncio.Event().wait()

    first = asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, slow, b'{"seen":[]}'))
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
async def test_a_flush_never_brings_back_what_was_written_over(delayed_pair: Pair, erase: str) -> None:
    store, other = delayed_pair
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


async def test_the_pages_of_a_scan_have_what_was_pending_before(delayed_pair: Pair) -> None:
    store, _ = delayed_pair
    await event(1, store)
    page = await store.scan()
    found = list(page.keys)
    while page.cursor is not None:
        page = await store.scan(cursor=page.cursor)
        found += page.keys
    assert sorted(found) == sorted([INTERNAL, EXTERNAL])


async def test_keys_dump_and_describe_know_what_is_pending(delayed_pair: Pair) -> None:
    store, _ = delayed_pair
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
        submit = store.submit

        def noting(*arguments: Any) -> None:
            submit(*arguments)
            written.set()

        monkeypatch.setattr(worker_of(store), '_submit', noting)
        await event(1, store)
        async with asyncio.timeout(20):
            await written.wait()
            await store.flush()
        async with store_of('sqlite', tmp_path, redis, None) as other:
            assert await other[EXTERNAL] == {'count': 1}


async def test_closing_writes_what_is_pending(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    await asyncio.gather(*(event(number, store) for number in range(10)))
    await store.close()
    assert await other[EXTERNAL] == {'count': 10}
    assert await event(10, store) == {'count': 11}


async def test_what_could_not_be_reduced_again_is_flushed_as_soon_as_it_can_be_read(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = delayed_pair

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


async def test_an_error_that_was_computed_from_cached_text_counts_only_when_it_is_confirmed(delayed_pair: Pair) -> None:
    store, other = delayed_pair

    async def picky(state: Any) -> Any:
        if state['seen'] != [1, 2]:
            raise LookupError
        return {'seen': [*state['seen'], 3]}, 'done'

    await event(1, store)
    await store.flush()
    with pytest.raises(LookupError):
        await worker_of(store).process(INTERNAL, EXTERNAL, picky, b'{"seen":[]}')
    await event(2, other)
    assert await worker_of(store).process(INTERNAL, EXTERNAL, picky, b'{"seen":[]}') == 'done'
    assert await other[INTERNAL] == {'seen': [1, 2, 3]}


KILLED = """
import asyncio, sys
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

async def main():
    store = SQLiteKVS(sys.argv[1], name='k', flush_interval=0.05)
    number = 0
    while True:
        number += 1
        async def step(state):
            return number, {'count': number}
        await worker_of(store).process('Internal,r', 'External,r', step)
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
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parent.parent.parent)},
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
