"""Several files changed at once: all or none, whichever process is killed when, and however many take part.

Under a lock of the whole directory the new contents are written beside the old ones, then a journal appears that names
them all. From there on the change has happened: the next process that takes the lock finishes it if its writer was
killed. Reading several files takes no lock: each change is counted, and what was read while the count did not change
is of one moment.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, TypeAlias

from learning_observer_kvs.config.paths import name_of
from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.private_files import PRIVATE, Access, create, make_folders, trial_folder
from learning_observer_kvs.stores.filesystem.change_file import ChangeFile
from learning_observer_kvs.stores.filesystem.lock import LOCK_SECONDS, DirectoryLock
from learning_observer_kvs.stores.filesystem.names import DIGESTS, META_DIR

READS_WITHOUT_LOCK = 5
"""How often several files are read without the lock; it is taken when something changed each time."""

_JOURNAL = f'{META_DIR}/journal'
_LOCK = f'{META_DIR}/lock'
_STAGED = f'{META_DIR}/new-'
_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


ChangeStep: TypeAlias = Literal['stage', 'journal', 'count', 'rename', 'finish']
"""One step of a change: a content is staged, the journal appears, the change is counted, a file is renamed or removed,
the journal is removed."""


class Directory:
    """A directory whose files change together.

    All paths are relative to it, with ``/``. Links in it are not followed.

    Args:
        root: its absolute path; made, with those above it, at the first change.
        lock_seconds: how long to wait for the lock.
        before_step: called before each step of a change; tests stop there.
        access: who may open new files and folders.

    Attributes:
        root: as given.
        lock: its lock.
        before_step: as given.
        change_file: the log of its changes, while a process wants to know them.
    """

    def __init__(
        self,
        root: str,
        lock_seconds: float = LOCK_SECONDS,
        before_step: Callable[[ChangeStep], None] = lambda step: None,
        access: Access = PRIVATE,
    ) -> None:
        self.root = root
        self._access = access
        self.lock = DirectoryLock(self.absolute(_LOCK), lock_seconds, access)
        self.before_step = before_step
        self.change_file = ChangeFile(self.absolute(META_DIR), access)

    def absolute(self, path: str) -> str:
        """Return the absolute path of a file.

        Args:
            path: below the directory.

        Returns:
            The absolute path.
        """
        return f'{self.root}/{name_of(path)}'

    # Reading

    def read(self, path: str) -> bytes | None:
        """Read a file.

        Args:
            path: below the directory.

        Returns:
            Its content; ``None`` if there is no regular file.

        Raises:
            OSError: it cannot be read.
            StoreUnavailable: a directory on the way to it is a link.
        """
        number = self._open(path)
        if number is None:
            return None
        with open(number, 'rb', buffering=0) as file:
            return file.read()

    def read_first_line(self, path: str) -> bytes | None:
        """Read the first line of a file.

        Args:
            path: below the directory.

        Returns:
            The line with its end; ``None`` if there is no regular file.

        Raises:
            OSError: it cannot be read.
            StoreUnavailable: a directory on the way to it is a link.
        """
        number = self._open(path)
        if number is None:
            return None
        with open(number, 'rb') as file:
            return file.readline()

    def stat(self, path: str) -> os.stat_result | None:
        """Return what the file system knows of a file.

        Args:
            path: below the directory.

        Returns:
            Size, times and so on; ``None`` if there is no regular file.

        Raises:
            OSError: the directory cannot be read.
            StoreUnavailable: a directory on the way to it is a link.
        """
        self._refuse_links(path)
        try:
            found = os.lstat(self.absolute(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def read_together(self, paths: Sequence[str]) -> list[bytes | None]:
        """Read several files, all as of one moment.

        Args:
            paths: below the directory.

        Returns:
            The content of each in order; ``None`` where there is no regular file.

        Raises:
            OSError: one of them cannot be read.
            StoreUnavailable: a directory on the way is a link, the journal is damaged, or the lock was held too long.
        """
        for _ in range(READS_WITHOUT_LOCK):
            count = self.lock.count()
            if self.is_journal_pending():
                break
            contents = [self.read(path) for path in paths]
            if self.lock.count() == count:
                return contents
        with self.read_locked():
            return [self.read(path) for path in paths]

    def is_journal_pending(self) -> bool:
        """Return whether a change of several files is under way, or was left by a process that was killed in it."""
        return os.path.lexists(self.absolute(_JOURNAL))

    def is_case_sensitive(self) -> bool | None:
        """Return whether names that differ in case only are different files here.

        Returns:
            Whether they are; ``None`` before the first change, when it is not known yet.
        """
        try:
            found = os.lstat(self.absolute(META_DIR))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return not os.path.samestat(found, os.lstat(self.absolute(META_DIR.upper())))
        except FileNotFoundError:
            return True

    @contextmanager
    def read_locked(self) -> Iterator[None]:
        """Hold the lock for reading: nothing changes meanwhile, and no journal is pending.

        Raises:
            OSError: the lock cannot be opened, or the change of a killed process cannot be finished.
            StoreUnavailable: the lock was held for too long, or the journal is damaged.
        """
        self._refuse_links(_LOCK)
        if not self.lock.exists():
            yield  # nothing was ever changed
            return
        with self.lock.held():
            if self.is_journal_pending():
                self._recover()
            yield

    # Changing

    @contextmanager
    def write_locked(self) -> Iterator[None]:
        """Hold the lock for changing files; what a killed process left is finished first.

        Raises:
            OSError: the directory or the lock cannot be made, or the change of a killed process cannot be finished.
            StoreUnavailable: the lock was held for too long, or the journal is damaged.
        """
        if not os.path.isdir(self.absolute(META_DIR)):
            make_folders(self.absolute(META_DIR), self._access)
        self._refuse_links(_LOCK)
        with self.lock.held(create=True):
            self._recover()
            yield

    def change(self, contents: Mapping[str, bytes | None], keys: Iterable[str] | None = None) -> None:
        """Give all files their new contents, or none of them; inside :meth:`write_locked`.

        Args:
            contents: the content of each file by its path; ``None`` removes it.
            keys: the keys that have these files, for the log of changes; ``None``: they may be any.

        Raises:
            OSError, StoreUnavailable: nothing was changed.
            WriteUnclear: the journal is there, but the disk failed while it was applied. The next process that takes
                the lock finishes that.
        """
        staged: dict[str, str | None] = {}
        try:
            for path, content in contents.items():
                self._prepare(path, content)
                if content is None:
                    staged[path] = None
                    continue
                staged[path] = name = f'{_STAGED}{len(staged)}'
                self.before_step('stage')
                self._create(name, content, replaces=path)
            self.change_file.append(keys)
            if len(staged) > 1:
                self._write_journal(staged)
            self.before_step('count')
            self.lock.count_change()
        except BaseException as error:
            self._withdraw(staged, error)
            raise
        try:
            self._apply(staged)
        except OSError as error:
            if len(staged) == 1:
                raise
            raise self._unclear(error) from error

    def _withdraw(self, staged: Mapping[str, str | None], reason: BaseException) -> None:
        """Remove what a change has staged: its journal first, which would have the rest carried out."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self.absolute(_JOURNAL))
        except OSError as error:
            raise self._unclear(error) from reason
        for new in (*staged.values(), f'{_STAGED}journal'):
            if new is not None:
                with suppress(OSError):
                    os.unlink(self.absolute(new))

    def _unclear(self, error: OSError) -> WriteUnclear:
        return WriteUnclear(
            f'{error.filename or self.root}: {error.strerror or error}, while a write of several keys was applied. It '
            'is finished as soon as the disk allows it; read the keys then to find out.'
        )

    def _create(self, path: str, content: bytes, replaces: str | None = None) -> None:
        number = create(self.absolute(path), self._access, replaces and self.absolute(replaces))
        with open(number, 'wb', buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]

    def probe(self) -> None:
        """Try to change something, and leave nothing: not even the directory, if there is none.

        Raises:
            OSError: it cannot be changed.
            StoreUnavailable: the lock was held for too long, or the journal is damaged.
        """
        if os.path.isdir(self.absolute(META_DIR)):
            with self.write_locked():
                self._try_writing()
        else:
            with trial_folder(self.absolute(META_DIR)) as folder:
                trial = Directory(folder, self.lock.seconds)
                with trial.write_locked():
                    trial._try_writing()

    def _try_writing(self) -> None:
        name = f'{_STAGED}probe'
        try:
            self._create(name, b'probe')
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self.absolute(name))

    def _write_journal(self, staged: Mapping[str, str | None]) -> None:
        new = f'{_STAGED}journal'
        self._create(new, json.dumps(staged).encode())
        self.before_step('journal')
        os.rename(self.absolute(new), self.absolute(_JOURNAL))

    def _apply(self, staged: Mapping[str, str | None], *, again: bool = False) -> None:
        """Carry out a change; ``again``: one that a killed process may have carried out in part."""
        for path, new in staged.items():
            self.before_step('rename')
            if new is None:
                with suppress(FileNotFoundError):
                    os.unlink(self.absolute(path))
            else:
                self._move(new, path, again)
        if len(staged) > 1:
            self.before_step('finish')
            os.unlink(self.absolute(_JOURNAL))
        for path, new in staged.items():
            if new is None:
                self._prune(path)

    def _move(self, new: str, path: str, again: bool) -> None:
        try:
            os.rename(self.absolute(new), self.absolute(path))
        except FileNotFoundError:
            if not os.path.lexists(self.absolute(new)):
                if again:
                    return  # done already, by the process that was killed
                raise
            make_folders(os.path.dirname(self.absolute(path)), self._access)
            os.rename(self.absolute(new), self.absolute(path))

    def _prune(self, path: str) -> None:
        """Remove the directories above a removed file where they are empty: they too are named by keys."""
        while path := path.rpartition('/')[0]:
            if path in (META_DIR, DIGESTS):
                return
            try:
                os.rmdir(self.absolute(path))
            except OSError:
                return  # something is in it

    def _recover(self) -> None:
        """Finish a change whose journal a killed process left, and remove what was staged without a journal."""
        if self.is_journal_pending():
            staged = self._read_journal()
            for path in staged:
                self._refuse_links(path)
            self.lock.count_change()  # it may not have been: what is being read meanwhile is read again
            self._apply(staged, again=True)
        with os.scandir(self.absolute(META_DIR)) as entries:
            left = [entry.path for entry in entries if f'{META_DIR}/{entry.name}'.startswith(_STAGED)]
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
            f'{self.absolute(_JOURNAL)} is damaged, as after a loss of power; it lists the last write of several keys, '
            'which may have been applied in part. Remove that file when you have looked at them.'
        )

    # Safety

    def _open(self, path: str) -> int | None:
        """Open a regular file for reading; anything else does not count as a file."""
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

    def _prepare(self, path: str, content: bytes | None) -> None:
        """Try, before the journal is written, all that could fail after it; make the directories above a file."""
        self._refuse_links(path)
        whole = self.absolute(path)
        try:
            mode = os.lstat(whole).st_mode
        except FileNotFoundError:
            if content is not None and '/' in path:
                make_folders(os.path.dirname(whole), self._access)
            return
        except NotADirectoryError:
            if content is None:
                return
            raise
        if not stat.S_ISREG(mode):
            raise StoreUnavailable(
                f'{whole} is not a regular file, and a key needs that name. Move it away. Nothing was written.'
            )

    def _refuse_links(self, path: str) -> None:
        """Raise if a directory on the way to a file is a link."""
        end = path.find('/')
        while end > 0:
            above = self.absolute(path[:end])
            try:
                if stat.S_ISLNK(os.lstat(above).st_mode):
                    raise StoreUnavailable(
                        f'{above} is a link, which may lead out of the folder; links are not followed. Remove it.'
                    )
            except (FileNotFoundError, NotADirectoryError):
                return
            end = path.find('/', end + 1)


def _is_below(path: str) -> bool:
    return not path.startswith('/') and not {'', '.', '..'} & set(path.split('/'))
