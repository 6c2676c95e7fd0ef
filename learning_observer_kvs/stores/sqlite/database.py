"""The SQLite file of a store: its table, its statements, and what its errors mean."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.sqlite.statements import Statements
from learning_observer_kvs.stores.write_queue import WriteRequest

APPLICATION_ID = 0x4C4F4B56
"""Marks a file as ours (``LOKV``); a database of another program is never touched."""

BUSY_MS = 10_000
"""How long a write waits for another process's transaction."""

LOG_BYTES = 16 << 20
"""What is kept of the write-ahead log's file when it has grown larger."""

_BY_ITSELF = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_FULL)
"""Errors that may be the fault of one request among many."""
PROBE_MS = 1_000
"""How long the start waits for it, only to try."""

_HINTS = {
    sqlite3.SQLITE_TOOBIG: 'The value is larger than SQLite takes.',
    sqlite3.SQLITE_FULL: 'Make room on the disk.',
    sqlite3.SQLITE_READONLY: 'Make the file and its folder writable for this user.',
    sqlite3.SQLITE_CANTOPEN: 'Make its folder writable for this user, or choose another path.',
    sqlite3.SQLITE_PERM: 'Make the file and its folder writable for this user.',
    sqlite3.SQLITE_BUSY: 'Another process held it for too long; look for a transaction left open.',
    sqlite3.SQLITE_NOTADB: 'This is no SQLite file; choose another path.',
    sqlite3.SQLITE_CORRUPT: 'The file is damaged; restore it from a copy, or try sqlite3 with ".recover".',
    sqlite3.SQLITE_IOERR: 'The disk reports an error; look at the system log.',
}


class Database:
    """Where one store's rows are.

    Args:
        path: the file.
        table: the table of this store, any text.
        synchronous: ``full`` or ``normal``.
    """

    def __init__(self, path: Path, table: str, synchronous: str) -> None:
        self.path = path
        self._synchronous = synchronous
        self._table = quoted = '"' + table.replace('"', '""') + '"'
        # What is larger than the first parameter is not read here: its value comes as NULL.
        select = f'SELECT key, CASE WHEN length(value) <= ? THEN value END FROM {quoted} WHERE key'
        self.one = f'{select} = ?'
        self.several = f'{select} IN'
        self._statements = Statements(quoted)

    def connect(self) -> sqlite3.Connection:
        """A new connection, in autocommit, to the file that is made if need be.

        Raises:
            StoreUnavailable: the path cannot be used, or another program's data is there; then nothing was touched.
        """
        with _OPENING:
            try:
                self._look()
                connection = self._connected(BUSY_MS)
                try:
                    self._claim(connection)
                    found = os.stat(self.path)
                except BaseException:
                    connection.close()
                    raise
            except OSError as error:
                raise self._refused(str(error.strerror), 'Choose another path.') from None
            except sqlite3.Error as error:
                raise self.unavailable(error) from None
            _OURS.add((found.st_dev, found.st_ino))
        return connection

    def connect_again(self) -> sqlite3.Connection:
        """One more, when :meth:`connect` has made one. It never waits.

        Raises:
            sqlite3.Error: with ``SQLITE_BUSY`` where it would have to wait.
        """
        return self._connected(0)

    def _connected(self, wait_ms: int) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f'PRAGMA busy_timeout = {wait_ms}')
            connection.execute(f'PRAGMA synchronous = {self._synchronous.upper()}')
            connection.execute('PRAGMA fullfsync = ON')  # macOS: else what is written may stay in the disk's cache
            connection.execute(f'PRAGMA journal_size_limit = {LOG_BYTES}')
        except BaseException:
            connection.close()
            raise
        return connection

    def _look(self) -> None:
        """Look at the file without SQLite, which might touch what another program left beside it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            raise self._refused('it is a folder', 'Give the path of a file.')
        if not stat.S_ISREG(found.st_mode):
            raise self._refused('it is no regular file', 'Choose another path.')
        # Closing a file drops the locks of the whole process on it, so one that SQLite has open is not opened here.
        if not found.st_size or (found.st_dev, found.st_ino) in _OURS:
            return
        with open(self.path, 'rb') as file:
            head = file.read(100)
        if not head.startswith(b'SQLite format 3\0'):
            raise self._refused('it is no SQLite file', 'Choose another path; it was not touched.')
        if head[68:72] != APPLICATION_ID.to_bytes(4, 'big'):
            raise self._refused('it is the database of another program', 'Choose another path; it was not touched.')

    def _claim(self, connection: sqlite3.Connection) -> None:
        """Mark a new file as ours, before its log can hold anything, and make sure that the table is there."""
        if connection.execute('PRAGMA application_id').fetchone()[0] != APPLICATION_ID:
            connection.execute('BEGIN IMMEDIATE')
            owner = connection.execute('PRAGMA application_id').fetchone()[0]
            tables = connection.execute('SELECT count(*) FROM sqlite_master').fetchone()[0]
            if owner != APPLICATION_ID and (owner or tables):
                raise self._refused('it is the database of another program', 'Choose another path.')
            connection.execute(f'PRAGMA application_id = {APPLICATION_ID}')
            connection.execute('COMMIT')
        self._keep_a_log(connection)
        known = connection.execute(
            'SELECT 1 FROM sqlite_master WHERE name = ?', (self._table[1:-1].replace('""', '"'),)
        )
        if known.fetchone() is None:
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS {self._table} '
                '(key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, written REAL NOT NULL)'
            )

    def _keep_a_log(self, connection: sqlite3.Connection) -> None:
        """Readers and writers do not wait for one another when changes go to a write-ahead log."""
        deadline = time.monotonic() + BUSY_MS / 1000
        while True:
            try:
                [mode] = connection.execute('PRAGMA journal_mode = WAL').fetchone()
                break
            except sqlite3.OperationalError as error:
                # This statement does not wait by itself while another process does the same.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.random() / 100)
        if mode != 'wal':
            raise self._refused('this disk cannot share memory among processes', 'Choose a path on a local disk.')

    def probe(self, connection: sqlite3.Connection) -> list[Problem]:
        """Try to write; while another process writes, that is all that can be said.

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

    def write(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        """All requests in one transaction, in order; one whose condition fails is left out and told so.

        Raises:
            StoreUnavailable: nothing of all was written; each by itself might be.
        """
        try:
            connection.execute('BEGIN IMMEDIATE')
            self._statements.apply(connection, requests)
            self._commit(connection, requests)
        except sqlite3.Error as error:
            refusal = self.unavailable(error)
            if getattr(error, 'sqlite_errorcode', 0) & 0xFF in _BY_ITSELF:
                raise refusal from None
            for request in requests:
                request.error = refusal
        finally:
            if connection.in_transaction:
                connection.execute('ROLLBACK')

    def _commit(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        try:
            connection.execute('COMMIT')
        except sqlite3.Error as error:
            code = error.sqlite_errorcode
            if code & 0xFF != sqlite3.SQLITE_IOERR or code == sqlite3.SQLITE_IOERR_WRITE:
                raise  # a log without the end of the transaction is none
            unclear = WriteUnclear(
                f'{self.path}: the disk failed while a write was made durable ({error}); it may be there or not. '
                'Read the key again.'
            )
            for request in requests:
                request.error = unclear

    def keys(self, connection: sqlite3.Connection, prefix: str, cursor: str | None, limit: int) -> list[str]:
        """A page of keys in their order, by the index."""
        beyond = after_prefix(prefix)
        clauses = ['key >= ?' if cursor is None else 'key > ?'] + ['key < ?'] * (beyond is not None)
        parameters = [prefix if cursor is None else cursor] + [beyond] * (beyond is not None)
        statement = f'SELECT key FROM {self._table} WHERE {" AND ".join(clauses)} ORDER BY key LIMIT ?'
        return [row[0] for row in connection.execute(statement, (*parameters, limit))]

    def describe(self, connection: sqlite3.Connection, key: str) -> tuple[int, float] | None:
        """Bytes and time of writing."""
        statement = f'SELECT length(CAST(value AS BLOB)), written FROM {self._table} WHERE key = ?'
        row: tuple[int, float] | None = connection.execute(statement, (key,)).fetchone()
        return row

    def unavailable(self, error: sqlite3.Error) -> StoreUnavailable:
        """What an error of SQLite means to the caller."""
        code = getattr(error, 'sqlite_errorcode', 0) & 0xFF
        return self._refused(str(error), f'{_HINTS.get(code, "Look at the file and its disk.")} Nothing was written.')

    def _refused(self, message: str, hint: str) -> StoreUnavailable:
        return StoreUnavailable(f'{self.path} cannot be used: {message}. {hint}')


def as_bytes(value: bytes | str) -> bytes:
    """A stored value; one that was put in by hand may be text."""
    return value if type(value) is bytes else str(value).encode()


def after_prefix(prefix: str) -> str | None:
    """The first text in the order of code points that is beyond every text with the prefix; ``None`` if none is."""
    kept = prefix.rstrip('\U0010ffff')
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


_OPENING = threading.Lock()
_OURS: set[tuple[int, int]] = set()
"""The files that this process has, or had, open; each by device and number."""


def _forked() -> None:
    global _OPENING
    _OPENING = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_forked)
