"""Reads of a directory: what they find while others write, and where there is none, or another program's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.lock import LockHeld
from learning_observer_kvs.stores.filesystem.names import META_DIR
from tests.support.changes import change, change_and_stop
from tests.support.disks import foreign_directory, read_only
from tests.support.files import open_files, plant, tree

READS: dict[str, Callable[[Directory, str], bytes | None]] = {
    'read': Directory.read,
    'read one': Directory.read_one,
    'read together': lambda directory, path: directory.read_together([path])[0],
    'first line': Directory.read_first_line,
}
reads = pytest.mark.parametrize('read', READS.values(), ids=READS)


@reads
def test_a_read_gives_the_content_of_a_file_and_leaves_nothing_open(
    directory: Directory, root: Path, read: Callable[[Directory, str], bytes | None]
) -> None:
    change(directory, a=b'0123456789', empty=b'')
    (root / 'folder').mkdir()
    os.mkfifo(root / 'pipe')
    before = len(open_files())
    assert read(directory, 'a') == b'0123456789'
    assert read(directory, 'empty') == b''
    for path in ('none', 'none/none', 'folder', 'pipe', 'a/below'):
        assert read(directory, path) is None
    assert len(open_files()) == before


@reads
def test_a_read_waits_for_no_lock(
    directory: Directory, root: Path, read: Callable[[Directory, str], bytes | None]
) -> None:
    change(directory, a=b'1')
    with Directory(str(root)).write_locked():
        assert read(directory, 'a') == b'1'
    with directory.read_locked():
        pass


def test_what_is_known_of_a_file_is_known_of_regular_files_alone(directory: Directory, root: Path) -> None:
    plant(root, {'a': '0123456789', 'folder/a': 'x'})
    (root / '_link').symlink_to(root / 'folder')
    found = directory.stat('a')
    assert found is not None
    assert found.st_size == 10
    for path in ('none', 'folder', '_link', 'a/below'):
        assert directory.stat(path) is None
    with pytest.raises(StoreUnavailable, match='_link is a link'):
        directory.stat('_link/a')
    assert Directory(str(root / 'a')).is_case_sensitive() is None


def test_a_file_that_is_removed_while_it_is_opened_is_missing(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, a=b'1')
    open_file = os.open

    def open_and_remove(path: str, *arguments: Any) -> int:
        number = open_file(path, *arguments)
        if path == str(root / 'a'):
            os.unlink(path)
        return number

    monkeypatch.setattr(os, 'open', open_and_remove)
    assert directory.read_one('a') is None


def test_a_hidden_folder_that_is_a_link_is_neither_locked_nor_written_to(
    directory: Directory, root: Path, tmp_path: Path
) -> None:
    other = Directory(str(tmp_path / 'other'))
    change(other, a=b'1')
    plant(root, {'a': '2'})
    (root / META_DIR).symlink_to(tmp_path / 'other' / META_DIR)
    with pytest.raises(StoreUnavailable, match='is a link'), directory.read_locked():
        raise AssertionError
    with pytest.raises(StoreUnavailable, match='is a link'):
        change(directory, a=b'3')
    assert tree(root) == {'a': b'2'}


def test_of_a_file_its_first_line_is_read_with_its_end(directory: Directory) -> None:
    change(directory, a=b'first\nsecond\n')
    assert directory.read_first_line('a') == b'first\n'


def test_a_file_of_which_the_system_reads_a_few_bytes_at_a_time_is_read_whole(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, a=b'0123456789')
    before = len(open_files())
    read = os.read
    monkeypatch.setattr(os, 'read', lambda number, size: read(number, min(size, 3)))
    assert directory.read('a') == b'0123456789'
    assert len(open_files()) == before


def test_a_file_that_another_program_appends_to_is_read_to_its_end(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, a=b'01')
    read = os.read

    def append_and_read(number: int, size: int) -> bytes:
        with (root / 'a').open('ab') as file:
            file.write(b'23456789')
        return read(number, size)

    monkeypatch.setattr(os, 'read', append_and_read)
    assert directory.read('a') == b'0123456789'


def test_a_file_that_is_replaced_again_and_again_while_it_is_opened_is_read_under_the_lock(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, a=b'a', b=b'b')
    open_file = os.open

    def open_another(path: str, *arguments: Any) -> int:
        return open_file(str(root / 'b') if path == str(root / 'a') else path, *arguments)

    before = len(open_files())
    monkeypatch.setattr(os, 'open', open_another)
    with Directory(str(root)).write_locked(), pytest.raises(LockHeld):
        directory.read_one('a')
    monkeypatch.undo()
    assert directory.read_one('a') == b'a'
    assert len(open_files()) == before


@pytest.mark.parametrize('is_held', [True, False])
def test_files_that_change_at_each_read_are_read_under_the_lock(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    other = Directory(str(root))
    change(other, a=b'0', b=b'0')
    tries: list[str] = []

    def read_and_change(path: str) -> bytes | None:
        found = Directory.read(directory, path)
        if directory.lock.is_open() and len(tries) < 20 and path == 'a':
            tries.append(path)
            if is_held or len(tries) <= 5:
                other.lock.count_change()
        return found

    monkeypatch.setattr(directory, 'read', read_and_change)
    if is_held:
        with other.write_locked(), pytest.raises(LockHeld):
            directory.read_together(['a', 'b'])
    else:
        assert directory.read_together(['a', 'b']) == [b'0', b'0']
    assert 5 <= len(tries) <= 6


def test_a_directory_without_a_lock_is_read_and_nothing_is_made(directory: Directory, root: Path) -> None:
    plant(root, {'a': '1'})
    with directory.read_locked():
        assert directory.read_together(['a', 'b']) == [b'1', None]
    assert directory.is_case_sensitive() is None
    assert os.listdir(root) == ['a']


def test_a_directory_where_another_program_has_the_hidden_folders_name_is_read(
    directory: Directory, root: Path
) -> None:
    plant(root, {'a': '1', META_DIR: 'x'})
    for read in READS.values():
        assert read(directory, 'a') == b'1'
    assert directory.stat(f'{META_DIR}/lock') is None
    assert not directory.is_journal_pending()
    with pytest.raises(OSError, match='exists'):
        change(directory, a=b'2')
    assert tree(root) == {'a': b'1', META_DIR: b'x'}


def test_names_that_differ_in_case_may_lead_to_one_file(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, a=b'1')
    assert directory.is_case_sensitive() is True
    look = os.lstat
    monkeypatch.setattr(os, 'lstat', lambda path: look(path.replace(META_DIR.upper(), META_DIR)))
    assert directory.is_case_sensitive() is False


def test_a_journal_that_this_user_cannot_finish_is_finished_as_soon_as_it_can() -> None:
    with foreign_directory() as path:
        directory = Directory(str(path))
        change(directory, a=b'old', b=b'old')
        directory.close()
        change_and_stop(path, 'rename')
        with read_only(path):
            with pytest.raises(PermissionError):
                directory.read_together(['a', 'b'])
            with pytest.raises(PermissionError):
                directory.read_one('b')
        assert directory.read_together(['a', 'b']) == [b'"new"', b'"new"']
        assert not directory.is_journal_pending()
