"""The SQLite file of a store: opening it, reading and writing its table, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.private_files import PRIVATE, Access, share_like
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.pinned_files import PinnedFiles
from learning_observer_kvs.stores.sqlite.change_table import ChangeTable
from learning_observer_kvs.stores.sqlite.errors import of_sqlite, of_system, unusable
from learning_observer_kvs.stores.sqlite.file import APPLICATION_ID, DatabaseFile, enable_wal
from learning_observer_kvs.stores.sqlite.hidden import HiddenTable
from learning_observer_kvs.stores.sqlite.statements import Statements, quoted
from learning_observer_kvs.stores.write_request import WriteRequest

BUSY_MS = 1_000
"""Milliseconds that one try waits for another process's transaction; the call tries again until its deadline."""

PROBE_MS = 1_000
"""Milliseconds that a health check waits for it."""

WAL_BYTES = 16 << 20
"""To how many bytes the write-ahead log's file is cut after it has grown larger."""

ROWS = 500
"""How many keys one statement reads."""

LogState: TypeAlias = tuple[int, int, int]
"""Inode number, size and time of the write-ahead log."""

_NO_LIMIT = 1 << 62

_ERRORS_OF_ONE_REQUEST = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_FULL)
"""Errors that one request among many may cause."""


class Database:
    """The table of one store in an SQLite file.

    Args:
        path: the file.
        table: the name of the table, any text.
        synchronous: ``full`` or ``normal``.
        access: who may open the file, if it is made.

    Attributes:
        path, table: as given.
        hidden: what this package keeps about the store beside its table.
        file: the file, as the system sees it.
        change_table: the log of its changes, while a process wants to know them.
    """

    def __init__(self, path: Path, table: str, synchronous: str, access: Access = PRIVATE) -> None:
        self.path = path
        self.file = DatabaseFile(path, access)
        self._synchronous = synchronous
        self.table = table
        self._mode = 'mode=rw'  # for the URI
        self._log = ''  # the path of its log, since it was opened: links are not followed again at each write
        self._table = quoted(table)
        # A value larger than the first parameter is not read: it comes as NULL.
        select = f'SELECT key, CASE WHEN length(value) <= ? THEN value END FROM {self._table} WHERE key'
        self._select_one = f'{select} = ?'
        self._select_several = f'{select} IN'
        self._statements = Statements(self._table)
        self.change_table = ChangeTable(table)
        self.hidden = HiddenTable(path, table)

    def connect(self, pinned: PinnedFiles) -> sqlite3.Connection:
        """Open a connection in autocommit mode; make the file if there is none and none is pinned.

        Args:
            pinned: the first connection pins the file and its log there; the others must open the same ones.

        Returns:
            The connection; any thread may use it.

        Raises:
            StoreUnavailable: the path cannot be used, or another program's data is there; then nothing was touched. Or
                the file was replaced.
        """
        with _opening:
            try:
                return self._open(pinned)
            except OSError as error:
                raise of_system(self.path, error) from None
            except sqlite3.Error as error:
                raise self.unavailable(error) from None

    def connect_without_waiting(self, pinned: PinnedFiles) -> sqlite3.Connection:
        """Open one more connection after :meth:`connect` has opened one; no statement on it ever waits.

        Args:
            pinned: as for :meth:`connect`.

        Returns:
            The connection; any thread may use it.

        Raises:
            StoreUnavailable: the file was replaced.
            sqlite3.Error: it cannot be opened, with ``SQLITE_BUSY`` where that would have to wait.
        """
        connection = self._connect(0)
        try:
            connection.execute('PRAGMA schema_version').fetchone()  # opens the file and its log
            pinned.check()
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, pinned: PinnedFiles) -> sqlite3.Connection:
        """Open a connection while no other thread opens a file; see :meth:`connect`."""
        pinned.check()
        before = self.file.inspect()
        connection = self._connect(BUSY_MS)
        try:
            self._initialize(connection)
            pinned.pin(str(self.path), before)
            _, self._log, shared = self.file.paths()
            for beside in (self._log, shared):
                share_like(beside, before)
                pinned.pin(beside, os.stat(beside))
            pinned.check()
        except BaseException:
            connection.close()
            raise
        self.file.note_open(before)
        return connection

    def _connect(self, wait_ms: int) -> sqlite3.Connection:
        """Open a connection to a file that is there."""
        uri = f'{self.path.as_uri()}?{self._mode}'
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f'PRAGMA busy_timeout = {wait_ms}')
            connection.execute(f'PRAGMA synchronous = {self._synchronous.upper()}')
            connection.execute('PRAGMA secure_delete = ON')  # what is removed is overwritten with zeros
            connection.execute('PRAGMA fullfsync = ON')  # macOS: else what is written may stay in the disk's cache
            connection.execute(f'PRAGMA journal_size_limit = {WAL_BYTES}')
        except BaseException:
            connection.close()
            raise
        return connection

    def _initialize(self, connection: sqlite3.Connection) -> None:
        """Mark a new file, before its log can hold anything, and make sure that the table is there."""
        if connection.execute('PRAGMA application_id').fetchone()[0] != APPLICATION_ID:
            connection.execute('BEGIN IMMEDIATE')
            owner = connection.execute('PRAGMA application_id').fetchone()[0]
            tables = connection.execute('SELECT count(*) FROM sqlite_master').fetchone()[0]
            if owner != APPLICATION_ID and (owner or tables):
                raise unusable(self.path, 'it is the database of another program', 'Choose another path.')
            connection.execute(f'PRAGMA application_id = {APPLICATION_ID}')
            connection.execute('COMMIT')
        enable_wal(connection, self.path, BUSY_MS)
        known = connection.execute('SELECT 1 FROM sqlite_master WHERE name = ?', (self.table,))
        if known.fetchone() is None:
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS {self._table} '
                '(key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, written REAL NOT NULL)'
            )
        self.change_table.tidy(connection)

    def log_state(self) -> LogState | None:
        """Return what changes when another program writes to the log; ``None`` if there is no log."""
        try:
            found = os.stat(self._log)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def empty_log(self, connection: sqlite3.Connection) -> None:
        """Move what the log holds to the file it belongs to, though that is not at its path any more.

        The next program would take the log for that of the file which is there now, and mix the two.

        Args:
            connection: of this database, opened before the file was replaced.
        """
        with suppress(sqlite3.Error):
            connection.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()

    def probe(self, connection: sqlite3.Connection) -> list[Problem]:
        """Try to write; no data is changed.

        Args:
            connection: of this database.

        Returns:
            A warning if another process was writing for ``PROBE_MS``, so that it could not be tried.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        connection.execute(f'PRAGMA busy_timeout = {PROBE_MS}')
        try:
            connection.execute('BEGIN IMMEDIATE')
            try:
                connection.execute(f'DELETE FROM {self._table} WHERE key = ?', ('',))
            finally:
                connection.execute('ROLLBACK')
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            message = f'could not be tried: another process has been writing to {self.path} for {PROBE_MS / 1000:g} s'
            return [Problem('KVS.W010', '', 'path', message, 'If that goes on, look for a transaction left open.')]
        finally:
            connection.execute(f'PRAGMA busy_timeout = {BUSY_MS}')
        return []

    def read_small(
        self, connection: sqlite3.Connection, keys: Sequence[str], max_bytes: int
    ) -> list[bytes | None] | None:
        """Read keys in one statement, unless a value is large.

        Args:
            connection: of this database.
            keys: the keys, one or more.
            max_bytes: how many bytes each value may have.

        Returns:
            The stored bytes of each key in order, ``None`` for missing ones; ``None`` if a value is larger.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        if len(keys) == 1:
            rows = connection.execute(self._select_one, (max_bytes, *keys)).fetchall()
        else:
            marks = ','.join('?' * len(keys))
            rows = connection.execute(f'{self._select_several} ({marks})', (max_bytes, *keys)).fetchall()
        texts: dict[str, bytes] = {}
        for key, value in rows:
            if value is None:
                return None
            texts[key] = _as_bytes(value)
        return [texts.get(key) for key in keys]

    def read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        """Read any number of keys, all as of one moment.

        Args:
            connection: of this database.
            keys: the keys.

        Returns:
            The stored bytes of each key in order, ``None`` for missing ones.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        texts: dict[str, bytes] = {}
        connection.execute('BEGIN')  # one snapshot: never half of a commit
        try:
            for start in range(0, len(keys), ROWS):
                some = keys[start : start + ROWS]
                marks = ','.join('?' * len(some))
                for key, value in connection.execute(f'{self._select_several} ({marks})', (_NO_LIMIT, *some)):
                    texts[key] = _as_bytes(value)
        finally:
            if connection.in_transaction:
                connection.execute('COMMIT')
        return [texts.get(key) for key in keys]

    def write(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        """Process requests in order, in one transaction; set the result or the error of each.

        Args:
            connection: of this database.
            requests: what to write. One whose condition does not hold is left out.

        Raises:
            StoreUnavailable: nothing was written, because of one request among them; the others can be written alone.
        """
        try:
            connection.execute('BEGIN IMMEDIATE')
            self._statements.apply(connection, requests)
            self._commit(connection, requests)
        except sqlite3.Error as error:
            unavailable = self.unavailable(error, ' Nothing was written.')
            if getattr(error, 'sqlite_errorcode', 0) & 0xFF in _ERRORS_OF_ONE_REQUEST:
                raise unavailable from None
            for request in requests:
                request.error = unavailable
        finally:
            if connection.in_transaction:
                connection.execute('ROLLBACK')

    def _commit(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        try:
            connection.execute('COMMIT')
        except sqlite3.Error as error:
            code = error.sqlite_errorcode
            if code & 0xFF != sqlite3.SQLITE_IOERR or code == sqlite3.SQLITE_IOERR_WRITE:
                raise  # a transaction without its end in the log does not count
            unclear = WriteUnclear(
                f'{self.path}: the disk failed while a write was made durable ({error}); it may or may not have been '
                'applied. Read the key to find out.'
            )
            for request in requests:
                request.error = unclear

    def keys(self, connection: sqlite3.Connection, prefix: str, cursor: str | None, limit: int) -> list[str]:
        """Return a page of keys in their order, by the index.

        Args:
            connection: of this database.
            prefix: what the keys begin with.
            cursor: the key after which the page begins; ``None`` for the first page.
            limit: how many keys at most.

        Returns:
            The keys.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        beyond = prefix_end(prefix)
        clauses = ['key >= ?' if cursor is None else 'key > ?'] + ['key < ?'] * (beyond is not None)
        parameters = [prefix if cursor is None else cursor] + [beyond] * (beyond is not None)
        statement = f'SELECT key FROM {self._table} WHERE {" AND ".join(clauses)} ORDER BY key LIMIT ?'
        return [row[0] for row in connection.execute(statement, (*parameters, limit))]

    def describe(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, tuple[int, float]]:
        """Return what is known of some keys.

        Args:
            connection: of this database.
            keys: the keys, as many as a statement can have.

        Returns:
            The bytes of the value and when it was last written (Unix time), of each key that is there.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        marks = ','.join('?' * len(keys))
        # Of a blob SQLite knows the length, and does not read it; a cast one is read.
        size = "CASE typeof(value) WHEN 'blob' THEN length(value) ELSE length(CAST(value AS BLOB)) END"
        statement = f'SELECT key, {size}, written FROM {self._table} WHERE key IN ({marks})'
        return {key: (size, written) for key, size, written in connection.execute(statement, keys)}

    def unavailable(self, error: sqlite3.Error, outcome: str = '') -> StoreUnavailable:
        """Return what an error of SQLite means to the caller of the store.

        Args:
            error: the error; its transaction was rolled back.
            outcome: what the message says at its end.

        Returns:
            The error to raise, with a hint.
        """
        return of_sqlite(self.path, error, outcome)


def _as_bytes(value: bytes | str) -> bytes:
    """Return a stored value as bytes; one that was put in by hand may be text."""
    return value if type(value) is bytes else str(value).encode()


def prefix_end(prefix: str) -> str | None:
    """Return the first text, in the order of code points, after all texts with a prefix.

    Args:
        prefix: the prefix; it may be empty.

    Returns:
        The text; ``None`` if there is none.
    """
    kept = prefix.rstrip('\U0010ffff')
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


_opening = threading.Lock()
"""Held while a file is opened, so that no thread looks at it before it is known to be open."""


def _make_lock() -> None:
    global _opening
    _opening = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_make_lock)
