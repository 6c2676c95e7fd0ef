"""The contract of ``changes()``: what is changed is announced, and what is left leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.changes import Change, Changes
from learning_observer_kvs.stores.types import MISSING

SECONDS = 30
"""Within which a change must be announced, on a machine that is busy."""


async def following(changes: Changes) -> Change:
    """Return the next change; it must come.

    Args:
        changes: the iterator.
    """
    async with asyncio.timeout(SECONDS):
        return await anext(changes)


async def keys_until(changes: Changes, last: str) -> list[str]:
    """Return the keys that are announced up to one.

    Args:
        changes: the iterator.
        last: that key.
    """
    keys: list[str] = []
    while last not in keys:
        change = await following(changes)
        assert change.kind == 'changed'
        keys.append(change.key)
    return keys


async def nothing_left(store: Store) -> bool:
    """Wait until the tasks that close have ended, and return whether there are no others and no listener.

    Args:
        store: whose iterators were left.
    """
    closing = [task for task in asyncio.all_tasks() if task.get_name() == 'kvs changes: close']
    if closing:
        await asyncio.wait(closing, timeout=SECONDS)
    return not store.listeners and not any(task.get_name().startswith('kvs changes') for task in asyncio.all_tasks())


class ChangesContract:
    """Tests of the announcement of changes."""

    async def test_every_kind_of_write_announces_its_keys(self, store: Store) -> None:
        await store.set('before', 0)
        async with store.changes() as changes:
            await store.set('a', 1)
            assert await keys_until(changes, 'a') == ['a']
            await store.multiset({'b': 1})
            assert set(await keys_until(changes, 'b')) <= {'a', 'b'}
            await store.commit({'c': 1})
            assert set(await keys_until(changes, 'c')) <= {'b', 'c'}
            await store.update('d', lambda value: 1)
            assert set(await keys_until(changes, 'd')) <= {'c', 'd'}
            await store.compare_and_set('e', MISSING, 1)
            assert set(await keys_until(changes, 'e')) <= {'d', 'e'}
            assert await store.remove('before')
            assert set(await keys_until(changes, 'before')) <= {'e', 'before'}

    async def test_an_event_announces_both_states(self, store: Store) -> None:
        async def count(state: Any) -> Any:
            return (state or 0) + 1, (state or 0) + 1

        async with store.changes() as changes:
            await worker_of(store).process('Internal,r', 'External,r', count)
            keys = {(await following(changes)).key}
            while len(keys) < 2:
                keys.add((await following(changes)).key)
            assert keys == {'Internal,r', 'External,r'}

    async def test_a_change_gives_the_value_on_demand_as_it_is_then(self, store: Store) -> None:
        async with store.changes() as changes:
            await store.set('k', {'words': 1})
            change = await following(changes)
            assert (change.kind, change.key, await change.value()) == ('changed', 'k', {'words': 1})
            await store.remove('k')
            assert await change.value() is None

    async def test_only_keys_with_the_prefix_are_announced(self, store: Store) -> None:
        async with store.changes('a*') as changes:
            for key in ('a', 'ab', 'b', 'A*', 'a*', 'a*é'):
                await store.set(key, 1)
            assert set(await keys_until(changes, 'a*é')) == {'a*', 'a*é'}

    async def test_a_slow_reader_gets_each_key_once_and_the_last_value(self, store: Store) -> None:
        async with store.changes() as changes:
            for number in range(200):
                await store.set('k', number)
            await store.set('end', 1)
            values: list[Any] = []
            while (change := await following(changes)).key != 'end':
                values.append(await change.value())
            assert values[-1] == 199
            assert len(values) < 20

    async def test_every_iterator_gets_the_changes(self, store: Store) -> None:
        async with store.changes() as one, store.changes('k') as other:
            await store.set('k', 1)
            assert (await following(one)).key == (await following(other)).key == 'k'

    async def test_a_wait_that_was_given_up_loses_nothing(self, store: Store) -> None:
        async with store.changes() as changes:
            waiting = asyncio.create_task(anext(changes))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await store.set('k', 1)
            assert (await following(changes)).key == 'k'

    async def test_clearing_is_announced_key_by_key_or_by_a_resync(self, store: Store) -> None:
        for key in ('a', 'b'):
            await store.set(key, 1)
        async with store.changes() as changes:
            await store.clear()
            found = {(await following(changes)).key}
            if found != {''}:
                found.add((await following(changes)).key)
                assert found == {'a', 'b'}

    @pytest.mark.parametrize('way', ['break', 'error', 'cancel', 'aclose'])
    async def test_leaving_the_loop_leaves_nothing_behind(self, store: Store, way: str) -> None:
        async def follow(changes: Changes) -> None:
            async for change in changes:
                if way == 'break':
                    break
                if way == 'error':
                    raise ValueError(change.key)
                if way == 'aclose':
                    await changes.aclose()

        changes = await store.changes().__aenter__()
        task = asyncio.create_task(follow(changes))
        del changes
        await asyncio.sleep(0)
        if way == 'cancel':
            task.cancel()
        else:
            await store.set('k', 1)
        await asyncio.wait([task], timeout=SECONDS)
        assert task.done()
        assert way == 'cancel' or (str(task.exception()) == 'k') == (way == 'error')
        del task
        await asyncio.sleep(0)
        assert await nothing_left(store)

    async def test_closing_the_store_ends_the_iteration(self, store: Store) -> None:
        async with store.changes() as changes:
            await store.close()
            with pytest.raises(StopAsyncIteration):
                await following(changes)
            assert await nothing_left(store)
        await store.set('k', 1)
        async with store.changes() as changes:
            await store.set('k', 2)
            assert (await following(changes)).key == 'k'

    async def test_a_prefix_that_no_key_has_is_rejected(self, store: Store) -> None:
        with pytest.raises(InvalidKey, match='not valid Unicode'):
            store.changes('\ud800')
