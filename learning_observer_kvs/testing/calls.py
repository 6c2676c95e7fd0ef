"""The contract of reading, removing, scanning, dumping and loading, and of closing a store."""

from __future__ import annotations

import asyncio
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import CorruptValue, DumpFileError, InvalidValue
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING, Description
from learning_observer_kvs.testing.values import KEPT

NOT_JSON = {'empty': b'', 'cut': b'{"half":', 'word': b'nope', 'not UTF-8': b'"\xff"', 'two': b'1 2'}
"""Stored text that is not JSON."""


async def scan_all(store: Store, prefix: str, limit: int) -> list[str]:
    """Scan a store to the end.

    Args:
        store: the store.
        prefix: only keys that begin with it.
        limit: of each page.

    Returns:
        The keys of all pages, in the order in which they came.
    """
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.scan(prefix, cursor, limit)
        found += page.keys
        if (cursor := page.cursor) is None:
            return found


class CallsContract:
    """Tests of each call that has no condition."""

    async def write_raw(self, store: Store, key: str, text: bytes) -> None:
        """Store a text that need not be JSON; override it if ``commit_bytes`` accepts only JSON.

        Args:
            store: the store.
            key: a valid key.
            text: any bytes.
        """
        assert await store.commit_bytes({key: text}, {})

    async def leave_loop(self, store: Store) -> None:
        """Close what is open in the running event loop, which is not that of the fixture and ends now.

        Args:
            store: the store, which the fixture's loop still uses.
        """
        await store.close()

    # Reading

    async def test_a_missing_key_is_none(self, store: Store) -> None:
        assert await store['k'] is None
        assert await store.describe('k') is None

    async def test_multiget_keeps_the_order_and_gives_none_for_missing(self, store: Store) -> None:
        await store.multiset({'a': 1, 'b': 2})
        assert await store.multiget(['b', 'missing', 'a', 'b']) == [2, None, 1, 2]
        assert await store.multiget(keys=iter(['a'])) == [1]
        assert await store.multiget([]) == await store.read_bytes([]) == []
        assert await store.read_until(time.monotonic(), []) == []

    async def test_multiget_distinguishes_a_missing_key_from_a_stored_null(self, store: Store) -> None:
        await store.multiset({'a': 1, 'null': None})
        assert await store.multiget(['null', 'missing', 'a'], missing=MISSING) == [None, MISSING, 1]

    async def test_multiget_of_thousands(self, store: Store) -> None:
        entries = {f'k{number}': number for number in range(2500)}
        await store.multiset(entries)
        assert await store.multiget(entries) == list(entries.values())

    async def test_describe_gives_the_bytes_and_what_else_is_known(self, store: Store) -> None:
        await store.set('k', 'x' * 1000)
        description = await store.describe('k')
        assert description is not None
        assert 1002 <= description.bytes < 2000
        assert description.expires_in is None or description.expires_in > 0
        assert description.written is None or abs(description.written - time.time()) < 60

    async def test_describe_all_gives_the_same_of_thousands_in_order(self, store: Store) -> None:
        await store.multiset({f'k{number}': 'x' * number for number in range(2500)})
        described = await store.describe_all(['missing', *(f'k{number}' for number in range(2500)), 'k7', 'missing'])
        sizes = [each.bytes if isinstance(each, Description) else each for each in described]
        assert sizes[0] is sizes[-1] is None
        assert None not in sizes[1:-1]
        assert sizes[-2] == sizes[8]
        singly = [await store.describe(f'k{number}') for number in range(0, 2500, 100)]
        assert sizes[1:2501:100] == [each and each.bytes for each in singly]
        assert await store.describe_all([]) == []

    @pytest.mark.parametrize('text', NOT_JSON.values(), ids=NOT_JSON.keys())
    async def test_a_text_that_is_not_json_is_corrupt_with_key_and_location_and_is_never_overwritten(
        self, store: Store, text: bytes
    ) -> None:
        await store.set('good', 1)
        await self.write_raw(store, 'bad', text)

        async def step(state: Any) -> Any:
            return 'new', 'new'

        for call in (
            lambda: store['bad'],
            lambda: store.multiget(['good', 'bad']),
            lambda: store.dump(),
            lambda: store.update('bad', lambda value: 'new'),
            lambda: store.compare_and_set('bad', None, 'new'),
            lambda: worker_of(store).process('bad', 'External', step),
        ):
            with pytest.raises(CorruptValue, match='bad') as raised:
                await call()
            assert store.location() in str(raised.value)
            assert store.name in str(raised.value)
        assert await store['good'] == 1
        assert sorted(await store.keys()) == ['bad', 'good']
        assert await store.describe('bad') is not None
        assert await store.remove('bad')
        assert await store.dump() == {'good': 1}

    async def test_a_text_that_is_not_json_can_be_replaced(self, store: Store) -> None:
        await self.write_raw(store, 'k', b'{"half":')
        await store.set('k', 'whole')
        assert await store['k'] == 'whole'

    async def test_text_of_the_standard_json_is_read(self, store: Store) -> None:
        await self.write_raw(store, 'k', b'{"a": NaN, "b": "\\ud83d", "c": -Infinity, "d": 1' + b'0' * 100 + b'}')
        found = await store['k']
        assert math.isnan(found.pop('a'))
        assert found == {'b': '\ud83d', 'c': -math.inf, 'd': 10**100}
        assert not await store.compare_and_set('k', found['d'], 1)
        assert await store.update('k', lambda value: value['d']) == 10**100

    # Removing and clearing

    async def test_remove_returns_whether_the_key_existed(self, store: Store) -> None:
        await store.set('k', None)
        assert await store.remove('k') is True
        assert await store.remove('k') is False
        assert await store.keys() == []

    async def test_clear_removes_everything_and_the_store_can_be_used_again(self, store: Store) -> None:
        await store.clear()
        await store.multiset({'a': 1, 'b/c': 2, **{f'k{number}': number for number in range(1500)}})
        await store.clear()
        assert await store.dump() == {}
        assert await store['a'] is None
        await store.set('a', 3)
        assert await store['a'] == 3

    # Scanning

    @pytest.mark.parametrize('limit', [1, 2, 3, 7, 20, 1000])
    async def test_scan_gives_every_key_of_the_prefix(self, store: Store, limit: int) -> None:
        wanted = {f'a*{number}' for number in range(20)}
        await store.multiset(dict.fromkeys([*wanted, 'a', 'ab', 'b*1', 'a/1'], 1))
        assert set(await scan_all(store, 'a*', limit)) == wanted
        assert set(await store.keys('a*')) == wanted
        assert await scan_all(store, 'none', limit) == []

    @pytest.mark.parametrize('limit', [1, 7, 1000])
    async def test_pages_give_every_key_of_the_prefix(self, store: Store, limit: int) -> None:
        wanted = {f'a*{number}' for number in range(20)}
        await store.multiset(dict.fromkeys([*wanted, 'a', 'ab', 'b*1', 'a/1'], 1))
        assert {key for page in [page async for page in store.pages('a*', limit)] for key in page} == wanted
        assert [key for page in [page async for page in store.pages('none', limit)] for key in page] == []

    async def test_keys_gives_each_key_once(self, store: Store) -> None:
        wanted = [f'{number}' for number in range(3000)]
        await store.multiset(dict.fromkeys(wanted, 1))
        assert sorted(await store.keys()) == sorted(wanted)

    async def test_the_limit_of_a_page_is_at_least_one(self, store: Store) -> None:
        for limit in (0, -1):
            with pytest.raises(ValueError, match='limit'):
                await store.scan('', None, limit)
            with pytest.raises(ValueError, match='limit'):
                await anext(store.pages('', limit))

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

    async def test_concurrent_scans_do_not_disturb_each_other(self, store: Store) -> None:
        wanted = {f'{letter}{number}' for letter in 'ab' for number in range(30)}
        await store.multiset(dict.fromkeys(wanted, 1))
        scans = await asyncio.gather(*(scan_all(store, prefix, limit) for prefix in ('', 'a', 'b') for limit in (3, 7)))
        for found, prefix in zip(scans, ['', '', 'a', 'a', 'b', 'b'], strict=True):
            assert set(found) == {key for key in wanted if key.startswith(prefix)}

    # Dump and load

    async def test_load_reads_what_dump_wrote(self, store: Store, tmp_path: Path) -> None:
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

    async def test_dump_can_be_restricted_to_a_prefix(self, store: Store, tmp_path: Path) -> None:
        await store.multiset({'a1': 1, 'b1': 2})
        assert await store.dump(prefix='a') == {'a1': 1}
        assert await store.dump(tmp_path / 'dump.json', prefix='b') == 1

    async def test_a_dump_that_fails_leaves_the_file_as_it_was(self, store: Store, tmp_path: Path) -> None:
        (directory := tmp_path / 'dumps').mkdir()
        (directory / 'dump.json').write_text('before')
        await store.set('a', 1)
        await self.write_raw(store, 'b', b'nope')
        with pytest.raises(CorruptValue):
            await store.dump(directory / 'dump.json')
        assert os.listdir(directory) == ['dump.json']
        assert (directory / 'dump.json').read_text() == 'before'

    async def test_a_dump_to_a_file_names_the_key_that_another_program_wrote_a_nan_under(
        self, store: Store, tmp_path: Path
    ) -> None:
        await store.set('good', 1)
        await self.write_raw(store, 'odd', b'{"a": NaN}')
        with pytest.raises(InvalidValue, match=r"'odd' in store .* value\['a'\]"):
            await store.dump(tmp_path / 'dump.json')
        assert not (tmp_path / 'dump.json').exists()
        assert sorted(await store.dump()) == ['good', 'odd']

    async def test_load_rejects_a_large_file_whose_last_entry_is_invalid_before_it_writes(
        self, store: Store, tmp_path: Path
    ) -> None:
        good = ''.join(f'"k{number}": {number},\n' for number in range(2000))
        for last in ('"z": nope', '"z": NaN', '"": 1', '"z": ' + '[' * 300 + ']' * 300, '"z": 1,'):
            (tmp_path / 'dump.json').write_text(f'{{\n{good}{last}\n}}\n')
            with pytest.raises(DumpFileError, match=r'dump\.json'):
                await store.load(tmp_path / 'dump.json')
        assert await store.keys() == []

    @pytest.mark.parametrize('text', ['', '[1]', '{"a": 1', '{\n"a": 1,\n"b": nope\n}\n', '{"": 1}', '{"a": NaN}'])
    async def test_load_rejects_an_invalid_file_before_it_writes(self, store: Store, tmp_path: Path, text: str) -> None:
        (tmp_path / 'dump.json').write_text(text)
        with pytest.raises(DumpFileError, match=r'dump\.json'):
            await store.load(tmp_path / 'dump.json')
        assert await store.keys() == []

    # Loops and closing

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

        async def in_another_loop() -> None:
            for _ in range(10):
                await store.update('k', add)
            await store.set('l', await store['k'])
            await self.leave_loop(store)

        for _ in range(2):
            elsewhere = asyncio.to_thread(asyncio.run, in_another_loop())
            await asyncio.gather(elsewhere, *(store.update('k', add) for _ in range(10)))
        assert await store['k'] == 40

    async def test_in_and_iteration_are_type_errors_instead_of_endless_loops(self, store: Store) -> None:
        with pytest.raises(TypeError):
            'k' in store  # type: ignore[misc]  # noqa: B015
        with pytest.raises(TypeError):
            list(store)  # type: ignore[call-overload]

    async def test_repr_has_name_and_location(self, store: Store) -> None:
        assert store.name in repr(store)
        assert store.location() in repr(store)
        assert store.busy_keys() == 0
