"""``type: sqlite``: one file, durable when acknowledged, without a server.

One thread writes: all writes that wait become one transaction, and each caller is answered after its COMMIT. Reads run
on the event loop, where they take microseconds; what is large is read by another thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar, Unpack

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.private_files import ACCESS
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.access import MODE, check_access
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import check_position
from learning_observer_kvs.stores.polled import ChangeLog
from learning_observer_kvs.stores.sqlite.change_log import SQLiteChangeLog
from learning_observer_kvs.stores.sqlite.connections import Connections, SQLiteThreads
from learning_observer_kvs.stores.sqlite.database import Database
from learning_observer_kvs.stores.sqlite.existing import ExistingDatabase
from learning_observer_kvs.stores.threaded import ThreadedStore
from learning_observer_kvs.stores.types import CommonOptions, Description

T = TypeVar('T')

MAX_BYTES_ON_LOOP = 512 << 10
"""More bytes than this are not read on the event loop."""

MAX_KEYS_ON_LOOP = 200
"""More keys at once than this are not read on the event loop."""

MAX_CHARACTERS_ON_LOOP = 64 << 10
"""Nor are keys that have more characters together: SQLite reads long keys whole to compare them."""


class SQLiteKVS(ThreadedStore[SQLiteThreads]):
    """A table of one SQLite file, named as the store.

    Several processes on one machine may share the file; every condition of a write is checked inside its transaction.

    Args:
        path: the file; a relative one is taken from the current working directory, ``~`` is the home folder. Made when
            first used, with the directories above it.
        synchronous: ``full``: what is acknowledged survives a loss of power. ``normal``: it survives a crash of the
            process; a loss of power may undo the last of it, never in part.
        mode: who may open the file, if it is made, and folders that are made for it: ``private``: their owner alone.
            ``group``: a group that shares them. What SQLite keeps beside the file is like the file.
        **common: the options of every store; see :class:`~learning_observer_kvs.stores.base.Store`.

    Attributes:
        path: the absolute path of the file.
        access: what the mode says.
    """

    TYPE: ClassVar[str] = 'sqlite'
    SCAN_REPEATS: ClassVar[bool] = False
    IS_ORDERED: ClassVar[bool] = True
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
        MODE,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: str = 'full',
        mode: str = 'private',
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        self.path = Path(absolute(path))
        self.access = ACCESS[mode]
        self._synchronous = synchronous
        self._database = Database(self.path, f'kvs {self.name}', synchronous, self.access)

    def _open_threads(self) -> SQLiteThreads:
        return SQLiteThreads(self._database)

    def location(self) -> str:
        """Return the path of the file."""
        return str(self.path)

    async def health_check(self) -> list[Problem]:
        """Try to write, or to make the file; no data is changed, and a file that is not there is not left there.

        Returns:
            Warnings: another process was writing all the time, so that it could not be tried; others than intended can
            read the file.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        file, threads = self._database.file, self._threads.here()

        def check_missing() -> bool:
            threads.connections.pinned.check()
            if is_missing := file.is_missing():
                file.try_making()
            return is_missing

        if await threads.reader.run(check_missing):
            return []
        found = await self._in_thread(self._database.probe)
        return found + await threads.reader.run(check_access, self.access, *file.paths())

    async def open_existing(self) -> None:
        """Open the file without creating anything, from now on. One that cannot be written is read.

        Raises:
            StoreMissing: there is no such file, or no table of this store in it.
            StoreUnavailable: it cannot be used.
        """
        await self.close()
        self._database = ExistingDatabase(self.path, f'kvs {self.name}', self._synchronous, self.access)
        await self._in_thread(_open)

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read keys, on the event loop where they are few and small.

        Args:
            keys: the keys.

        Returns:
            The stored bytes of each key in order, ``None`` for missing ones.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        if not keys:
            return []
        connections = self._threads.here().connections
        if not connections.has_loop():
            await self._in_thread(_open)  # this may have to make the file
            connections = self._threads.here().connections  # others, if the store was closed meanwhile
        characters = len(keys[0]) if len(keys) == 1 else sum(map(len, keys))
        if len(keys) <= MAX_KEYS_ON_LOOP and characters <= MAX_CHARACTERS_ON_LOOP:
            texts = self._try_on_loop(connections, keys)
            if texts is not None:
                return texts
        return await self._in_thread(self._database.read, keys)

    def _try_on_loop(self, connections: Connections, keys: Sequence[str]) -> list[bytes | None] | None:
        """Read on the event loop; ``None`` if something is large, or it would have to wait.

        Writers do not lock readers out, but a process that repairs the file after a crash of another does.
        """
        try:
            connection = connections.of_loop()
            connections.pinned.check_at_times()
            return self._database.read_small(connection, keys, MAX_BYTES_ON_LOOP // len(keys))
        except sqlite3.Error as error:
            if getattr(error, 'sqlite_errorcode', 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return None
            connections.pinned.check()  # if that is why, it says so
            raise self._database.unavailable(error) from None

    async def _read_hidden(self, name: str) -> bytes | None:
        return await self._in_thread(self._database.hidden.read, name)

    async def _commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        return await self._in_thread(self._database.hidden.commit, name, text, expected)

    async def scrub(self) -> None:
        """Overwrite what removed values have left: free pages are zeroed when they become free, the logs are emptied.

        Raises:
            StoreUnavailable: the log is in use by another process, and can be read.
        """
        await self._retried(lambda: self._in_thread(self._database.change_table.forget))
        await self._retried(lambda: self._in_thread(self._database.hidden.scrub))

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        check_position(cursor, prefix)
        keys = await self._in_thread(self._database.keys, prefix, cursor, limit)
        return keys, keys[-1] if len(keys) == limit else None

    async def _describe(self, keys: Sequence[str]) -> list[Description | None]:
        found = await self._in_thread(self._database.describe, keys)
        return [Description(found[key][0], written=found[key][1]) if key in found else None for key in keys]

    def _make_change_log(self) -> ChangeLog:
        return SQLiteChangeLog(self._database.change_table, self._in_thread)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function with the connection of the reader thread, there."""
        threads = self._threads.here()

        def call() -> T:
            try:
                return function(threads.connections.of_thread(), *arguments)
            finally:
                threads.connections.pinned.check()

        try:
            return await threads.reader.run(call)
        except sqlite3.Error as error:
            raise self._database.unavailable(error) from None


def _open(connection: sqlite3.Connection) -> None:
    """Do nothing with a connection; what was wanted is that it is open."""
