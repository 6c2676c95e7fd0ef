"""Staged files: what is left of them, where they cannot be exchanged or used again, and what stays open."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem import staging
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.journal import IDLE
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.staging import FEW, MANY, MAX_BYTES, MAX_BYTES_OF_MANY, SPARE
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.types import MISSING
from tests.support.disks import full, small_disk
from tests.support.files import link, open_files, plant, spares, tree

LONG = 'x' * 300
"""A key without a readable name."""

KEPT_OPEN = 4
"""The folder, its lock twice (once to know it again), and the journal."""


def everything_below(root: Path) -> dict[Path, os.stat_result]:
    return {path: path.stat() for path in root.rglob('*')}


async def write_many(store: FilesystemKVS, count: int = 100) -> None:
    """Write a pair and a single key again and again, and read them."""
    for number in range(count):
        await store.multiset({'k': number, LONG: number})
        await store.set('k', -number)
        assert await store.multiget(['k', LONG]) == [-number, number]


def refuse(number: int) -> Callable[..., Any]:
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


# Systems that cannot exchange, or cannot say whether a file is open


@pytest.mark.parametrize('number', [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM])
async def test_where_files_cannot_be_exchanged_they_are_renamed(
    store: FilesystemKVS, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def exchange(one: str, other: str) -> None:
        tried.append(one)
        refuse(number)()

    monkeypatch.setattr(staging, 'exchange', exchange)
    await write_many(store)
    assert len(tried) == 1
    assert spares(root) == []


async def test_an_exchange_that_the_disk_refuses_is_not_tried_as_a_rename(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.set('k', 'old')
    monkeypatch.setattr(staging, 'exchange', refuse(errno.EIO))
    with pytest.raises(StoreUnavailable):
        await store.set('k', 'new')
    assert await store['k'] == 'old'


async def test_where_it_cannot_be_known_whether_a_file_is_open_none_is_used_again(
    store: FilesystemKVS, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, 'fcntl', refuse(errno.EINVAL))
    await store.set('k', 'old')
    with (root / 'k').open('rb') as file:
        await write_many(store)
        assert file.read() == b'"old"\n'


async def test_a_key_that_another_program_removed_is_written_all_the_same(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'a': 1, 'b': 1})

    def remove(step: ChangeStep) -> None:
        if step == 'rename':
            (root / 'a').unlink(missing_ok=True)

    store.directory.before_step = remove
    await store.multiset({'b': 2, 'a': 2})
    assert await store.multiget(['a', 'b']) == [2, 2]


# What is left


async def test_staged_files_that_other_processes_left_are_removed_by_the_first_write(
    store: FilesystemKVS, root: Path, tmp_path: Path
) -> None:
    plant(tmp_path / 'outside', {'precious': 'precious'})
    plant(
        root,
        {'k': '1', f'{SPARE}0': 'x' * 5000, f'{SPARE}7': '', f'{META_DIR}/new-0': 'x', f'{META_DIR}/new-journal': 'x'},
    )
    os.link(root / f'{SPARE}0', tmp_path / 'linked')
    link(root / f'{SPARE}1', tmp_path / 'outside/precious')
    await store.set('k', 2)
    assert set(os.listdir(root / META_DIR)) <= {'lock', 'spare-0'}
    await write_many(store)
    assert (tmp_path / 'linked').read_text() == 'x' * 5000
    assert tree(tmp_path / 'outside') == {'precious': b'precious'}


async def test_a_staged_file_that_became_a_link_or_a_pipe_is_replaced(
    store: FilesystemKVS, root: Path, tmp_path: Path
) -> None:
    plant(tmp_path / 'outside', {'precious': 'precious'})
    await write_many(store)
    first, second = spares(root)[:2]
    first.unlink()
    second.unlink()
    link(first, tmp_path / 'outside/precious')
    os.mkfifo(second)
    await write_many(store)
    assert tree(tmp_path / 'outside') == {'precious': b'precious'}
    assert all(path.is_file() and not path.is_symlink() for path in spares(root))


async def test_what_was_removed_is_not_left_in_staged_files_or_the_journal(store: FilesystemKVS, root: Path) -> None:
    for text in ('secret', 'a secret', 'no secret'):
        await store.multiset({'k': text, LONG: text, 'other': text})
    await store.multiset({'other': 'public'})
    await store.remove('k')
    await store.remove(LONG)
    assert not [path for path in everything_below(root) if path.is_file() and b'secret' in path.read_bytes()]


async def test_what_is_left_of_earlier_values_is_removed_where_that_is_asked_for(
    store: FilesystemKVS, root: Path
) -> None:
    await write_many(store, 3)
    assert spares(root)
    await store.scrub()
    assert spares(root) == []


@pytest.mark.parametrize('keys', [['k'], ['k', 'l']])
async def test_where_an_earlier_value_cannot_be_removed_the_key_is_not_either(
    store: FilesystemKVS, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await store.multiset({'k': number, 'l': number})
    unlink = os.unlink

    def refuse_spares(path: str) -> None:
        if SPARE in path:
            refuse(errno.EIO)()
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'unlink', refuse_spares)
        with pytest.raises(StoreUnavailable, match='Nothing was written'):
            await store.commit(dict.fromkeys(keys, MISSING))
    assert await store.multiget(['k', 'l']) == [2, 2]


async def test_staged_files_are_bounded_in_number_and_size(store: FilesystemKVS, root: Path) -> None:
    large = {'large': 'x' * MAX_BYTES_OF_MANY, 'larger': 'x' * MAX_BYTES}
    for number in range(3):
        await store.multiset({f'k{key}': [number] * 10 for key in range(MANY + 100)})
        await store.multiset({key: f'{text}{number}' for key, text in large.items()})
        await store.multiset({f'k{key}': f'{large["large"]}{number}' for key in range(FEW)})
    assert FEW < len(spares(root)) <= MANY
    for path in spares(root):
        is_one_of_few = int(path.name.removeprefix('spare-')) < FEW
        assert path.stat().st_size <= (MAX_BYTES if is_one_of_few else MAX_BYTES_OF_MANY)


# What stays open


async def test_a_store_keeps_a_few_files_open_and_closes_them(root: Path) -> None:
    before = len(open_files())
    async with FilesystemKVS(root) as store:
        await write_many(store)
        await store.keys()
        await store.remove('k')
        assert len(open_files()) - before <= KEPT_OPEN
        await store.close()
        assert len(open_files()) == before
        await write_many(store, 3)
    assert len(open_files()) == before


def test_a_directory_that_is_collected_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(open_files())
    for _ in range(50):
        directory = Directory(str(tmp_path))
        with directory.write_locked():
            directory.change({'a': b'1', 'b': b'1'})
        del directory
    gc.collect()
    assert len(open_files()) == before


# Full disks


@pytest.mark.own_disk
@pytest.mark.parametrize('step', ['stage', 'journal', 'count', 'rename', 'finish'])
async def test_a_disk_that_fills_during_a_change_leaves_all_or_nothing(tmp_path: Path, step: ChangeStep) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk / 'state', retry_timeout=0) as store:
            old = {'k': 'x' * 10_000, LONG: 'x' * 10_000}
            new = dict.fromkeys(('k', LONG, 'l', 'm'), 'y' * 15_000)
            await store.multiset(old)
            await store.multiset({'k': 1, LONG: 1})
            await store.multiset(old)
            fillers: list[AbstractContextManager[None]] = []

            def fill(this: ChangeStep) -> None:
                if this == step and not fillers:
                    fillers.append(full(disk))
                    fillers[0].__enter__()

            store.directory.before_step = fill
            if step in ('stage', 'journal'):
                with pytest.raises(StoreUnavailable, match='Free some space') as caught:
                    await store.multiset(new)
                assert caught.value.retry
                assert await store.dump() == old
                assert (disk / 'state' / META_DIR / 'journal').read_bytes() == IDLE
            else:
                await store.multiset(new)
                assert await store.dump() == new
            fillers[0].__exit__(None, None, None)
            await store.multiset(new)
            assert await store.dump() == new


@pytest.mark.own_disk
async def test_a_full_disk_gets_the_space_of_staged_files_back(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk / 'state', retry_timeout=0) as store:
            for number in range(10):
                await store.multiset({'k': [number] * 8_000, LONG: [number] * 8_000})
            with full(disk):
                await store.set('new', 'x' * 50_000)
            assert await store['new'] == 'x' * 50_000


# Writes that are not needed


async def test_a_state_that_did_not_change_is_not_written(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'k': [1, 2], LONG: [1, 2], 'l': 1})
    steps: list[ChangeStep] = []
    store.directory.before_step = steps.append
    before = everything_below(root)
    await store.multiset({'k': [1, 2], LONG: [1, 2]})
    assert await store.compare_and_set('k', [1, 2], [1, 2])
    assert not await store.compare_and_set('k', [1, 3], [1, 2])
    assert steps == []
    assert everything_below(root) == before
    await store.multiset({'k': [1, 2], LONG: [1, 3]})
    assert steps == ['stage', 'count', 'rename']
    assert await store.multiget(['k', LONG]) == [[1, 2], [1, 3]]


async def test_a_state_that_two_keys_share_is_indented_once(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    indented = json_codec.indented

    def counted(text: bytes) -> bytes:
        texts.append(text)
        return indented(text)

    monkeypatch.setattr(json_codec, 'indented', counted)
    before: bytes | None = None
    for number in range(5):
        text = b'{"n":%d}' % number
        assert await store.commit_bytes({'Internal,r': text, 'External,r': text}, {'Internal,r': before})
        before = text
    assert len(texts) == 5
