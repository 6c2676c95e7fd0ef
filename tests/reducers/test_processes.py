"""Other processes that write the same states, on real backends; a second store of the same data stands for one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.redis_server import RedisServer
from tests.support.watched import (
    EXTERNAL,
    INTERNAL,
    STEPS,
    count,
    process,
)


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
            await process(store, step)
    assert await pair[0].multiget([INTERNAL, EXTERNAL]) == [10, 10]


@STEPS
async def test_processes_at_once_lose_nothing(pair: Pair, step: Any) -> None:
    await asyncio.gather(*(process(store, step) for _ in range(25) for store in pair))
    assert await pair[0].multiget([INTERNAL, EXTERNAL]) == [50, 50]
    assert [store.busy_keys() for store in pair] == [0, 0]


@pytest.mark.parametrize('size', [10, 1_000, 100_000])
async def test_processes_that_take_turns_lose_nothing_of_states_of_any_size(pair: Pair, size: int) -> None:
    async def append(state: Any) -> Any:
        return [*state, str(len(state)) * size], len(state) + 1

    for _ in range(3):
        for store in pair:
            await process(store, append, b'[]')
    assert await pair[0].multiget([INTERNAL, EXTERNAL]) == [[str(number) * size for number in range(6)], 6]


async def test_an_event_on_a_key_in_use_is_reduced_once(pair: Pair) -> None:
    runs = []

    async def step(state: Any) -> Any:
        runs.append(state)
        return {'count': len(runs), 'big': 'x' * 10_000}, {'é': len(runs)}

    for _ in range(5):
        await process(pair[0], step)
    assert len(runs) == 5


async def test_a_key_that_another_process_removed_is_fresh_again(pair: Pair) -> None:
    seen = []

    async def see(state: Any) -> Any:
        seen.append(state)
        return None, None

    await process(pair[0], see, b'"fresh"')
    await process(pair[0], see, b'"fresh"')
    assert await pair[1].remove(INTERNAL)
    await process(pair[0], see, b'"fresh"')
    assert seen[0] == seen[-1] == 'fresh'
    assert seen[1] is None


async def test_a_decision_not_to_write_is_made_on_what_another_process_wrote(pair: Pair) -> None:
    await process(pair[0], count)
    await pair[1].set(INTERNAL, 40)

    async def only_above_ten(state: Any) -> Any:
        return (state + 1, 'done') if state > 10 else (False, False)

    assert await process(pair[0], only_above_ten) == 'done'
    assert await pair[1][INTERNAL] == 41


async def test_a_state_written_with_other_spaces_is_the_same_state(pair: Pair) -> None:
    """As a program that knows nothing of us writes it: Python's ``json`` puts a space after each comma."""
    assert await pair[1].commit_bytes({INTERNAL: b'{"a": [1, 2]}'}, {})

    async def see(state: Any) -> Any:
        assert state == {'a': [1, 2]}
        return state, state

    await process(pair[0], see)
    assert await pair[1].compare_and_set(INTERNAL, {'a': [1, 2]}, 'new')


async def test_idempotency_records_are_not_keys(pair: Pair) -> None:
    await process(pair[0], count)
    for store in pair:
        assert sorted(await store.keys()) == [EXTERNAL, INTERNAL]
        assert await store.dump() == {INTERNAL: 1, EXTERNAL: 1}
    await pair[1].clear()
    assert await process(pair[0], count) == 1


@pytest.mark.parametrize('declined', ['neither', 'internal', 'external'])
@pytest.mark.parametrize('interval', [None, 3600], ids=['every event', 'put off'])
async def test_both_states_get_the_same_time_to_live_and_each_commit_refreshes_it(
    redis: RedisConnection, declined: str, interval: float | None
) -> None:
    async def count(state: Any) -> Any:
        state = (state or 0) + 1
        return declined != 'internal' and state, declined != 'external' and state

    async with EphemeralRedisKVS(600, connection=redis, flush_interval=interval) as store:
        await store.multiset({INTERNAL: 1, EXTERNAL: 1})
        await process(store, count)
        client = redis.client()
        for key in (INTERNAL, EXTERNAL):
            await client.pexpire(key, 5_000)
        await process(store, count)
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

async def process(router, times):
    for _ in range(times):
        await worker_of(router()).process('Internal,r', 'External,r', count)

async def read(router):
    async with router:
        return await router()['Internal,r']

router = KVSRouter.from_settings(json.loads(sys.argv[1]))
asyncio.run(process(router, 5))
child = os.fork()
asyncio.run(process(router, 20))
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
asyncio.run(process(router, 5))
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
