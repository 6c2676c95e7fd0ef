"""A reader of the log of a directory: one look costs what it takes to read the count of changes."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from learning_observer_kvs.stores.filesystem.files import Files
from learning_observer_kvs.stores.threads import ReaderThreads


class FilesystemChangeLog:
    """Reads the log of one store for one event loop.

    Args:
        files: the keys of the directory.
        threads: those that read.
    """

    def __init__(self, files: Files, threads: ReaderThreads) -> None:
        self._files = files
        self._threads = threads
        self._reader = uuid.uuid4().hex
        self._position = self._noted = 0
        self._count = b''

    async def begin(self) -> None:
        """Have writers keep the log, which makes the directory if there is none.

        Raises:
            StoreUnavailable, Overloaded: the directory cannot be written.
        """
        await self._threads.run(self._begin)

    async def read(self) -> Collection[str] | None:
        """Return the keys that were changed since the last call.

        Returns:
            The keys; ``None`` if not all of them are known.

        Raises:
            StoreUnavailable, Overloaded: the directory cannot be read, or written.
        """
        return await self._threads.run(self._read)

    async def end(self) -> None:
        """Have writers keep no log any more, if no other reader needs it.

        Raises:
            StoreUnavailable, Overloaded: the directory cannot be written.
        """
        await self._threads.run(self._end)

    def _begin(self) -> None:
        with self._files.changing() as directory:
            self._count = directory.lock.count()
            self._position = self._noted = directory.change_file.register(self._reader)

    def _read(self) -> Collection[str] | None:
        if self._files.is_unchanged(self._count):
            return ()
        with self._files.changing() as directory:
            count = directory.lock.count()
            found = directory.change_file.read(self._reader, self._position)
            if found is not None:
                position, start, keys = found
                if self._noted < start:
                    directory.change_file.note(self._reader, position)
                    self._noted = position
                self._count, self._position = count, position
                return keys
        self._begin()
        return None

    def _end(self) -> None:
        with self._files.changing() as directory:
            directory.change_file.remove(self._reader)
