"""Disks that fail, and corrupt files."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import CorruptValue, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem.directory import ChangeStep
from learning_observer_kvs.stores.filesystem.names import DIGESTS, META_DIR
from learning_observer_kvs.stores.filesystem.staging import SPARE
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.disks import foreign_directory, read_only, small_disk
from tests.support.files import tree
from tests.support.reducing import reduce_anything

LONG = 'x' * 300
"""A key without a readable name."""


async def test_a_full_disk_is_reported_and_the_old_value_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk, retry_timeout=0) as store:
            await store.multiset({'k': 'old', 'l': 'old'})
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match='Nothing was written'):
                    await store.multiset({'l': 'new', 'k': 'x' * (2 << 20)})
            assert await store.dump() == {'k': 'old', 'l': 'old'}
            assert not [name for name in os.listdir(disk / META_DIR) if name.startswith(('new-', 'spare-'))]
            await store.set('k', 'small')
            assert await store['k'] == 'small'


async def test_one_value_too_large_does_not_fail_the_writes_beside_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk, retry_timeout=0.5) as store:
            writes = (store.set(f'k{number}', 'x' * (2 << 20) if number == 5 else number) for number in range(10))
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes].count(StoreUnavailable) == 1
            assert isinstance(outcomes[5], StoreUnavailable)
            assert len(await store.keys()) == 9


async def test_a_read_only_directory_is_read() -> None:
    with foreign_directory() as directory:
        async with FilesystemKVS(directory) as store:
            await store.multiset({'k': 1, LONG: 2})
            with read_only(directory):
                assert await store['k'] == 1
                assert await store.multiget(['k', LONG]) == [1, 2]
                assert await store.dump() == {'k': 1, LONG: 2}
                for call in (store.set('k', 3), store.remove('k'), store.clear()):
                    with pytest.raises(StoreUnavailable, match='readable and writable'):
                        await call
            assert await store['k'] == 1


async def test_a_disk_that_fails_in_the_middle_makes_the_write_unclear_and_it_is_finished_later(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FilesystemKVS(root) as store:
        await store.multiset({'a': 1, 'b': 1, 'c': 1})
        steps = []

        def refuse(step: ChangeStep) -> None:
            steps.append(step)
            if steps.count('rename') == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(store.directory, 'before_step', refuse)
            with pytest.raises(WriteUnclear, match='finished as soon as'):
                await store.multiset({'a': 2, 'b': 2, 'c': 2})
        assert await store.multiget(['a', 'b', 'c']) == [2, 2, 2]


async def test_a_change_is_finished_though_the_directory_it_writes_to_was_removed(root: Path) -> None:
    async with FilesystemKVS(root, subdirs=True) as store:
        await store.set('a', 1)

        def remove_the_directory(step: ChangeStep) -> None:
            if step == 'rename' and (root / '_b').exists():
                (root / '_b').rmdir()

        store.directory.before_step = remove_the_directory
        await store.multiset({'a': 2, 'b/c': 2})
        assert await store.multiget(['a', 'b/c']) == [2, 2]


@pytest.mark.parametrize(('keys', 'error'), [(['a'], StoreUnavailable), (['a', 'b'], WriteUnclear)])
async def test_a_new_content_that_another_program_removed_is_not_acknowledged(
    root: Path, keys: list[str], error: type[Exception]
) -> None:
    async with FilesystemKVS(root) as store:
        await store.multiset({'a': 1, 'b': 1})

        def remove_it(step: ChangeStep) -> None:
            if step == 'rename':
                for staged in root.glob(f'{SPARE}*'):
                    staged.unlink()

        store.directory.before_step = remove_it
        with pytest.raises(error):
            await store.multiset(dict.fromkeys(keys, 2))


# Corrupt files


@pytest.mark.parametrize('key', ['k', LONG])
async def test_a_corrupt_file_is_reported_and_nothing_is_overwritten(
    store: FilesystemKVS, root: Path, key: str
) -> None:
    await store.set(key, {'a': [1] * 100})
    [path] = [root / name for name in tree(root)]
    path.write_bytes(path.read_bytes()[:200])
    before = tree(root)
    for call in (
        lambda: store[key],
        lambda: store.multiget(['other', key]),
        lambda: store.update(key, lambda value: 1),
        lambda: store.compare_and_set(key, 1, 2),
        lambda: reduce_anything(store, key),
    ):
        with pytest.raises(CorruptValue, match='Remove the key, or repair'):
            await call()
    assert tree(root) == before
    assert await store.remove(key)
    assert await store[key] is None


async def test_a_file_that_holds_another_key_is_corrupt(store: FilesystemKVS, root: Path) -> None:
    await store.set(LONG, 1)
    [path] = (root / DIGESTS).iterdir()
    path.write_text('{"key": "another",\n"value": 1}\n')
    with pytest.raises(CorruptValue, match='does not hold this key'):
        await store[LONG]
    assert await store.keys() == []


async def test_a_file_that_was_edited_by_hand_is_read(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'k': 1, LONG: 1})
    [path] = (root / DIGESTS).iterdir()
    path.write_text(json.dumps({'value': {'edited': 1}, 'key': LONG}))
    (root / 'k').write_text('{"edited":\t1}')
    assert await store.multiget(['k', LONG]) == [{'edited': 1}] * 2
    for key in ('k', LONG):
        assert await store.compare_and_set(key, {'edited': 1}, 2)
    assert await store.multiget(['k', LONG]) == [2, 2]


async def test_of_a_batch_whose_change_is_unclear_so_are_those_that_change_something(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise WriteUnclear('perhaps')

    await store.set('k', 1)
    monkeypatch.setattr(store.directory, 'change', fail)
    loop = asyncio.get_running_loop()
    written, refused = loop.create_future(), loop.create_future()
    store.submit({'k': b'2'}, {}, written.set_result)
    store.submit({'l': b'3'}, {'l': b'2'}, refused.set_result)
    assert isinstance(await written, WriteUnclear)
    assert await refused is False
