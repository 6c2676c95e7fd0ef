"""A file that is locked, a backend that is away: what was not written waits until its deadline, on every store."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.replay.once import ReplayStore
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.sqlite import database
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stream_analytics.keys import replayed_key

Away = Callable[[], AbstractContextManager[None]]


class Unqueued(InMemoryKVS):
    """A store as another package has it, with nothing but the methods that it must have."""

    IS_IMMEDIATE: ClassVar[bool] = False
    is_away = False

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        self._look()
        return await super().read_bytes(keys)

    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        self._look()
        return await super().commit_bytes(writes, expected)

    _commit = Store._commit
    _read_hidden = Store._read_hidden
    _commit_hidden = Store._commit_hidden
    submit = Store.submit

    async def _remove(self, key: str, deadline: float) -> bool:
        return await Store._remove(self, key, deadline)

    def _look(self) -> None:
        if self.is_away:
            raise StoreUnavailable('gone fishing', retry=True)


@pytest.fixture(params=['sqlite', 'filesystem', 'another'])
async def made(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Store, Away]]:
    """A store that has been used, and what keeps it from writing for a while."""
    store: Store
    match request.param:
        case 'sqlite':
            monkeypatch.setattr(database, 'BUSY_MS', 20)
            store = SQLiteKVS(tmp_path / 'a.sqlite3')

            @contextmanager
            def away() -> Iterator[None]:
                other = sqlite3.connect(tmp_path / 'a.sqlite3', isolation_level=None)
                other.execute('BEGIN IMMEDIATE')
                yield
                other.close()

        case 'filesystem':
            store = FilesystemKVS(tmp_path / 'a')
            store.directory.lock.seconds = 0.02

            @contextmanager
            def away() -> Iterator[None]:
                with Directory(str(tmp_path / 'a')).write_locked():
                    yield

        case _:
            store = unqueued = Unqueued()

            @contextmanager
            def away() -> Iterator[None]:
                unqueued.is_away = True
                yield
                unqueued.is_away = False

    store.retry_timeout = 60
    await store.set('a', 1)
    await event(store, 'k', 'first')
    yield store, away
    await store.close()


async def event(store: Store, student: str, number: Any) -> Any:
    async def step(state: Any) -> Any:
        return [*(state or []), number], number

    return await worker_of(store).process(f'Internal,r,STUDENT:{student}', f'External,r,STUDENT:{student}', step)


async def waiting(*calls: Awaitable[Any]) -> asyncio.Future[list[Any]]:
    """Begin calls, and return when they have tried in vain for a while."""
    gathered = asyncio.gather(*calls, return_exceptions=True)
    done, _ = await asyncio.wait([gathered], timeout=0.3)
    assert not done
    return gathered


async def test_what_cannot_be_written_waits_and_is_written_once_and_in_order(made: tuple[Store, Away]) -> None:
    store, away = made
    with away():
        events = await waiting(*(event(store, 'k', number) for number in range(10)))
        others = await waiting(*(event(store, f'k{number}', number) for number in range(200)))
        writes = await waiting(
            store.set('b', 2), store.remove('a'), store.update('c', lambda value: 3), store.commit({'d': 4}, {})
        )
    assert await events == list(range(10))
    assert await others == list(range(200))
    assert await writes == [None, True, 3, True]
    assert await store['Internal,r,STUDENT:k'] == ['first', *range(10)]
    assert await store.multiget(['a', 'b', 'c', 'd', 'Internal,r,STUDENT:k7']) == [None, 2, 3, 4, [7]]


async def test_a_hidden_record_waits_too(made: tuple[Store, Away]) -> None:
    store, away = made
    with away():
        writes = await waiting(store.commit_hidden('tried', b'{"n":1}', None))
    assert await writes == [True]
    assert await store.read_hidden('tried') == b'{"n":1}'


async def test_a_write_of_a_hidden_record_is_not_cut_off_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.outage.MIN_TRY', 0.01)
    store, is_first, may_end = FilesystemKVS(tmp_path, retry_timeout=0.15), True, threading.Event()
    at_once = Files.commit_hidden

    def slow(files: Files, name: str, text: bytes | None, expected: bytes | None) -> bool:
        nonlocal is_first
        if is_first:
            is_first = False
            raise StoreUnavailable('locked', retry=True)
        may_end.wait()
        return at_once(files, name, text, expected)

    monkeypatch.setattr(Files, 'commit_hidden', slow)
    async with store:
        try:
            writes = await waiting(store.commit_hidden('tried', b'{}', None))
        finally:
            may_end.set()
        assert await writes == [True]


async def test_at_the_deadline_it_is_an_error_and_nothing_is_written_afterwards(made: tuple[Store, Away]) -> None:
    store, away = made
    store.retry_timeout = 0.5
    with away():
        began = time.monotonic()
        outcomes = await asyncio.gather(
            store.set('a', 2), store.update('c', lambda value: 3), event(store, 'k', 1), return_exceptions=True
        )
        assert 0.4 < time.monotonic() - began < 30
    store.retry_timeout = 60
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    await event(store, 'k', 'last')
    assert await store.multiget(['a', 'c', 'Internal,r,STUDENT:k']) == [1, None, ['first', 'last']]


async def test_closing_ends_the_wait(made: tuple[Store, Away], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.2)
    store, away = made
    with away():
        calls = await waiting(store.set('b', 1), event(store, 'k', 1))
        async with asyncio.timeout(12):
            await store.close()
            outcomes = await calls
    assert [isinstance(outcome, StoreUnavailable) for outcome in outcomes] == [True] * 2
    assert await store.multiget(['b', 'Internal,r,STUDENT:k']) == [None, ['first']]


async def test_reads_wait_too(tmp_path: Path) -> None:
    store = Unqueued(retry_timeout=60)
    await store.set('a', 1)
    store.is_away = True
    reads = await waiting(store['a'], store.multiget(['a', 'b']), store.describe('a'), store.compare_and_set('a', 1, 2))
    hidden = await waiting(store.read_hidden('tried'))
    store.is_away = False
    assert await hidden == [None]
    assert (await reads)[:2] in ([1, [1, None]], [2, [2, None]])
    assert await store['a'] == 2
    store.is_away, store.retry_timeout = True, 0
    with pytest.raises(StoreUnavailable, match='gone fishing'):
        await store['a']


async def test_the_note_that_an_event_was_replayed_waits_too() -> None:
    store, key = Unqueued(retry_timeout=60), 'Internal,r,STUDENT:k'
    replaying = ReplayStore(store)

    async def leave_both_states() -> None:
        await replaying.read_bytes([key])
        store.is_away = True

    applied = await waiting(replaying.apply('e', leave_both_states))
    store.is_away = False
    assert await applied == [None]
    assert await store[replayed_key(key)] == ['e']
