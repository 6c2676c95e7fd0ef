"""The promise of every store as tests, for stores of others too.

    from learning_observer_kvs.testing import StorePromise

    class TestMyStore(StorePromise):
        @pytest.fixture
        async def store(self, tmp_path):
            async with MyKVS(tmp_path) as store:
                yield store

pytest collects the tests of the class; it needs ``pytest`` and ``pytest-asyncio`` (or ``pytest-aiohttp``) in auto mode.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import math
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import DumpFileError, InvalidKey, InvalidValue, ReducerError
from learning_observer_kvs.jsontext import MAX_DEPTH
from learning_observer_kvs.stores.base import MISSING, Store
from learning_observer_kvs.stores.key import MAX_KEY_BYTES


class Colour(enum.Enum):
    """An enum that JSON cannot hold."""

    RED = 'red'


class Level(enum.IntEnum):
    """An enum that JSON flattens."""

    LOW = 1
    HIGH = 2


class Word(str):
    """A subclass that JSON flattens."""


def nested(levels: int) -> Any:
    """A list in a list in a list, so many levels deep."""
    value: Any = 'bottom'
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


KEPT: dict[str, Any] = {
    'null': None,
    'false': False,
    'zero': 0,
    'empty text': '',
    'empty list': [],
    'empty object': {},
    'a float that is whole': 1.0,
    'a float': 0.1 + 0.2,
    'a tiny float': 5e-324,
    'negative zero': -0.0,
    'an integer beyond 64 bits': 2**70 + 1,
    'a negative integer beyond 64 bits': -(2**70),
    'accents and emoji': 'é ł 漢 😀 \u2028',
    'NUL and controls': 'a\x00b\x1f\x7f',
    'a lone surrogate': 'a\ud83d',
    'text that is the word null': ['null', None],
    'key order': {'z': 1, 'a': 2, 'm': {'y': 1, 'b': 2}},
    'an empty key': {'': 1},
    'the deepest': nested(MAX_DEPTH),
    'a long text': 'écrit ' * 200_000,
}
"""Values that come back as they are."""

FLATTENED: dict[str, tuple[Any, Any]] = {
    'tuple': ((1, (2, 3)), [1, [2, 3]]),
    'Counter': (collections.Counter('aab'), {'a': 2, 'b': 1}),
    'defaultdict': (collections.defaultdict(list, {'a': [1]}), {'a': [1]}),
    'OrderedDict': (collections.OrderedDict(b=1, a=2), {'b': 1, 'a': 2}),
    'number keys': ({1: 'a', 2.5: 'b', -3: 'c'}, {'1': 'a', '2.5': 'b', '-3': 'c'}),
    'boolean and null keys': ({True: 1, False: 2, None: 3}, {'true': 1, 'false': 2, 'null': 3}),
    'text subclass': ([Word('w')], ['w']),
    'integer enum': (Level.HIGH, 2),
}
"""Values that come back as the standard ``json`` would give them back."""

REFUSED: dict[str, tuple[Any, str]] = {
    'NaN': ({'a': [1, {'b': math.nan}]}, "value['a'][1]['b']"),
    'infinity': ([math.inf], 'value[0]'),
    'negative infinity beside a null': ([None, -math.inf], 'value[1]'),
    'NaN as a key': ({'a': {math.nan: 1}}, "value['a']"),
    'set': ({'a': {1, 2}}, "value['a']"),
    'bytes': ([b'x'], 'value[0]'),
    'enum': ({'colour': Colour.RED}, "value['colour']"),
    'object': ([1, object()], 'value[1]'),
    'circular': ({'a': circular()}, 'contains itself'),
    'colliding keys': ({'a': {1: 'x', '1': 'y'}}, "value['a']"),
    'tuple as a key': ({(1, 2): 3}, 'value'),
    'too deep': (nested(MAX_DEPTH + 1), 'deeper'),
}
"""Values that JSON cannot hold, and what the message must say of the place."""

KEYS = [
    'k',
    'Internal,some.module.reducer,STUDENT:bob',
    'External,m.r,EventField.doc_id:1AbC,STUDENT:ls-Jos%C3%A9',
    'a/b',
    'a',
    '_a/b',
    '_a',
    '/',
    '//',
    'a//b',
    '/a',
    'a/',
    '.',
    '..',
    '../../etc/passwd',
    './a',
    '.hidden',
    'a\x00b',
    'a\nb',
    ' ',
    'a ',
    'é',
    'e\u0301',
    'É',
    'A',
    '😀',
    '\U0010ffff',
    '\uffff',
    '*',
    'a*',
    'a?[b]',
    '-45-',
    'a-47-b',
    '%2F',
    'a\\b',
    'con',
    '{a}:b',
    ',' * 4096,
    'x' * 300,
    'y' * MAX_KEY_BYTES,
]
"""Hostile and ordinary keys, all different."""


def ascii_start(value: Any) -> str:
    """A short name for a parameter."""
    return ascii(value)[:12]


class StorePromise:
    """What every store keeps; subclass it and give it a ``store`` fixture."""

    # Values

    @pytest.mark.parametrize('value', KEPT.values(), ids=KEPT.keys())
    async def test_a_value_comes_back_as_it_was(self, store: Store, value: Any) -> None:
        await store.set('k', value)
        found = await store['k']
        assert found == value
        assert repr(found) == repr(value)

    @pytest.mark.parametrize(('value', 'found'), FLATTENED.values(), ids=FLATTENED.keys())
    async def test_a_value_comes_back_as_json_gives_it_back(self, store: Store, value: Any, found: Any) -> None:
        await store.set('k', value)
        assert repr(await store['k']) == repr(found)

    @pytest.mark.parametrize(('value', 'place'), REFUSED.values(), ids=REFUSED.keys())
    async def test_what_json_cannot_hold_is_refused_and_nothing_is_touched(
        self, store: Store, value: Any, place: str
    ) -> None:
        await store.set('k', 'before')
        with pytest.raises(InvalidValue) as refusal:
            await store.set('k', value)
        assert place in str(refusal.value)
        with pytest.raises(InvalidValue):
            await store.multiset({'other': 1, 'k': value})
        assert await store.dump() == {'k': 'before'}

    async def test_changing_a_value_after_set_changes_nothing(self, store: Store) -> None:
        value = {'list': [1]}
        await store.set('k', value)
        value['list'].append(2)
        assert await store['k'] == {'list': [1]}

    async def test_changing_a_value_that_was_read_changes_nothing(self, store: Store) -> None:
        await store.set('k', {'list': [1]})
        (await store['k'])['list'].append(2)
        [found] = await store.multiget(['k'])
        found['list'].append(3)
        assert await store['k'] == {'list': [1]}

    # Keys

    async def test_hostile_keys_never_meet(self, store: Store) -> None:
        for number, key in enumerate(KEYS):
            await store.set(key, number)
        assert await store.multiget(KEYS) == list(range(len(KEYS)))
        assert sorted(await store.keys()) == sorted(KEYS)
        assert await store.dump() == {key: number for number, key in enumerate(KEYS)}

    @pytest.mark.parametrize('key', ['', 'a\ud800', 'é' * (MAX_KEY_BYTES // 2) + 'x', 3, None, b'k'], ids=ascii_start)
    async def test_a_key_no_store_takes_is_refused_everywhere(self, store: Store, key: Any) -> None:
        for call in (
            lambda: store[key],
            lambda: store.set(key, 1),
            lambda: store.multiget(['k', key]),
            lambda: store.multiset({'k': 1, key: 1}),
            lambda: store.remove(key),
            lambda: store.describe(key),
            lambda: store.update(key, lambda value: value),
        ):
            with pytest.raises(InvalidKey):
                await call()
        assert await store.keys() == []

    # Reading and writing

    async def test_a_missing_key_is_none(self, store: Store) -> None:
        assert await store['k'] is None
        assert await store.describe('k') is None

    async def test_multiget_keeps_the_order_and_gives_none_for_missing(self, store: Store) -> None:
        await store.multiset({'a': 1, 'b': 2})
        assert await store.multiget(keys=['b', 'missing', 'a', 'b']) == [2, None, 1, 2]
        assert await store.multiget([]) == []

    async def test_multiget_of_thousands(self, store: Store) -> None:
        entries = {f'k{number}': number for number in range(2500)}
        await store.multiset(entries)
        assert await store.multiget(entries) == list(entries.values())

    async def test_remove_says_whether_it_was_there(self, store: Store) -> None:
        await store.set('k', None)
        assert await store.remove('k') is True
        assert await store.remove('k') is False
        assert await store.keys() == []

    async def test_clear_leaves_nothing_and_the_store_works_on(self, store: Store) -> None:
        await store.multiset({'a': 1, 'b/c': 2})
        await store.clear()
        assert await store.dump() == {}
        await store.set('a', 3)
        assert await store['a'] == 3

    async def test_describe_tells_the_bytes(self, store: Store) -> None:
        await store.set('k', 'x' * 1000)
        description = await store.describe('k')
        assert description is not None
        assert description.bytes >= 1002

    async def test_a_closed_store_can_be_used_again(self, store: Store) -> None:
        await store.set('k', 1)
        await store.close()
        await store.set('l', 2)
        assert await store['l'] == 2

    async def test_asking_in_or_iterating_is_refused_instead_of_never_ending(self, store: Store) -> None:
        with pytest.raises(TypeError):
            'k' in store  # type: ignore[misc]  # noqa: B015
        with pytest.raises(TypeError):
            list(store)  # type: ignore[call-overload]

    # Walking

    @pytest.mark.parametrize('limit', [1, 3, 1000])
    async def test_scan_gives_every_key_of_the_prefix(self, store: Store, limit: int) -> None:
        wanted = {f'a*{number}' for number in range(20)}
        await store.multiset(dict.fromkeys([*wanted, 'a', 'ab', 'b*1', 'a/1'], 1))
        found: list[str] = []
        cursor = None
        while True:
            page = await store.scan('a*', cursor, limit)
            found += page.keys
            if (cursor := page.cursor) is None:
                break
        assert set(found) == wanted
        assert set(await store.keys('a*')) == wanted

    async def test_a_key_that_stays_is_found_while_others_come_and_go(self, store: Store) -> None:
        stays = {f'{letter}-stays' for letter in 'abcdefghij'}
        await store.multiset(dict.fromkeys([*stays, *(f'{letter}-goes' for letter in 'abcdefghij')], 1))
        found: set[str] = set()
        cursor = None
        for letter in 'abcdefghij' * 100:
            page = await store.scan('', cursor, 2)
            found.update(page.keys)
            await store.remove(f'{letter}-goes')
            await store.set(f'{letter}-comes', 1)
            if (cursor := page.cursor) is None:
                break
        assert cursor is None
        assert stays <= found

    # Dump and load

    async def test_what_dump_wrote_load_reads(self, store: Store, tmp_path: Path) -> None:
        entries = {f'k{number}/é': {'n': number, 'big': 2**80, 'text': 'é\n😀'} for number in range(1200)}
        await store.multiset(entries)
        assert await store.dump(tmp_path / 'dump.json') == 1200
        await store.clear()
        assert await store.load(tmp_path / 'dump.json') == 1200
        assert await store.dump() == entries

    async def test_dump_can_be_confined_to_a_prefix(self, store: Store) -> None:
        await store.multiset({'a1': 1, 'b1': 2})
        assert await store.dump(prefix='a') == {'a1': 1}

    @pytest.mark.parametrize('text', ['', '[1]', '{"a": 1', '{\n"a": 1,\n"b": nope\n}\n', '{"": 1}', '{"a": NaN}'])
    async def test_load_refuses_a_bad_file_before_it_writes(self, store: Store, tmp_path: Path, text: str) -> None:
        (tmp_path / 'dump.json').write_text(text)
        with pytest.raises(DumpFileError, match=r'dump\.json'):
            await store.load(tmp_path / 'dump.json')
        assert await store.keys() == []

    # Several at once

    async def test_commit_writes_and_removes_only_if_the_condition_holds(self, store: Store) -> None:
        await store.multiset({'a': 1, 'b': {'x': [1]}})
        assert not await store.commit({'a': 2, 'c': 3}, {'b': {'x': [2]}})
        assert not await store.commit({'a': 2, 'c': 3}, {'b': MISSING})
        assert await store.dump() == {'a': 1, 'b': {'x': [1]}}
        assert await store.commit({'a': 2, 'b': MISSING, 'c': 3}, {'b': {'x': [1]}, 'c': MISSING})
        assert await store.dump() == {'a': 2, 'c': 3}

    async def test_compare_and_set_tells_missing_from_null(self, store: Store) -> None:
        assert not await store.compare_and_set('k', None, 1)
        assert await store.compare_and_set('k', MISSING, None)
        assert not await store.compare_and_set('k', MISSING, 1)
        assert await store.compare_and_set('k', None, 1)
        assert await store['k'] == 1

    async def test_of_many_who_compare_and_set_one_wins(self, store: Store) -> None:
        await store.set('k', 0)
        outcomes = await asyncio.gather(*(store.compare_and_set('k', 0, number) for number in range(1, 21)))
        assert outcomes.count(True) == 1
        assert await store['k'] == outcomes.index(True) + 1

    async def test_updates_at_once_are_all_counted(self, store: Store) -> None:
        async def add(value: Any) -> Any:
            await asyncio.sleep(0)
            return (value or 0) + 1

        await asyncio.gather(*(store.update('k', add) for _ in range(50)))
        assert await store['k'] == 50
        assert store.busy_keys() == 0

    async def test_an_update_can_remove(self, store: Store) -> None:
        await store.set('k', 1)
        assert await store.update('k', lambda value: MISSING) is MISSING
        assert await store.keys() == []

    async def test_an_update_that_raises_changes_nothing(self, store: Store) -> None:
        await store.set('k', [1])

        def spoil(value: Any) -> Any:
            value.append(2)
            raise LookupError

        with pytest.raises(LookupError):
            await store.update('k', spoil)
        assert await store['k'] == [1]

    # Reducers

    async def test_events_at_once_are_folded_in_order_and_none_is_lost(self, store: Store) -> None:
        def event(number: int) -> Any:
            async def step(state: Any) -> Any:
                await asyncio.sleep(0)
                state['seen'].append(number)
                return state, {'count': len(state['seen'])}

            return store.fold('Internal,r', 'External,r', step, b'{"seen":[]}')

        await asyncio.gather(*map(event, range(100)))
        assert await store.multiget(['Internal,r', 'External,r']) == [{'seen': list(range(100))}, {'count': 100}]
        assert store.busy_keys() == 0

    async def test_writes_in_between_are_seen_and_the_event_is_folded_again(self, store: Store) -> None:
        runs = []

        async def step(state: Any) -> Any:
            runs.append(state)
            if state != 2:
                await store.set('Internal,r', (state or 0) + 1)
            return [state], state

        await store.fold('Internal,r', 'External,r', step)
        assert runs[0] is None
        assert runs[-1] == 2
        assert await store.multiget(['Internal,r', 'External,r']) == [[2], 2]

    async def test_a_reducer_that_raises_changes_nothing(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            state['seen'] = True
            raise LookupError

        with pytest.raises(LookupError):
            await store.fold('Internal,r', 'External,r', step, b'{}')
        assert await store.keys() == []

    async def test_a_state_json_cannot_hold_changes_nothing(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            return {'fine': 1}, {'set': {1}}

        with pytest.raises(InvalidValue, match=r"External.*value\['set'\]"):
            await store.fold('Internal,r', 'External,r', step)
        assert await store.keys() == []

    async def test_false_writes_nothing_but_a_fresh_key_gets_the_null_state(self, store: Store) -> None:
        async def decline(state: Any) -> Any:
            return False, False

        assert await store.fold('Internal,r', 'External,r', decline, b'{"n":0}') is False
        assert await store.dump() == {'Internal,r': {'n': 0}}

        async def external_only(state: Any) -> Any:
            return False, 'seen'

        assert await store.fold('Internal,r', 'External,r', external_only, b'{"n":0}') == 'seen'
        assert await store.dump() == {'Internal,r': {'n': 0}, 'External,r': 'seen'}

    async def test_a_reducer_that_waits_for_its_own_key_is_told(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            await store.fold('Internal,r', 'External,r', step)

        with pytest.raises(ReducerError, match='its own key'):
            await store.fold('Internal,r', 'External,r', step)

    async def test_a_cancelled_event_leaves_both_states_or_none(self, store: Store) -> None:
        async def step(state: Any) -> Any:
            return (state or 0) + 1, (state or 0) + 1

        for turns in range(12):
            event = asyncio.ensure_future(store.fold('Internal,r', 'External,r', step))
            for _ in range(turns):
                await asyncio.sleep(0)
            event.cancel()
            await asyncio.wait([event])
            internal, external = await store.multiget(['Internal,r', 'External,r'])
            assert internal == external
