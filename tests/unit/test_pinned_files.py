"""Files that must stay where they are while a store is open."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.pinned_files import CHECK_SECONDS, PinnedFiles
from tests.support.files import open_files


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / 'one' / 'file', tmp_path / 'other' / 'file']


@pytest.fixture
def pinned(paths: list[Path]) -> Iterator[PinnedFiles]:
    before = open_files()
    pinned = PinnedFiles(*map(str, paths))
    yield pinned
    pinned.close()
    assert open_files() == before


def make(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


@pytest.mark.parametrize('number', [0, 1])
def test_each_path_is_pinned_when_a_file_is_there_and_a_replacement_is_found_for_ever(
    pinned: PinnedFiles, paths: list[Path], number: int, caplog: pytest.LogCaptureFixture
) -> None:
    paths[0].parent.touch()  # nothing can be below it
    pinned.check()
    paths[0].parent.unlink()
    for path in paths:
        make(path)
        pinned.check()
    opened = open_files()
    pinned.check()
    assert open_files() == opened
    path = paths[number]
    path.parent.rename(path.parent.with_name('moved'))
    path.parent.touch()
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=str(path)):
                pinned.check()
        path.parent.unlink()
        path.parent.with_name('moved').rename(path.parent)
        for check in (pinned.check, pinned.check_at_times):
            with pytest.raises(StoreUnavailable, match=str(path)):
                check()
    assert len(caplog.records) == 1


def test_every_path_is_pinned_by_the_first_check_that_finds_it(pinned: PinnedFiles, paths: list[Path]) -> None:
    for path in paths:
        make(path)
    pinned.check()
    paths[1].unlink()
    with pytest.raises(StoreUnavailable, match=str(paths[1])):
        pinned.check()


def test_a_check_is_relied_on_for_some_time(paths: list[Path]) -> None:
    now = 100.0
    pinned = PinnedFiles(str(paths[0]), clock=lambda: now)
    make(paths[0])
    pinned.check_at_times()
    paths[0].rename(paths[0].with_name('moved'))
    now += 0.9 * CHECK_SECONDS
    pinned.check_at_times()
    now += 0.2 * CHECK_SECONDS
    with pytest.raises(StoreUnavailable):
        pinned.check_at_times()
    pinned.close()


@pytest.mark.parametrize('call', ['open', 'stat'])
@pytest.mark.parametrize(('number', 'retry'), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.EIO, False)])
def test_a_path_that_cannot_be_looked_at_is_an_error_and_not_a_replacement(
    pinned: PinnedFiles, paths: list[Path], monkeypatch: pytest.MonkeyPatch, call: str, number: int, retry: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    make(paths[0])
    if call == 'stat':
        pinned.check()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StoreUnavailable, match=f'cannot be looked at: {os.strerror(number)}') as failure:
            pinned.check()
    assert failure.value.retry is retry
    pinned.check()
