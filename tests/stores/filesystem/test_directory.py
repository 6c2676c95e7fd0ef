"""Changes of a directory: which steps they take, and what one that fails or is killed leaves."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.journal import IDLE, JOURNAL, OLD_STAGED
from learning_observer_kvs.stores.filesystem.lock import LockHeld
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.staging import LARGE, SPARE
from tests.support.changes import change, change_and_stop
from tests.support.disks import UNPRIVILEGED_UID, foreign_directory
from tests.support.files import open_files, plant, spares, tree


def test_a_lock_that_is_held_is_not_waited_for_where_that_is_not_allowed(root: Path) -> None:
    with (
        Directory(str(root)).write_locked(),
        pytest.raises(LockHeld),
        Directory(str(root), lock_seconds=60).write_locked(wait=False),
    ):
        raise AssertionError


def test_a_directory_that_was_closed_has_nothing_open(directory: Directory) -> None:
    before = len(open_files())
    change(directory, a=b'1', b=b'1')
    assert len(open_files()) == before + 2
    directory.close()
    assert len(open_files()) == before


def test_the_lock_is_waited_for_and_a_journal_finished_only_where_waiting_is_allowed(
    directory: Directory, root: Path
) -> None:
    assert not directory.is_open()
    change(directory, a=b'old', b=b'old')
    assert directory.is_open()
    change_and_stop(root, 'rename')
    with pytest.raises(LockHeld) as failure, directory.write_locked(wait=False):
        raise AssertionError
    assert failure.value.retry
    assert directory.is_journal_pending()
    with directory.write_locked():
        assert directory.read('b') == b'"new"'
    with directory.write_locked(wait=False):
        pass
    directory.close()
    assert not directory.is_open()


def test_what_others_staged_is_removed_by_the_first_change_of_a_directory_that_was_opened_or_closed(
    directory: Directory, root: Path
) -> None:
    change(directory, a=b'0')
    directory = Directory(str(root))
    for _ in range(2):
        plant(root, {f'{SPARE}7': 'x', f'{OLD_STAGED}7': 'x'})
        directory.read_together(['a', 'b'])  # opens the lock
        assert not directory.is_open()
        change(directory, a=b'1')
        assert {name for name in os.listdir(root / META_DIR) if '7' in name} == set()
        plant(root, {f'{SPARE}9': 'x'})
        change(directory, a=b'2')
        assert (root / f'{SPARE}9').exists()
        directory.lock.forget()  # as a forked child does
        assert not directory.is_open()
        directory.close()


@pytest.mark.parametrize('removes', ['a', 'none'])
def test_a_change_that_removes_leaves_no_earlier_contents(directory: Directory, root: Path, removes: str) -> None:
    for number in range(3):
        change(directory, a=b'%d' % number)
    assert spares(root)
    change(directory, b=b'1', **{removes: None})
    assert spares(root) == []
    assert tree(root) == {'b': b'1'} | ({} if removes == 'a' else {'a': b'2'})


def test_a_content_that_is_there_already_is_not_written(directory: Directory, root: Path) -> None:
    change(directory, a=b'same', b=b'old', c=b'kept')
    steps: list[ChangeStep] = []
    directory.before_step = steps.append
    count = directory.lock.count()
    change(directory, a=b'same', c=b'kept')
    assert (steps, directory.lock.count()) == ([], count)
    with directory.write_locked():
        directory.change({'a': b'same'}, {'a': b'same'})
        assert steps == []
        directory.change({'a': b'same'}, {'a': b'what'})  # it believes what it gets
    assert steps == ['stage', 'count', 'rename']
    assert int.from_bytes(directory.lock.count(), 'big') == int.from_bytes(count, 'big') + 1
    steps.clear()
    change(directory, b=b'new', a=b'same', c=b'longer than it was')
    assert steps == ['stage', 'stage', 'journal', 'count', 'rename', 'rename', 'finish']
    assert tree(root) == {'a': b'same', 'b': b'new', 'c': b'longer than it was'}


@pytest.mark.parametrize('step', ['stage', 'journal', 'count'])
@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_a_change_that_fails_before_it_is_carried_out_leaves_nothing(
    directory: Directory, root: Path, step: ChangeStep, error: type[BaseException]
) -> None:
    change(directory, a=b'old', b=b'old', d=b'old', **{'None': b'old'})
    before = tree(root)

    def fail(this: ChangeStep) -> None:
        if this == step:
            raise error

    directory.before_step = fail
    with pytest.raises(error):
        change(directory, a=b'new', b=b'new', c=b'new', d=None)
    assert tree(root) == before
    assert (root / JOURNAL).read_bytes() == IDLE
    assert spares(root) == []
    directory.before_step = lambda step: None
    change(directory, a=b'new', b=b'new')
    assert directory.read_together(['a', 'b', 'c']) == [b'new', b'new', None]


def test_a_change_whose_journal_cannot_be_withdrawn_is_unclear_and_finished_later(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(directory, a=b'old', b=b'old')

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, 'the disk fails')

    def fail_at_count(step: ChangeStep) -> None:
        if step == 'count':
            fail()

    directory.before_step = fail_at_count
    with monkeypatch.context() as patch:
        patch.setattr(os, 'ftruncate', fail)
        with pytest.raises(WriteUnclear, match='the disk fails'):
            change(directory, a=b'new', b=b'new', c=b'new')
    assert Directory(str(root)).read_together(['a', 'b', 'c']) == [b'new', b'new', b'new']


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize('has_staged', [True, False])
def test_a_change_for_which_there_is_no_space_is_tried_again_where_staged_files_took_some(
    directory: Directory, root: Path, number: int, has_staged: bool
) -> None:
    for content in (b'1', b'2', b'3') if has_staged else (b'3',):
        change(directory, a=content)
    assert bool(spares(root)) is has_staged
    errors = [OSError(number, os.strerror(number))]

    def fail_once(step: ChangeStep) -> None:
        if errors:
            raise errors.pop()

    directory.before_step = fail_once
    if has_staged and number != errno.EIO:
        change(directory, a=b'new')
        assert directory.read('a') == b'new'
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            change(directory, a=b'new')
        assert directory.read('a') == b'3'


def test_one_file_that_cannot_be_put_in_place_is_an_error_and_of_several_it_is_unclear(
    directory: Directory, root: Path
) -> None:
    change(directory, a=b'old', b=b'old')

    def fail(step: ChangeStep) -> None:
        if step == 'rename':
            raise OSError(errno.EIO, 'the disk fails')

    directory.before_step = fail
    with pytest.raises(OSError, match='the disk fails'):
        change(directory, a=b'new')
    assert directory.read_together(['a', 'b']) == [b'old', b'old']
    with pytest.raises(WriteUnclear, match='the disk fails'):
        change(directory, a=b'newer', b=b'newer')
    directory.before_step = lambda step: None
    assert directory.read_together(['a', 'b']) == [b'newer', b'newer']


def test_folders_that_a_change_empties_are_removed_also_by_the_process_that_finishes_it(root: Path) -> None:
    directory = Directory(str(root))
    contents = {'_a/_b/c': b'1', '_a/d': b'1', 'e': b'1'}
    with directory.write_locked():
        directory.change(contents)
        directory.change({'_a/_b/c': None, 'e': b'2'})
    assert os.listdir(root / '_a') == ['d']
    stopped = Directory(str(root))
    steps = []

    def stop(step: ChangeStep) -> None:
        steps.append(step)
        if step == 'rename':
            raise KeyboardInterrupt

    stopped.before_step = stop
    with pytest.raises(KeyboardInterrupt), stopped.write_locked():
        stopped.change({'_a/d': None, 'e': None})
    with directory.write_locked():
        assert os.listdir(root) == [META_DIR]


def test_a_change_that_is_finished_counts_and_is_put_in_place_once(directory: Directory, root: Path) -> None:
    change(directory, a=b'old', b=b'old')
    change_and_stop(root, 'rename')
    counted = int.from_bytes(directory.lock.count(), 'big')
    steps: list[ChangeStep] = []
    directory.before_step = steps.append
    assert directory.read_one('b') == b'"new"'
    assert directory.read_one('a') == b'"new"'
    assert int.from_bytes(directory.lock.count(), 'big') == counted + 1
    assert steps == ['rename', 'rename']
    assert not (root / JOURNAL).exists()


def test_a_folder_that_became_a_link_is_not_written_through_by_the_process_that_finishes_a_change(
    root: Path, tmp_path: Path
) -> None:
    directory = Directory(str(root))
    with directory.write_locked():
        directory.change({'_a/b': b'1', 'c': b'1'})
    change_and_stop(root, 'rename', ('c', '_a/b'))
    plant(tmp_path / 'outside', {'b': 'precious'})
    (root / '_a/b').unlink()
    (root / '_a').rmdir()
    (root / '_a').symlink_to(tmp_path / 'outside')
    with pytest.raises(StoreUnavailable, match='_a is a link'):
        directory.read_one('c')
    assert tree(tmp_path / 'outside') == {'b': b'precious'}


@pytest.mark.parametrize('times', [1, 2, 3])
def test_removals_that_were_begun_are_finished_and_reach_no_file_beyond_a_link(
    root: Path, tmp_path: Path, times: int
) -> None:
    directory = Directory(str(root))
    keys = ('a', '_b/k', '_c/k')
    for is_linked in (False, True):
        with directory.write_locked():
            directory.change(dict.fromkeys(keys, b'1'))
        change_and_stop(root, 'rename', keys, content=None, times=times)
        if is_linked:
            plant(tmp_path / 'outside', {'k': 'precious'})
            (root / '_c/k').unlink()
            (root / '_c').rmdir()
            (root / '_c').symlink_to(tmp_path / 'outside')
            with pytest.raises(StoreUnavailable, match='_c is a link'):
                directory.read_one('a')
            assert tree(tmp_path / 'outside') == {'k': b'precious'}
        else:
            assert directory.read_together(keys) == [None] * 3
            assert os.listdir(root) == [META_DIR]


def test_several_folders_that_a_change_empties_are_removed(directory: Directory, root: Path) -> None:
    with directory.write_locked():
        directory.change({'_a/k': b'1', '_b/k': b'1', 'c': b'1'})
        directory.change({'_a/k': None, '_b/k': None})
    assert sorted(os.listdir(root)) == [META_DIR, 'c']


@pytest.mark.parametrize('step', ['rename', 'finish'])
def test_large_contents_are_in_their_places_at_the_end_whether_they_were_put_there_before_or_not(
    directory: Directory, root: Path, step: ChangeStep
) -> None:
    change(directory, a=b'old')
    change_and_stop(root, step, content=b'x' * LARGE, times=1)
    assert directory.read_together(['a', 'b']) == [b'x' * LARGE] * 2


def test_large_contents_are_not_repeated_in_the_journal(directory: Directory, root: Path) -> None:
    sizes = []

    def note(step: ChangeStep) -> None:
        if step == 'count':
            sizes.append((root / JOURNAL).stat().st_size)

    directory.before_step = note
    change(directory, a=b'x' * LARGE, b=b'y' * LARGE)
    assert sizes[0] < LARGE


@contextmanager
def another_user(root: Path, closed: Path) -> Iterator[None]:
    """Act as another user, who may change all of a directory but one file or folder."""
    for path in (root, *root.rglob('*')):
        path.chmod(0o777)
    closed.chmod(0o555)
    os.seteuid(UNPRIVILEGED_UID)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.other_users
def test_a_change_of_which_one_file_may_not_be_put_in_place_is_refused_whole() -> None:
    with foreign_directory() as root:
        directory = Directory(str(root))
        with directory.write_locked():
            directory.change({'k': b'old', '_a/k': b'old'})
        with another_user(root, root / '_a'), directory.write_locked(), pytest.raises(PermissionError):
            directory.change({'k': b'new', '_a/k': b'new'})
        assert directory.read_together(['k', '_a/k']) == [b'old', b'old']
        assert not directory.is_journal_pending()


@pytest.mark.other_users
def test_a_file_that_may_not_be_written_is_refused_though_it_holds_the_content_already() -> None:
    with foreign_directory() as root:
        directory = Directory(str(root))
        change(directory, k=b'same')
        with another_user(root, root / 'k'), pytest.raises(PermissionError):
            change(directory, k=b'same')


# Trying


@pytest.mark.other_users
def test_a_trial_is_made_where_the_store_writes() -> None:
    with foreign_directory() as root:
        directory = Directory(str(root), lock_seconds=0.01)
        change(directory, k=b'1')
        with another_user(root, root / META_DIR), pytest.raises(PermissionError):
            directory.probe()
        directory.probe()
        with Directory(str(root)).write_locked(), pytest.raises(LockHeld):
            directory.probe()


@pytest.mark.parametrize('is_there', [True, False])
def test_a_trial_leaves_nothing_and_finds_what_cannot_be_written(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    if is_there:
        change(directory, a=b'1')
    before = tree(root.parent), len(open_files())
    directory.probe()
    assert (tree(root.parent), len(open_files())) == before
    assert os.listdir(root.parent) == (['store'] if is_there else [])
    assert not is_there or sorted(os.listdir(root / META_DIR)) == ['lock']

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, 'the disk fails')

    monkeypatch.setattr(os, 'write', fail)
    with pytest.raises(OSError, match='the disk fails'):
        directory.probe()
    monkeypatch.undo()
    assert (tree(root.parent), len(open_files())) == before
    assert not is_there or sorted(os.listdir(root / META_DIR)) == ['lock']
