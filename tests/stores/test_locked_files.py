"""A file that another process holds, or a disk that is full, for two seconds: calls wait, and nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.disks import full, small_disk

KINDS = ['sqlite', 'filesystem']
LARGE = 'x' * 20_000
OUTAGES = pytest.mark.parametrize('why', ['locked', pytest.param('full', marks=pytest.mark.own_disk)])

HOLD = """
import fcntl, os, sqlite3, sys
kind, path = sys.argv[1:]
if kind == 'sqlite':
    held = sqlite3.connect(path, isolation_level=None)
    held.execute('BEGIN IMMEDIATE')
else:
    held = os.open(path + '/.lo_kvs/lock', os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
"""


def make_store(kind: str, path: Path, **options: Any) -> Store:
    return SQLiteKVS(path, **options) if kind == 'sqlite' else FilesystemKVS(path, **options)


@contextmanager
def held(kind: str, path: Path) -> Iterator[None]:
    """Have another process hold the lock of a store meanwhile."""
    command = [sys.executable, '-W', 'ignore', '-c', HOLD, kind, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'held\n'
        yield


@asynccontextmanager
async def for_two_seconds(outage: Any) -> AsyncIterator[None]:
    """Let an outage last for a block, which must not wait for its end, and for two seconds after it."""
    with outage:
        yield
        await asyncio.sleep(2)


async def process(store: Store, key: str, number: int) -> None:
    async def append(state: Any) -> Any:
        return [*state, number], len(state) + 1

    await worker_of(store).process(f'Internal,{key}', f'External,{key}', append, b'[]')


@contextmanager
def outage(kind: str, why: str, folder: Path) -> Iterator[tuple[Path, Any]]:
    """The path of a store, and a context manager in which nothing can be written there."""
    if why == 'locked':
        yield folder / 'state', held(kind, folder / 'state')
    else:
        with small_disk(folder / 'disk') as disk:
            yield disk / 'state', full(disk)


@pytest.mark.parametrize('kind', KINDS)
@OUTAGES
async def test_writes_and_events_of_two_seconds_without_the_disk_are_delayed_and_none_is_lost(
    kind: str, why: str, tmp_path: Path
) -> None:
    with outage(kind, why, tmp_path) as (path, unusable):
        async with make_store(kind, path) as store:
            await store.set('filler', LARGE)
            await process(store, 'a', 0)
            async with for_two_seconds(unusable):
                calls = [
                    *(asyncio.ensure_future(process(store, 'a', number)) for number in range(1, 20)),
                    *(asyncio.ensure_future(store.set(f'k{number}', LARGE)) for number in range(5)),
                    asyncio.ensure_future(store.update('n', lambda value: [value, LARGE])),
                ]
                listing = asyncio.ensure_future(store.keys('fill'))  # of files it needs the lock
                await asyncio.sleep(0)
                assert await store['filler'] == LARGE
            await asyncio.gather(*calls)
            assert await listing == ['filler']
            assert await store['Internal,a'] == list(range(20))
            assert await store.multiget([f'k{number}' for number in range(5)]) == [LARGE] * 5
            assert await store['n'] == [None, LARGE]


@pytest.mark.parametrize('kind', KINDS)
@OUTAGES
async def test_a_flush_waits_too(kind: str, why: str, tmp_path: Path) -> None:
    with outage(kind, why, tmp_path) as (path, unusable):
        async with make_store(kind, path, flush_interval=3600.0) as store:
            await store.set('filler', LARGE)
            async with for_two_seconds(unusable):
                for number in range(20):
                    await process(store, 'a', number)
                flushing = asyncio.ensure_future(store.flush())
                await asyncio.sleep(0)
                assert await store['Internal,a'] == list(range(20))
            await flushing
        async with make_store(kind, path) as store:
            assert await store['Internal,a'] == list(range(20))


@pytest.mark.parametrize('kind', KINDS)
async def test_a_lock_that_is_held_longer_than_the_deadline_is_reported_with_its_cause(
    kind: str, tmp_path: Path
) -> None:
    async with make_store(kind, tmp_path / 'state', retry_timeout=60) as store:
        await store.set('k', 1)
        with held(kind, tmp_path / 'state'), limited_to(0.5):
            outcomes = await asyncio.gather(
                *(store.set(f'k{number}', number) for number in range(20)), return_exceptions=True
            )
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert 'held' in str(outcomes[0])
        await store.set('k', 2)
        assert await store.dump() == {'k': 2}


@pytest.mark.parametrize('kind', KINDS)
async def test_closing_does_not_wait_for_a_lock_of_another_process(kind: str, tmp_path: Path) -> None:
    store = make_store(kind, tmp_path / 'state')
    await store.set('k', 1)
    with held(kind, tmp_path / 'state'):
        writing = asyncio.ensure_future(store.set('k', 2))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await store.close()
        with pytest.raises(StoreUnavailable, match=r'closed|held'):
            await writing
    assert await store['k'] == 1
    await store.close()
