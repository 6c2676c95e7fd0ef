"""Paths below a directory: links on the way, what is not a file, folders that are made and removed."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.private_files import GROUP
from learning_observer_kvs.stores.filesystem.names import DIGESTS, META_DIR
from learning_observer_kvs.stores.filesystem.paths import Paths
from tests.support.disks import UNPRIVILEGED_UID, foreign_directory
from tests.support.files import link, open_files, plant, tree


@pytest.fixture
def paths(root: Path) -> Paths:
    root.mkdir()
    return Paths(str(root), GROUP)


def test_a_regular_file_is_opened_and_nothing_else(paths: Paths, root: Path) -> None:
    plant(root, {'a': 'x', '_b/c': 'y'})
    os.mkfifo(root / 'pipe')
    (root / 'folder').mkdir()
    before = len(open_files())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / 'socket'))
        for path in ('pipe', 'folder', 'socket', 'none', 'none/none', 'a/below', '_b/c/below/it'):
            assert paths.open(path) is None
    assert len(open_files()) == before
    for path in ('a', '_b/c'):
        opened = paths.open(path)
        assert opened is not None
        number, found = opened
        assert os.path.samestat(found, (root / path).stat())
        os.close(number)


def test_where_a_file_has_the_place_of_the_directory_nothing_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError):
        Paths(str(tmp_path / 'file')).open('a')
    assert Paths(str(tmp_path / 'file' / 'below')).open('a') is None
    assert Paths(str(tmp_path / 'none')).open('a') is None


@pytest.mark.parametrize('path', ['_a/k', '_b/_c/k', '_b/_c/_d/k'])
def test_a_link_at_any_place_on_the_way_is_refused(paths: Paths, root: Path, tmp_path: Path, path: str) -> None:
    plant(tmp_path / 'outside', {'k': 'precious', '_d/k': 'precious'})
    link(root / '_a', tmp_path / 'outside')
    link(root / '_b' / '_c', tmp_path / 'outside')
    for call in (
        paths.open,
        paths.refuse_links,
        lambda path: paths.prepare(path, b''),
        lambda path: paths.prepare(path, None),
    ):
        with pytest.raises(StoreUnavailable, match=r'_[ac] is a link'):
            call(path)
    paths.refuse_links('k')
    paths.refuse_links('_b/k')
    paths.refuse_links('none/none/k')
    link(root / 'k', tmp_path / 'outside/k')
    with pytest.raises(OSError, match='symbolic links'):
        paths.open('k')


# Before a change


def test_folders_are_made_for_what_is_written_and_not_for_what_is_removed(paths: Paths, root: Path) -> None:
    assert paths.prepare('_a/_b/k', None) is None
    assert paths.prepare('k', b'') is None
    assert os.listdir(root) == []
    assert paths.prepare('_a/_b/k', b'') is None
    for folder in ('_a', '_a/_b'):
        assert stat.S_IMODE((root / folder).stat().st_mode) == GROUP.folder
    plant(root, {'_a/_b/k': 'x'})
    for content in (b'', None):
        found = paths.prepare('_a/_b/k', content)
        assert found is not None
        assert os.path.samestat(found, (root / '_a/_b/k').stat())


def test_a_file_above_another_is_an_error_for_what_is_written_and_none_for_what_is_removed(
    paths: Paths, root: Path
) -> None:
    plant(root, {'_a': 'x'})
    assert paths.prepare('_a/k', None) is None
    with pytest.raises(NotADirectoryError):
        paths.prepare('_a/k', b'')


def test_what_is_not_a_regular_file_is_neither_replaced_nor_removed(paths: Paths, root: Path) -> None:
    (root / 'folder').mkdir()
    os.mkfifo(root / 'pipe')
    (root / 'link').symlink_to('none')
    for name in ('folder', 'pipe', 'link'):
        for content in (b'', None):
            with pytest.raises(StoreUnavailable, match=f'{name} is not a regular file'):
                paths.prepare(name, content)


@pytest.mark.other_users
@pytest.mark.parametrize('mode', [0o555, 0o666])
@pytest.mark.parametrize('closed', ['', '_a', '_a/_b', META_DIR])
def test_a_folder_that_may_not_be_changed_is_found_before_the_change(closed: str, mode: int) -> None:
    with foreign_directory() as root:
        plant(root, {'k': 'x', '_a/k': 'x', '_a/_b/k': 'x', f'{META_DIR}/lock': ''})
        for file in (root, *root.rglob('*')):
            file.chmod(mode if file == root / closed else 0o777)
        paths = Paths(str(root))
        os.seteuid(UNPRIVILEGED_UID)
        try:
            for path in ('k', '_a/k', '_a/_b/k'):
                if closed in (path.rpartition('/')[0], META_DIR):
                    with pytest.raises(PermissionError) as failure:
                        paths.check_permissions(['_none/k', path])
                    assert Path(str(failure.value.filename)) == root / closed
                else:
                    paths.check_permissions(['_none/k', path])
        finally:
            os.seteuid(0)


# Removing


def test_folders_are_removed_up_to_the_first_that_holds_something(paths: Paths, root: Path) -> None:
    plant(root, {'_a/_b/_c/k': 'x', '_a/k': 'x', f'{DIGESTS}/k': 'x'})
    paths.prune('_a/_b/_c/k')
    assert (root / '_a/_b/_c').exists()
    (root / '_a/_b/_c/k').unlink()
    paths.prune('_a/_b/_c/k')
    assert tree(root) == {'_a/k': b'x', f'{DIGESTS}/k': b'x'}
    assert os.listdir(root / '_a') == ['k']
    (root / DIGESTS / 'k').unlink()
    paths.prune(f'{DIGESTS}/k')
    assert (root / DIGESTS).exists()
    (root / DIGESTS).rmdir()
    paths.prune(f'{META_DIR}/k')
    assert (root / META_DIR).exists()
    (root / '_a/k').unlink()
    paths.prune('_a/k')
    paths.prune('k')
    assert os.listdir(root) == [META_DIR]
