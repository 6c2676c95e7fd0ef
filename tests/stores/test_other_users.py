"""Users of one machine who share data, or must not: the owner can go on, whatever another one did first."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.users import MEMBER, OWNER, ROOT, STAFF, STRANGER, User, Users, open_folder

pytestmark = [pytest.mark.other_users, pytest.mark.parametrize('kind', ['sqlite', 'filesystem'])]


@pytest.fixture(scope='module')
def users() -> Iterator[Users]:
    with Users() as running:
        yield running


@pytest.fixture
def shared() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def folder_of(shared: Path, mode: int, group: int = STAFF) -> Path:
    """A folder that its owner has made ready."""
    folder = shared / 'data'
    folder.mkdir()
    os.chown(folder, OWNER.uid, group)
    folder.chmod(mode)
    return folder


def give_to_group(folder: Path, mode: int) -> None:
    """Let the group use what is there, as people do who know no option."""
    for path in (folder, *folder.rglob('*')):
        os.chown(path, -1, STAFF)
        path.chmod(mode | 0o110 if path.is_dir() else mode)


def goes_on(users: Users, user: User, path: Path, kind: str, mode: str = 'private') -> None:
    result = users.act(user, 'write read check', path, kind, mode)
    assert result.startswith('[None, (1, ')
    assert 'KVS.E' not in result


def test_what_is_stored_can_be_read_by_no_other_user(users: Users, shared: Path, kind: str) -> None:
    folder = folder_of(shared, 0o755)
    goes_on(users, OWNER, folder / 'store', kind)
    for other in (STRANGER, MEMBER):
        assert users.act(other, 'read', folder / 'store', kind).startswith('refused:')
    goes_on(users, OWNER, folder / 'store', kind)


@pytest.mark.parametrize('folder_mode', [0o700, 0o755, 0o775, 0o2770])
@pytest.mark.parametrize('act', ['look', 'look_and_die', 'write'])
def test_root_that_is_first_leaves_nothing_that_the_owner_cannot_open(
    users: Users, shared: Path, kind: str, folder_mode: int, act: str
) -> None:
    folder = folder_of(shared, folder_mode)
    users.act(ROOT, act, folder / 'a' / 'store', kind, umask=0o077)
    goes_on(users, OWNER, folder / 'a' / 'store', kind)
    assert {path.stat().st_uid for path in folder.rglob('*')} == {OWNER.uid}


def test_a_check_by_root_leaves_nothing_in_a_folder_of_root(users: Users, shared: Path, kind: str) -> None:
    shared.chmod(0o1777)
    assert users.act(ROOT, 'check', shared / 'store', kind) == '[[]]'
    assert list(shared.iterdir()) == []
    goes_on(users, OWNER, shared / 'store', kind)


@pytest.mark.parametrize('act', ['look', 'look_and_die', 'write'])
def test_root_that_uses_what_is_there_keeps_mode_owner_and_group(
    users: Users, shared: Path, kind: str, act: str
) -> None:
    folder = folder_of(shared, 0o770)
    goes_on(users, OWNER, folder / 'store', kind)
    give_to_group(folder, 0o640)
    before = access_of(folder)
    users.act(ROOT, act, folder / 'store', kind)
    assert before.items() <= access_of(folder).items()
    assert {path.stat().st_uid for path in folder.rglob('*')} == {OWNER.uid}
    goes_on(users, OWNER, folder / 'store', kind)


@pytest.mark.parametrize('file_mode', [0o640, 0o644, 0o660])
@pytest.mark.parametrize('act', ['look', 'look_and_die'])
def test_a_member_that_only_looks_leaves_nothing_that_keeps_the_owner_from_writing(
    users: Users, shared: Path, kind: str, file_mode: int, act: str
) -> None:
    folder = folder_of(shared, 0o770)
    goes_on(users, OWNER, folder / 'store', kind)
    give_to_group(folder, file_mode)
    folder.chmod(0o770)
    if kind == 'filesystem' or file_mode == 0o660:
        users.act(MEMBER, act, folder / 'store', kind)
    else:
        assert 'keep its owner from writing' in users.act(MEMBER, 'look', folder / 'store', kind)
    goes_on(users, OWNER, folder / 'store', kind)


@pytest.mark.parametrize('folder_mode', [0o770, 0o2770])
@pytest.mark.parametrize('umask', [0o022, 0o077])
@pytest.mark.parametrize('members', [(OWNER, MEMBER), (MEMBER, OWNER), (ROOT, OWNER)])
def test_a_group_shares_what_its_members_make(
    users: Users, shared: Path, kind: str, folder_mode: int, umask: int, members: tuple[User, User]
) -> None:
    path = folder_of(shared, folder_mode) / 'a' / 'store'
    for user in (*members, *members):
        assert users.act(user, 'write', path, kind, 'group', umask) == '[None]'
    for user in (OWNER, MEMBER):
        goes_on(users, user, path, kind, 'group')
    assert {found.stat().st_gid for found in path.parent.rglob('*')} == {STAFF}
    assert users.act(STRANGER, 'read', path, kind, 'group').startswith('refused:')


def test_a_member_does_not_replace_what_it_may_not_write(users: Users, shared: Path, kind: str) -> None:
    folder = folder_of(shared, 0o770)
    goes_on(users, OWNER, folder / 'store', kind)
    give_to_group(folder, 0o640)
    for path in (folder, folder / 'store', folder / 'store' / '.lo_kvs'):
        if path.is_dir():
            path.chmod(0o770)
    lock = folder / 'store' / '.lo_kvs' / 'lock'
    if lock.exists():
        lock.chmod(0o660)
    before = access_of(folder)
    assert users.act(MEMBER, 'write', folder / 'store', kind).startswith('refused:')
    assert access_of(folder) == before
    goes_on(users, OWNER, folder / 'store', kind)


def access_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.stat() for path in folder.rglob('*') if not path.name.endswith(('-wal', '-shm'))}
    return {str(path): (at.st_uid, at.st_gid, stat.S_IMODE(at.st_mode)) for path, at in found.items()}
