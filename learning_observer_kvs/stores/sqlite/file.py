"""The file of a database as the system sees it, before SQLite opens it, and what SQLite keeps beside it."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

from learning_observer_kvs.private_files import Access, make_file, make_folders, may_write, trial_folder
from learning_observer_kvs.stores.pinned_files import FileIdentity, identity
from learning_observer_kvs.stores.sqlite.errors import of_sqlite, of_system, unusable

APPLICATION_ID = 0x4C4F4B56
"""Marks a file as one of this package (``LOKV``); a database of another program is never touched."""

_OPENED: set[FileIdentity] = set()
"""The files that this process has, or had, open."""


class DatabaseFile:
    """One file, which need not be there.

    Args:
        path: where it is, absolute; it may be a link.
        access: who may open the file, if it is made.
    """

    def __init__(self, path: Path, access: Access) -> None:
        self._path = path
        self._access = access

    def paths(self) -> tuple[str, str, str]:
        """Return the paths of the file, its log, and the memory that processes share, without links."""
        path = os.path.realpath(self._path)
        return path, f'{path}-wal', f'{path}-shm'

    def is_missing(self) -> bool:
        """Return whether there is no such file, so that opening it would make one."""
        return not os.path.exists(self._path)

    def try_making(self) -> None:
        """Try to make such a file, in a folder that is removed again.

        Raises:
            StoreUnavailable: it cannot be made.
        """
        try:
            with (
                trial_folder(self._new()) as folder,
                closing(sqlite3.connect(f'{folder}/trial', isolation_level=None)) as connection,
            ):
                enable_wal(connection, self._path, 0)
                connection.execute('CREATE TABLE trial (key TEXT)')
        except OSError as error:
            raise of_system(self._path, error) from None
        except sqlite3.Error as error:
            raise of_sqlite(self._path, error) from None

    def inspect(self, *, only_read: bool = False) -> os.stat_result:
        """Look at the file without SQLite, which might touch what another program left beside it; make a missing one.

        Args:
            only_read: whether it is opened so that SQLite makes nothing beside it.

        Returns:
            What the file system knows of it.

        Raises:
            StoreUnavailable: it is not a database of this package, or opening it would keep its owner from writing.
            OSError: it cannot be looked at, or made.
        """
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            make_folders(os.path.dirname(self._path), self._access)
            make_file(self._new(), self._access)
            found = os.stat(self._path)
        if stat.S_ISDIR(found.st_mode):
            raise unusable(self._path, 'it is a folder', 'Give the path of a file.')
        if not stat.S_ISREG(found.st_mode):
            raise unusable(self._path, 'it is not a regular file', 'Choose another path.')
        if not only_read:
            self._refuse_to_lock_out(found)
        # Closing a file drops the locks of the whole process on it, so one that SQLite has open is not opened here.
        if not found.st_size or identity(found) in _OPENED:
            return found
        with open(self._path, 'rb') as file:
            head = file.read(100)
        if not head.startswith(b'SQLite format 3\0'):
            raise unusable(self._path, 'it is not an SQLite file', 'Choose another path; it was not touched.')
        if head[68:72] != APPLICATION_ID.to_bytes(4, 'big'):
            raise unusable(
                self._path, 'it is the database of another program', 'Choose another path; it was not touched.'
            )
        return found

    def note_open(self, found: os.stat_result) -> None:
        """Have :meth:`inspect` not open the file any more, because SQLite has it open now.

        Args:
            found: what :meth:`inspect` returned.
        """
        _OPENED.add(identity(found))

    def _new(self) -> str:
        """The path at which a missing file is made: of a link that leads to nothing the path that it leads to."""
        return self.paths()[0] if self._path.is_symlink() else str(self._path)

    def _refuse_to_lock_out(self, found: os.stat_result) -> None:
        """Raise if SQLite would make files beside this one that its owner could not write."""
        path, *beside = self.paths()
        if found.st_uid == os.geteuid() or may_write(path) or not may_write(os.path.dirname(path)):
            return
        if not all(map(os.path.lexists, beside)):
            raise unusable(
                self._path,
                'this user may not write it, and what SQLite makes beside it would keep its owner from writing',
                'Let this user write it, run this as its owner, or run it while a server has it open.',
            )


def enable_wal(connection: sqlite3.Connection, path: Path, wait_ms: int) -> None:
    """Have changes go to a write-ahead log, so that readers and writers do not wait for one another.

    Args:
        connection: to the file.
        path: the file that the errors name.
        wait_ms: how long to wait for another process that does the same.

    Raises:
        StoreUnavailable: the disk cannot do that.
        sqlite3.Error: SQLite cannot do that.
    """
    deadline = time.monotonic() + wait_ms / 1000
    while True:
        try:
            [mode] = connection.execute('PRAGMA journal_mode = WAL').fetchone()
            break
        except sqlite3.OperationalError as error:
            # This statement ignores the busy timeout while another process executes it.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(random.random() / 100)
    if mode != 'wal':
        raise unusable(path, 'this disk cannot share memory among processes', 'Choose a path on a local disk.')
