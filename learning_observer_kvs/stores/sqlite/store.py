"""``type: sqlite``: one file, durable when acknowledged, no server.

One thread writes: all writes that wait become one transaction, and each caller is answered after its COMMIT. Reads run
on the event loop, where they take microseconds; what is large is read by a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, TypeVar, Unpack

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.sqlite.database import Database, as_bytes
from learning_observer_kvs.stores.threaded import WriterThread, end_pool
from learning_observer_kvs.stores.types import CommonOptions, Description
from learning_observer_kvs.stores.write_queue import OnBatchDone, QueuedStore, WriteBatch, WriteRequest

T = TypeVar('T')

READ_HERE = 256 << 10
"""More bytes than this are not read on the event loop."""

KEYS_HERE = 50
"""Nor are more keys at once than this."""


class SQLiteKVS(QueuedStore):
    """A table of one SQLite file, named as the store.

    Several processes on one machine may share the file; every condition of a write is checked inside its transaction.

    Args:
        path: the file; a relative one is taken from the working directory of now. Made when first used, with the
            folders above it.
        synchronous: ``full``: what is acknowledged survives a loss of power. ``normal``: it survives a crash of the
            process; a loss of power may undo the last of it, never in part.
    """

    TYPE: ClassVar[str] = 'sqlite'
    SCAN_REPEATS: ClassVar[bool] = False
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *Store.COMMON,
        Option('path', 'path', required=True, doc='the database file, such as .lo_kvs/state.sqlite3.'),
        Option(
            'synchronous',
            'choice',
            default='full',
            choices=('full', 'normal'),
            doc='whether an acknowledged write survives a loss of power, too.',
        ),
    )

    def __init__(
        self, path: str | os.PathLike[str], synchronous: str = 'full', **common: Unpack[CommonOptions]
    ) -> None:
        super().__init__(**common)
        self.path = Path(os.path.abspath(path))
        self._database = Database(self.path, f'kvs {self.name}', synchronous)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._connections = Connections(self._database)
        self._writer = WriterThread(self._connections.write, self._connections.close_here)
        self._readers = ThreadPoolExecutor(1, thread_name_prefix='kvs-sqlite-reader')
        self._end = weakref.finalize(self, _end, self._writer, self._readers, self._connections)

    def _own(self) -> None:
        """A forked child must not use the connections of its parent, nor close them."""
        if self._pid != os.getpid():
            self._end.detach()
            _INHERITED.append(self._connections)
            self._start()

    def location(self) -> str:
        return str(self.path)

    async def health_check(self) -> list[Problem]:
        self._own()
        return await self._in_thread(self._probe)

    def _probe(self) -> list[Problem]:
        return self._database.probe(self._connections.here())

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        self._own()
        if not self._connections.is_open_here():
            await self._in_thread(self._connections.here)  # this may have to make the file
        if len(keys) <= KEYS_HERE:
            found = self._try_here(keys)
            if found is not None:
                return found
        return await self._in_thread(self._read_all, keys)

    def _try_here(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """Read on the event loop; ``None`` if something is large, or it would have to wait.

        Writers lock no reader out, but another process that repairs the file after a crash does.
        """
        each = READ_HERE // len(keys)
        try:
            connection = self._connections.here_without_waiting()
            if len(keys) == 1:
                rows = connection.execute(self._database.one, (each, *keys)).fetchall()
            else:
                marks = ','.join('?' * len(keys))
                rows = connection.execute(f'{self._database.several} ({marks})', (each, *keys)).fetchall()
        except sqlite3.Error as error:
            if getattr(error, 'sqlite_errorcode', 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return None
            raise self._database.unavailable(error) from None
        found: dict[str, bytes] = {}
        for key, value in rows:
            if value is None:
                return None
            found[key] = as_bytes(value)
        return [found.get(key) for key in keys]

    def _read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        connection = self._connections.here()
        found: dict[str, bytes] = {}
        connection.execute('BEGIN')  # one snapshot: never half of a commit
        try:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                marks = ','.join('?' * len(some))
                for key, value in connection.execute(f'{self._database.several} ({marks})', (1 << 62, *some)):
                    found[key] = as_bytes(value)
        finally:
            if connection.in_transaction:
                connection.execute('COMMIT')
        return [found.get(key) for key in keys]

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._own()
        self._writer.submit(batch, on_batch_done)

    async def _clear(self) -> None:
        await self._outcome({}, {}, clear=True)

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        self._own()
        keys = await self._in_thread(self._keys, prefix, cursor, limit)
        return keys, keys[-1] if len(keys) == limit else None

    def _keys(self, prefix: str, cursor: str | None, limit: int) -> list[str]:
        return self._database.keys(self._connections.here(), prefix, cursor, limit)

    async def _describe(self, key: str) -> Description | None:
        self._own()
        row = await self._in_thread(self._row, key)
        return None if row is None else Description(row[0], written=row[1])

    def _row(self, key: str) -> tuple[int, float] | None:
        return self._database.describe(self._connections.here(), key)

    async def _close(self) -> None:
        await self._drain()
        self._own()
        self._end.detach()
        ended = (self._writer, self._readers, self._connections)
        self._start()
        await asyncio.get_running_loop().run_in_executor(None, _end, *ended)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)
        except sqlite3.Error as error:
            raise self._database.unavailable(error) from None


class Connections:
    """A connection for each thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_thread: dict[int, sqlite3.Connection] = {}

    def is_open_here(self) -> bool:
        """Whether this thread has one."""
        return threading.get_ident() in self._by_thread

    def here_without_waiting(self) -> sqlite3.Connection:
        """The one of this thread, an event loop's; another one must have been made before."""
        connection = self._by_thread.get(threading.get_ident())
        if connection is None:
            connection = self._by_thread[threading.get_ident()] = self._database.connect_again()
        return connection

    def here(self) -> sqlite3.Connection:
        """The one of this thread."""
        connection = self._by_thread.get(threading.get_ident())
        if connection is None:
            connection = self._by_thread[threading.get_ident()] = self._database.connect()
        return connection

    def write(self, requests: list[WriteRequest]) -> None:
        """In the writing thread."""
        try:
            connection = self.here()
        except StoreUnavailable as refusal:
            for request in requests:
                request.error = refusal
        else:
            self._database.write(connection, requests)

    def close_here(self) -> None:
        """Close the one of this thread."""
        connection = self._by_thread.pop(threading.get_ident(), None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close all; nobody reads any more."""
        while self._by_thread:
            self._by_thread.popitem()[1].close()


_INHERITED: list[Connections] = []
"""Connections of the parent of this process. They are kept, because dropping one would close it."""


def _end(writer: WriterThread, readers: ThreadPoolExecutor, connections: Connections) -> None:
    writer.close()
    end_pool(readers)
    connections.close()
