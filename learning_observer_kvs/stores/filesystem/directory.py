"""Several files changed at once: all or none, whichever process is killed when, and however many take part.

Under a lock of the whole directory the new contents are written beside the old ones, then they are appended to a
journal that names all files. From there on the change has happened: the next process that takes the lock finishes it
if its writer was killed. Reading several files takes no lock: each change is counted, and what was read while the count
did not change is of one moment.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Literal, TypeAlias

from learning_observer_kvs.errors import WriteUnclear
from learning_observer_kvs.private_files import PRIVATE, Access, make_folders, refuse_unwritable, trial_folder
from learning_observer_kvs.stores.filesystem.change_file import ChangeFile
from learning_observer_kvs.stores.filesystem.journal import JOURNAL, OLD_STAGED, FileChange, Journal
from learning_observer_kvs.stores.filesystem.lock import LOCK_SECONDS, DirectoryLock, LockHeld
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.paths import Paths
from learning_observer_kvs.stores.filesystem.staging import SPARE, Staging

READS_WITHOUT_LOCK = 5
"""How often several files are read without the lock; it is taken when something changed each time."""

_LOCK = f'{META_DIR}/lock'
_NOTHING: Mapping[str, bytes | None] = MappingProxyType({})
_FULL = (errno.ENOSPC, errno.EDQUOT)


ChangeStep: TypeAlias = Literal['stage', 'journal', 'count', 'rename', 'finish']
"""One step of a change: a content is staged, the journal is written, the change is counted, a file is put in place or
removed, the journal is cut off."""


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
        self._paths = Paths(root, access)
        self.lock = DirectoryLock(self.absolute(_LOCK), lock_seconds, access)
        self.before_step = before_step
        self._journal = Journal(root, self.lock.path, access)
        self._staging = Staging(self._paths)
        self._is_cleared = False
        self.change_file = ChangeFile(self.absolute(META_DIR), access)

    def is_open(self) -> bool:
        """Return whether the lock is kept open, and what others left was cleared away."""
        return self._is_cleared and self.lock.is_open()

    def close(self) -> None:
        """Let go of the files that are kept open; each is opened again where it is needed."""
        self.lock.close()
        self._journal.close()
        self._is_cleared = False

    def absolute(self, path: str) -> str:
        """Return the absolute path of a file.

        Args:
            path: below the directory.

        Returns:
            The absolute path.
        """
        return self._paths.absolute(path)

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
        opened = self._paths.open(path)
        if opened is None:
            return None
        number, found = opened
        try:
            content = os.read(number, found.st_size + 1)
            if len(content) == found.st_size:
                return content
            with open(number, 'rb', buffering=0, closefd=False) as file:  # another program writes to it, or it is large
                return content + file.read()
        finally:
            os.close(number)

    def read_one(self, path: str) -> bytes | None:
        """Read a file without the lock.

        Args:
            path: below the directory.

        Returns:
            Its content at one moment; ``None`` if there was no regular file.

        Raises:
            OSError: it cannot be read.
            StoreUnavailable: a directory on the way to it is a link, the journal is damaged, or the lock was held too
                long.
        """
        for _ in range(READS_WITHOUT_LOCK):
            if self.is_journal_pending():
                break
            opened = self._paths.open(path)
            if opened is None:
                return None
            number, found = opened
            with open(number, 'rb', buffering=0) as file:
                # Between finding and opening it, it may have been replaced, and used again for another key.
                current = self.stat(path)
                if current is not None and os.path.samestat(found, current):
                    return file.read()
        with self.read_locked():
            return self.read(path)

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
        opened = self._paths.open(path)
        if opened is None:
            return None
        with open(opened[0], 'rb') as file:
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
        self._paths.refuse_links(path)
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
        return self._journal.is_pending()

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
        self._paths.refuse_links(_LOCK)
        if not self.lock.exists():
            yield  # nothing was ever changed
            return
        with self.lock.held():
            if self.is_journal_pending():
                self._recover()
            yield

    # Changing

    @contextmanager
    def write_locked(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock for changing files; what a killed process left is finished first.

        Args:
            wait: whether to wait for the lock, and for what must be done before anything else.

        Raises:
            OSError: the directory or the lock cannot be made, or the change of a killed process cannot be finished.
            StoreUnavailable: the lock was held for too long, or the journal is damaged.
        """
        is_open = self.is_open()
        if not is_open:
            make_folders(self.absolute(META_DIR), self._paths.access)
            self._paths.refuse_links(_LOCK)
        with self.lock.held(create=True, wait=wait):
            if self.is_journal_pending():
                if not wait:
                    raise LockHeld(f'{self.root}: a change of another process must be finished first.', retry=True)
                self._recover()
            if not is_open:  # what others staged, they are not using: they do not hold the lock
                self._staging.purge(SPARE, OLD_STAGED)
                self._is_cleared = True
            yield

    def scrub(self) -> None:
        """Remove staged files and the log of changes, which have earlier contents; inside :meth:`write_locked`."""
        self._staging.purge()
        self.change_file.forget()

    def change(
        self,
        contents: Mapping[str, bytes | None],
        known: Mapping[str, bytes | None] = _NOTHING,
        keys: Iterable[str] | None = None,
    ) -> None:
        """Give all files their new contents, or none of them; inside :meth:`write_locked`.

        Args:
            contents: the content of each file by its path; ``None`` removes it. One that holds that already is left.
            known: what was read of some of them under the lock.
            keys: the keys that have these files, for the log of changes; ``None``: they may be any.

        Raises:
            OSError, StoreUnavailable: nothing was changed.
            WriteUnclear: the journal is there, but the disk failed while it was applied. The next process that takes
                the lock finishes that.
        """
        try:
            self._change(contents, known, keys)
        except OSError as error:
            if error.errno not in _FULL or not self._staging.purge():
                raise
            self._change(contents, known, keys)  # there is some space now

    def _change(
        self, contents: Mapping[str, bytes | None], known: Mapping[str, bytes | None], keys: Iterable[str] | None
    ) -> None:
        replaced: dict[str, os.stat_result | None] = {}
        changes: list[FileChange] = []
        names = self._staging.names(len(contents))
        if None in contents.values():
            self._staging.purge()  # earlier contents of what is removed must not live on there
        try:
            for path, content in contents.items():
                replaced[path] = found = self._paths.prepare(path, content)
                if content is None:
                    changes.append(FileChange(path, None, None))
                elif self._differs(path, content, found, known, changes):
                    self.before_step('stage')
                    changes.append(FileChange(path, name := names.pop(), content))
                    inode = self._staging.write(name, content, path, found)
                    changes[-1] = changes[-1]._replace(inode=inode)
            if not changes:
                return
            self._paths.check_permissions(change.path for change in changes)
            self.change_file.append(keys)
            if len(changes) > 1:
                self.before_step('journal')
                self._journal.append(changes)
            self.before_step('count')
            self.lock.count_change()
        except BaseException as error:
            self._withdraw(changes, error)
            raise
        try:
            self._apply(changes, replaced)
        except OSError as error:
            if len(changes) == 1:
                raise
            raise self._unclear(error) from error

    def _differs(
        self,
        path: str,
        content: bytes,
        found: os.stat_result | None,
        known: Mapping[str, bytes | None],
        changes: Sequence[FileChange],
    ) -> bool:
        """Whether a file must be written; what it holds is not looked at if its counterpart must be."""
        if found is None or found.st_size != len(content) or (changes and changes[-1].content is content):
            return True
        if content != (known[path] if path in known else self.read(path)):
            return True
        refuse_unwritable(self.absolute(path), found)
        return False

    def _withdraw(self, changes: Sequence[FileChange], reason: BaseException) -> None:
        """Withdraw a change: its journal first, which would have the rest carried out."""
        try:
            self._journal.finish()
        except OSError as error:
            raise self._unclear(error) from reason
        for change in changes:
            if change.staged is not None:
                self._staging.discard(change.staged)

    def _unclear(self, error: OSError) -> WriteUnclear:
        return WriteUnclear(
            f'{error.filename or self.root}: {error.strerror or error}, while a write of several keys was applied. It '
            'is finished as soon as the disk allows it; read the keys then to find out.'
        )

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
        [name] = self._staging.names(1)
        try:
            self._staging.write(name, b'probe', f'{META_DIR}/probe', None)
        finally:
            self._staging.discard(name)

    def _apply(self, changes: Sequence[FileChange], replaced: Mapping[str, os.stat_result | None]) -> None:
        for path, staged, _, _ in changes:
            self.before_step('rename')
            if staged is None:
                with suppress(FileNotFoundError):
                    os.unlink(self.absolute(path))
            else:
                self._staging.install(staged, path, replaced[path])
        if len(changes) > 1:
            self.before_step('finish')
            self._journal.finish()
        self._prune(changes)

    def _prune(self, changes: Sequence[FileChange]) -> None:
        for change in changes:
            if change.staged is None:
                self._paths.prune(change.path)

    def _recover(self) -> None:
        """Finish a change that a killed process decided; the files that it did not come to are as they were."""
        changes = self._journal.read(self.read(JOURNAL))
        for change in changes:
            self._paths.refuse_links(change.path)
        self.lock.count_change()  # it may not have been: what is being read meanwhile is read again
        for path, staged, content, inode in changes:
            self.before_step('rename')
            if staged is None:
                with suppress(FileNotFoundError):
                    os.unlink(self.absolute(path))
            elif content is None:
                found = self.stat(staged)
                if found is not None and inode in (None, found.st_ino):  # otherwise it is in its place already
                    self._staging.install(staged, path, None)
            elif self.read(path) != content:
                if self.read(staged) != content:
                    self._staging.write(staged, content, path, self._paths.prepare(path, content))  # it was removed
                self._staging.install(staged, path, None)
        self._journal.remove()
        self._prune(changes)
