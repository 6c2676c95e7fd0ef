"""The SQLite connections of a store, one for each thread, and the threads that use them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from threading import get_ident

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.sqlite.database import Database
from learning_observer_kvs.stores.threaded import StoreThreads
from learning_observer_kvs.stores.write_queue import WriteRequest


class Connections:
    """A connection for each thread that asks.

    Args:
        database: makes the connections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_thread: dict[int, sqlite3.Connection] = {}

    def peek(self) -> sqlite3.Connection | None:
        """Return the connection of this thread; ``None`` if it has none."""
        return self._by_thread.get(get_ident())

    def here(self) -> sqlite3.Connection:
        """Return the connection of this thread; open it if there is none, which may have to make the file.

        Returns:
            The connection.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        connection = self.peek()
        if connection is None:
            connection = self._by_thread[get_ident()] = self._database.connect()
        return connection

    def here_without_waiting(self) -> sqlite3.Connection:
        """Return the connection of this thread, an event loop's, on which no statement waits.

        Another connection must have been opened before, so that the file is known to belong to this package.

        Returns:
            The connection.

        Raises:
            sqlite3.Error: it cannot be opened, with ``SQLITE_BUSY`` where that would have to wait.
        """
        connection = self.peek()
        if connection is None:
            connection = self._by_thread[get_ident()] = self._database.connect_without_waiting()
        return connection

    def detach_here(self) -> Callable[[], None]:
        """Let go of the connection of this thread.

        Returns:
            A function that closes it; it may block.
        """
        connection = self._by_thread.pop(get_ident(), None)
        return connection.close if connection is not None else lambda: None

    def close_here(self) -> None:
        """Close the connection of this thread."""
        self.detach_here()()

    def close(self) -> None:
        """Close all connections; no thread may use one any more."""
        while self._by_thread:
            self._by_thread.popitem()[1].close()


class SQLiteThreads(StoreThreads):
    """The threads of an SQLite store: one writes, one reads what is not read on the event loop.

    Args:
        database: where the rows are.
    """

    def __init__(self, database: Database) -> None:
        self.connections = Connections(database)
        self._database = database
        super().__init__(self._write, self.connections.close_here)
        self.reader = self.make_pool('kvs-sqlite-reader', 1)

    def detach_loop(self) -> Callable[[], None]:
        """Let go of the event loop's connection.

        Returns:
            A function that closes it; it may block.
        """
        return self.connections.detach_here()

    def _write(self, requests: list[WriteRequest]) -> None:
        try:
            connection = self.connections.here()
        except StoreUnavailable as error:
            for request in requests:
                request.error = error
        else:
            self._database.write(connection, requests)

    def _close_resources(self) -> None:
        self.connections.close()
