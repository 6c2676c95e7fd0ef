"""The contract of writing: atomic writes, conditional writes, and updates that are never lost."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING


class WritesContract:
    """Tests of atomic writes, conditional writes and updates."""

    async def test_readers_see_the_old_value_or_the_new_and_nothing_else(self, store: Store) -> None:
        values = [letter * 200_000 for letter in 'abc']
        await store.set('k', values[0])
        writing = asyncio.gather(*(store.set('k', values[number % 3]) for number in range(30)))
        seen = 0
        while not writing.done():
            assert await store['k'] in values
            seen += 1
            await asyncio.sleep(0)
        await writing
        assert seen

    async def test_readers_never_see_half_of_a_multiset(self, store: Store) -> None:
        keys = ['a', 'b/c', 'd' * 300]
        await store.multiset(dict.fromkeys(keys, 0))
        writing = asyncio.gather(*(store.multiset(dict.fromkeys(keys, number)) for number in range(30)))
        while not writing.done():
            assert len(set(await store.multiget(keys))) == 1
            await asyncio.sleep(0)
        await writing

    async def test_a_writer_reads_its_own_write_of_any_kind(self, store: Store) -> None:
        await store.set('k', 1)
        assert await store['k'] == 1
        await store.multiset({'k': 2})
        assert await store['k'] == 2
        await store.commit({'k': 3})
        assert await store['k'] == 3
        await store.update('k', lambda value: value + 1)
        assert await store['k'] == 4
        await store.remove('k')
        assert await store['k'] is None

    async def test_writes_of_one_caller_keep_their_order(self, store: Store) -> None:
        writes = [asyncio.ensure_future(store.set('k', number)) for number in range(100)]
        await asyncio.gather(*writes)
        assert await store['k'] == 99

    async def test_an_empty_multiset_or_commit_is_allowed(self, store: Store) -> None:
        await store.multiset({})
        assert await store.commit({}) is True
        await store.set('k', 1)
        assert await store.commit({}, {'k': 1}) is True
        assert await store.commit({}, {'k': 2}) is False

    async def test_commit_writes_and_removes_only_if_the_condition_holds(self, store: Store) -> None:
        await store.multiset({'a': 1, 'b': {'x': [1]}})
        assert not await store.commit({'a': 2, 'c': 3}, {'b': {'x': [2]}})
        assert not await store.commit({'a': 2, 'c': 3}, {'b': MISSING})
        assert not await store.commit({'a': 2, 'c': 3}, {'a': 1, 'b': {'x': [1]}, 'c': None})
        assert await store.dump() == {'a': 1, 'b': {'x': [1]}}
        assert await store.commit({'a': 2, 'b': MISSING, 'c': 3}, {'b': {'x': [1]}, 'c': MISSING})
        assert await store.dump() == {'a': 2, 'c': 3}
        assert await store.commit({'gone': MISSING}, {'a': 2}) is True

    async def test_compare_and_set_distinguishes_missing_from_null(self, store: Store) -> None:
        assert not await store.compare_and_set('k', None, 1)
        assert await store.compare_and_set('k', MISSING, None)
        assert not await store.compare_and_set('k', MISSING, 1)
        assert await store.compare_and_set('k', None, 1)
        assert await store['k'] == 1

    async def test_compare_and_set_compares_values_not_their_text(self, store: Store) -> None:
        value = {'b': [1, (2.5, None)], 1: 'é'}
        await store.set('k', value)
        assert not await store.compare_and_set('k', {'b': [1, [2.5, None]], '1': 'e'}, 'new')
        assert not await store.compare_and_set('k', {'b': [1.0, [2.5, None]], '1': 'é'}, 'new')
        assert not await store.compare_and_set('k', {'1': 'é', 'b': [1, [2.5, None]]}, 'new')
        assert await store.compare_and_set('k', await store['k'], value)
        assert await store.compare_and_set('k', value, MISSING)
        assert await store.keys() == []

    async def test_of_many_concurrent_compare_and_sets_one_succeeds(self, store: Store) -> None:
        await store.set('k', 0)
        outcomes = await asyncio.gather(*(store.compare_and_set('k', 0, number) for number in range(1, 21)))
        assert outcomes.count(True) == 1
        assert await store['k'] == outcomes.index(True) + 1

    async def test_what_is_moved_between_keys_is_never_doubled_or_lost(self, store: Store) -> None:
        accounts = ['a', 'b', 'c']
        await store.multiset(dict.fromkeys(accounts, 10))

        async def move(source: str, target: str) -> None:
            while True:
                there, here = await store.multiget([source, target])
                changes = {source: there - 1, target: here + 1}
                if await store.commit(changes, {source: there, target: here}):
                    return

        await asyncio.gather(*(move(accounts[n % 3], accounts[(n + 1 + n % 2) % 3]) for n in range(30)))
        assert sum(await store.multiget(accounts)) == 30

    async def test_concurrent_updates_run_in_order_and_each_runs_once(self, store: Store) -> None:
        runs = 0

        async def add(number: int, value: Any) -> Any:
            nonlocal runs
            runs += 1
            await asyncio.sleep(0)
            return [*(value or []), number]

        await asyncio.gather(*(store.update('k', functools.partial(add, number)) for number in range(50)))
        assert await store['k'] == list(range(50))
        assert runs == 50
        assert store.busy_keys() == 0

    async def test_an_update_runs_again_on_what_another_writer_stored_meanwhile(self, store: Store) -> None:
        seen = []

        async def add(value: Any) -> Any:
            seen.append(value)
            if len(seen) < 3:
                await store.commit_bytes({'k': b'%d' % (len(seen) * 10)}, {})  # as another process does
            return (value or 0) + 1

        assert await store.update('k', add) == 21
        assert seen == [None, 10, 20]

    async def test_an_update_distinguishes_null_from_missing_when_it_writes(self, store: Store) -> None:
        seen = []

        async def see(value: Any) -> Any:
            seen.append(value)
            if len(seen) == 1:
                await store.commit_bytes({'k': b'null'}, {})
            return 'new'

        await store.update('k', see)
        assert seen == [None, None]

    async def test_an_update_can_remove(self, store: Store) -> None:
        await store.set('k', 1)
        assert await store.update('k', lambda value: MISSING) is MISSING
        assert await store.keys() == []

    async def test_an_update_that_raises_changes_nothing(self, store: Store) -> None:
        await store.set('k', [1])

        def fail(value: Any) -> Any:
            value.append(2)
            raise LookupError

        with pytest.raises(LookupError):
            await store.update('k', fail)
        assert await store['k'] == [1]
        assert store.busy_keys() == 0

    async def test_a_cancelled_write_leaves_all_of_its_keys_or_none(self, store: Store) -> None:
        for cycles in range(8):
            write = asyncio.ensure_future(store.multiset({'a': cycles, 'b': cycles}))
            for _ in range(cycles):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait([write])
            await store.set('later', cycles)
            first, second = await store.multiget(['a', 'b'])
            assert first == second

    async def test_a_cancelled_write_never_overtakes_a_later_one(self, store: Store) -> None:
        for cycles in range(8):
            write = asyncio.ensure_future(store.set('k', 'old'))
            for _ in range(cycles):
                await asyncio.sleep(0)
            write.cancel()
            await store.set('k', 'new')
            await asyncio.wait([write])
            await store.set('other', cycles)
            assert await store['k'] == 'new'
