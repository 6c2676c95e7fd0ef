"""Iterators over changes: what waits for them is bounded, they hear of every loop, and they leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores import change_feed, memory
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.change_feed import MAX_KEYS, ChangeFeed, InProcess, Listener, Listeners
from learning_observer_kvs.stores.changes import Changes
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.testing.changes import following, nothing_left
from tests.support.watched import Watched


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


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    """What waits for a reader, of keys that have 100 characters together at most."""
    monkeypatch.setattr(change_feed, 'MAX_CHARACTERS', 100)
    return Listener(('',))


async def test_keys_that_were_read_leave_their_space_to_others(listener: Listener) -> None:
    listener.announce(['a' * 60])
    assert listener.take() == 'a' * 60
    listener.announce(['b' * 60])
    assert listener.take_all() == ['b' * 60]
    listener.announce(['c' * 60])
    assert listener.take_all() == ['c' * 60]
    listener.announce(['d' * 60])
    listener.announce(['e' * 60])
    assert listener.take_all() == [None]


async def test_a_resync_is_given_once_and_stands_for_every_key_that_came_with_it(listener: Listener) -> None:
    listener.announce(['a' * 60, 'b' * 60, 'c'])
    assert listener.take_all() == [None]
    assert listener.take_all() == []
    listener.announce(['a' * 60, 'b' * 60, 'c'])
    assert listener.take() is None
    listener.announce(['d' * 60])
    assert listener.take_all() == ['d' * 60]


async def test_a_key_that_changes_again_takes_no_more_space(listener: Listener) -> None:
    listener.announce(['a' * 60])
    listener.announce(['a' * 60])
    assert listener.take_all() == ['a' * 60]


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


async def test_a_store_that_sees_no_other_process_announces_what_it_has_written(watched: Watched) -> None:
    async with watched.changes() as changes:
        await watched.set('k', 1)
        assert (await following(changes)).key == 'k'


async def test_a_thread_without_a_loop_wakes_the_reader_through_its_loop(store: Store) -> None:
    async with store.changes():
        [listener] = store.listeners
        thread = threading.Thread(target=store.announce, args=(['k'],))
        thread.start()
        thread.join()
        assert listener.take_all() == []
        await asyncio.sleep(0)
        assert listener.take_all() == ['k']


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


async def test_an_iterator_of_another_process_gets_nothing(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as forked:
        forked.setattr(os, 'getpid', lambda: -1)
        listener.announce_from_anywhere(['k'])
        listener.announce_from_anywhere(None)
    await asyncio.sleep(0)
    assert listener.take_all() == []


async def test_an_iterator_begins_when_it_is_first_iterated_over(store: Store) -> None:
    changes = store.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    await store.set('k', 1)
    assert (await waiting).key == 'k'
    await changes.aclose()


async def test_an_iterator_begins_once_however_often_it_is_entered(store: Store) -> None:
    async with store.changes() as changes, changes, changes:
        assert len(store.listeners) == 1


async def test_an_iterator_that_was_closed_gives_nothing_more(store: Store) -> None:
    async with store.changes() as changes:
        await store.set('k', 1)
    assert [change async for change in changes] == []


async def read_nothing(key: str) -> Any:
    raise AssertionError(key)


async def test_an_iterator_that_was_closed_asks_for_no_changes() -> None:
    def feed() -> ChangeFeed:
        raise StoreUnavailable('away')

    changes = Changes(feed, read_nothing, ('',))
    await changes.aclose()
    assert [change async for change in changes] == []


class SlowSource(InProcess):
    """A source that is not there before a test says so."""

    def __init__(self) -> None:
        self.is_there = asyncio.Event()
        self.is_closed = False

    async def cover(self) -> None:
        await self.is_there.wait()

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_closed = True


async def test_an_iterator_that_is_closed_while_it_begins_leaves_nothing_behind() -> None:
    source = SlowSource()
    listeners = Listeners()
    feed = ChangeFeed(listeners, lambda feed: source)
    changes = Changes(lambda: feed, read_nothing, ('',))
    entering = asyncio.ensure_future(changes.__aenter__())
    await asyncio.sleep(0)
    await changes.aclose()
    source.is_there.set()
    await entering
    await feed.closed()
    assert (listeners, listeners.prefixes, feed.prefixes(), source.is_closed) == ({}, (), set(), True)


async def test_a_beginning_that_is_cancelled_leaves_nothing_behind() -> None:
    source = SlowSource()
    listeners = Listeners()
    feed = ChangeFeed(listeners, lambda feed: source)
    entering = asyncio.ensure_future(feed.listen(('',)))
    await asyncio.sleep(0)
    assert feed.prefixes() == {''}
    entering.cancel()
    await asyncio.wait([entering])
    await feed.closed()
    assert (listeners, listeners.prefixes, feed.prefixes(), source.is_closed) == ({}, (), set(), True)


async def test_a_source_is_closed_when_the_last_of_its_iterators_leaves() -> None:
    source = SlowSource()
    source.is_there.set()
    feed = ChangeFeed(Listeners(), lambda feed: source)
    first, last = await feed.listen(('a',)), await feed.listen(('b',))
    feed.leave(first)
    await feed.closed()
    assert (feed.prefixes(), source.is_closed) == ({'b'}, False)
    feed.leave(last)
    await feed.closed()
    assert source.is_closed


async def test_the_task_that_closed_a_source_is_not_kept() -> None:
    feed = ChangeFeed(Listeners(), lambda feed: InProcess())
    feed.leave(await feed.listen(('',)))
    [closing] = [weakref.ref(task) for task in asyncio.all_tasks() if task.get_name() == 'kvs changes: close']
    await feed.closed()
    await asyncio.sleep(0)
    gc.collect()
    assert closing() is None
    assert feed.prefixes() == set()


async def test_an_iterator_that_ends_with_an_error_has_closed_everything_when_it_is_raised() -> None:
    source = SlowSource()
    source.is_there.set()
    feed = ChangeFeed(Listeners(), lambda feed: source)
    async with Changes(lambda: feed, read_nothing, ('',)) as changes:
        feed.end(StoreUnavailable('replaced'))
        with pytest.raises(StoreUnavailable, match='replaced'):
            await anext(changes)
        assert source.is_closed


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


def test_a_loop_that_ended_with_an_iterator_open_hinders_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(sys, 'unraisablehook', errors.append)
    store = InMemoryKVS()
    kept = []

    async def begin() -> None:
        kept.append(await store.changes().__aenter__())

    async def write() -> None:
        await store.set('k', 1)

    asyncio.run(begin())
    asyncio.run(write())
    kept.clear()
    assert not errors
