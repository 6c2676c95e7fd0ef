"""The contract of values and keys: a value comes back as it was stored, under its key and no other."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.errors import InvalidKey, InvalidValue
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING
from learning_observer_kvs.testing.keys import INVALID_KEYS, KEYS
from learning_observer_kvs.testing.values import FLATTENED, INVALID, KEPT, Label, nested

SHORT_KEYS = [key for key in KEYS if len(key) < 10_000]


INVALID_PREFIXES = {name: key for name, key in INVALID_KEYS.items() if key not in ('', None)}


async def _assert_rejected(store: Store, value: Any, location: str) -> None:
    await store.set('k', 'before')
    with pytest.raises(InvalidValue) as raised:
        await store.set('k', value)
    assert location in str(raised.value)
    for call in (
        lambda: store.multiset({'other': 1, 'k': value}),
        lambda: store.commit({'other': 1, 'k': value}),
        lambda: store.commit({'other': 1}, {'k': value}),
        lambda: store.compare_and_set('k', 'before', value),
        lambda: store.update('k', lambda before: value),
    ):
        with pytest.raises(InvalidValue):
            await call()
    assert await store.dump() == {'k': 'before'}


class ContentsContract:
    """Tests of values and keys."""

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

    @pytest.mark.parametrize(('value', 'location'), INVALID.values(), ids=INVALID.keys())
    async def test_a_value_that_json_cannot_hold_is_rejected_and_nothing_is_written(
        self, store: Store, value: Any, location: str
    ) -> None:
        await _assert_rejected(store, value, location)

    @pytest.mark.parametrize('kind', ['mixed', 'tuples and lists'])
    async def test_a_value_of_a_hundred_thousand_levels_is_rejected_and_nothing_is_written(
        self, store: Store, kind: str
    ) -> None:
        await _assert_rejected(store, nested(100_000, kind=kind), 'deeper')

    async def test_missing_is_not_a_value(self, store: Store) -> None:
        with pytest.raises(InvalidValue):
            await store.set('k', MISSING)
        with pytest.raises(InvalidValue):
            await store.multiset({'a': 1, 'k': MISSING})
        assert await store.keys() == []

    async def test_changing_a_value_after_set_changes_nothing(self, store: Store) -> None:
        value = {'list': [1]}
        await store.set('k', value)
        await store.multiset({'l': value})
        value['list'].append(2)
        assert await store.multiget(['k', 'l']) == [{'list': [1]}, {'list': [1]}]

    async def test_changing_a_value_that_was_read_changes_nothing(self, store: Store) -> None:
        await store.set('k', {'list': [1]})
        (await store['k'])['list'].append(2)
        first, second = await store.multiget(['k', 'k'])
        first['list'].append(3)
        assert second == {'list': [1]}
        (await store.dump())['k']['list'].append(4)
        assert await store['k'] == {'list': [1]}

    async def test_changing_a_value_after_update_changes_nothing(self, store: Store) -> None:
        kept = []

        def keep(value: Any) -> Any:
            kept.append(value)
            return value

        await store.set('k', {'list': [1]})
        (await store.update('k', keep))['list'].append(2)
        kept[0]['list'].append(3)
        assert await store['k'] == {'list': [1]}

    async def test_every_kind_of_value_at_once_comes_back_in_one_read(self, store: Store) -> None:
        small = {name: value for name, value in KEPT.items() if len(repr(value)) < 10_000}
        await store.multiset(small)
        assert repr(await store.multiget(small)) == repr(list(small.values()))
        assert await store.dump() == small

    # Keys

    async def test_hostile_keys_never_collide(self, store: Store) -> None:
        for number, key in enumerate(KEYS):
            await store.set(key, number)
        assert await store.multiget(KEYS) == list(range(len(KEYS)))
        assert sorted(await store.keys()) == sorted(KEYS)
        assert await store.dump() == {key: number for number, key in enumerate(KEYS)}

    async def test_hostile_keys_are_written_described_and_removed_one_by_one(self, store: Store) -> None:
        await store.multiset({key: [number] for number, key in enumerate(SHORT_KEYS)})
        for number, key in enumerate(SHORT_KEYS):
            assert await store.describe(key) is not None, key[:100]
            assert await store.compare_and_set(key, [number], number), key[:100]
            if number % 2:
                assert await store.remove(key), key[:100]
                assert not await store.remove(key), key[:100]
        left = SHORT_KEYS[::2]
        assert sorted(await store.keys()) == sorted(left)
        assert await store.multiget(SHORT_KEYS) == [None if number % 2 else number for number in range(len(SHORT_KEYS))]
        await store.clear()
        assert await store.keys() == []

    async def test_no_character_of_a_prefix_has_a_special_meaning(self, store: Store) -> None:
        await store.multiset(dict.fromkeys(SHORT_KEYS, 1))
        for prefix in {cut for key in SHORT_KEYS for cut in (key[:1], key[:2], key[:-1], key) if len(cut) < 100}:
            assert sorted(await store.keys(prefix)) == sorted(key for key in SHORT_KEYS if key.startswith(prefix)), (
                prefix
            )

    @pytest.mark.parametrize('key', INVALID_KEYS.values(), ids=INVALID_KEYS.keys())
    async def test_an_invalid_key_is_rejected_by_every_call(self, store: Store, key: Any) -> None:
        for call in (
            lambda: store[key],
            lambda: store.set(key, 1),
            lambda: store.multiget(['k', key]),
            lambda: store.remove(key),
            lambda: store.describe(key),
            lambda: store.describe_all(['k', key]),
            lambda: store.update(key, lambda value: value),
            lambda: store.compare_and_set(key, MISSING, 1),
            lambda: store.multiset({'k': 1, key: 1}),
            lambda: store.commit({'k': 1, key: MISSING}),
            lambda: store.commit({'k': 1}, {key: MISSING}),
        ):
            with pytest.raises(InvalidKey):
                await call()
        assert await store.keys() == []

    @pytest.mark.parametrize('prefix', INVALID_PREFIXES.values(), ids=INVALID_PREFIXES.keys())
    async def test_a_prefix_or_cursor_that_no_key_begins_with_is_rejected(self, store: Store, prefix: Any) -> None:
        await store.set('k', 1)
        for call in (
            lambda: store.keys(prefix),
            lambda: store.scan(prefix),
            lambda: anext(store.pages(prefix)),
            lambda: store.dump(prefix=prefix),
            lambda: store.scan('', prefix, 1),
        ):
            with pytest.raises(InvalidKey):
                await call()

    async def test_a_key_of_a_str_subclass_is_the_plain_text(self, store: Store) -> None:
        await store.set(Label('k'), 1)
        assert await store['k'] == 1
        [key] = await store.keys()
        assert type(key) is str
        assert await store.remove(Label('k'))

    # Records

    async def test_a_hidden_record_is_written_if_it_is_as_expected_and_clear_spares_it(self, store: Store) -> None:
        assert await store.read_hidden('tried') is None
        assert await store.commit_hidden('tried', b'{"n":1}', None)
        assert not await store.commit_hidden('tried', b'{"n":2}', None)
        await store.set('k', 1)
        await store.clear()
        assert await store['k'] is None
        assert await store.read_hidden('tried') == b'{"n":1}'
        assert await store.commit_hidden('tried', None, b'{"n":1}')
        assert await store.read_hidden('tried') is None
