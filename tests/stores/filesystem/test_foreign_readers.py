"""Programs that read files and know nothing of the store find a whole value of the right key, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.foreign_reader import PAIRS, is_whole, keys


async def killings(root: Path, count: int) -> None:
    command = [sys.executable, '-m', 'tests.support.foreign_reader', str(root), str(count)]
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert seen.pop('whole') > count
    assert not any(seen.values()), seen
    async with FilesystemKVS(root) as store:
        for pair in range(PAIRS):
            found = await store.multiget(keys(pair))
            assert all(map(is_whole, keys(pair), found))
            assert found[0]['number'] == found[1]['number']


async def test_a_reader_finds_whole_values_while_two_writers_are_killed(root: Path) -> None:
    await killings(root, 20)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_reader_finds_whole_values_while_two_writers_are_killed_four_hundred_times(root: Path) -> None:
    await killings(root, 400)


async def test_a_file_that_is_open_keeps_its_value_however_often_the_key_is_written(
    store: FilesystemKVS, root: Path
) -> None:
    await store.multiset({'a': 'old', 'b': 'old'})
    with (root / 'a').open('rb') as a, (root / 'b').open('rb') as b:
        for number in range(200):
            await store.multiset({'a': [number] * 100, 'b': [number] * 100})
            await store.set('a', [-number] * 100)
        assert a.read() == b.read() == b'"old"\n'


async def test_a_link_to_a_file_keeps_its_value(store: FilesystemKVS, root: Path, tmp_path: Path) -> None:
    await store.multiset({'a': 'old', 'b': 'old'})
    await store.multiset({'a': 'newer', 'b': 'newer'})
    for path in (root / 'a', root / 'b', root / META_DIR / 'journal'):
        os.link(path, tmp_path / path.name)
    before = {name: (tmp_path / name).read_bytes() for name in ('a', 'b', 'journal')}
    seen = []
    store.directory.before_step = lambda step: seen.append((tmp_path / 'journal').read_bytes())
    for number in range(100):
        await store.multiset({'a': number, 'b': number})
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert set(seen) == {before['journal']}
