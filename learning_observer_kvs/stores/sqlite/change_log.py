"""A reader of the log of an SQLite store: one look costs what SQLite needs to see whether the file has changed."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

from learning_observer_kvs.stores.sqlite.change_table import NOTED, ChangeTable


class SQLiteChangeLog:
    """Reads the log of one store for one event loop.

    Args:
        table: the log.
        in_thread: calls a function with the connection of the thread that reads, there.
    """

    def __init__(self, table: ChangeTable, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._table = table
        self._in_thread = in_thread
        self._reader = uuid.uuid4().hex
        self._seen = self._noted = 0
        self._version: tuple[int, int] | None = None

    async def begin(self) -> None:
        """Have writers keep the log.

        Raises:
            StoreUnavailable, Overloaded: the file cannot be written.
        """
        await self._in_thread(self._begin)

    async def read(self) -> Collection[str] | None:
        """Return the keys that were changed since the last call.

        Returns:
            The keys; ``None`` if not all of them are known.

        Raises:
            StoreUnavailable, Overloaded: the file cannot be read, or written.
        """
        keys: Collection[str] | None = await self._in_thread(self._read)
        return keys

    async def end(self) -> None:
        """Have writers keep no log any more, if no other reader needs it.

        Raises:
            StoreUnavailable, Overloaded: the file cannot be written.
        """
        await self._in_thread(self._table.remove, self._reader)

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._version = None
        self._seen = self._noted = self._table.register(connection, self._reader)

    def _read(self, connection: sqlite3.Connection) -> Collection[str] | None:
        version = _version(connection)
        if version == self._version:
            return ()
        found = self._table.read(connection, self._reader, self._seen)
        if found is None:
            self._begin(connection)
            return None
        self._version = version
        self._seen, keys = found
        if self._seen - self._noted > NOTED:
            with suppress(sqlite3.OperationalError):  # others are writing: then after the next look
                self._table.note(connection, self._reader, self._seen)
                self._noted = self._seen
        return keys


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return what is another value after other connections have changed the file; those of other files differ, too."""
    return id(connection), connection.execute('PRAGMA data_version').fetchone()[0]
