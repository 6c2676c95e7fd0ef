"""``type: filesystem``: a readable file for each key."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar, TypeVar, Unpack

from learning_observer_kvs import jsontext
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.base import Common, Description, Store
from learning_observer_kvs.stores.filenames import DIGESTS, OWN, FileNames, unwrap, wrap
from learning_observer_kvs.stores.finding import Finding
from learning_observer_kvs.stores.gathering import Answer, GatheringStore, Load, Request
from learning_observer_kvs.stores.journal import Folder
from learning_observer_kvs.stores.options import Option
from learning_observer_kvs.stores.writer import WriterThread

T = TypeVar('T')

_CURES = {
    errno.ENOSPC: 'Make room on the disk.',
    errno.EDQUOT: 'Make room in the quota.',
    errno.EFBIG: 'The value is larger than files may be here.',
    errno.EACCES: 'Make the folder readable and writable for this user.',
    errno.EPERM: 'Make the folder readable and writable for this user.',
    errno.EROFS: 'The disk is mounted read-only; choose another path.',
    errno.ENOTDIR: 'A folder is wanted there; choose another path.',
    errno.EEXIST: 'A folder is wanted there; choose another path.',
    errno.ELOOP: 'It is a link; links are not followed. Remove it.',
}


class FilesystemKVS(GatheringStore):
    """One JSON file a key, indented for people; for workshops, debugging and small caches.

    What is acknowledged survives a crash of the process; a loss of power may undo the last seconds, as the file system
    writes to the disk when it sees fit. Files of others in the folder are no keys and are left alone.

    Args:
        path: the folder; a relative one is taken from the working directory of now. Made at the first write.
        subdirs: whether slashes in keys become sub-folders.
    """

    TYPE: ClassVar[str] = 'filesystem'
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *Store.COMMON,
        Option('path', 'path', required=True, doc='the folder, such as .lo_kvs.'),
        Option('subdirs', 'boolean', default=False, doc='whether slashes in keys become sub-folders.'),
    )

    def __init__(self, path: str | os.PathLike[str], subdirs: bool = False, **common: Unpack[Common]) -> None:
        super().__init__(**common)
        self._start_gathering()
        self.path = os.path.abspath(path)
        self.subdirs = subdirs
        self._files = Files(Folder(self.path), subdirs)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._writer = WriterThread(self._files.write, lambda: None)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix='kvs-files-reader')
        self._end = weakref.finalize(self, _end, self._writer, self._readers)

    def _own(self) -> None:
        """A forked child has none of its parent's threads."""
        if self._pid != os.getpid():
            self._end.detach()
            self._start()

    def place(self) -> str:
        return self.path

    async def examine(self) -> list[Finding]:
        await self._in_thread(self._files.probe)
        return []

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._in_thread(self._files.read, keys)

    def _carry(self, load: Load, answer: Answer) -> None:
        self._own()
        self._writer.submit(load, answer)

    async def _clear(self) -> None:
        await self._outcome({}, {}, clear=True)

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        return await self._in_thread(self._files.scan, prefix, cursor, limit)

    async def _describe(self, key: str) -> Description | None:
        return await self._in_thread(self._files.describe, key)

    async def _close(self) -> None:
        await self._drain()
        self._own()
        self._end.detach()
        ended = (self._writer, self._readers)
        self._start()
        await asyncio.get_running_loop().run_in_executor(None, _end, *ended)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        self._own()
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)


class Files:
    """The keys of a folder; everything here blocks, and runs in threads.

    Args:
        folder: where they are.
        subdirs: whether slashes in keys become sub-folders.
    """

    def __init__(self, folder: Folder, subdirs: bool) -> None:
        self._folder = folder
        self._subdirs = subdirs
        self._names: FileNames | None = None
        self._listing: list[str] | None = None

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The text of each key; of several, all as of one moment."""
        try:
            if len(keys) == 1 and not self._folder.is_half_done():
                return [self._text(keys[0])]
            with self._folder.reading():
                return [self._text(key) for key in keys]
        except OSError as error:
            raise self._unavailable(error) from None

    def probe(self) -> None:
        """Make the folder if need be, and try to write into it."""
        try:
            with self._folder.changing():
                self._folder.probe()
        except OSError as error:
            raise self._unavailable(error) from None

    def write(self, requests: list[Request]) -> None:
        """Process requests in order, in one change of the folder; one whose condition fails is left out."""
        try:
            with self._folder.changing():
                coming: dict[str, bytes | None] = {}
                for request in requests:
                    if request.clear:
                        self._remove_all()
                        coming.clear()
                        request.result = True
                    else:
                        request.result = self._take(request, coming)
                contents = {self._path(key): self._content(key, text) for key, text in coming.items()}
                if contents:
                    self._folder.change(contents)
        except OSError as error:
            raise self._unavailable(error) from None

    def _take(self, request: Request, coming: dict[str, bytes | None]) -> bool:
        def text_now(key: str) -> bytes | None:
            return coming[key] if key in coming else self._text(key)

        writes = {key: None if text is None else jsontext.indented(text) for key, text in request.writes.items()}
        if any(text_now(key) != text for key, text in request.expected.items()):
            return False
        changes = bool(request.expected) or any(
            text is not None or text_now(key) is not None for key, text in writes.items()
        )
        coming.update(writes)
        return changes

    def scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """A page of the keys in their order. The folder is listed for the first page, not for those that follow."""
        keys = self._listing
        if cursor is None or keys is None:
            try:
                keys = self._listing = sorted(self._keys())
            except OSError as error:
                raise self._unavailable(error) from None
        start = bisect_left(keys, prefix) if cursor is None else bisect_right(keys, cursor)
        page = [key for key in keys[start : start + limit] if key.startswith(prefix)]
        if len(page) < limit:
            self._listing = None
            return page, None
        return page, page[-1]

    def describe(self, key: str) -> Description | None:
        """Bytes and time of writing."""
        try:
            found = os.lstat(self._folder.absolute(self._path(key)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unavailable(error) from None
        return Description(found.st_size, written=found.st_mtime) if stat.S_ISREG(found.st_mode) else None

    def _text(self, key: str) -> bytes | None:
        path = self._path(key)
        content = self._folder.read(path)
        return unwrap(content)[1] if content is not None and path.startswith(DIGESTS) else content

    def _content(self, key: str, text: bytes | None) -> bytes | None:
        if text is None or not self._path(key).startswith(DIGESTS):
            return text
        return wrap(key, text)

    def _path(self, key: str) -> str:
        if self._names is None:
            # Our hidden folder under another case: there only where the file system does not tell the cases apart.
            ours, other = self._folder.absolute(OWN), self._folder.absolute(OWN.upper())
            names = FileNames(self._subdirs, any_case=not (os.path.exists(ours) and os.path.exists(other)))
            if not os.path.exists(ours):
                return names.path_of(key)
            self._names = names
        return self._names.path_of(key)

    def _keys(self) -> Iterator[str]:
        self._path('')
        names = self._names or FileNames(self._subdirs)
        for path in self._paths(''):
            if (key := names.key_of(path)) is not None:
                yield key
        for entry in _entries(self._folder.absolute(DIGESTS)):
            content = self._folder.read(f'{DIGESTS}/{entry.name}')
            if content is not None and (head := unwrap(content)[0]):
                yield jsontext.decode(head)

    def _paths(self, below: str) -> Iterator[str]:
        for entry in _entries(self._folder.absolute(below)):
            if entry.is_file(follow_symlinks=False):
                yield below + entry.name
            elif self._subdirs and entry.name.startswith('_') and entry.is_dir(follow_symlinks=False):
                yield from self._paths(f'{below}{entry.name}/')

    def _remove_all(self) -> None:
        paths = [self._path(key) for key in list(self._keys())]
        for path in paths:
            os.unlink(self._folder.absolute(path))
        folders = {path.rpartition('/')[0] for path in paths if '/' in path and not path.startswith(OWN)}
        for folder in sorted(folders, key=len, reverse=True):
            while folder:
                with suppress(OSError):  # something of others is in it
                    os.rmdir(self._folder.absolute(folder))
                folder = folder.rpartition('/')[0]

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        cure = _CURES.get(error.errno or 0, 'Look at the disk and its permissions.')
        return StoreUnavailable(
            f'{error.filename or self._folder.root} cannot be used: {error.strerror}. {cure} Nothing was written.'
        )


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith('.')]
    except FileNotFoundError:
        return []


def _end(writer: WriterThread, readers: ThreadPoolExecutor) -> None:
    writer.close()
    readers.shutdown(wait=True)
