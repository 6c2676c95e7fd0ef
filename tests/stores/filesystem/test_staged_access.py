"""Staged files, the lock and the journal: who may open them where files have different modes and owners."""

# ruff: noqa: ASYNC240, nothing else runs in the loop of these tests

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_observer_kvs.private_files import GROUP
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.journal import JOURNAL
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.changes import change, change_and_stop
from tests.support.disks import UNPRIVILEGED_UID, foreign_directory
from tests.support.files import spares
from tests.support.users import MEMBER, OWNER, STAFF, User, Users, open_folder

LONG = 'x' * 300
"""A key without a readable name."""

MODES = [0o600, 0o640, 0o400, 0o660, 0o644]


def access(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


async def write_in_turn(store: FilesystemKVS, keys: list[str], count: int = 60) -> None:
    """Write keys alone and together, so that staged files come from each of them."""
    for number in range(count):
        await store.multiset(dict.fromkeys(keys, number))
        await store.set(keys[number % len(keys)], -number)


async def test_a_staged_file_is_used_again_only_for_one_of_the_same_mode(store: FilesystemKVS, root: Path) -> None:
    keys = [f'k{mode:o}' for mode in MODES]
    await store.multiset(dict.fromkeys(keys, 0))
    for key, mode in zip(keys, MODES, strict=True):
        (root / key).chmod(mode)
    await write_in_turn(store, keys)
    assert [access(root / key)[0] for key in keys] == MODES
    assert spares(root)


@pytest.mark.other_users
async def test_a_staged_file_is_used_again_only_for_one_of_the_same_owner_and_group(
    store: FilesystemKVS, root: Path
) -> None:
    owners = [(0o600, 0, 0), (0o600, 4001, 0), (0o600, 0, STAFF), (0o600, 4001, STAFF)]
    keys = [f'k{number}' for number in range(len(owners))]
    await store.multiset(dict.fromkeys(keys, 0))
    for key, (_, uid, gid) in zip(keys, owners, strict=True):
        os.chown(root / key, uid, gid)
    await write_in_turn(store, keys)
    assert [access(root / key) for key in keys] == owners


@pytest.mark.parametrize(('mode', 'are_kept'), [(0o600, True), (0o640, False), (0o604, False)])
async def test_what_a_closed_folder_keeps_from_others_is_not_left_where_they_can_open_it(
    nested: FilesystemKVS, root: Path, mode: int, are_kept: bool
) -> None:
    await nested.multiset({'a/b': 0, LONG: 0})
    for path in root.rglob('*'):
        if path.is_file():
            path.chmod(mode)
    await write_in_turn(nested, ['a/b', LONG])
    assert bool(spares(root)) is are_kept


# The journal


@pytest.mark.parametrize('mode', [0o600, 0o660, 0o666])
async def test_the_journal_may_be_opened_by_those_who_may_open_the_lock(root: Path, mode: int) -> None:
    async with FilesystemKVS(root) as store:
        await store.set('k', 1)
        (root / META_DIR / 'lock').chmod(mode)
        await store.multiset({'k': 2, 'l': 2})
        assert access(root / JOURNAL)[0] == mode


@pytest.fixture(scope='module')
def users() -> Iterator[Users]:
    with Users() as running:
        yield running


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of the owner and its group, with a store of the owner that the group may use, too."""
    with open_folder() as folder:
        os.chown(folder, OWNER.uid, STAFF)
        folder.chmod(0o2770)
        yield folder


def give_to_group(folder: Path) -> None:
    for path in (folder, *folder.rglob('*')):
        os.chown(path, -1, STAFF)
        path.chmod(0o2770 if path.is_dir() else 0o660)


@pytest.mark.other_users
@pytest.mark.parametrize('mode', ['private', 'group'])
def test_members_of_a_group_write_in_turn_and_the_group_keeps_all(users: Users, shared: Path, mode: str) -> None:
    path = shared / 'store'
    assert users.act(OWNER, 'write', path, 'filesystem', mode) == '[None]'
    give_to_group(path)
    for user in (MEMBER, OWNER, MEMBER, OWNER):
        assert users.act(user, 'write', path, 'filesystem', mode) == '[None]'
        for name in ('k', JOURNAL, f'{META_DIR}/lock'):
            assert access(path / name)[::2] == (0o660, STAFF)


@pytest.mark.other_users
def test_a_journal_that_another_user_keeps_is_replaced_where_the_lock_is_shared(users: Users, shared: Path) -> None:
    path = shared / 'store'
    assert users.act(OWNER, 'write', path, 'filesystem') == '[None]'
    give_to_group(path)
    (path / JOURNAL).chmod(0o600)
    assert users.act(MEMBER, 'write', path, 'filesystem') == '[None]'
    assert users.act(OWNER, 'write', path, 'filesystem') == '[None]'


@pytest.mark.other_users
def test_a_user_that_may_not_give_the_journal_the_group_of_the_lock_keeps_one_of_its_own() -> None:
    with foreign_directory() as root:
        change(Directory(str(root)), a=b'1')
        for path in (root, *root.rglob('*')):
            path.chmod(0o777)
        os.chown(root / META_DIR / 'lock', 0, STAFF)
        os.seteuid(UNPRIVILEGED_UID)
        try:
            change(Directory(str(root)), b=b'2', c=b'2')
        finally:
            os.seteuid(0)
        assert access(root / JOURNAL)[:2] == (0o600, UNPRIVILEGED_UID)
        assert Directory(str(root)).read_together(['b', 'c']) == [b'2', b'2']


@pytest.mark.other_users
@pytest.mark.parametrize('user', [OWNER, MEMBER])
def test_what_a_killed_member_of_a_group_has_decided_is_finished_by_another(
    users: Users, shared: Path, user: User
) -> None:
    path = shared / 'store'
    for first in (OWNER, MEMBER):
        assert users.act(first, 'write', path, 'filesystem', 'group') == '[None]'
    other = MEMBER if user is OWNER else OWNER
    change_and_stop(path, 'rename', ('l', 'k'), GROUP)
    for name in (JOURNAL, 'l'):
        os.chown(path / name, other.uid, STAFF)
    assert users.act(user, 'read', path, 'filesystem', 'group').startswith("[('new', ")
    assert access(path / 'k')[::2] == (0o660, STAFF)
