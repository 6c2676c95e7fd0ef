"""Records about a store in a table of their own, which is made with the first of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.sqlite.statements import quoted, writing


class HiddenTable:
    """The hidden records of one store in an SQLite file.

    Args:
        path: the file.
        table: the name of the store's own table.
    """

    def __init__(self, path: Path, table: str) -> None:
        self._path = path
        self._name = f'lo-kvs hidden {table}'
        self._table = quoted(self._name)

    def read(self, connection: sqlite3.Connection, name: str) -> bytes | None:
        """Return a record.

        Args:
            connection: of the file.
            name: the name of the record.

        Returns:
            The record; ``None`` if there is none.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        known = connection.execute('SELECT 1 FROM sqlite_master WHERE name = ?', (self._name,)).fetchone()
        if known is None:
            return None
        row = connection.execute(f'SELECT value FROM {self._table} WHERE name = ?', (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def commit(self, connection: sqlite3.Connection, name: str, text: bytes | None, expected: bytes | None) -> bool:
        """Write a record, if it is as expected.

        Args:
            connection: of the file.
            name: the name of the record.
            text: the record; ``None`` removes it.
            expected: what it must be.

        Returns:
            Whether it was.

        Raises:
            sqlite3.Error: nothing was written.
        """
        with writing(connection):
            if self.read(connection, name) != expected:
                return False
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS {self._table} (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)'
            )
            connection.execute(f'DELETE FROM {self._table} WHERE name = ?', (name,))
            if text is not None:
                connection.execute(f'INSERT INTO {self._table} VALUES (?, ?)', (name, text))
        return True

    def scrub(self, connection: sqlite3.Connection) -> None:
        """Move everything from the log to the file, and empty the log.

        Args:
            connection: of the file; on it freed pages are overwritten with zeros.

        Raises:
            StoreUnavailable: another process reads from the log just now.
            sqlite3.Error: the file cannot be used.
        """
        [busy, _, _] = connection.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()
        if busy:
            raise StoreUnavailable(
                f'{self._path}: another process reads from the log, which still has what was removed. Run this again.',
                retry=True,
            )
