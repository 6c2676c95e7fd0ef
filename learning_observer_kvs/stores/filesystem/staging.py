"""New contents, written beside the files that they replace, and put in their place at once.

A staged file and the one it replaces change places, and what was replaced is written anew for a later change: on ext4
that takes a tenth of the time of a new file and a rename. A file is used again only if no program has it open and no
other name leads to it, which the kernel knows (a write lease): so a reader that opened a file before finds one whole
value in it, however slowly it reads, and so does a backup that is made of links. And it is used again only for one that
may be opened by the same users.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from contextlib import suppress

from learning_observer_kvs.private_files import create, is_like
from learning_observer_kvs.stores.filesystem.descriptor import SAFELY
from learning_observer_kvs.stores.filesystem.exchange import UNSUPPORTED, exchange
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.paths import Paths

SPARE = f'{META_DIR}/spare-'
"""What the paths of staged files begin with."""

FEW = 32
"""How many staged files are taken in turn by changes of a few files."""

MANY = 512
"""How many at most."""

MAX_BYTES, MAX_BYTES_OF_MANY = 256 << 10, 128 << 10
"""The size of a file up to which it is kept to be used again: one of the few, and one of the others."""

LARGE = 16 << 10
"""The size of a content from which the journal names its staged file instead of repeating it."""

_SET_LEASE = getattr(fcntl, 'F_SETLEASE', None)


class Staging:
    """The staged files of a directory; to be used while its lock is held.

    Args:
        paths: the paths below the directory.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._turn = 0
        self._can_exchange = True

    def names(self, count: int) -> list[str]:
        """Choose staged files for a change; those that were used last come last.

        Args:
            count: how many.

        Returns:
            Their paths below the directory.
        """
        turns = max(count, FEW if count <= FEW // 4 else MANY)
        first, self._turn = self._turn, self._turn + count
        return [f'{SPARE}{number % turns}' for number in range(first, first + count)]

    def write(self, name: str, content: bytes, path: str, replaced: os.stat_result | None) -> int | None:
        """Write a staged file, which may be opened by those who may open the file that it is going to replace.

        Args:
            name: one of :meth:`names`.
            content: what it holds then.
            path: where it is going to be put, below the directory.
            replaced: what the file system knows of the file that is there; ``None`` if there is none.

        Returns:
            The inode number of the staged file, if the content is :data:`LARGE`.

        Raises:
            PermissionError: this process may not write the file that is there, or not give its group away.
            OSError: it cannot be written.
        """
        staged, whole = self._paths.absolute(name), self._paths.absolute(path)
        number = None if replaced is None else self._reopened(staged, whole, replaced)
        if number is None:
            try:
                number = create(staged, self._paths.access, replaces=whole)
            except FileExistsError:
                os.unlink(staged)
                number = create(staged, self._paths.access, replaces=whole)
        try:
            written = os.write(number, content)
            while written < len(content):
                written += os.write(number, memoryview(content)[written:])
            return os.fstat(number).st_ino if written >= LARGE else None
        finally:
            os.close(number)

    def install(self, name: str, path: str, replaced: os.stat_result | None) -> None:
        """Put a staged file in the place of another; what was there becomes a staged file.

        Args:
            name: the staged file.
            path: below the directory.
            replaced: as for :meth:`write`; with ``None`` it is renamed, also over a file.

        Raises:
            OSError: nothing was changed.
        """
        staged, whole = self._paths.absolute(name), self._paths.absolute(path)
        if replaced is not None and self._can_exchange:
            try:
                exchange(staged, whole)
            except FileNotFoundError:
                pass  # another program removed it
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                self._can_exchange = False
            else:
                if not _may_be_kept(name, path, replaced):
                    self.discard(name)
                return
        try:
            os.rename(staged, whole)
        except FileNotFoundError:
            if not os.path.lexists(staged):
                raise
            self._paths.make_folder_of(path)
            os.rename(staged, whole)

    def discard(self, name: str) -> None:
        """Remove a staged file, if that is possible.

        Args:
            name: the staged file.
        """
        with suppress(OSError):
            os.unlink(self._paths.absolute(name))

    def purge(self, *beginnings: str) -> int:
        """Remove all staged files: they hold what keys held before, and take space.

        Args:
            beginnings: what their paths begin with; by default :data:`SPARE`.

        Returns:
            How many there were.

        Raises:
            OSError: they cannot be listed, or one cannot be removed.
        """
        with os.scandir(self._paths.absolute(META_DIR)) as entries:
            names = [f'{META_DIR}/{entry.name}' for entry in entries]
        staged = [name for name in names if name.startswith(beginnings or (SPARE,))]
        for name in staged:
            with suppress(FileNotFoundError):
                os.unlink(f'{self._paths.root}/{name}')
        return len(staged)

    def _reopened(self, staged: str, replaces: str, replaced: os.stat_result) -> int | None:
        """Open a staged file that may be written again, emptied; ``None`` if a new one is needed."""
        if _SET_LEASE is None:
            return None
        try:
            number = os.open(staged, os.O_RDWR | SAFELY)
        except OSError:  # it is not there, of another user, or a link; what no new one can be made for, that says
            return None
        try:
            found = os.fstat(number)
            if found.st_nlink == 1 and is_like(number, found, replaces, replaced):
                # SIGURG, which is ignored, instead of SIGIO, which ends the process, if a program opens it meanwhile.
                fcntl.fcntl(number, fcntl.F_SETSIG, signal.SIGURG)
                fcntl.fcntl(number, _SET_LEASE, fcntl.F_WRLCK)
                # What is left of it can be no value, not even after a loss of power. To cut it to nothing takes longer:
                # ext4 writes a file to the disk when it is closed after that.
                os.pwrite(number, b'\0', 0)
                os.ftruncate(number, 1)
                return number
        except OSError:
            pass  # it is open elsewhere, or the file system has no leases
        os.close(number)
        return None


def _may_be_kept(name: str, path: str, replaced: os.stat_result) -> bool:
    """Whether a file that was replaced may stay as a staged one: it is small, and no other users can read it there.

    Users who may open a file in a folder below the directory may not be let into that folder.
    """
    number = int(name[len(SPARE) :])
    limit = MAX_BYTES if number < FEW else MAX_BYTES_OF_MANY if number < MANY else -1
    is_shared = replaced.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return replaced.st_size <= limit and not (is_shared and '/' in path)
