"""``type: filesystem``: a readable file for each key."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, TypeVar, Unpack

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.directory import Folder
from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.threaded import WriterThread, end_pool
from learning_observer_kvs.stores.types import CommonOptions, Description
from learning_observer_kvs.stores.write_queue import OnBatchDone, QueuedStore, WriteBatch

T = TypeVar('T')


class FilesystemKVS(QueuedStore):
    """One JSON file a key, indented for people; for workshops, debugging and small caches.

    What is acknowledged survives a crash of the process. A loss of power may undo or damage what was written in the
    last seconds, as the file system writes to the disk when it sees fit; a damaged key raises ``CorruptValue``. Files
    of others in the folder are no keys and are left alone.

    Args:
        path: the folder; a relative one is taken from the working directory of now. Made at the first write.
        subdirs: whether slashes in keys become sub-folders.
    """

    TYPE: ClassVar[str] = 'filesystem'
    SCAN_REPEATS: ClassVar[bool] = False
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *Store.COMMON,
        Option('path', 'path', required=True, doc='the folder, such as .lo_kvs.'),
        Option('subdirs', 'boolean', default=False, doc='whether slashes in keys become sub-folders.'),
    )

    def __init__(self, path: str | os.PathLike[str], subdirs: bool = False, **common: Unpack[CommonOptions]) -> None:
        super().__init__(**common)
        self.path = os.path.abspath(path)
        self.subdirs = subdirs
        self._files = Files(Folder(self.path), subdirs)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._writer = WriterThread(self._files.write, lambda: None)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix='kvs-files-reader')
        self._walker = ThreadPoolExecutor(1, thread_name_prefix='kvs-files-walker')  # a long listing holds up no read
        self._end = weakref.finalize(self, _end, self._writer, self._readers, self._walker)

    def _own(self) -> None:
        """A forked child has none of its parent's threads."""
        if self._pid != os.getpid():
            self._end.detach()
            self._start()

    def location(self) -> str:
        return self.path

    async def health_check(self) -> list[Problem]:
        self._own()
        await self._in_thread(self._readers, self._files.probe)
        return []

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        self._own()
        return await self._in_thread(self._readers, self._files.read, keys)

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._own()
        self._writer.submit(batch, on_batch_done)

    async def _clear(self) -> None:
        await self._outcome({}, {}, clear=True)

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        self._own()
        return await self._in_thread(self._walker, self._files.scan, prefix, cursor, limit)

    async def _describe(self, key: str) -> Description | None:
        self._own()
        found = await self._in_thread(self._readers, self._files.describe, key)
        return None if found is None else Description(found[0], written=found[1])

    async def _close(self) -> None:
        await self._drain()
        self._own()
        self._end.detach()
        ended = (self._writer, self._readers, self._walker)
        self._start()
        await asyncio.get_running_loop().run_in_executor(None, _end, *ended)
        self._files.forget_walks()

    async def _in_thread(self, threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)


def _end(writer: WriterThread, readers: ThreadPoolExecutor, walker: ThreadPoolExecutor) -> None:
    writer.close()
    end_pool(readers)
    end_pool(walker)
