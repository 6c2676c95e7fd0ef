"""Iterators over changes: what waits for them is bounded, they hear of every loop, and they leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Collection

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import change_feed, memory, polled
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.change_feed import MAX_KEYS, ChangeFeed, Listener, Listeners
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.polled import PolledChanges
from learning_observer_kvs.testing.changes import following, nothing_left


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with InMemoryKVS() as store:
        yield store


async def test_more_keys_than_are_kept_become_one_resync(store: Store) -> None:
    async with store.changes() as changes:
        for start in range(0, MAX_KEYS + 1, 1000):
            await store.multiset(dict.fromkeys(map(str, range(start, start + 1000)), 1))
        await store.set('later', 1)
        kinds = [(change.kind, change.key) for change in await changes.together()]
        assert kinds[0] == ('resync', '')
        assert len(kinds) <= 1000 + 1
        assert kinds[-1] == ('changed', 'later')


async def test_keys_that_are_too_long_together_become_one_resync(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_feed, 'MAX_CHARACTERS', 100)
    async with store.changes() as changes:
        await store.set('a' * 60, 1)
        await store.set('b' * 60, 1)
        assert [change.kind for change in await changes.together()] == ['resync']


async def test_of_a_resync_there_is_no_value(store: Store) -> None:
    async with store.changes() as changes:
        store.announce(list(map(str, range(MAX_KEYS + 1))))
        change = await following(changes)
        assert (change.kind, change.key) == ('resync', '')
        with pytest.raises(ValueError, match='read again whatever is of interest'):
            await change.value()


async def test_several_prefixes_are_one_iterator(store: Store) -> None:
    async with store.changes(['a', 'b']) as changes:
        await store.multiset(dict.fromkeys(['c', 'b1', 'a1'], 1))
        assert {change.key for change in await changes.together()} == {'a1', 'b1'}
    with pytest.raises(ValueError, match='There is no prefix'):
        store.changes([])


async def test_what_a_loop_of_another_thread_writes_is_announced_here(store: Store) -> None:
    async def write() -> None:
        await store.set('k', 1)

    async with store.changes() as changes:
        thread = threading.Thread(target=asyncio.run, args=(write(),))
        thread.start()
        assert (await following(changes)).key == 'k'
        thread.join()


async def test_wiping_a_store_announces_its_keys(store: Store) -> None:
    await store.multiset({'a': 1, 'b': 1})
    async with store.changes('b') as changes:
        memory.clear()
        assert (await following(changes)).key == 'b'


async def test_a_forked_child_announces_nothing_to_the_iterators_of_its_parent(store: Store) -> None:
    async with store.changes() as changes:
        child = os.fork()
        if not child:
            store.announce(['k'])
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        await store.set('mine', 1)
        assert [change.key for change in await changes.together()] == ['mine']


async def test_an_iterator_that_never_began_has_nothing_to_end(store: Store) -> None:
    changes = store.changes()
    await changes.aclose()
    assert [change async for change in changes] == []
    assert await nothing_left(store)


async def test_an_iterator_that_ends_while_it_is_waited_for_ends_the_loop(store: Store) -> None:
    changes = await store.changes().__aenter__()
    waiting = asyncio.ensure_future(changes.together())
    await asyncio.sleep(0)
    await changes.aclose()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(asyncio.shield(waiting), 10)


def test_a_loop_that_ended_with_an_iterator_open_hinders_no_other(recwarn: pytest.WarningsRecorder) -> None:
    store = InMemoryKVS()
    kept = []

    async def begin() -> None:
        kept.append(await store.changes().__aenter__())

    async def write() -> None:
        await store.set('k', 1)

    asyncio.run(begin())
    asyncio.run(write())
    kept.clear()
    assert not recwarn.list


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is looked at often."""
    monkeypatch.setattr(polled, 'INTERVAL', 0.005)


class ScriptedLog:
    """A log that gives what a test puts in it; an error is raised."""

    def __init__(self) -> None:
        self.replies: asyncio.Queue[Collection[str] | Exception | None] = asyncio.Queue()
        self.begun: list[Exception] = []
        self.ended = False

    async def begin(self) -> None:
        if self.begun:
            raise self.begun.pop()

    async def read(self) -> Collection[str] | None:
        reply = await self.replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def end(self) -> None:
        self.ended = True


async def listening_to(log: ScriptedLog) -> tuple[ChangeFeed, Listener]:
    feed = ChangeFeed(Listeners(), lambda feed: PolledChanges(feed, log, lambda begin: begin()))
    return feed, await feed.listen(('',))


async def next_of(listener: Listener) -> str | None:
    async with asyncio.timeout(12):
        await listener.wait()
    return listener.take()


@pytest.mark.usefixtures('quick')
async def test_a_log_that_cannot_be_read_for_a_while_is_read_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(polled, 'LOGGED_AFTER', 0)
    log = ScriptedLog()
    feed, listener = await listening_to(log)
    for reply in (StoreUnavailable('locked', retry=True), Overloaded('busy'), ['k'], None, ()):
        log.replies.put_nowait(reply)
    assert await next_of(listener) == 'k'
    assert await next_of(listener) is None
    assert [record.getMessage() for record in caplog.records] == [
        'Changes are announced later, because their log cannot be read: locked'
    ]
    feed.leave(listener)
    await feed.closed()
    assert log.ended


@pytest.mark.usefixtures('quick')
async def test_a_log_that_cannot_be_read_any_more_ends_the_iterators_with_its_error() -> None:
    log = ScriptedLog()
    feed, listener = await listening_to(log)
    log.replies.put_nowait(StoreUnavailable('replaced'))
    with pytest.raises(StoreUnavailable, match='replaced'):
        await next_of(listener)
    with pytest.raises(StopAsyncIteration):
        await next_of(listener)
    await feed.closed()
    assert log.ended


@pytest.mark.usefixtures('quick')
async def test_a_log_that_cannot_be_begun_is_an_error_at_once_and_may_be_begun_later() -> None:
    log = ScriptedLog()
    log.begun = [StoreUnavailable('read-only')]
    feed = ChangeFeed(Listeners(), lambda feed: PolledChanges(feed, log, lambda begin: begin()))
    with pytest.raises(StoreUnavailable, match='read-only'):
        await feed.listen(('',))
    await feed.closed()
    listener = await feed.listen(('',))
    log.replies.put_nowait(['k'])
    assert await next_of(listener) == 'k'
    feed.leave(listener)
    await feed.closed()
