"""``type: filesystem``: a readable file for each key."""

from __future__ import annotations

import os
import time
from asyncio import get_running_loop
from collections.abc import Sequence
from typing import ClassVar, Unpack

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.private_files import ACCESS, may_write
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.access import MODE, check_access
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.change_log import FilesystemChangeLog
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.filesystem.pace import Pace
from learning_observer_kvs.stores.polled import ChangeLog
from learning_observer_kvs.stores.threaded import ThreadedStore
from learning_observer_kvs.stores.threads import ReaderThreads, StoreThreads
from learning_observer_kvs.stores.types import CommonOptions, Description
from learning_observer_kvs.stores.write_queue import OnBatchDone
from learning_observer_kvs.stores.write_request import WriteBatch


class FilesystemThreads(StoreThreads):
    """The threads of a filesystem store: one writes, two read, one lists; a long listing delays no read.

    Args:
        location: the path of the directory.
        files: what they work on.

    Attributes:
        files: as given.
        pace: which writes are done in the event loop instead.
        readers, scanner: the threads that read and the one that lists.
    """

    def __init__(self, location: str, files: Files) -> None:
        super().__init__(location, files.write)
        self.files = files
        self.pace = Pace()
        self.readers = ReaderThreads(self, 'kvs-files-reader', 2)
        self.scanner = ReaderThreads(self, 'kvs-files-scanner')

    def _close_resources(self, *, exiting: bool) -> None:
        self.files.close()


class FilesystemKVS(ThreadedStore[FilesystemThreads]):
    """One JSON file a key, indented for people; for workshops, debugging and small caches.

    What is acknowledged survives a crash of the process. A loss of power may undo or damage what was written in the
    last seconds, as the file system writes to the disk when it sees fit; a damaged key raises ``CorruptValue``. Other
    files in the directory are not keys and are left alone.

    Args:
        path: the directory; a relative one is taken from the current working directory, ``~`` is the home folder. Made
            at the first write.
        subdirs: whether slashes in keys become subdirectories.
        mode: who may open new files and folders: ``private``: their owner alone. ``group``: a group that shares them.
            What replaces a file keeps the mode, owner and group of that one.
        **common: the options of every store; see :class:`~learning_observer_kvs.stores.base.Store`.

    Attributes:
        path: the absolute path of the directory.
        subdirs: as given.
        access: what the mode says.
        directory: what reads and changes its files.
    """

    TYPE: ClassVar[str] = 'filesystem'
    SCAN_REPEATS: ClassVar[bool] = False
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *Store.COMMON,
        Option('path', 'path', required=True, doc='the folder, such as .lo_kvs.'),
        Option('subdirs', 'boolean', default=False, doc='whether slashes in keys become sub-folders.'),
        MODE,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        subdirs: bool = False,
        mode: str = 'private',
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        self.path = absolute(path)
        self.subdirs = subdirs
        self.access = ACCESS[mode]
        self.directory = Directory(self.path, access=self.access)
        self._is_read_only = False

    def _open_threads(self) -> FilesystemThreads:
        return FilesystemThreads(self.path, Files(self.directory, self.subdirs))

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        threads = self._threads.here()
        if not threads.is_ending and threads.pace.try_write(threads.files.write_at_once, batch):
            get_running_loop().call_soon(on_batch_done, batch)
        else:
            threads.writer.submit(batch, on_batch_done)

    def location(self) -> str:
        """Return the path of the directory."""
        return self.path

    async def health_check(self) -> list[Problem]:
        """Try to write into the directory, or to make it; nothing is changed, and nothing is left.

        Returns:
            A warning if others than intended can read the directory.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        if self._is_read_only:
            return []
        threads = self._threads.here()
        await threads.readers.run(threads.files.probe)
        return await threads.readers.run(check_access, self.access, self.path)

    async def open_existing(self) -> None:
        """Make sure that the directory is there. Reading creates nothing in it.

        Raises:
            StoreMissing: it is not there.
        """
        if not await self._threads.here().readers.run(os.path.exists, self.path):
            raise StoreMissing(f'There is no folder: {self.path}.')
        self._is_read_only = not may_write(self.path)

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read keys in a thread, several as of one moment.

        Args:
            keys: the keys.

        Returns:
            The stored bytes of each key in order, ``None`` for missing ones.

        Raises:
            StoreUnavailable: the directory cannot be used.
            CorruptValue: a file does not hold the key it is named for.
        """
        threads = self._threads.here()
        return await threads.readers.run(threads.files.read, keys)

    async def unrecognized(self, limit: int = 20) -> list[str]:
        """Return the files that look like those of keys and are not, so that no call finds them.

        Args:
            limit: how many at most.

        Returns:
            Their absolute paths.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        threads = self._threads.here()
        return await threads.scanner.run(threads.files.unrecognized, limit)

    def _make_change_log(self) -> ChangeLog:
        threads = self._threads.here()
        return FilesystemChangeLog(threads.files, threads.readers)

    async def _read_hidden(self, name: str) -> bytes | None:
        threads = self._threads.here()
        return await threads.readers.run(threads.files.read_hidden, name)

    async def _commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        threads = self._threads.here()
        return await threads.readers.run(threads.files.commit_hidden, name, text, expected)

    async def scrub(self) -> None:
        """Remove staged files, which hold earlier values, and the log of changes: processes that read it begin anew.

        Raises:
            StoreUnavailable: the directory cannot be written.
        """
        threads = self._threads.here()
        await self._retried(lambda: threads.readers.run(threads.files.scrub))

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        threads = self._threads.here()
        return await threads.scanner.run(threads.files.scan, prefix, cursor, limit, time.monotonic())

    async def _describe(self, keys: Sequence[str]) -> list[Description | None]:
        threads = self._threads.here()
        return await threads.readers.run(threads.files.describe, keys)
