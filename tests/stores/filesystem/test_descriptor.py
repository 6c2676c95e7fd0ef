"""Files that a process keeps open: closed once, and known by what they are and not by their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.descriptor import Descriptor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / 'folder' / 'file'
    path.parent.mkdir()
    path.write_text('x')
    return path


def test_a_descriptor_that_was_closed_closes_nothing_more(path: Path) -> None:
    standard = [os.fstat(number).st_ino for number in range(3)]
    closed = Descriptor(os.open(path, os.O_RDONLY), is_writable=False)
    number = closed.number
    closed.close()
    assert closed.number == -1
    another = os.open(path, os.O_RDONLY)
    assert another == number
    closed.close()
    del closed
    os.close(another)
    assert [os.fstat(number).st_ino for number in range(3)] == standard


def test_a_file_is_at_its_path_until_another_file_or_none_is_there(path: Path) -> None:
    file = Descriptor(os.open(path, os.O_RDONLY), is_writable=False)
    assert file.is_at(str(path))
    path.rename(path.with_name('moved'))
    assert not file.is_at(str(path))
    path.write_text('x')
    assert not file.is_at(str(path))
    assert not file.is_at(str(path / 'below'))
    assert not file.is_at(str(path.with_name('none') / 'below'))
