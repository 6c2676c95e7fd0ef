"""Reading, removing, walking, dumping and loading, and what a store is between calls."""

from __future__ import annotations

import asyncio
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import CorruptValue, DumpFileError, InvalidValue
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.testing.values import KEPT

NOT_JSON = {'empty': b'', 'cut': b'{"half":', 'word': b'nope', 'not UTF-8': b'"\xff"', 'two': b'1 2'}
"""Stored text that is not JSON."""


async def walk(store: Store, prefix: str, limit: int) -> list[str]:
    """The keys of all pages, in the order they came."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.scan(prefix, cursor, limit)
        found += page.keys
        if (cursor := page.cursor) is None:
            return found


class CallsContract:
    """Each call that does not need a condition."""

    async def spoil(self, store: Store, key: str, text: bytes) -> None:
        """Store a text that need not be JSON; override it where ``commit_bytes`` refuses that."""
        assert await store.commit_bytes({key: text}, {})

    async def leave(self, store: Store) -> None:
        """An event loop other than that of the fixture ends; override it where more than the store is open there."""
        await store.close()

    # Reading

    async def test_a_missing_key_is_none(self, store: Store) -> None:
        assert await store['k'] is None
        assert await store.describe('k') is None

    async def test_multiget_keeps_the_order_and_gives_none_for_missing(self, store: Store) -> None:
        await store.multiset({'a': 1, 'b': 2})
        assert await store.multiget(['b', 'missing', 'a', 'b']) == [2, None, 1, 2]
        assert await store.multiget(keys=iter(['a'])) == [1]
        assert await store.multiget([]) == []

    async def test_multiget_of_thousands(self, store: Store) -> None:
        entries = {f'k{number}': number for number in range(2500)}
        await store.multiset(entries)
        assert await store.multiget(entries) == list(entries.values())

    async def test_describe_tells_the_bytes_and_what_else_is_known(self, store: Store) -> None:
        await store.set('k', 'x' * 1000)
        description = await store.describe('k')
        assert description is not None
        assert 1002 <= description.bytes < 2000
        assert description.expires_in is None or description.expires_in > 0
        assert description.written is None or abs(description.written - time.time()) < 60

    @pytest.mark.parametrize('text', NOT_JSON.values(), ids=NOT_JSON.keys())
    async def test_what_is_not_json_is_told_with_key_and_place_and_never_overwritten(
        self, store: Store, text: bytes
    ) -> None:
        await store.set('good', 1)
        await self.spoil(store, 'bad', text)

        async def step(state: Any) -> Any:
            return 'new', 'new'

        for call in (
            lambda: store['bad'],
            lambda: store.multiget(['good', 'bad']),
            lambda: store.dump(),
            lambda: store.update('bad', lambda value: 'new'),
            lambda: store.compare_and_set('bad', None, 'new'),
            lambda: store.fold('bad', 'External', step),
        ):
            with pytest.raises(CorruptValue, match='bad') as told:
                await call()
            assert store.location() in str(told.value)
            assert store.name in str(told.value)
        assert await store['good'] == 1
        assert sorted(await store.keys()) == ['bad', 'good']
        assert await store.describe('bad') is not None
        assert await store.remove('bad')
        assert await store.dump() == {'good': 1}

    async def test_what_is_not_json_can_be_replaced(self, store: Store) -> None:
        await self.spoil(store, 'k', b'{"half":')
        await store.set('k', 'whole')
        assert await store['k'] == 'whole'

    async def test_what_the_standard_json_wrote_is_read(self, store: Store) -> None:
        await self.spoil(store, 'k', b'{"a": NaN, "b": "\\ud83d", "c": -Infinity, "d": 1' + b'0' * 100 + b'}')
        found = await store['k']
        assert math.isnan(found.pop('a'))
        assert found == {'b': '\ud83d', 'c': -math.inf, 'd': 10**100}
        assert not await store.compare_and_set('k', found['d'], 1)
        assert await store.update('k', lambda value: value['d']) == 10**100

    # Removing and clearing

    async def test_remove_says_whether_it_was_there(self, store: Store) -> None:
        await store.set('k', None)
        assert await store.remove('k') is True
        assert await store.remove('k') is False
        assert await store.keys() == []

    async def test_clear_leaves_nothing_and_the_store_works_on(self, store: Store) -> None:
        await store.clear()
        await store.multiset({'a': 1, 'b/c': 2, **{f'k{number}': number for number in range(1500)}})
        await store.clear()
        assert await store.dump() == {}
        assert await store['a'] is None
        await store.set('a', 3)
        assert await store['a'] == 3

    # Walking

    @pytest.mark.parametrize('limit', [1, 2, 3, 7, 20, 1000])
    async def test_scan_gives_every_key_of_the_prefix(self, store: Store, limit: int) -> None:
        wanted = {f'a*{number}' for number in range(20)}
        await store.multiset(dict.fromkeys([*wanted, 'a', 'ab', 'b*1', 'a/1'], 1))
        assert set(await walk(store, 'a*', limit)) == wanted
        assert set(await store.keys('a*')) == wanted
        assert await walk(store, 'none', limit) == []

    async def test_keys_gives_each_key_once(self, store: Store) -> None:
        wanted = [f'{number}' for number in range(3000)]
        await store.multiset(dict.fromkeys(wanted, 1))
        assert sorted(await store.keys()) == sorted(wanted)

    async def test_a_page_holds_at_least_one_key_to_look_at(self, store: Store) -> None:
        for limit in (0, -1):
            with pytest.raises(ValueError, match='limit'):
                await store.scan('', None, limit)

    @pytest.mark.parametrize('limit', [1, 2, 5, 100])
    async def test_a_key_that_stays_is_found_while_others_come_and_go(self, store: Store, limit: int) -> None:
        stays = {f'{letter}-stays' for letter in 'abcdefghij'}
        await store.multiset(dict.fromkeys([*stays, *(f'{letter}-goes' for letter in 'abcdefghij')], 1))
        found: set[str] = set()
        cursor = None
        for letter in 'abcdefghij' * 100:
            page = await store.scan('', cursor, limit)
            found.update(page.keys)
            await store.remove(f'{letter}-goes')
            await store.set(f'{letter}-comes', 1)
            if (cursor := page.cursor) is None:
                break
        assert cursor is None
        assert stays <= found

    async def test_several_walks_at_once_do_not_disturb_each_other(self, store: Store) -> None:
        wanted = {f'{letter}{number}' for letter in 'ab' for number in range(30)}
        await store.multiset(dict.fromkeys(wanted, 1))
        walks = await asyncio.gather(*(walk(store, prefix, limit) for prefix in ('', 'a', 'b') for limit in (3, 7)))
        for found, prefix in zip(walks, ['', '', 'a', 'a', 'b', 'b'], strict=True):
            assert set(found) == {key for key in wanted if key.startswith(prefix)}

    # Dump and load

    async def test_what_dump_wrote_load_reads(self, store: Store, tmp_path: Path) -> None:
        entries = {f'k{number}/é': {'n': number, 'big': 2**80, 'text': 'é\n😀'} for number in range(1200)}
        await store.multiset(entries)
        assert await store.dump(tmp_path / 'dump.json') == 1200
        await store.clear()
        assert await store.load(tmp_path / 'dump.json') == 1200
        assert await store.dump() == entries

    async def test_every_kind_of_value_survives_a_dump_to_a_file(self, store: Store, tmp_path: Path) -> None:
        entries = {name: value for name, value in KEPT.items() if len(repr(value)) < 10_000}
        await store.multiset(entries)
        await store.dump(tmp_path / 'dump.json')
        await store.clear()
        await store.load(tmp_path / 'dump.json')
        assert repr(await store.multiget(entries)) == repr(list(entries.values()))

    async def test_dump_can_be_confined_to_a_prefix(self, store: Store, tmp_path: Path) -> None:
        await store.multiset({'a1': 1, 'b1': 2})
        assert await store.dump(prefix='a') == {'a1': 1}
        assert await store.dump(tmp_path / 'dump.json', prefix='b') == 1

    async def test_a_dump_that_fails_leaves_the_file_as_it_was(self, store: Store, tmp_path: Path) -> None:
        (folder := tmp_path / 'dumps').mkdir()
        (folder / 'dump.json').write_text('before')
        await store.set('a', 1)
        await self.spoil(store, 'b', b'nope')
        with pytest.raises(CorruptValue):
            await store.dump(folder / 'dump.json')
        assert os.listdir(folder) == ['dump.json']
        assert (folder / 'dump.json').read_text() == 'before'

    async def test_a_dump_to_a_file_names_the_key_that_another_program_wrote_a_nan_under(
        self, store: Store, tmp_path: Path
    ) -> None:
        await store.set('good', 1)
        await self.spoil(store, 'odd', b'{"a": NaN}')
        with pytest.raises(InvalidValue, match=r"'odd' in store .* value\['a'\]"):
            await store.dump(tmp_path / 'dump.json')
        assert not (tmp_path / 'dump.json').exists()
        assert sorted(await store.dump()) == ['good', 'odd']

    async def test_load_refuses_a_large_file_whose_last_entry_is_bad_before_it_writes(
        self, store: Store, tmp_path: Path
    ) -> None:
        good = ''.join(f'"k{number}": {number},\n' for number in range(2000))
        for last in ('"z": nope', '"z": NaN', '"": 1', '"z": ' + '[' * 300 + ']' * 300, '"z": 1,'):
            (tmp_path / 'dump.json').write_text(f'{{\n{good}{last}\n}}\n')
            with pytest.raises(DumpFileError, match=r'dump\.json'):
                await store.load(tmp_path / 'dump.json')
        assert await store.keys() == []

    @pytest.mark.parametrize('text', ['', '[1]', '{"a": 1', '{\n"a": 1,\n"b": nope\n}\n', '{"": 1}', '{"a": NaN}'])
    async def test_load_refuses_a_bad_file_before_it_writes(self, store: Store, tmp_path: Path, text: str) -> None:
        (tmp_path / 'dump.json').write_text(text)
        with pytest.raises(DumpFileError, match=r'dump\.json'):
            await store.load(tmp_path / 'dump.json')
        assert await store.keys() == []

    # Between calls

    async def test_a_closed_store_can_be_used_again(self, store: Store) -> None:
        await store.set('k', 1)
        await store.close()
        await store.set('l', 2)
        await store.close()
        await store.close()
        assert await store['l'] == 2

    async def test_a_second_event_loop_uses_the_store(self, store: Store) -> None:
        async def add(value: Any) -> Any:
            return (value or 0) + 1

        async def others() -> None:
            for _ in range(10):
                await store.update('k', add)
            await store.set('l', await store['k'])
            await self.leave(store)

        for _ in range(2):
            elsewhere = asyncio.to_thread(asyncio.run, others())
            await asyncio.gather(elsewhere, *(store.update('k', add) for _ in range(10)))
        assert await store['k'] == 40

    async def test_asking_in_or_iterating_is_refused_instead_of_never_ending(self, store: Store) -> None:
        with pytest.raises(TypeError):
            'k' in store  # type: ignore[misc]  # noqa: B015
        with pytest.raises(TypeError):
            list(store)  # type: ignore[call-overload]

    async def test_it_says_what_it_is_and_where(self, store: Store) -> None:
        assert store.name in repr(store)
        assert store.location() in repr(store)
        assert store.busy_keys() == 0
