"""The contract of reducers: events are processed in order, none is lost, none is processed twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import InvalidKey, InvalidValue, ReducerError
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING

INTERNAL, EXTERNAL = 'Internal,r', 'External,r'


async def count(state: Any) -> Any:
    """Count in both states; a reducer call.

    Args:
        state: the count so far; ``None`` at first.

    Returns:
        The new count, twice.
    """
    number = (state or 0) + 1
    return number, number


async def _load(store: Store, directory: Path) -> None:
    (directory / 'one.json').write_text('{"Internal,r": 50}')
    await store.load(directory / 'one.json')


CHANGES: dict[str, tuple[Callable[[Store, Path], Awaitable[Any]], int | None]] = {
    'set': (lambda store, directory: store.set(INTERNAL, 50), 50),
    'multiset': (lambda store, directory: store.multiset({'a': 1, INTERNAL: 50}), 50),
    'remove': (lambda store, directory: store.remove(INTERNAL), None),
    'commit': (lambda store, directory: store.commit({INTERNAL: 50}), 50),
    'commit that removes': (lambda store, directory: store.commit({INTERNAL: MISSING}), None),
    'compare_and_set': (lambda store, directory: store.compare_and_set(INTERNAL, 2, 50), 50),
    'update': (lambda store, directory: store.update(INTERNAL, lambda value: 50), 50),
    'clear': (lambda store, directory: store.clear(), None),
    'load': (_load, 50),
}
"""Every way to change a state other than by its reducer, and the state afterwards."""


class ReducersContract:
    """Tests of reducers."""

    async def test_concurrent_events_are_processed_in_order_and_none_is_lost(self, store: Store) -> None:
        def event(number: int) -> Any:
            async def step(state: Any) -> Any:
                await asyncio.sleep(0)
                state['seen'].append(number)
                return state, {'count': len(state['seen'])}

            return worker_of(store).process(INTERNAL, EXTERNAL, step, b'{"seen":[]}')

        results = await asyncio.gather(*map(event, range(300)))
        assert results == [{'count': number} for number in range(1, 301)]
        assert await store.multiget([INTERNAL, EXTERNAL]) == [{'seen': list(range(300))}, {'count': 300}]
        assert store.busy_keys() == 0

    async def test_concurrent_keys_do_not_disturb_each_other(self, store: Store) -> None:
        pairs = [(f'Internal,r,STUDENT:{number}', f'External,r,STUDENT:{number}') for number in range(60)]
        await asyncio.gather(*(worker_of(store).process(*pair, count) for _ in range(4) for pair in pairs))
        assert set(await store.multiget([key for pair in pairs for key in pair])) == {4}
        assert store.busy_keys() == 0

    async def test_a_reducer_gets_its_state_as_json_gives_it_back(self, store: Store) -> None:
        seen = []

        async def step(state: Any) -> Any:
            seen.append(state)
            return {1: (1, 2)}, (1,)

        assert await worker_of(store).process(INTERNAL, EXTERNAL, step) == (1,)
        await asyncio.gather(*(worker_of(store).process(INTERNAL, EXTERNAL, step) for _ in range(3)))
        assert seen[0] is None
        assert all(state == {'1': [1, 2]} for state in seen[1:])

    @pytest.mark.parametrize(('change', 'left'), CHANGES.values(), ids=CHANGES.keys())
    async def test_the_next_event_sees_a_change_by_another_call(
        self, store: Store, tmp_path: Path, change: Callable[[Store, Path], Awaitable[Any]], left: int | None
    ) -> None:
        await worker_of(store).process(INTERNAL, EXTERNAL, count)
        await worker_of(store).process(INTERNAL, EXTERNAL, count)
        await change(store, tmp_path)
        assert await worker_of(store).process(INTERNAL, EXTERNAL, count) == (left or 0) + 1
        assert await store.multiget([INTERNAL, EXTERNAL]) == [(left or 0) + 1] * 2

    async def test_a_reducer_that_declines_to_write_sees_a_change_by_another_call(self, store: Store) -> None:
        async def decline(state: Any) -> Any:
            seen.append(state)
            return False, False

        await worker_of(store).process(INTERNAL, EXTERNAL, count)
        await store.set(INTERNAL, 50)
        seen: list[Any] = []
        await worker_of(store).process(INTERNAL, EXTERNAL, decline)
        assert seen[-1] == 50

    async def test_after_a_write_by_another_call_the_event_is_processed_again(self, store: Store) -> None:
        runs = []

        async def step(state: Any) -> Any:
            runs.append(state)
            if state != 2:
                await store.commit_bytes({INTERNAL: b'%d' % ((state or 0) + 1)}, {})  # as another process does
            return [state], state

        await worker_of(store).process(INTERNAL, EXTERNAL, step)
        assert runs[0] is None
        assert runs[-1] == 2
        assert await store.multiget([INTERNAL, EXTERNAL]) == [[2], 2]

    async def test_a_reducer_that_raises_changes_nothing(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            state['seen'] = True
            raise LookupError

        with pytest.raises(LookupError):
            await worker_of(store).process(INTERNAL, EXTERNAL, step, b'{}')
        assert await store.keys() == []

    async def test_a_reducer_that_raises_fails_its_own_caller_alone(self, store: Store) -> None:
        def event(number: int) -> Any:
            async def step(state: Any) -> Any:
                state.append(number)
                if number % 3 == 1:
                    raise LookupError(number)
                return state, number

            return worker_of(store).process(INTERNAL, EXTERNAL, step, b'[]')

        outcomes = await asyncio.gather(*map(event, range(30)), return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            assert repr(outcome) == (f'LookupError({number})' if number % 3 == 1 else repr(number))
        good = [number for number in range(30) if number % 3 != 1]
        assert await store.multiget([INTERNAL, EXTERNAL]) == [good, good[-1]]

    @pytest.mark.parametrize('states', [({'set': {1}}, 'fine'), ('fine', {'set': {1}})], ids=['internal', 'external'])
    async def test_a_state_json_cannot_hold_changes_neither_state(self, store: Store, states: Any) -> None:
        async def step(state: Any) -> Any:
            return states

        await worker_of(store).process(INTERNAL, EXTERNAL, count)
        with pytest.raises(InvalidValue, match=r"ternal,r.*value\['set'\]"):
            await worker_of(store).process(INTERNAL, EXTERNAL, step)
        assert await store.multiget([INTERNAL, EXTERNAL]) == [1, 1]

    async def test_false_writes_nothing_but_a_new_key_gets_the_null_state(self, store: Store) -> None:
        async def decline(state: Any) -> Any:
            return False, False

        assert await worker_of(store).process(INTERNAL, EXTERNAL, decline, b'{"n":0}') is False
        assert await store.dump() == {INTERNAL: {'n': 0}}

        async def external_only(state: Any) -> Any:
            return False, 'seen'

        assert await worker_of(store).process(INTERNAL, EXTERNAL, external_only, b'{"n":0}') == 'seen'
        assert await store.dump() == {INTERNAL: {'n': 0}, EXTERNAL: 'seen'}

        async def internal_only(state: Any) -> Any:
            return {'n': 1}, False

        assert await worker_of(store).process(INTERNAL, EXTERNAL, internal_only, b'{"n":0}') is False
        assert await store.dump() == {INTERNAL: {'n': 1}, EXTERNAL: 'seen'}

    async def test_the_null_state_null_is_stored_as_null(self, store: Store) -> None:
        async def decline(state: Any) -> Any:
            return False, False

        await worker_of(store).process(INTERNAL, EXTERNAL, decline)
        assert await store.dump() == {INTERNAL: None}

    async def test_a_stored_null_is_a_state_and_not_a_new_key(self, store: Store) -> None:
        seen = []

        async def step(state: Any) -> Any:
            seen.append(state)
            return None, None

        for _ in range(3):
            await worker_of(store).process(INTERNAL, EXTERNAL, step, b'"fresh"')
        assert seen[0] == 'fresh'
        assert set(seen[1:]) == {None}

    async def test_a_reducer_that_waits_for_its_own_key_is_an_error(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            await worker_of(store).process(INTERNAL, EXTERNAL, step)

        with pytest.raises(ReducerError, match='its own key'):
            await worker_of(store).process(INTERNAL, EXTERNAL, step)
        assert store.busy_keys() == 0

    @pytest.mark.parametrize('change', ['set', 'remove', 'update', 'commit', 'clear'])
    async def test_a_reducer_that_writes_its_own_state_itself_raises(self, store: Store, change: str) -> None:
        async def step(state: Any) -> Any:
            match change:
                case 'set':
                    await store.set(EXTERNAL, 50)
                case 'remove':
                    await store.remove(INTERNAL)
                case 'update':
                    await store.update(INTERNAL, lambda value: 50)
                case 'commit':
                    await store.commit({'other': 1, EXTERNAL: 50})
                case 'clear':
                    await store.clear()

        with pytest.raises(ReducerError, match='its own key'):
            await worker_of(store).process(INTERNAL, EXTERNAL, step)
        assert await store.keys() == []
        assert store.busy_keys() == 0

    async def test_a_reducer_may_write_other_keys(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            await store.set('other', 1)
            return await store.update('another', lambda value: (value or 0) + 1), 1

        assert await worker_of(store).process(INTERNAL, EXTERNAL, step) == 1
        assert await store.multiget(['other', 'another', INTERNAL]) == [1, 1, 1]

    @pytest.mark.parametrize('slowly', [False, True], ids=['at once', 'waiting'])
    async def test_an_erasure_among_events_passes_through_the_queue_of_the_pair(
        self, store: Store, slowly: bool
    ) -> None:
        async def step(state: Any) -> Any:
            if slowly:
                await asyncio.sleep(0)
            return await count(state)

        async def remove() -> None:
            await store.remove(EXTERNAL)

        async def commit() -> None:
            await store.commit({INTERNAL: MISSING, EXTERNAL: MISSING})

        for erase in (remove, commit):
            events = [asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, step)) for _ in range(20)]
            erased = asyncio.ensure_future(erase())
            assert await asyncio.gather(*events)
            await erased
            assert await store[EXTERNAL] is None

    async def test_events_that_come_after_an_erasure_start_afresh(self, store: Store) -> None:
        both = {INTERNAL: MISSING, EXTERNAL: MISSING}
        before = [asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, count)) for _ in range(5)]
        erased = asyncio.ensure_future(store.commit(both))
        await asyncio.sleep(0)
        after = [asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, count)) for _ in range(5)]
        assert await asyncio.gather(*before) == [1, 2, 3, 4, 5]
        assert await erased
        assert await asyncio.gather(*after) == [1, 2, 3, 4, 5]
        assert await store.multiget([INTERNAL, EXTERNAL]) == [5, 5]

    async def test_a_reducer_may_send_an_event_to_another_key(self, store: Store) -> None:
        async def outer(state: Any) -> Any:
            inner = await worker_of(store).process('Internal,other', 'External,other', count)
            return inner, inner

        assert await worker_of(store).process(INTERNAL, EXTERNAL, outer) == 1
        assert await store['Internal,other'] == 1

    async def test_a_reducer_that_does_not_return_a_pair_is_an_error(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            return {'just': 'one'}

        with pytest.raises(ReducerError, match='internal_state, external_state'):
            await worker_of(store).process(INTERNAL, EXTERNAL, step)
        assert await store.keys() == []

    async def test_a_reducer_key_must_be_valid_too(self, store: Store) -> None:
        for pair in (('', EXTERNAL), (INTERNAL, 'a\ud800')):
            with pytest.raises(InvalidKey):
                await worker_of(store).process(*pair, count)
        assert await store.keys() == []

    async def test_a_cancelled_event_leaves_both_states_or_none(self, store: Store) -> None:
        for cycles in range(12):
            event = asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, count))
            for _ in range(cycles):
                await asyncio.sleep(0)
            event.cancel()
            await asyncio.wait([event])
            internal, external = await store.multiget([INTERNAL, EXTERNAL])
            assert internal == external

    async def test_cancelled_events_among_others_are_processed_once_or_not_at_all(self, store: Store) -> None:
        def event(number: int) -> Any:
            async def step(state: Any) -> Any:
                await asyncio.sleep(0)
                return [*state, number], len(state) + 1

            return asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, step, b'[]'))

        events = [event(number) for number in range(40)]
        for number in range(0, 40, 5):
            await asyncio.sleep(0)
            events[number].cancel()
        await asyncio.gather(*events, return_exceptions=True)
        await worker_of(store).process(INTERNAL, EXTERNAL, lambda state: _pair([*state, 'end']), b'[]')
        processed = (await store[INTERNAL])[:-1]
        assert processed == sorted(set(processed))
        assert set(processed) >= {number for number in range(40) if number % 5}
        assert store.busy_keys() == 0


async def _pair(state: Any) -> Any:
    return state, state
