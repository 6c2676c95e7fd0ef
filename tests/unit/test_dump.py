"""Dump files that are not as ``dump`` writes them; what every store does with them is tested by the store contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.stores import dump


async def test_truncating_a_file_while_it_is_loaded_is_an_error_that_counts_the_stored_entries(tmp_path: Path) -> None:
    file = tmp_path / 'dump.json'
    lines = (f'"k{number}": {json.dumps("x" * 100)}' for number in range(20_000))
    file.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    stored: dict[str, Any] = {}

    async def store(entries: dict[str, Any]) -> None:
        stored.update(entries)
        file.write_text('')

    with pytest.raises(
        DumpFileError, match=r'dump\.json changed while it was loaded; [\d,]+ of its entries were stored'
    ):
        await (await dump.opened(file)).read(store)
    assert 0 < len(stored) < 20_000


@pytest.mark.parametrize(
    'text',
    [
        '{"a":1,"b":[2]}',
        '{\n  "a": 1,\n  "b": [\n    2\n  ]\n}\n',
        '{\n"a": 1, "b": [2]\n}\n',
        '{\n"a": 1,\n"b": [2]}',
        '{\r\n"a": 1,\r\n"b": [2]\r\n}\r\n',
    ],
)
async def test_any_layout_of_one_json_object_is_a_dump(tmp_path: Path, text: str) -> None:
    (tmp_path / 'dump.json').write_text(text, newline='')
    stored: dict[str, Any] = {}

    async def store(entries: dict[str, Any]) -> None:
        stored.update(entries)

    assert await (await dump.opened(tmp_path / 'dump.json')).read(store) == 2
    assert stored == {'a': 1, 'b': [2]}


async def test_entries_are_passed_on_in_chunks_of_bounded_number_and_size(tmp_path: Path) -> None:
    small, large = (tmp_path / 'small.json'), (tmp_path / 'large.json')
    small.write_text('{\n' + ',\n'.join(f'"k{number}": {number}' for number in range(1200)) + '\n}\n')
    line = json.dumps('x' * (dump.CHUNK_BYTES // 2))
    large.write_text('{\n' + ',\n'.join(f'"k{number}": {line}' for number in range(5)) + '\n}\n')
    sizes: list[int] = []

    async def store(entries: dict[str, Any]) -> None:
        sizes.append(len(entries))

    assert await (await dump.opened(small)).read(store) == 1200
    assert sizes == [500, 500, 200]
    sizes.clear()
    assert await (await dump.opened(large)).read(store) == 5
    assert sizes == [2, 2, 1]


async def test_of_a_file_in_another_layout_nothing_is_stored_if_its_last_entry_is_invalid(tmp_path: Path) -> None:
    (tmp_path / 'dump.json').write_text('{"a": 1, "b": 2, "": 3}')

    async def store(entries: dict[str, Any]) -> None:
        pytest.fail('an entry of an invalid file was stored')

    with pytest.raises(DumpFileError, match=r"dump\.json, entry 3 \(''\): .* Nothing was loaded\."):
        await (await dump.opened(tmp_path / 'dump.json')).read(store)
