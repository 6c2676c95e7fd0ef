"""Dump files as ``dump.write`` writes them: the layout, who may read them, and what a failure leaves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores import dump


async def entries(number: int, value: JSON = None) -> AsyncIterator[tuple[str, JSON]]:
    for index in range(number):
        yield f'k{index}', value


def encode(key: str, value: JSON) -> bytes:
    return json_codec.encode(value)


async def read(file: Path) -> dict[str, JSON]:
    stored: dict[str, JSON] = {}

    async def store(chunk: dict[str, JSON]) -> None:
        stored.update(chunk)

    assert await (await dump.opened(file)).read(store) == len(stored)
    return stored


@pytest.mark.parametrize(
    ('number', 'text'), [(0, '{\n}\n'), (1, '{\n"k0": null\n}\n'), (2, '{\n"k0": null,\n"k1": null\n}\n')]
)
async def test_a_dump_has_an_entry_on_each_line(tmp_path: Path, number: int, text: str) -> None:
    file = tmp_path / 'dump.json'
    assert await dump.write(file, entries(number), encode) == number
    assert file.read_text() == text
    assert await read(file) == dict.fromkeys((f'k{index}' for index in range(number)), None)
    assert os.listdir(tmp_path) == ['dump.json']


async def test_a_dump_larger_than_the_buffer_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, 'WRITE_BUFFER_BYTES', 1000)
    file = tmp_path / 'dump.json'
    assert await dump.write(file, entries(100, 'x' * 50), encode) == 100
    assert await read(file) == {f'k{index}': 'x' * 50 for index in range(100)}


async def test_a_dump_replaces_a_file_and_is_readable_for_this_user_alone(tmp_path: Path) -> None:
    file = tmp_path / ('d' * 250 + '.json')
    file.write_text('before')
    file.chmod(0o644)
    await dump.write(file, entries(1), encode)
    assert file.stat().st_mode & 0o777 == 0o600
    assert await read(file) == {'k0': None}


async def test_a_dump_that_fails_leaves_the_file_as_it_was_and_no_other(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[tuple[str, JSON]]:
        yield 'k', 1
        raise ZeroDivisionError

    file = tmp_path / 'dump.json'
    file.write_text('before')
    with pytest.raises(ZeroDivisionError):
        await dump.write(file, failing(), encode)
    assert file.read_text() == 'before'
    assert os.listdir(tmp_path) == ['dump.json']


async def test_a_path_that_cannot_be_written_or_read_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / 'folder').mkdir()
    for file in (tmp_path / 'none' / 'dump.json', tmp_path / 'folder'):
        with pytest.raises(DumpFileError, match=rf'{file} cannot be written: '):
            await dump.write(file, entries(1), encode)
    assert os.listdir(tmp_path) == ['folder']
    for file in (tmp_path / 'none.json', tmp_path / 'folder'):
        with pytest.raises(DumpFileError, match=rf'{file} cannot be read: .* Nothing was loaded\.'):
            await read(file)


@pytest.mark.parametrize(
    'text', ['', '[]', '5', '[\n"a": 1\n}\n', '{\n', '{\n"a": 1,\n}\n', '{\n"a": 1\n}\n}\n', '{\n"a": 1\n"b": 2\n}\n']
)
async def test_a_file_that_is_not_one_json_object_is_rejected(tmp_path: Path, text: str) -> None:
    (tmp_path / 'dump.json').write_text(text)

    async def store(chunk: dict[str, JSON]) -> None:
        pytest.fail('an entry of an invalid file was stored')

    with pytest.raises(DumpFileError, match=r'dump\.json .* Nothing was loaded\.'):
        await (await dump.opened(tmp_path / 'dump.json')).read(store)
