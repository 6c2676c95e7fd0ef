"""Several files changed at once: all or none, whoever is killed when, and however many processes take part.

Under a lock of the whole folder the new contents are written beside the old ones, then a journal appears that names
them all. From there on the change has happened: whoever finds a journal without its writer finishes it. Who reads
several files takes no lock: each change is counted, and what was read while the count stood still is of one moment.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem.lock import LOCK_SECONDS, FolderLock
from learning_observer_kvs.stores.filesystem.names import DIGESTS, OWN

READS_WITHOUT_LOCK = 5
"""How often several files are read again because something changed meanwhile, before the lock is taken for it."""

_JOURNAL = f'{OWN}/journal'
_LOCK = f'{OWN}/lock'
_STAGED = f'{OWN}/new-'
_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Step(Protocol):
    """Called with a word before each step that changes something; tests stop there."""

    def __call__(self, word: str, /) -> None: ...


class Folder:
    """A folder whose files change together. All paths are below it, with ``/``. Links in it are not followed.

    Args:
        root: its absolute path; made, with those above it, at the first change.
        step: called before each step.
        lock_seconds: how long to wait for the lock.
    """

    def __init__(self, root: str, step: Step = lambda word: None, lock_seconds: float = LOCK_SECONDS) -> None:
        self.root = root
        self._step = step
        self._lock = FolderLock(self.absolute(_LOCK), lock_seconds)

    def absolute(self, path: str) -> str:
        """The whole path."""
        return f'{self.root}/{path}'

    # Reading

    def read(self, path: str) -> bytes | None:
        """The content of a file; ``None`` if there is none."""
        number = self._open(path)
        if number is None:
            return None
        with open(number, 'rb', buffering=0) as file:
            return file.read()

    def first_line(self, path: str) -> bytes | None:
        """The first line of a file; ``None`` if there is no file."""
        number = self._open(path)
        if number is None:
            return None
        with open(number, 'rb') as file:
            return file.readline()

    def stat(self, path: str) -> os.stat_result | None:
        """What is known of a file; ``None`` if there is none."""
        self._refuse_links(path)
        try:
            found = os.lstat(self.absolute(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def read_together(self, paths: Sequence[str]) -> list[bytes | None]:
        """The contents of several files, all as of one moment."""
        for _ in range(READS_WITHOUT_LOCK):
            count = self._lock.count()
            if self.is_half_done():
                break
            contents = [self.read(path) for path in paths]
            if self._lock.count() == count:
                return contents
        with self.still():
            return [self.read(path) for path in paths]

    def is_half_done(self) -> bool:
        """Whether a change is under way, or was left by a process that ended in it."""
        return os.path.lexists(self.absolute(_JOURNAL))

    def tells_cases_apart(self) -> bool | None:
        """Whether names that differ in case only are different files here; ``None``: not known before a change."""
        try:
            ours = os.lstat(self.absolute(OWN))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return not os.path.samestat(ours, os.lstat(self.absolute(OWN.upper())))
        except FileNotFoundError:
            return True

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing changes meanwhile, and nothing is left half-done."""
        self._refuse_links(_LOCK)
        if not self._lock.is_there():
            yield  # nobody has changed anything yet
            return
        with self._lock.held():
            if self.is_half_done():
                self._recover()
            yield

    # Changing

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes files meanwhile; what was left half-done is finished first."""
        if not os.path.isdir(self.absolute(OWN)):
            os.makedirs(self.absolute(OWN), exist_ok=True)
        self._refuse_links(_LOCK)
        with self._lock.held(create=True):
            self._recover()
            yield

    def change(self, contents: Mapping[str, bytes | None]) -> None:
        """Inside :meth:`changing`: give all files their new contents (``None`` removes one), or none of them.

        Raises:
            OSError, StoreUnavailable: nothing was changed.
            WriteUnclear: the change is decided and begun, but the disk refused to go on. Who comes next finishes it.
        """
        staged: dict[str, str | None] = {}
        try:
            for path, content in contents.items():
                self._make_way(path, content)
                if content is None:
                    staged[path] = None
                    continue
                staged[path] = name = f'{_STAGED}{len(staged)}'
                self._step('stage')
                self._create(name, content)
            if len(staged) > 1:
                self._write_journal(staged)
            self._step('count')
            self._lock.count_change()
        except BaseException:
            for new in (*staged.values(), f'{_STAGED}journal', _JOURNAL):
                if new is not None:
                    with suppress(OSError):
                        os.unlink(self.absolute(new))
            raise
        try:
            self._apply(staged)
        except OSError as error:
            if len(staged) == 1:
                raise
            raise WriteUnclear(
                f'{error.filename or self.root}: {error.strerror}, when a write of several keys was half done. It is '
                'finished as soon as the disk lets it be; read the keys again then.'
            ) from error

    def _create(self, path: str, content: bytes) -> None:
        with open(self.absolute(path), 'xb', buffering=0) as file:  # never through a link
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]

    def probe(self) -> None:
        """Inside :meth:`changing`: try to write a file.

        Raises:
            OSError: it cannot be.
        """
        name = f'{_STAGED}probe'
        try:
            self._create(name, b'probe')
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self.absolute(name))

    def _write_journal(self, staged: Mapping[str, str | None]) -> None:
        new = f'{_STAGED}journal'
        self._create(new, json.dumps(staged).encode())
        self._step('journal')
        os.rename(self.absolute(new), self.absolute(_JOURNAL))

    def _apply(self, staged: Mapping[str, str | None]) -> None:
        for path, new in staged.items():
            self._step('rename')
            if new is None:
                with suppress(FileNotFoundError):
                    os.unlink(self.absolute(path))
            else:
                self._move(new, path)
        if len(staged) > 1:
            self._step('forget')
            os.unlink(self.absolute(_JOURNAL))
        for path, new in staged.items():
            if new is None:
                self._prune(path)

    def _move(self, new: str, path: str) -> None:
        try:
            os.rename(self.absolute(new), self.absolute(path))
        except FileNotFoundError:
            if not os.path.lexists(self.absolute(new)):
                return  # done already, by the one that was killed
            os.makedirs(os.path.dirname(self.absolute(path)), exist_ok=True)
            os.rename(self.absolute(new), self.absolute(path))

    def _prune(self, path: str) -> None:
        """Folders are named by keys, too: where the last one is gone, its folder goes."""
        while path := path.rpartition('/')[0]:
            if path in (OWN, DIGESTS):
                return
            try:
                os.rmdir(self.absolute(path))
            except OSError:
                return  # something is in it

    def _recover(self) -> None:
        """Finish what a killed process left, and remove what it only began."""
        if self.is_half_done():
            staged = self._read_journal()
            for path in staged:
                self._refuse_links(path)
            self._apply(staged)
        with os.scandir(self.absolute(OWN)) as entries:
            left = [entry.path for entry in entries if f'{OWN}/{entry.name}'.startswith(_STAGED)]
        for whole in left:
            os.unlink(whole)

    def _read_journal(self) -> dict[str, str | None]:
        try:
            staged = json.loads(self.read(_JOURNAL) or b'')
            if all(_is_below(path) and (new is None or new.startswith(_STAGED)) for path, new in staged.items()):
                return staged  # type: ignore[no-any-return]
        except (ValueError, AttributeError, TypeError):
            pass
        raise StoreUnavailable(
            f'{self.absolute(_JOURNAL)} is damaged, as by a loss of power; it lists the last write of several keys, '
            'which may be there in part. Remove that file when you have looked at them. Nothing was touched.'
        )

    # Safety

    def _open(self, path: str) -> int | None:
        """Open a regular file for reading; anything else is no file of ours."""
        self._refuse_links(path)
        try:
            number = os.open(self.absolute(path), _TO_READ)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            if os.path.exists(self.root) and not os.path.isdir(self.root):
                raise
            return None
        except OSError as error:
            if error.errno == errno.ENXIO:  # a socket, or a pipe
                return None
            raise
        if stat.S_ISREG(os.fstat(number).st_mode):
            return number
        os.close(number)
        return None

    def _make_way(self, path: str, content: bytes | None) -> None:
        """Everything that could fail after the journal is tried before it."""
        self._refuse_links(path)
        whole = self.absolute(path)
        try:
            mode = os.lstat(whole).st_mode
        except FileNotFoundError:
            if content is not None and '/' in path:
                os.makedirs(os.path.dirname(whole), exist_ok=True)
            return
        except NotADirectoryError:
            if content is None:
                return
            raise
        if not stat.S_ISREG(mode):
            raise StoreUnavailable(
                f'{whole} is no regular file, and a key wants to be there. Move it away. Nothing was written.'
            )

    def _refuse_links(self, path: str) -> None:
        """No folder on the way to a file may be a link."""
        end = path.find('/')
        while end > 0:
            above = self.absolute(path[:end])
            try:
                if stat.S_ISLNK(os.lstat(above).st_mode):
                    raise StoreUnavailable(
                        f'{above} is a link, which may lead out of the folder. Remove it. Nothing was touched.'
                    )
            except (FileNotFoundError, NotADirectoryError):
                return
            end = path.find('/', end + 1)


def _is_below(path: str) -> bool:
    return not path.startswith('/') and not {'', '.', '..'} & set(path.split('/'))
