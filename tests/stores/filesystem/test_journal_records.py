"""Records in the journal: whole, damaged, or cut off, and without the staged files that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.journal import IDLE, JOURNAL
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.staging import LARGE
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.changes import change_and_stop
from tests.support.disks import full, small_disk
from tests.support.files import spares


def is_short(journal: Path) -> bool:
    return len(IDLE) < journal.stat().st_size < LARGE


async def test_a_change_whose_staged_files_are_gone_is_finished_from_its_journal(root: Path) -> None:
    async with FilesystemKVS(root) as store:
        await store.multiset({'a': 'old', 'b': 'old'})
        change_and_stop(root, 'rename')
        for path in spares(root):
            path.unlink()
        assert await store.multiget(['a', 'b']) == ['new', 'new']


@pytest.mark.parametrize('times', [1, 2, 3])
async def test_a_change_of_large_files_is_finished_though_they_are_not_repeated_in_the_journal(
    root: Path, times: int
) -> None:
    keys, text = ('a', 'b', 'fresh'), 'x' * LARGE
    async with FilesystemKVS(root) as store:
        for number in range(50):  # until staged files are used again
            await store.multiset({'a': f'{number}{text}', 'b': f'{number}{text}'})
        change_and_stop(root, 'rename', keys, content=f'"{text}"\n'.encode(), times=times)
        assert is_short(root / JOURNAL)
        assert await store.multiget(keys) == [text] * 3


@pytest.mark.own_disk
async def test_a_change_is_finished_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk / 'state', retry_timeout=0) as store:
            await store.multiset({'a': 'old', 'b': 'old'})
            change_and_stop(disk / 'state', 'rename')
            with full(disk):
                assert await store.multiget(['a', 'b']) == ['new', 'new']


@pytest.mark.parametrize('at', [20, 28, 30, 37, 40, 60, -1])
async def test_a_journal_with_a_damaged_change_is_not_followed(root: Path, at: int) -> None:
    async with FilesystemKVS(root) as store:
        await store.multiset({'a': 'old', 'b': 'old'})
        change_and_stop(root, 'rename')
        journal = root / META_DIR / 'journal'
        content = bytearray(journal.read_bytes())
        content[at] ^= 1
        journal.write_bytes(content)
        for call in (lambda: store['a'], lambda: store.set('a', 2)):
            with pytest.raises(StoreUnavailable, match='journal is damaged'):
                await call()


async def test_a_change_that_is_not_whole_in_the_journal_was_not_decided(root: Path) -> None:
    async with FilesystemKVS(root) as store:
        await store.multiset({'a': 'old', 'b': 'old'})
        change_and_stop(root, 'rename')
        journal = root / META_DIR / 'journal'
        whole = journal.read_bytes()
        (root / 'b').write_bytes((root / 'a').read_bytes())
        before = await store['a']
        for length in range(len(IDLE), len(whole), 7):
            journal.write_bytes(whole[:length])
            assert await store.multiget(['a', 'b']) == [before, before]
            assert not journal.exists() or journal.read_bytes() == IDLE
