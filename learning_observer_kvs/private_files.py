"""Files and folders that hold data of students: made for their owner alone, or for a group that shares them.

The mode that a program gives to ``open`` is cut by its umask, and the group comes from the process or from the folder.
So both are set on the new file itself, before another process can find it under its name.
"""

from __future__ import annotations

import errno
import grp
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

_ACL = 'system.posix_acl_access'
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Access(NamedTuple):
    """Who may open what is new.

    Attributes:
        file: the mode of new files.
        folder: the mode of new folders.
    """

    file: int
    folder: int


PRIVATE = Access(0o600, 0o700)
"""Their owner alone."""

GROUP = Access(0o660, 0o2770)
"""Their owner and their group, which what is made in the folders inherits."""

ACCESS = {'private': PRIVATE, 'group': GROUP}
"""What the option ``mode`` of a store says."""


def create(path: str, access: Access, replaces: str | None = None) -> int:
    """Create a file that is not there yet.

    What root creates belongs to the owner and group of the folder. With :data:`GROUP`, what others create belongs to
    the folder's group, if that may write there and they are its members.

    Args:
        path: the file.
        access: who may open it.
        replaces: where it is going to be moved; if a file is there, the new one gets its mode, owner, group and access
            control list.

    Returns:
        The file, open for writing.

    Raises:
        FileExistsError: it is there.
        PermissionError: this process may not write the file that is going to be replaced, or not give its group away.
        OSError: it cannot be created.
    """
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE.file)
    try:
        if replaces is None or not _become_like(number, replaces):
            _set_access(number, access.file, replaces or path, access)
    except BaseException:
        os.close(number)
        os.unlink(path)
        raise
    return number


def write_new(path: str, content: bytes, access: Access) -> None:
    """Create a file that is not there yet, with all of a content; where that fails, no part of it is left.

    Args:
        path: the file.
        content: the content.
        access: as for :func:`create`.

    Raises:
        FileExistsError: it is there.
        OSError: it cannot be created, or written.
    """
    number = create(path, access)
    try:
        with os.fdopen(number, 'wb') as file:
            file.write(content)
    except BaseException:
        os.unlink(path)
        raise


def is_like(number: int, own: os.stat_result, path: str, found: os.stat_result) -> bool:
    """Return whether an open file has what :func:`create` would give one that replaces another.

    Args:
        number: the open file.
        own: what ``os.fstat`` returned for it.
        path: the other file.
        found: what ``os.lstat`` returned for that.

    Returns:
        Whether both have the same mode, owner, group and access control list.

    Raises:
        OSError: a list cannot be read.
    """
    if (own.st_mode, own.st_uid, own.st_gid) != (found.st_mode, found.st_uid, found.st_gid):
        return False
    return not own.st_mode & stat.S_IRWXG or _access_list(number) == _access_list(path)


def make_file(path: str, access: Access) -> None:
    """Make an empty file, unless it is there; it has its mode, owner and group when it appears.

    Args:
        path: the file.
        access: as for :func:`create`.

    Raises:
        OSError: it cannot be made.
    """
    unfinished = f'{path}.{secrets.token_hex(8)}'
    os.close(create(unfinished, access))
    try:
        with suppress(FileExistsError):
            os.link(unfinished, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with suppress(FileExistsError):  # a disk without links
            os.close(create(path, access))
    finally:
        os.unlink(unfinished)


def open_or_make(path: str | os.PathLike[str], flags: int, access: Access) -> int:
    """Open a file; make an empty one first if there is none.

    Args:
        path: the file.
        flags: as for ``os.open``.
        access: as for :func:`create`, if it is made.

    Returns:
        The open file.

    Raises:
        OSError: it cannot be opened, or made.
    """
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        make_file(os.fspath(path), access)


def make_folders(path: str, access: Access) -> None:
    """Make a folder and those above it, unless they are there.

    Args:
        path: the folder.
        access: as for :func:`create`; it holds for each folder that is made.

    Raises:
        OSError: one of them cannot be made.
    """
    try:
        os.mkdir(path, PRIVATE.folder)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    except FileNotFoundError:
        above = os.path.dirname(path)
        if above in ('', path):
            raise
        make_folders(above, access)
        make_folders(path, access)
        return
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _set_access(number, access.folder, path, access)
    finally:
        os.close(number)


def share_like(path: str, original: os.stat_result) -> None:
    """Give a file of this process the group of another file, so that those who share that one share both.

    Args:
        path: the file; it is not opened.
        original: what ``os.stat`` returned for the other file.

    Raises:
        OSError: it cannot be done.
    """
    found = os.stat(path)
    if found.st_uid == os.geteuid() and found.st_gid != original.st_gid and _is_member(original.st_gid):
        os.chown(path, -1, original.st_gid, follow_symlinks=False)


@contextmanager
def trial_folder(path: str) -> Iterator[str]:
    """Make a folder where the first of the missing folders above a path would be made, and remove it at the end.

    So it can be tried what would be made there, and nothing is left that belongs to another user than the data will.

    Args:
        path: an absolute path.

    Yields:
        The new folder, for this process alone.

    Raises:
        OSError: nothing can be made there; it names the folder above.
    """
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    try:
        folder = tempfile.TemporaryDirectory(dir=above, prefix='.lo-kvs-')
    except OSError as error:
        raise OSError(error.errno, error.strerror, above) from None
    with folder as name:
        yield name


def may_write(path: str | os.PathLike[str]) -> bool:
    """Return whether this process may write a file or folder.

    Args:
        path: the file or folder; one that is not there may not be written.
    """
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def refuse_unwritable(path: str, found: os.stat_result) -> None:
    """Raise if this process may not write a file, as if the file were written in place.

    Args:
        path: the file.
        found: what ``os.lstat`` returned for it.

    Raises:
        PermissionError: it belongs to another user, and may not be written.
    """
    if found.st_uid != os.geteuid() and not may_write(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def others_that_can_read(path: str, access: Access) -> str | None:
    """Return who can read a file or folder though its mode is not meant to let them.

    Args:
        path: the file or folder, absolute.
        access: for whom it is meant.

    Returns:
        ``every user of this machine`` or ``the group staff``; ``None`` if it is the owner alone, or the group that
        shares it. A folder above it that lets no others pass counts, and so does a path that is not there.

    Raises:
        OSError: a folder above it cannot be looked at.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    is_folder = stat.S_ISDIR(found.st_mode)
    wanted = stat.S_IROTH | (stat.S_IXOTH if is_folder else 0)
    if found.st_mode & wanted and _can_pass(path, None):
        return 'every user of this machine'
    if found.st_mode & wanted << 3 and access is not GROUP and _can_pass(path, found.st_gid):
        return f'the group {_group_name(found.st_gid)}'
    return None


def _can_pass(path: str, group: int | None) -> bool:
    """Whether the folders above a file let others, or a group, pass."""
    above = os.path.realpath(path)
    while above != os.path.dirname(above):
        above = os.path.dirname(above)
        found = os.stat(above)
        if not found.st_mode & (stat.S_IXGRP if found.st_gid == group else stat.S_IXOTH):
            return False
    return True


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _set_access(number: int, mode: int, path: str, access: Access) -> None:
    """Set mode, owner and group of a new file or folder that is, or is going to be, at a path."""
    if access is PRIVATE and os.geteuid():
        return  # made as it is to be
    found, above = os.fstat(number), os.stat(os.path.dirname(path) or '.')
    if not os.geteuid():
        owner = (above.st_uid, above.st_gid)
    elif access is GROUP and above.st_mode & stat.S_IWGRP and _is_member(above.st_gid):
        owner = (found.st_uid, above.st_gid)
    else:
        owner = (found.st_uid, found.st_gid)
    if owner != (found.st_uid, found.st_gid):
        with suppress(PermissionError):  # a root without that right: what it makes is its own
            os.fchown(number, *owner)
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(number, mode)


def _become_like(number: int, replaced: str) -> bool:
    """Give a new file what the file has that it is going to replace; whether there is one."""
    try:
        old = os.lstat(replaced)
    except (FileNotFoundError, NotADirectoryError):
        return False
    new = os.fstat(number)
    if old.st_uid != new.st_uid:
        refuse_unwritable(replaced, old)
        with suppress(PermissionError):  # of those who share a file by its group, the last to write it owns it
            os.fchown(number, old.st_uid, -1)
    if old.st_gid != new.st_gid:
        try:
            os.fchown(number, -1, old.st_gid)
        except PermissionError as error:
            raise PermissionError(error.errno, 'its group cannot be kept', replaced) from None
    if stat.S_IMODE(old.st_mode) != PRIVATE.file:
        os.fchmod(number, stat.S_IMODE(old.st_mode))
    if old.st_mode & stat.S_IRWXG:  # of a file with a list these are the most that the list grants, not the group's
        _copy_access_list(replaced, number)
    return True


def _copy_access_list(original: str, number: int) -> None:
    granted = _access_list(original)
    if granted is not None:
        os.setxattr(number, _ACL, granted)


def _access_list(file: str | int) -> bytes | None:
    if sys.platform != 'linux':
        return None
    try:
        return os.getxattr(file, _ACL, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):  # it has none, or the disk knows none
            raise
        return None


def _is_member(group: int) -> bool:
    return group == os.getegid() or group in os.getgroups()
