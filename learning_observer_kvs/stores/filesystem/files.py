"""The keys of a directory: reading them, writing many at once, and listing them page by page.

Everything here blocks, and runs in threads.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.listing import ListingCache, is_current, list_files, paths_in
from learning_observer_kvs.stores.filesystem.lock import LockHeld
from learning_observer_kvs.stores.filesystem.names import (
    DIGESTS,
    META_DIR,
    FileNames,
    is_digest,
    unwrap,
    wrap,
    wrapped_key,
)
from learning_observer_kvs.stores.filesystem.unrecognized import unrecognized
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.pinned_files import PinnedFiles, mark_replaced
from learning_observer_kvs.stores.types import Description
from learning_observer_kvs.stores.write_request import WriteRequest

_HINTS = {
    errno.ENOSPC: 'Free some space on the disk.',
    errno.EDQUOT: 'Free some space in the quota.',
    errno.EMFILE: 'Close some, or raise the limit of open files.',
    errno.ENFILE: 'Close some, or raise the limit of open files.',
    errno.ENOLCK: (
        'The system gives no lock: a network disk without locks cannot hold a store. Choose a local disk, or Redis.'
    ),
    errno.EFBIG: 'The value is larger than files may be here.',
    errno.EACCES: 'Make the folder readable and writable for this user.',
    errno.EPERM: 'Make the folder readable and writable for this user.',
    errno.EROFS: 'The disk is mounted read-only; choose another path.',
    errno.ENOTDIR: 'A folder is needed there; choose another path.',
    errno.EEXIST: 'A folder is needed there; choose another path.',
    errno.ELOOP: 'It is a link; links are not followed. Remove it.',
}

_WAITING_HELPS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOLCK,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.ETIMEDOUT,
}
"""Errors that end when others let go, or free something. A disk that reports errors (``EIO``) does not recover."""

MAX_INDENTED = 1 << 20
"""Bytes of text up to which it is indented: people do not read more, and indenting lets no other thread run."""

MAX_RECENT = 16 << 20
"""Bytes of texts that are kept with their indented form."""


class Files:
    """The keys of a directory, each a file.

    Args:
        directory: where they are.
        subdirs: whether slashes in keys become subdirectories.
    """

    def __init__(self, directory: Directory, subdirs: bool) -> None:
        self._directory = directory
        self._subdirs = subdirs
        self._known_names: FileNames | None = None
        self._recent: dict[bytes, bytes] = {}  # indented texts by text, used under the lock
        self._recent_bytes = 0
        self._listings = ListingCache(
            lambda: list_files(directory, subdirs, time.monotonic),
            lambda listing: is_current(listing, directory),
            time.monotonic,
        )
        # What replaces the hidden folder inside replaces the lock.
        self._pinned = PinnedFiles(directory.root, directory.lock.path)

    def close(self) -> None:
        """Close what is kept open; no thread may use this any more."""
        self._pinned.close()
        self._directory.close()

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read keys; several are read as of one moment.

        Args:
            keys: the keys.

        Returns:
            The text of each key in order, ``None`` for missing ones.

        Raises:
            StoreUnavailable: the directory cannot be used.
            CorruptValue: a file does not hold the key it is named for.
        """
        with self._in_place():
            paths = [self._path(key) for key in keys]
            directory = self._directory
            contents = [directory.read_one(paths[0])] if len(paths) == 1 else directory.read_together(paths)
        return [self._text(*found) for found in zip(keys, paths, contents, strict=True)]

    def describe(self, keys: Sequence[str]) -> list[Description | None]:
        """Return what is known of keys.

        Args:
            keys: the keys.

        Returns:
            The bytes of the file of each, and when it was last written; ``None`` where it is missing.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place():
            is_pending = self._directory.is_journal_pending()
            with self._directory.read_locked() if is_pending else nullcontext():
                found = [self._directory.stat(self._path(key)) for key in keys]
        return [None if file is None else Description(file.st_size, written=file.st_mtime) for file in found]

    def probe(self) -> None:
        """Try to write into the directory, or to make it, and leave nothing.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place():
            self._directory.probe()

    def write(self, requests: Sequence[WriteRequest]) -> None:
        """Process requests in order, in one change of the directory; set the result or the error of each.

        Args:
            requests: what to write. One whose condition does not hold is left out.

        Raises:
            StoreUnavailable, CorruptValue: nothing was written, because of one request among them.
        """
        try:
            self._write(requests, wait=True)
        except LockHeld as held:  # each alone would wait as long again
            for request in requests:
                request.error = LockHeld(f'{held} Nothing was written.', retry=True)

    def write_at_once(self, requests: Sequence[WriteRequest]) -> bool:
        """Process requests like :meth:`write` if the directory is open and its lock is free at this moment.

        Args:
            requests: what to write.

        Returns:
            Whether they were processed; nothing was done otherwise.

        Raises:
            LockHeld: the lock is not free, or a change of a killed process must be finished; nothing was done.
            StoreUnavailable, CorruptValue: as for :meth:`write`.
        """
        if not self._directory.is_open():
            return False
        self._write(requests, wait=False)
        return True

    def _write(self, requests: Sequence[WriteRequest], *, wait: bool) -> None:
        try:
            with self._unavailable_for_os_errors(' Nothing was written.'):
                is_open = self._directory.is_open()
                self._pinned.check()
                with self._directory.write_locked(wait=wait):
                    if not is_open:
                        self._pinned.check()  # from now on the lock is pinned, too
                    self._change(requests)
        except StoreUnavailable:
            self._pinned.check()  # if that is why, it says so
            raise

    def scan(self, prefix: str, cursor: str | None, limit: int, asked: float) -> tuple[list[str], str | None]:
        """Return a page of keys in the order of their paths.

        Args:
            prefix: what the keys begin with.
            cursor: of the page before; ``None`` for the first page.
            limit: how many files to look at; some may not be keys with the prefix.
            asked: when it was asked for, in seconds of ``time.monotonic``.

        Returns:
            The keys, and the cursor of the next page; ``None`` at the end.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place():
            beginnings = self._names().path_prefixes(prefix)
            if beginnings != ('',):
                beginnings = (*beginnings, DIGESTS)
            paths, following = self._listings.page(beginnings, cursor, limit, asked)
            names = self._names()
            keys = [self._key(names, path) for path in paths]
        return [key for key in keys if key is not None and key.startswith(prefix)], following

    def unrecognized(self, limit: int) -> list[str]:
        """Return the files that look like those of keys and are not.

        Args:
            limit: how many at most.

        Returns:
            Their absolute paths.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place():
            names = self._names()
            found = islice(unrecognized(self._directory, lambda path: self._key(names, path)), limit)
            return [self._directory.absolute(path) for path in found]

    def is_unchanged(self, count: bytes) -> bool:
        """Return whether nothing has changed since a count was read, and nothing is being changed.

        Args:
            count: of the changes.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place():
            return self._directory.lock.count() == count and not self._directory.is_journal_pending()

    @contextmanager
    def changing(self) -> Iterator[Directory]:
        """Hold the lock of the directory for a block that changes what is beside it.

        Yields:
            The directory.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place(), self._directory.write_locked():
            yield self._directory

    def scrub(self) -> None:
        """Remove what the directory has of earlier contents."""
        with self.changing() as directory:
            directory.scrub()

    def read_hidden(self, name: str) -> bytes | None:
        """Return a record of this package about the store.

        Args:
            name: the name of the record.

        Raises:
            StoreUnavailable: the directory cannot be used.
        """
        with self._in_place():
            return self._directory.read(f'{META_DIR}/{name}')

    def commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        """Write such a record, if it is as expected.

        Args:
            name: the name of the record.
            text: the record; ``None`` removes it.
            expected: what it must be.

        Returns:
            Whether it was.

        Raises:
            StoreUnavailable: nothing was written.
        """
        path = f'{META_DIR}/{name}'
        with self._in_place(), self._directory.write_locked():
            if self._directory.read(path) != expected:
                return False
            if text != expected:
                self._directory.change({path: text}, keys=())
            return True

    def _change(self, requests: Sequence[WriteRequest]) -> None:
        changes: dict[str, bytes | None] = {}
        known: dict[str, bytes | None] = {}
        keys: list[str] | None = []
        for request in requests:
            if request.clear:
                changes, keys = dict.fromkeys(self._all_paths()), None
                request.result = True
            else:
                request.result = self._accept(request, changes, known)
                if request.result and keys is not None:
                    keys += request.writes
        try:
            self._directory.change(changes, known, keys)
        except WriteUnclear as unclear:
            for request in requests:
                if request.result:
                    request.error = unclear
        try:
            self._pinned.check()  # what is acknowledged is in the directory that was there after the change
        except StoreUnavailable as replaced:
            mark_replaced(requests, replaced)

    def _accept(self, request: WriteRequest, changes: dict[str, bytes | None], known: dict[str, bytes | None]) -> bool:
        """Check a request's condition and add what it writes to the changes; whether it changes anything."""
        for key, text in request.expected.items():
            path = self._path(key)
            if path in changes:
                content = changes[path]
            else:
                if path not in known:
                    known[path] = self._directory.read(path)
                content = known[path]
            if not self._is_same(text, self._text(key, path, content)):
                return False
        changed = bool(request.expected)
        for key, text in request.writes.items():
            path = self._path(key)
            if text is not None:
                text = self._indented(text)
                changes[path] = wrap(key, text) if path.startswith(DIGESTS) else text
                changed = True
            elif changes[path] is not None if path in changes else self._directory.stat(path) is not None:
                changes[path] = None
                changed = True
        return changed

    def _text(self, key: str, path: str, content: bytes | None) -> bytes | None:
        if content is None or not path.startswith(DIGESTS):
            return content
        text = unwrap(key, content)
        if text is None:
            raise CorruptValue(
                f'{display_key(key)}: {self._directory.absolute(path)} does not hold this key and its value. Remove '
                'the key, or repair the file.'
            )
        return text

    def _is_same(self, expected: bytes | None, stored: bytes | None) -> bool:
        """Whether a file holds a text; what this package wrote is indented there."""
        if expected is None:
            return stored is None
        if expected == stored:
            return True
        indented = self._indented(expected)
        if indented != stored:
            return False
        if self._recent.pop(expected, None) is not None:  # what replaces it is compared next
            self._recent_bytes -= len(expected) + len(indented)
        return True

    def _indented(self, text: bytes) -> bytes:
        """Return what is written for a text: once for both keys of a pair, and for the state that is compared next."""
        if len(text) > MAX_INDENTED:
            return text + b'\n'
        indented = self._recent.get(text)
        if indented is None:
            indented = self._recent[text] = json_codec.indented(text)
            self._recent_bytes += len(text) + len(indented)
            while self._recent_bytes > MAX_RECENT:
                first = next(iter(self._recent))
                self._recent_bytes -= len(first) + len(self._recent.pop(first))
        return indented

    def _path(self, key: str) -> str:
        return self._names().path_of(key)

    def _names(self) -> FileNames:
        if self._known_names is not None:
            return self._known_names
        case_sensitive = self._directory.is_case_sensitive()
        names = FileNames(self._subdirs, case_sensitive is not False)
        if case_sensitive is not None:
            self._known_names = names
        return names

    def _key(self, names: FileNames, path: str) -> str | None:
        if not path.startswith(DIGESTS):
            return names.key_of(path)
        line = self._directory.read_first_line(path)
        key = None if line is None else wrapped_key(line)
        return key if key is not None and names.path_of(key) == path else None

    def _all_paths(self) -> list[str]:
        names = self._names()
        paths = paths_in(self._directory, self._subdirs, {})
        return [path for path in paths if is_digest(path) or names.key_of(path) is not None]

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Raise ``StoreUnavailable`` for each ``OSError``, and if the directory was replaced before or meanwhile."""
        with self._unavailable_for_os_errors():
            self._pinned.check()
            try:
                yield
            finally:
                self._pinned.check()

    @contextmanager
    def _unavailable_for_os_errors(self, outcome: str = '') -> Iterator[None]:
        """Raise ``StoreUnavailable`` for each ``OSError``, with a hint and then the outcome."""
        try:
            yield
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, 'Look at the disk and its permissions.')
            location = error.filename or self._directory.root
            message = f'{location} cannot be used: {error.strerror or error}. {hint}{outcome}'
            raise StoreUnavailable(message, retry=error.errno in _WAITING_HELPS) from None
