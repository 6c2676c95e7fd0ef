"""The SQLite connections of a store, one for each thread, and the threads that use them."""

from __future__ import annotations

import sqlite3
from asyncio import AbstractEventLoop, get_running_loop
from contextlib import suppress
from threading import get_ident

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.pinned_files import PinnedFiles, mark_replaced
from learning_observer_kvs.stores.sqlite.database import Database, LogState
from learning_observer_kvs.stores.threads import ReaderThreads, StoreThreads
from learning_observer_kvs.stores.write_request import WriteRequest


class Connections:
    """A connection for each thread of a store and for each event loop that asks; each is closed by what it belongs to.

    Args:
        database: makes the connections.

    Attributes:
        pinned: the files that they have open.
    """

    def __init__(self, database: Database) -> None:
        self.pinned = PinnedFiles()
        self._database = database
        self._by_thread: dict[int, sqlite3.Connection] = {}
        self._by_loop: dict[AbstractEventLoop, sqlite3.Connection] = {}

    def peek(self) -> sqlite3.Connection | None:
        """Return the connection of this thread; ``None`` if it has none."""
        return self._by_thread.get(get_ident())

    def of_thread(self) -> sqlite3.Connection:
        """Return the connection of this thread; open it if there is none, which may have to make the file.

        Returns:
            The connection.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        connection = self.peek()
        if connection is None:
            connection = self._by_thread[get_ident()] = self._database.connect(self.pinned)
        return connection

    def has_loop(self) -> bool:
        """Return whether the running event loop has a connection."""
        return get_running_loop() in self._by_loop

    def of_loop(self) -> sqlite3.Connection:
        """Return the connection of the running event loop, on which no statement waits.

        A thread must have opened its own before, so that the file is known to belong to this package.

        Returns:
            The connection.

        Raises:
            StoreUnavailable: the file was replaced.
            sqlite3.Error: it cannot be opened, with ``SQLITE_BUSY`` where that would have to wait.
        """
        loop = get_running_loop()
        connection = self._by_loop.get(loop)
        if connection is None:
            for closed in [other for other in list(self._by_loop) if other.is_closed()]:
                self._close(self._by_loop.pop(closed, None))
            connection = self._by_loop[loop] = self._database.connect_without_waiting(self.pinned)
        return connection

    def close_thread(self) -> None:
        """Close the connection of this thread."""
        self._close(self._by_thread.pop(get_ident(), None))

    def close_loop(self) -> None:
        """Close the connection of the running event loop. Those of the threads are open, so it need not wait."""
        self._close(self._by_loop.pop(get_running_loop(), None))

    def close_loops(self, *, but_running: bool) -> None:
        """Close the connections of the event loops.

        Args:
            but_running: whether loops that are running may still use theirs, which are left open then.
        """
        for loop in list(self._by_loop):
            if not (but_running and loop.is_running()):
                self._close(self._by_loop.pop(loop, None))

    def _close(self, connection: sqlite3.Connection | None) -> None:
        if connection is not None:
            connection.close()


class SQLiteThreads(StoreThreads):
    """The threads of an SQLite store: one writes, one reads what is not read on the event loop.

    Args:
        database: where the rows are.

    Attributes:
        connections: theirs, and those of the event loops.
        reader: the thread that reads.
    """

    def __init__(self, database: Database) -> None:
        self.connections = Connections(database)
        self._database = database
        self._log: LogState | None = None
        super().__init__(str(database.path), self._write)
        self.reader = ReaderThreads(self, 'kvs-sqlite-reader')

    def detach_loop(self) -> None:
        """Close the running event loop's connection."""
        self.connections.close_loop()

    def _write(self, requests: list[WriteRequest]) -> None:
        try:
            connection = self.connections.of_thread()
            self._check(connection)
        except StoreUnavailable as error:
            for request in requests:
                request.error = error
            return
        try:
            self._database.write(connection, requests)
        finally:
            self._log = self._database.log_state()
            try:
                self._check(connection)  # what is acknowledged is in the file that was there after COMMIT
            except StoreUnavailable as replaced:
                mark_replaced(requests, replaced)

    def _check(self, connection: sqlite3.Connection) -> None:
        try:
            self.connections.pinned.check()
        except StoreUnavailable:
            if self._log is not None and self._log == self._database.log_state():  # else another program writes to it
                self._database.empty_log(connection)
            raise

    def _close_thread(self) -> None:
        connection = self.connections.peek()
        if connection is not None:
            with suppress(StoreUnavailable):
                self._check(connection)
            self.connections.close_thread()

    def _close_resources(self, *, exiting: bool) -> None:
        self.connections.close_loops(but_running=exiting)
