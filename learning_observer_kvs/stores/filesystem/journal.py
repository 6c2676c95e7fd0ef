"""The journal of a directory: what a change of several files is about to do, with the contents.

It is one file, which always begins with :data:`IDLE`. A change is appended to that in one call, and is decided when it
stands there whole; it is cut off again when all files have their contents. ``{}`` is also what programs of the
versions before take for a journal without work; one with work they refuse to follow.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import orjson

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.private_files import PRIVATE, Access, create
from learning_observer_kvs.stores.filesystem.descriptor import SAFELY, Descriptor
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.staging import SPARE

JOURNAL = f'{META_DIR}/journal'
OLD_STAGED = f'{META_DIR}/new-'
"""What the paths of files begin with that the versions before staged."""

IDLE = b'{}'.ljust(17) + b'\n'
"""The whole journal while no change is under way. No journal of the versions before with work in it is that short."""

_HEADER = struct.Struct('>8sIQ')
_CHECKSUM = struct.Struct('>I')
_MAGIC = b'\x1eCHANGE\n'


class FileChange(NamedTuple):
    """One file of a change.

    Attributes:
        path: below the directory.
        staged: the path of the staged file with the content; ``None`` if the file is removed.
        content: what the file holds then; ``None`` if it is removed, or if only the staged file has it.
        inode: the number of the staged file, if the journal names it instead of repeating the content.
    """

    path: str
    staged: str | None
    content: bytes | None
    inode: int | None = None


class Journal:
    """The journal of one directory; it is changed while the lock of the directory is held.

    Args:
        root: the absolute path of the directory.
        lock: the absolute path of its lock. The journal gets its mode, owner and group: who changes files needs both.
        access: who may open the journal where that cannot be.

    Attributes:
        path: its absolute path.
    """

    def __init__(self, root: str, lock: str, access: Access = PRIVATE) -> None:
        self.path = f'{root}/{JOURNAL}'
        self._lock = lock
        self._access = access
        self._new = f'{root}/{OLD_STAGED}journal'
        self._open: Descriptor | None = None

    def is_pending(self) -> bool:
        """Return whether a change of several files is under way, or was left by a process that was killed in it."""
        try:
            found = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return found.st_size != len(IDLE) or not stat.S_ISREG(found.st_mode)

    def append(self, changes: Sequence[FileChange]) -> None:
        """Decide a change.

        Args:
            changes: its files.

        Raises:
            OSError: it cannot be written; :meth:`finish` withdraws it.
        """
        contents = [change.content if change.inode is None else None for change in changes]
        sizes = [None if content is None else len(content) for content in contents]
        files = [(path, staged, size, inode) for (path, staged, _, inode), size in zip(changes, sizes, strict=True)]
        body = b'\n'.join([orjson.dumps(files), b''.join(filter(None, contents))])
        header = _HEADER.pack(_MAGIC, zlib.crc32(body), len(body))
        record = b''.join([header, _CHECKSUM.pack(zlib.crc32(header)), body])
        _write(self._opened().number, record, len(IDLE))

    def finish(self) -> None:
        """Cut off the change: it is complete, or withdrawn.

        Raises:
            OSError: the file cannot be written.
        """
        if self._open is not None and self._open.number >= 0:
            os.ftruncate(self._open.number, len(IDLE))

    def read(self, content: bytes | None) -> list[FileChange]:
        """Understand a journal that another process left.

        Args:
            content: of the file; ``None`` if it is none.

        Returns:
            The change that must be finished; none if it was not decided.

        Raises:
            StoreUnavailable: it is damaged.
        """
        changes = None
        if content is not None:
            changes = _changes(content) if content.startswith(IDLE) else _old_changes(content)
        if changes is not None and all(_is_valid(change) for change in changes):
            return changes
        raise self._damaged()

    def remove(self) -> None:
        """Remove the journal of another process; what it decided is done. It takes no space, and changes no backup.

        Raises:
            OSError: it cannot be removed.
        """
        self._open = None
        os.unlink(self.path)

    def close(self) -> None:
        """Let go of the file."""
        self._open = None

    def _damaged(self) -> StoreUnavailable:
        return StoreUnavailable(
            f'{self.path} is damaged, as after a loss of power; it lists the last write of several keys, '
            'which may have been applied in part. Remove that file when you have looked at them.'
        )

    def _opened(self) -> Descriptor:
        """Return the journal, to which no other name leads: a backup made of links must not change any more."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return self._create()
        if found.st_nlink != 1:
            return self._create()
        journal = self._open
        if journal is None or journal.number < 0 or not os.path.samestat(journal.found, found):
            try:
                number = os.open(self.path, SAFELY | os.O_RDWR)
            except PermissionError:  # of another user, before the lock was shared; no change is in it
                return self._create()
            journal = self._open = Descriptor(number)
            if os.pread(number, len(IDLE), 0) != IDLE:
                raise self._damaged()
        return journal

    def _create(self) -> Descriptor:
        with suppress(FileNotFoundError):
            os.unlink(self._new)
        try:
            number = create(self._new, self._access, replaces=self._lock)
        except PermissionError:  # this user may not give it the group of the lock
            number = create(self._new, self._access)
        new = Descriptor(number)
        _write(new.number, IDLE, 0)
        os.rename(self._new, self.path)
        self._open = new
        return new


def _write(number: int, data: bytes, start: int) -> None:
    written = os.pwrite(number, data, start)
    while written < len(data):
        written += os.pwrite(number, memoryview(data)[written:], start + written)


def _changes(content: bytes) -> list[FileChange] | None:
    """Return a change; none of its files if it was not written whole, ``None`` if it is damaged."""
    record = content[len(IDLE) :]
    if not record.startswith(_MAGIC[: len(record)]):
        return None
    header, body = record[: _HEADER.size], record[_HEADER.size + _CHECKSUM.size :]
    if len(record) < _HEADER.size + _CHECKSUM.size:
        return []
    if _CHECKSUM.unpack_from(record, _HEADER.size) != (zlib.crc32(header),):
        return None
    _, checksum, length = _HEADER.unpack(header)
    if len(body) < length:
        return []
    if zlib.crc32(body) != checksum:
        return None
    files, _, contents = body.partition(b'\n')
    changes, start = [], 0
    for path, staged, size, inode in orjson.loads(files):
        changes.append(FileChange(path, staged, None if size is None else contents[start : start + size], inode))
        start += size or 0
    return changes


def _old_changes(content: bytes) -> list[FileChange] | None:
    """Return a change in the form of the versions before: a file was renamed, if its staged file is not there."""
    try:
        return [FileChange(path, staged, None) for path, staged in orjson.loads(content).items()]
    except (ValueError, AttributeError):
        return None


def _is_valid(change: FileChange) -> bool:
    """Whether a change stays inside the directory."""
    try:
        name = (change.staged or SPARE).removeprefix(f'{META_DIR}/')
        staged = change.staged is None or (change.staged.startswith((SPARE, OLD_STAGED)) and '/' not in name)
        return staged and not {'', '.', '..'} & set(change.path.split('/'))  # a path from the root has an empty part
    except AttributeError:
        return False
