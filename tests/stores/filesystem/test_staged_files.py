"""Staged files one by one: which are chosen, which are used again, and what is left where they were put in place."""

from __future__ import annotations

import errno
import os
import signal
import stat
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem import exchange, staging
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.paths import Paths
from learning_observer_kvs.stores.filesystem.staging import (
    FEW,
    LARGE,
    MANY,
    MAX_BYTES,
    MAX_BYTES_OF_MANY,
    SPARE,
    Staging,
)
from tests.support.files import open_files

NAME = f'{SPARE}0'


@pytest.fixture
def staged(root: Path) -> Staging:
    (root / META_DIR).mkdir(parents=True)
    return Staging(Paths(str(root)))


def plant(path: Path, content: bytes = b'old', mode: int = 0o600) -> os.stat_result:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path.lstat()


# Which are chosen


def test_changes_of_a_few_files_take_a_few_staged_files_in_turn(staged: Staging) -> None:
    for count in (1, FEW // 4):
        names = [name for _ in range(2 * FEW // count) for name in staged.names(count)]
        assert len(set(names)) == FEW
        assert names[:FEW] == names[FEW:]


def test_changes_of_many_files_take_more_and_never_one_twice(staged: Staging) -> None:
    names = [name for _ in range(2 * MANY) for name in staged.names(FEW // 4 + 1)]
    assert len(set(names)) == len(set(names[:MANY])) == MANY
    for count in (MANY, MANY + 5):
        assert len(set(staged.names(count))) == count
    assert all(name.startswith(SPARE) for name in names)


# Writing


def test_a_content_that_the_system_writes_a_few_bytes_at_a_time_is_written_whole(
    staged: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, 'write', lambda number, content: write(number, content[:3]))
    staged.write(NAME, b'0123456789', 'k', None)
    assert (root / NAME).read_bytes() == b'0123456789'


@pytest.mark.parametrize(('size', 'is_large'), [(LARGE - 1, False), (LARGE, True)])
def test_the_number_of_a_staged_file_is_returned_if_it_is_large(
    staged: Staging, root: Path, size: int, is_large: bool
) -> None:
    number = staged.write(NAME, b'x' * size, 'k', None)
    assert number == ((root / NAME).stat().st_ino if is_large else None)


def test_a_staged_file_is_used_again_and_holds_no_part_of_a_value_before_it_is_written(
    staged: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plant(root / 'k')
    before = plant(root / NAME, b'a longer value').st_ino
    contents: list[bytes] = []
    write = os.write

    def noting_write(number: int, content: bytes) -> int:
        contents.append(os.pread(number, 100, 0))
        return write(number, content)

    monkeypatch.setattr(os, 'write', noting_write)
    staged.write(NAME, b'new', 'k', found)
    assert contents == [b'\0']
    assert (root / NAME).stat().st_ino == before
    assert (root / NAME).read_bytes() == b'new'


@pytest.mark.parametrize('why', ['open', 'linked', 'a link', 'of another mode', 'not there', 'of no use', 'no leases'])
def test_a_staged_file_that_may_not_be_used_again_is_replaced_and_stays_as_it_was(
    staged: Staging, root: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = None if why == 'of no use' else plant(root / 'k', mode=0o640)
    plant(root / NAME, b'before', 0o600 if why == 'of another mode' else 0o640)
    if why == 'no leases':
        monkeypatch.setattr(staging, '_SET_LEASE', None)
    if why == 'not there':
        (root / NAME).unlink()
    if why == 'a link':
        (root / NAME).rename(root / 'linked')
        (root / NAME).symlink_to(root / 'linked')
    if why == 'linked':
        os.link(root / NAME, root / 'linked')
    with (root / NAME).open('rb') if why == 'open' else nullcontext() as file:
        opened = len(open_files())
        staged.write(NAME, b'new', 'k', found)
        assert len(open_files()) == opened
        if file is not None:
            assert file.read() == b'before'
    if 'link' in why:
        assert (root / 'linked').read_bytes() == b'before'
    assert (root / NAME).read_bytes() == b'new'
    assert stat.S_IMODE((root / NAME).stat().st_mode) == (0o600 if why == 'of no use' else 0o640)


def test_a_staged_file_that_is_opened_while_it_is_written_ends_no_process(
    staged: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plant(root / 'k')
    plant(root / NAME)
    signals: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, _: signals.append(number))
    refused = []
    write = os.write

    def write_while_it_is_opened(number: int, content: bytes) -> int:
        try:
            os.close(os.open(root / NAME, os.O_RDONLY | os.O_NONBLOCK))
        except BlockingIOError as error:
            refused.append(error)
        return write(number, content)

    try:
        monkeypatch.setattr(os, 'write', write_while_it_is_opened)
        staged.write(NAME, b'new', 'k', found)
    finally:
        signal.signal(signal.SIGIO, before)
    assert (len(refused), signals) == (1, [])
    assert (root / NAME).read_bytes() == b'new'


def test_a_staged_file_that_cannot_be_written_is_closed(
    staged: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = len(open_files())
    monkeypatch.setattr(os, 'write', refuse)
    with pytest.raises(OSError, match='No space'):
        staged.write(NAME, b'new', 'k', plant(root / 'l'))
    assert len(open_files()) == opened


# Putting in place


@pytest.mark.parametrize(
    ('number', 'size', 'mode', 'path', 'is_kept'),
    [
        (0, MAX_BYTES, 0o600, 'k', True),
        (0, MAX_BYTES + 1, 0o600, 'k', False),
        (FEW - 1, MAX_BYTES, 0o600, 'k', True),
        (FEW, MAX_BYTES_OF_MANY, 0o600, 'k', True),
        (FEW, MAX_BYTES_OF_MANY + 1, 0o600, 'k', False),
        (MANY - 1, MAX_BYTES_OF_MANY, 0o600, 'k', True),
        (MANY, 0, 0o600, 'k', False),
        (0, 9, 0o666, 'k', True),
        (0, 9, 0o600, '_a/k', True),
        (0, 9, 0o640, '_a/k', False),
        (0, 9, 0o604, '_a/k', False),
    ],
)
def test_what_was_replaced_is_kept_if_it_is_small_and_no_other_user_can_read_it_there(
    staged: Staging, root: Path, number: int, size: int, mode: int, path: str, is_kept: bool
) -> None:
    plant(root / path, b'', mode)
    os.truncate(root / path, size)
    plant(root / f'{SPARE}{number}', b'new')
    staged.install(f'{SPARE}{number}', path, (root / path).lstat())
    assert (root / path).read_bytes() == b'new'
    assert (root / f'{SPARE}{number}').exists() is is_kept


def test_what_is_put_in_a_place_that_was_not_looked_at_replaces_a_file_there(staged: Staging, root: Path) -> None:
    plant(root / NAME, b'new')
    plant(root / 'k')
    staged.install(NAME, 'k', None)
    assert (root / 'k').read_bytes() == b'new'
    assert os.listdir(root / META_DIR) == []


def test_where_the_system_has_no_call_to_exchange_files_they_are_renamed(
    staged: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, '_renameat2', None)
    plant(root / NAME, b'new')
    staged.install(NAME, 'k', plant(root / 'k'))
    assert (root / 'k').read_bytes() == b'new'
    assert os.listdir(root / META_DIR) == []


def test_a_folder_that_another_program_removed_is_made_and_for_a_staged_file_that_it_removed_it_is_not(
    staged: Staging, root: Path
) -> None:
    found = plant(root / NAME, b'new')
    staged.install(NAME, '_a/k', found)
    assert (root / '_a/k').read_bytes() == b'new'
    with pytest.raises(FileNotFoundError):
        staged.install(NAME, '_b/k', None)
    assert not (root / '_b').exists()


# Removing


def test_staged_files_are_removed_and_counted_though_another_program_removes_one(
    staged: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        plant(root / f'{SPARE}{number}')
    plant(root / META_DIR / 'new-0')
    unlink = os.unlink

    def remove_twice(path: str) -> None:
        with suppress(FileNotFoundError):
            unlink(path)
        unlink(path)

    monkeypatch.setattr(os, 'unlink', remove_twice)
    assert staged.purge() == 3
    assert os.listdir(root / META_DIR) == ['new-0']
    assert staged.purge() == 0
    assert staged.purge(SPARE, f'{META_DIR}/new-') == 1
    assert os.listdir(root / META_DIR) == []
    staged.discard(NAME)
