"""The log of what is changed in the table of a store, which triggers keep while a process reads it.

Triggers, because they see every writer: other processes, other programs, versions of this package that know nothing of
them. Where no process reads the log there are none, and a write costs what it did.

Each reader has a row that says up to where it has read. A reader that is ``KEPT`` changes behind loses its row, be it
slow or killed: it has to begin anew. Without any row the triggers do nothing, until a process that opens the file, or
that ends its own reading, removes them.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from learning_observer_kvs.stores.change_feed import MAX_CHARACTERS
from learning_observer_kvs.stores.sqlite.statements import quoted, writing

KEPT = 40_000
"""How many changes the log keeps, at least."""

TRIMMED = 100
"""After how many changes it is made as short again."""

NOTED = KEPT // 4
"""After how many changes a reader's row is brought up to date: each time is a write."""

_EVENTS = {'INSERT': 'NEW.key', 'UPDATE': 'NEW.key', 'DELETE': 'OLD.key'}


class ChangeTable:
    """The log of one table, and its readers.

    Args:
        table: the name of the table, any text.
    """

    def __init__(self, table: str) -> None:
        self._table = quoted(table)
        self._changes = quoted(f'changes of {table}')
        self._readers = quoted(f'readers of changes of {table}')
        self._triggers = {event: quoted(f'{event.lower()} in {table}') for event in _EVENTS}
        self._trigger_name = f'insert in {table}'

    def register(self, connection: sqlite3.Connection, reader: str) -> int:
        """Add a reader; from its end on the log is kept.

        Args:
            connection: to the file of the table.
            reader: the name of the reader.

        Returns:
            The number of the last change before.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        with writing(connection):
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS {self._changes} (number INTEGER PRIMARY KEY, key TEXT NOT NULL)'
            )
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS {self._readers} (reader TEXT PRIMARY KEY, seen INTEGER NOT NULL)'
            )
            # The last change is always kept, so that numbers only grow. A condition on no column is looked at once.
            is_trimming, oldest = f'last_insert_rowid() % {TRIMMED} = 0', f'last_insert_rowid() - {KEPT}'
            for event, key in _EVENTS.items():
                connection.execute(
                    f'CREATE TRIGGER IF NOT EXISTS {self._triggers[event]} AFTER {event} ON {self._table} '
                    f'WHEN EXISTS (SELECT 1 FROM {self._readers}) BEGIN '
                    f'INSERT INTO {self._changes} (key) VALUES ({key}); '
                    f'DELETE FROM {self._changes} WHERE {is_trimming} AND number <= {oldest}; '
                    f'DELETE FROM {self._readers} WHERE {is_trimming} AND seen < {oldest}; END'
                )
            [[seen]] = connection.execute(f'SELECT coalesce(max(number), 0) FROM {self._changes}').fetchall()
            connection.execute(f'INSERT OR REPLACE INTO {self._readers} VALUES (?, ?)', (reader, seen))
        return int(seen)

    def read(self, connection: sqlite3.Connection, reader: str, seen: int) -> tuple[int, list[str] | None] | None:
        """Read the changes after one.

        Args:
            connection: to the file of the table.
            reader: the name of the reader.
            seen: the number of that change.

        Returns:
            The number of the last change, and the keys of all; ``None`` for these if they are too long together.
            ``None`` if the reader is not registered any more.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        connection.execute('BEGIN')
        try:
            if not self._is_there(connection):
                return None
            if not connection.execute(f'SELECT 1 FROM {self._readers} WHERE reader = ?', (reader,)).fetchall():
                return None
            of_interest = f'FROM {self._changes} WHERE number > ?'
            [[last, characters]] = connection.execute(
                f'SELECT coalesce(max(number), 0), coalesce(sum(length(key)), 0) {of_interest}', (seen,)
            ).fetchall()
            if characters > MAX_CHARACTERS:
                return last, None
            keys = connection.execute(f'SELECT key {of_interest} ORDER BY number', (seen,)).fetchall()
            return max(seen, last), [key for (key,) in keys]
        finally:
            connection.execute('COMMIT')

    def note(self, connection: sqlite3.Connection, reader: str, seen: int) -> None:
        """Note up to where a reader has read.

        Args:
            connection: to the file of the table.
            reader: the name of the reader.
            seen: the number of the last change that it has read.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        with writing(connection):
            connection.execute(f'UPDATE {self._readers} SET seen = ? WHERE reader = ?', (seen, reader))

    def remove(self, connection: sqlite3.Connection, reader: str) -> None:
        """Remove a reader, and with the last one the log.

        Args:
            connection: to the file of the table.
            reader: the name of the reader.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        with writing(connection):
            if self._is_there(connection):
                connection.execute(f'DELETE FROM {self._readers} WHERE reader = ?', (reader,))
                self._drop_if_unread(connection)

    def forget(self, connection: sqlite3.Connection) -> None:
        """Remove the log, and all readers, which have to begin anew.

        Args:
            connection: to the file of the table.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        with writing(connection):
            if self._is_there(connection):
                connection.execute(f'DELETE FROM {self._readers}')
                self._drop_if_unread(connection)

    def tidy(self, connection: sqlite3.Connection) -> None:
        """Remove a log that no reader has needed for long: its last one was killed.

        Args:
            connection: to the file of the table.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        if self._is_there(connection) and not self._has_readers(connection):
            with suppress(sqlite3.OperationalError), writing(connection):  # others are writing: the next one does it
                if self._is_there(connection):
                    self._drop_if_unread(connection)

    def _is_there(self, connection: sqlite3.Connection) -> bool:
        found = connection.execute('SELECT 1 FROM sqlite_master WHERE name = ?', (self._trigger_name,))
        return bool(found.fetchall())

    def _has_readers(self, connection: sqlite3.Connection) -> bool:
        return bool(connection.execute(f'SELECT 1 FROM {self._readers} LIMIT 1').fetchall())

    def _drop_if_unread(self, connection: sqlite3.Connection) -> None:
        if not self._has_readers(connection):
            for trigger in self._triggers.values():
                connection.execute(f'DROP TRIGGER {trigger}')
            connection.execute(f'DROP TABLE {self._readers}')
            connection.execute(f'DROP TABLE {self._changes}')
