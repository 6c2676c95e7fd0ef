"""The file of a journal: opened once, written whole, and never a link or a file of another program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.journal import IDLE, JOURNAL, OLD_STAGED, FileChange, Journal
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.staging import SPARE
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.changes import change_and_stop
from tests.support.files import open_files, opened_paths, plant
from tests.support.programs import run

CHANGES = [
    FileChange('a', f'{SPARE}0', b'1\n'),
    FileChange('_b/c', f'{SPARE}1', None, 7),
    FileChange('d', None, None),
    FileChange('e', f'{SPARE}2', b''),
    FileChange('f', f'{SPARE}3', b'2\n'),
]


@pytest.fixture
def journal(root: Path) -> Journal:
    (root / META_DIR).mkdir(parents=True)
    (root / META_DIR / 'lock').touch()
    return Journal(str(root), str(root / META_DIR / 'lock'))


def test_a_journal_gives_back_what_was_decided_and_is_idle_afterwards(journal: Journal, root: Path) -> None:
    assert not journal.is_pending()
    for _ in range(2):
        journal.append(CHANGES)
        assert journal.is_pending()
        assert journal.read((root / JOURNAL).read_bytes()) == CHANGES
        journal.finish()
        assert (root / JOURNAL).read_bytes() == IDLE
        assert not journal.is_pending()


def test_a_journal_is_opened_once_and_no_change_opens_it_anew(
    journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = opened_paths(monkeypatch)
    for _ in range(3):
        journal.append(CHANGES)
        journal.finish()
    assert len(opened) == 1
    other = Journal(str(root), str(root / META_DIR / 'lock'))
    for _ in range(3):
        other.append(CHANGES)
        other.finish()
    assert opened[1:] == [str(root / JOURNAL)]


def test_a_journal_of_which_the_system_writes_a_few_bytes_at_a_time_is_written_whole(
    journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, 'pwrite', lambda number, data, start: write(number, data[:3], start))
    journal.append(CHANGES)
    assert journal.read((root / JOURNAL).read_bytes()) == CHANGES


def test_what_a_process_left_that_was_killed_when_it_began_a_journal_is_replaced(journal: Journal, root: Path) -> None:
    (root / f'{OLD_STAGED}journal').write_text('half')
    journal.append(CHANGES)
    assert journal.read((root / JOURNAL).read_bytes()) == CHANGES
    assert os.listdir(root / META_DIR) in (['lock', 'journal'], ['journal', 'lock'])


def test_a_journal_that_becomes_a_link_or_holds_something_else_is_not_written(journal: Journal, root: Path) -> None:
    (root / 'precious').write_bytes(IDLE)
    (root / JOURNAL).symlink_to(root / 'precious')
    with pytest.raises(OSError, match='symbolic links'):
        journal.append(CHANGES)
    assert (root / 'precious').read_bytes() == IDLE
    (root / JOURNAL).unlink()
    (root / JOURNAL).write_bytes(b'x' * len(IDLE))
    with pytest.raises(StoreUnavailable, match='journal is damaged'):
        journal.append(CHANGES)
    assert (root / JOURNAL).read_bytes() == b'x' * len(IDLE)


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'link'])
async def test_a_journal_that_is_not_a_file_is_damaged(store: FilesystemKVS, root: Path, kind: str) -> None:
    await store.set('k', 1)
    if kind == 'pipe':
        os.mkfifo(root / JOURNAL)
    elif kind == 'folder':
        (root / JOURNAL).mkdir()
    else:  # as long as an idle journal
        (root / JOURNAL).symlink_to('x' * len(IDLE))
    for call in (lambda: store['k'], lambda: store.set('k', 2), lambda: store.multiget(['k', 'l'])):
        with pytest.raises(StoreUnavailable, match=r'journal is damaged|links are not followed'):
            await call()


def test_the_journal_of_a_change_that_is_finished_takes_no_space_any_more(root: Path) -> None:
    directory = Directory(str(root))
    with directory.write_locked():
        directory.change({'a': b'1', 'b': b'1'})
    change_and_stop(root, 'rename')
    with directory.write_locked():
        assert not [name for name in open_files() if name.startswith(f'{root}/{JOURNAL}')]
        directory.change({'a': b'2', 'b': b'2'})
    assert (root / JOURNAL).read_bytes() == IDLE


FORKED = """
import errno, os, sys
from learning_observer_kvs.stores.filesystem.directory import Directory
directory = Directory(sys.argv[1])
def change(content):
    with directory.write_locked():
        directory.change({'a': content, 'b': content})
def fail(step):
    raise OSError(errno.EIO, 'the disk fails')
change(b'old')
if not os.fork():
    directory.before_step = fail
    try:
        change(b'never')
    except OSError as error:
        assert 'the disk fails' in str(error)
    else:
        os._exit(1)
    directory.before_step = lambda step: None
    change(b'new')
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert directory.read_together(['a', 'b']) == [b'new', b'new']
change(b'newer')
"""


def test_a_forked_child_opens_its_own_journal_and_withdraws_what_fails(root: Path) -> None:
    run(FORKED, root)


async def test_a_change_that_a_process_of_a_version_before_left_is_finished_where_it_was_left(
    store: FilesystemKVS, root: Path
) -> None:
    await store.multiset({'a': 'old', 'gone': 'old', 'c': 'old'})
    new = {'a': '"new"', f'{OLD_STAGED}1': '"new"'}
    plant(root, new | {JOURNAL: f'{{"a": "{OLD_STAGED}0", "gone": null, "c": "{OLD_STAGED}1"}}'})
    assert await store.multiget(['a', 'gone', 'c']) == ['new', None, 'new']
    assert not (root / JOURNAL).exists()
