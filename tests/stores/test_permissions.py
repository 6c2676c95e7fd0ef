"""The modes of what is stored: for the owner alone, or for a group; what is there keeps its own."""

# ruff: noqa: ASYNC240, nothing else runs in the loop of these tests

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.kvs import KVSRouter, live_problems
from learning_observer_kvs.settings import Settings, read_settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.checks import parse
from tests.support.parts import missing
from tests.support.users import open_folder

KINDS = pytest.mark.parametrize('kind', ['sqlite', 'filesystem'])
ACL = 'system.posix_acl_access'


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def settings(kind: str, path: Path, mode: str = 'private') -> Settings:
    return read_settings({'kvs': {'default': {'type': kind, 'path': str(path), 'mode': mode}}})


async def write(store: Store, values: int = 1) -> None:
    """Write keys, each again and again: a store of files uses a file again that it has replaced."""
    for value in range(values):
        await store.multiset({'k': value, 'a/b': value, 'x' * 300: value})


def make(kind: str, path: Path, mode: str = 'private') -> Store:
    return SQLiteKVS(path, mode=mode) if kind == 'sqlite' else FilesystemKVS(path, subdirs=True, mode=mode)


def modes(folder: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {'files': set(), 'folders': set()}
    for path in folder.rglob('*'):
        found['folders' if path.is_dir() else 'files'].add(stat.S_IMODE(path.stat().st_mode))
    return found


@KINDS
@pytest.mark.parametrize(('mode', 'file', 'folder'), [('private', 0o600, 0o700), ('group', 0o660, 0o2770)])
@pytest.mark.usefixtures('_umask')
async def test_new_files_and_folders_have_their_mode_whatever_the_umask(
    tmp_path: Path, kind: str, mode: str, file: int, folder: int
) -> None:
    async with make(kind, tmp_path / 'above' / 'it' / 'store', mode) as store:
        await write(store)
        assert modes(tmp_path) == {'files': {file}, 'folders': {folder}}
        await write(store, 50)  # in place of those
    assert modes(tmp_path) == {'files': {file}, 'folders': {folder}}


@KINDS
@pytest.mark.parametrize('mode', ['private', 'group'])
async def test_existing_files_and_what_replaces_them_and_is_beside_them_keep_their_mode(
    tmp_path: Path, kind: str, mode: str
) -> None:
    async with make(kind, tmp_path / 'store') as store:
        await write(store)
    for path in (tmp_path / 'store', *tmp_path.rglob('*')):
        path.chmod(0o751 if path.is_dir() else 0o640)
    async with make(kind, tmp_path / 'store', mode) as store:
        await write(store, 50)
        assert modes(tmp_path)['files'] == {0o640}
    assert modes(tmp_path / 'store')['folders'] <= {0o751}


async def test_what_replaces_a_file_keeps_its_access_control_list(tmp_path: Path) -> None:
    def entry(tag: int, permission: int, who: int = 0xFFFFFFFF) -> bytes:
        return struct.pack('<HHI', tag, permission, who)

    path = tmp_path / 'k'
    path.write_text('1')
    path.chmod(0o600)
    # The owner and user 4001 may read and write, the group may not.
    granted = struct.pack('<I', 2) + entry(1, 6) + entry(2, 6, 4001) + entry(4, 0) + entry(16, 6) + entry(32, 0)
    try:
        os.setxattr(path, ACL, granted)
    except (AttributeError, OSError):
        missing('this disk has no access control lists')
    async with FilesystemKVS(tmp_path) as store:
        (tmp_path / 'l').write_text('1')
        (tmp_path / 'l').chmod(path.stat().st_mode)  # alike, but for the list
        for value in range(50):
            await store.multiset({'k': value, 'l': value})
            await store.set('l', -value)  # so that each gets what was the other's
            assert os.getxattr(path, ACL) == granted
            assert ACL not in os.listxattr(tmp_path / 'l')


async def test_dumps_are_for_their_owner_alone_also_where_they_replace_a_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = InMemoryKVS()
        await store.set('k', 1)
        (tmp_path / 'old').write_text('{}')
        for name in ('old', 'new'):
            await store.dump(tmp_path / name)
    finally:
        os.umask(before)
    assert modes(tmp_path)['files'] == {0o600}


@pytest.mark.usefixtures('_umask')
def test_failed_events_are_for_their_owner_alone_with_all_folders_that_are_made_for_them(tmp_path: Path) -> None:
    failed_events.record(
        {}, ValueError(), reducer='r', keys=['Internal,r'], folder=tmp_path / 'a' / 'b', at=datetime.now(UTC)
    )
    assert modes(tmp_path) == {'files': {0o600}, 'folders': {0o700}}


@KINDS
@pytest.mark.parametrize(
    ('mode', 'permissions', 'warned'),
    [
        ('private', 0o644, 'that every user of this machine can read'),
        ('private', 0o640, 'that the group .* can read'),
        ('private', 0o600, None),
        ('group', 0o664, 'that every user of this machine can read'),
        ('group', 0o660, None),
    ],
)
async def test_a_check_warns_of_data_that_others_can_read(
    kind: str, mode: str, permissions: int, warned: str | None
) -> None:
    with open_folder() as folder:
        path, configuration = folder / 'store', settings(kind, folder / 'store', mode)
        async with KVSRouter.from_settings(configuration) as router:
            await write(router())
        path.chmod(permissions | (permissions & 0o444) >> 2 if path.is_dir() else permissions)
        problems = await live_problems(parse(configuration))
        assert [problem.id for problem in problems] == ['KVS.W020'] * (warned is not None)
        for problem in problems:
            assert re.search(str(warned), problem.message)
            assert f'chmod {"o=" if mode == "group" else "go="} {path}' in problem.hint
        folder.chmod(0o700)  # then what is below cannot be reached
        assert await live_problems(parse(configuration)) == []
