"""The keys of a folder: what its files say, all changes of one moment at once, and walks over their names.

Everything here blocks, and runs in threads.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem.directory import Folder
from learning_observer_kvs.stores.filesystem.listing import Walks
from learning_observer_kvs.stores.filesystem.lock import LockHeld
from learning_observer_kvs.stores.filesystem.names import DIGESTS, FileNames, is_digest, unwrap, wrap, wrapped_key
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.write_queue import Request

_HINTS = {
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

READABLE = 1 << 20
"""Bytes of text up to which it is indented: nobody reads more, and indenting lets no other thread run."""


class Files:
    """The keys of a folder.

    Args:
        folder: where they are.
        subdirs: whether slashes in keys become sub-folders.
        clock: gives seconds that only grow.
    """

    def __init__(self, folder: Folder, subdirs: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._subdirs = subdirs
        self._names: FileNames | None = None
        self._walks = Walks(self._listed, clock)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The text of each key; of several, all as of one moment."""
        with self._telling():
            paths = [self._path(key) for key in keys]
            if len(paths) == 1 and not self._folder.is_half_done():
                contents = [self._folder.read(paths[0])]
            else:
                contents = self._folder.read_together(paths)
        return [self._text(*found) for found in zip(keys, paths, contents, strict=True)]

    def describe(self, key: str) -> tuple[int, float] | None:
        """Bytes and time of writing."""
        with self._telling():
            found = self._folder.stat(self._path(key))
        return None if found is None else (found.st_size, found.st_mtime)

    def probe(self) -> None:
        """Make the folder if need be, and try to write into it."""
        with self._telling(), self._folder.changing():
            self._folder.probe()

    def write(self, requests: Sequence[Request]) -> None:
        """Process requests in order, in one change of the folder; one whose condition fails is left out."""
        try:
            with self._telling(), self._folder.changing():
                self._change(requests)
        except LockHeld as held:  # each by itself would wait as long again
            for request in requests:
                request.error = held

    def _change(self, requests: Sequence[Request]) -> None:
        coming: dict[str, bytes | None] = {}
        for request in requests:
            if request.clear:
                coming = dict.fromkeys(self._all_paths())
                request.result = True
            else:
                request.result = self._take(request, coming)
        if coming:
            try:
                self._folder.change(coming)
            except WriteUnclear as unclear:
                for request in requests:
                    if request.result:
                        request.error = unclear

    def _take(self, request: Request, coming: dict[str, bytes | None]) -> bool:
        """Check a request's condition and add what it writes; whether there is anything new."""
        for key, text in request.expected.items():
            path = self._path(key)
            content = coming[path] if path in coming else self._folder.read(path)
            if not _same(text, self._text(key, path, content)):
                return False
        changed = bool(request.expected)
        for key, text in request.writes.items():
            path = self._path(key)
            if text is not None:
                text = _for_people(text)
                coming[path] = wrap(key, text) if path.startswith(DIGESTS) else text
                changed = True
            elif coming[path] is not None if path in coming else self._folder.stat(path) is not None:
                coming[path] = None
                changed = True
        return changed

    def scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """A page of keys in the order of their paths, and the last path as the next cursor."""
        with self._telling():
            paths, following = self._walks.page(prefix, cursor, limit)
            names = self._names_here()
            keys = [self._key(names, path) for path in paths]
        return [key for key in keys if key is not None and key.startswith(prefix)], following

    def forget_walks(self) -> None:
        """Drop the listings of walks that nobody went on with."""
        self._walks.clear()

    def _text(self, key: str, path: str, content: bytes | None) -> bytes | None:
        if content is None or not path.startswith(DIGESTS):
            return content
        text = unwrap(key, content)
        if text is None:
            raise CorruptValue(
                f'{display_key(key)}: {self._folder.absolute(path)} does not hold this key and its value. Nothing was '
                'overwritten; remove the key or repair the file.'
            )
        return text

    def _path(self, key: str) -> str:
        return self._names_here().path_of(key)

    def _names_here(self) -> FileNames:
        if self._names is not None:
            return self._names
        exact = self._folder.tells_cases_apart()
        names = FileNames(self._subdirs, exact is not False)
        if exact is not None:
            self._names = names
        return names

    def _key(self, names: FileNames, path: str) -> str | None:
        if not path.startswith(DIGESTS):
            return names.key_of(path)
        line = self._folder.first_line(path)
        key = None if line is None else wrapped_key(line)
        return key if key is not None and names.path_of(key) == path else None

    def _listed(self, prefix: str) -> list[str]:
        """The paths of all files that may be keys with a prefix, as of one moment, in no order."""
        locations = self._names_here().places_of(prefix)
        # Locked, because some file systems leave a name out of a listing when its file is replaced meanwhile.
        with self._folder.still():
            return [path for path in self._paths() if path.startswith((*locations, DIGESTS))]

    def _all_paths(self) -> list[str]:
        names = self._names_here()
        return [path for path in self._paths() if is_digest(path) or names.key_of(path) is not None]

    def _paths(self) -> Iterator[str]:
        below = ['', f'{DIGESTS}/']
        while below:
            folder = below.pop()
            try:
                entries = os.scandir(self._folder.absolute(folder))
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith('.'):
                        continue
                    if entry.is_file(follow_symlinks=False):
                        yield folder + name
                    elif self._subdirs and name[0] == '_' and folder[:1] != '.' and entry.is_dir(follow_symlinks=False):
                        below.append(f'{folder}{name}/')

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, 'Look at the disk and its permissions.')
            raise StoreUnavailable(
                f'{error.filename or self._folder.root} cannot be used: {error.strerror}. {hint} Nothing was written.'
            ) from None


def _for_people(text: bytes) -> bytes:
    return text + b'\n' if len(text) > READABLE else json_codec.indented(text)


def _same(expected: bytes | None, stored: bytes | None) -> bool:
    """Whether a file holds the text; what was written by us is indented there."""
    if expected is None or stored is None:
        return expected is stored
    return expected == stored or _for_people(expected) == stored
