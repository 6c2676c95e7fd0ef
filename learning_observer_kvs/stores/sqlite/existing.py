"""The table of a store that must be there: it is opened without creating anything.

Where nothing can be written, it is read.

A file that this user may not write, or that is on a read-only disk, is read with the log that its writers have open.
Without a log no process has it open, and SQLite is made to believe that it never changes: anything else would leave
files beside it. If one begins to write meanwhile, what was read is not returned.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.private_files import may_write
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.pinned_files import PinnedFiles
from learning_observer_kvs.stores.sqlite.database import Database
from learning_observer_kvs.stores.sqlite.errors import unusable

P = ParamSpec('P')
T = TypeVar('T')

_TO_WRITE = 'mode=rw'
_IMMUTABLE = 'mode=ro&immutable=1'
_WITH_LOG = 'mode=ro&readonly_shm=1'


def _unless_changed(read: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Return a method that reads as another one does, and raises if a log has appeared beside an immutable file."""

    @wraps(read)
    def read_unchanged(self: ExistingDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found = read(self, *args, **kwargs)
        if self._mode == _IMMUTABLE and _size(self.file.paths()[1]):
            raise unusable(self.path, 'another program has begun to write to it', 'Run this again.')
        return found

    return read_unchanged


class ExistingDatabase(Database):
    """The table of one store in an SQLite file, of which nothing is created; see :class:`Database`."""

    def _open(self, pinned: PinnedFiles) -> sqlite3.Connection:
        """Open a connection; raise ``StoreMissing`` if the file, or the table in it, is not there."""
        if self.file.is_missing():
            raise self._missing('There is no file')
        if may_write(self.path) and may_write(self.path.parent):
            return super()._open(pinned)
        found = self.file.inspect(only_read=True)
        _, log, shared = self.file.paths()
        if not _size(log):
            self._mode = _IMMUTABLE
        elif os.path.lexists(shared):
            self._mode = _WITH_LOG
        else:
            raise unusable(
                self.path,
                f'it cannot be written here, and {log} has changes that are not in it yet',
                'Copy both to a folder that can be written, and read them there.',
            )
        connection = self._connect(0)
        try:
            self._initialize(connection)
        except BaseException:
            connection.close()
            raise
        self.file.note_open(found)
        return connection

    def probe(self, connection: sqlite3.Connection) -> list[Problem]:
        """Try to write, unless the file is only read.

        Args:
            connection: of this database.

        Returns:
            As :meth:`Database.probe` does.
        """
        return super().probe(connection) if self._mode == _TO_WRITE else []

    read_small = _unless_changed(Database.read_small)
    read = _unless_changed(Database.read)
    keys = _unless_changed(Database.keys)
    describe = _unless_changed(Database.describe)

    def _initialize(self, connection: sqlite3.Connection) -> None:
        """Make sure that the table is there."""
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if self.table.lower() not in map(str.lower, tables):  # SQLite ignores case
            stores = sorted(name.removeprefix('kvs ') for name in tables if name.startswith('kvs '))
            others = ', '.join(map(repr, stores)) or 'no store at all'
            raise self._missing(f'There is no such store in the file; it holds {others}')

    def _missing(self, message: str) -> StoreMissing:
        return StoreMissing(f'{message}: {self.path}.')


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
