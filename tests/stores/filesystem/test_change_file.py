"""The log of changes as a file: positions through several logs, readers that are left behind, and what is removed."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.private_files import GROUP
from learning_observer_kvs.stores.filesystem import change_file
from learning_observer_kvs.stores.filesystem.change_file import ChangeFile


@pytest.fixture
def log(tmp_path: Path) -> ChangeFile:
    return ChangeFile(str(tmp_path), GROUP)


@pytest.fixture
def _short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_file, 'MAX_BYTES', 100)


class Reader:
    """A reader, and where it is."""

    def __init__(self, log: ChangeFile, name: str) -> None:
        self.log = log
        self.name = name
        self.position = log.register(name)

    def read(self, *, is_noted: bool = True) -> list[str] | None:
        """Read on; ``None`` if it has to begin anew."""
        found = self.log.read(self.name, self.position)
        if found is None:
            return None
        self.position = found[0]
        if is_noted:
            self.log.note(self.name, self.position)
        return list(found[2] or ())


def test_nothing_is_kept_before_a_reader_comes_and_after_the_last_one_went(log: ChangeFile, tmp_path: Path) -> None:
    log.append(['a'])
    assert os.listdir(tmp_path) == []
    one, other = Reader(log, 'one'), Reader(log, 'other')
    log.append(['b'])
    log.remove('one')
    log.remove('one')
    assert one.read() is None
    assert other.read() == ['b']
    log.remove('other')
    assert os.listdir(tmp_path) == []


def test_a_reader_begins_at_the_end_and_reads_each_key_once(log: ChangeFile) -> None:
    one = Reader(log, 'one')
    log.append(['a', 'b', 'a'])
    other = Reader(log, 'other')
    log.append(iter(['c']))
    assert (one.read(), one.read()) == (['a', 'b', 'c'], [])
    assert other.read() == ['c']


def test_a_change_of_every_key_leaves_none_known(log: ChangeFile) -> None:
    position = log.register('r')
    log.append(['a'])
    log.append(None)
    found = log.read('r', position)
    assert found is not None
    assert found[1:] == (0, None)
    log.append(['b'])
    assert log.read('r', found[0]) == (found[0] + len('\n"b"'), 0, {'b': None})


def test_keys_that_are_too_long_together_are_not_known_one_by_one(
    log: ChangeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_file, 'MAX_CHARACTERS', len('\n"abc"'))
    position = log.register('r')
    log.append(['abc'])
    found = log.read('r', position)
    assert found is not None
    assert found[2] == {'abc': None}
    log.append(['d'])
    assert log.read('r', position) == (found[0] + len('\n"d"'), 0, None)


@pytest.mark.usefixtures('_short_logs')
@pytest.mark.parametrize('at_once', [1, 2, 3, 5])
def test_a_reader_gets_every_key_in_order_through_all_logs(log: ChangeFile, tmp_path: Path, at_once: int) -> None:
    reader = Reader(log, 'r')
    found: list[str] = []
    starts = set()
    keys = [f'a key with a number {number}' for number in range(60)]
    for number in range(0, len(keys), at_once):
        for key in keys[number : number + at_once]:
            log.append([key])
        found += reader.read() or ()
        starts.add((tmp_path / 'changes').read_bytes()[:20])
        assert (tmp_path / 'changes').stat().st_size < 100 + 40
    assert found == keys
    assert len(starts) > 4


@pytest.mark.usefixtures('_short_logs')
def test_a_reader_that_has_not_come_to_the_log_that_is_moved_aside_begins_anew(log: ChangeFile, tmp_path: Path) -> None:
    one, slow = Reader(log, 'one'), Reader(log, 'slow')
    moves = 0
    for number in range(30):
        before = (tmp_path / 'changes').stat().st_ino
        log.append([f'a key with a number {number}'])
        moves += (tmp_path / 'changes').stat().st_ino != before
        assert one.read() == [f'a key with a number {number}']
        assert (tmp_path / 'reader-slow').exists() is (moves < 2)
    assert slow.read() is None
    assert log.read('one', 0) is None
    assert Reader(log, 'slow').read() == []


@pytest.mark.usefixtures('_short_logs')
@pytest.mark.parametrize('noted', ['', '0'])
def test_a_reader_that_was_killed_is_forgotten_and_without_others_so_is_the_log(
    log: ChangeFile, tmp_path: Path, noted: str
) -> None:
    log.register('killed')
    (tmp_path / 'reader-killed').write_text(noted)
    for number in range(15):
        log.append([f'a key with a number {number}'])
    assert os.listdir(tmp_path) == []


def test_a_log_that_was_moved_aside_and_is_missing_begins_anew(log: ChangeFile, tmp_path: Path) -> None:
    reader = Reader(log, 'r')
    reader.position -= 1
    assert reader.read() is None
    (tmp_path / 'changes').unlink()
    assert reader.read() is None


@pytest.mark.usefixtures('_short_logs')
def test_what_is_forgotten_leaves_nothing_and_every_reader_begins_anew(log: ChangeFile, tmp_path: Path) -> None:
    readers = [Reader(log, 'one'), Reader(log, 'other')]
    for number in range(5):
        log.append([f'a key with a number {number}'])
    assert (tmp_path / 'changes-before').exists()
    log.forget()
    assert os.listdir(tmp_path) == []
    assert [reader.read() for reader in readers] == [None, None]


def test_a_log_of_which_the_system_writes_a_few_bytes_at_a_time_is_written_whole(
    log: ChangeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    reader = Reader(log, 'r')
    monkeypatch.setattr(change_file, 'open', lambda number, mode, buffering: Short(number, mode), raising=False)
    log.append(['a key', 'another'])
    monkeypatch.undo()
    assert reader.read() == ['a key', 'another']


def test_a_log_that_is_a_link_is_not_followed(log: ChangeFile, tmp_path: Path) -> None:
    reader = Reader(log, 'r')
    (tmp_path / 'changes').rename(tmp_path / 'precious')
    (tmp_path / 'changes').symlink_to(tmp_path / 'precious')
    before = (tmp_path / 'precious').read_bytes()
    for call in (lambda: log.append(['a']), reader.read, lambda: log.register('other')):
        with pytest.raises(OSError, match='symbolic links'):
            call()
    assert (tmp_path / 'precious').read_bytes() == before


@pytest.mark.usefixtures('_short_logs')
def test_logs_and_files_of_readers_have_the_mode_of_the_store(log: ChangeFile, tmp_path: Path) -> None:
    Reader(log, 'r')
    for number in range(5):
        log.append([f'a key with a number {number}'])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {GROUP.file}
    assert {path.name for path in tmp_path.iterdir()} == {'changes', 'changes-before', 'reader-r'}
