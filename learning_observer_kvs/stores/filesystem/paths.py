"""Paths below the directory of a store. Links in it are not followed: they may lead out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from learning_observer_kvs.config.paths import name_of
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.private_files import PRIVATE, Access, make_folders
from learning_observer_kvs.stores.filesystem.descriptor import SAFELY
from learning_observer_kvs.stores.filesystem.names import DIGESTS, META_DIR

_EFFECTIVE = os.access in os.supports_effective_ids
_TO_READ = os.O_RDONLY | SAFELY


class Paths:
    """The paths below one directory, with ``/``.

    Args:
        root: its absolute path.
        access: who may open new folders.

    Attributes:
        root, access: as given.
    """

    def __init__(self, root: str, access: Access = PRIVATE) -> None:
        self.root = root
        self.access = access

    def absolute(self, path: str) -> str:
        """Return the absolute path of a file.

        Args:
            path: below the directory.

        Returns:
            The absolute path.
        """
        return f'{self.root}/{name_of(path)}'

    def open(self, path: str) -> tuple[int, os.stat_result] | None:
        """Open a regular file for reading; anything else does not count as a file.

        Args:
            path: below the directory.

        Returns:
            The file descriptor, and what the file system knows of the file; ``None`` if there is none.

        Raises:
            OSError: it cannot be opened.
            StoreUnavailable: a directory on the way to it is a link.
        """
        self.refuse_links(path)
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
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode):
            return number, found
        os.close(number)
        return None

    def prepare(self, path: str, content: bytes | None) -> os.stat_result | None:
        """Try, before a change is decided, all that could fail after that; make the directories above a file.

        Args:
            path: below the directory.
            content: what it is to hold; ``None`` if it is to be removed.

        Returns:
            What the file system knows of the file that is there; ``None`` if there is none.

        Raises:
            OSError: a directory cannot be made.
            StoreUnavailable: something else has that name, or a directory on the way to it is a link.
        """
        self.refuse_links(path)
        whole = self.absolute(path)
        try:
            found = os.lstat(whole)
        except FileNotFoundError:
            if content is not None and '/' in path:
                self.make_folder_of(path)
            return None
        except NotADirectoryError:
            if content is None:
                return None
            raise
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(
                f'{whole} is not a regular file, and a key needs that name. Move it away. Nothing was written.'
            )
        return found

    def make_folder_of(self, path: str) -> None:
        """Make the folders above a file, unless they are there.

        Args:
            path: below the directory.

        Raises:
            OSError: one of them cannot be made.
        """
        make_folders(os.path.dirname(self.absolute(path)), self.access)

    def check_permissions(self, paths: Iterable[str]) -> None:
        """Raise if files cannot be put in place: those that are kept open could be written all the same.

        Args:
            paths: below the directory.

        Raises:
            PermissionError: a directory may not be changed.
        """
        above = {path.rpartition('/')[0] for path in paths}
        for path in above | {META_DIR}:
            whole = self.absolute(path) if path else self.root
            if not os.access(whole, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE) and os.path.isdir(whole):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), whole)

    def refuse_links(self, path: str) -> None:
        """Raise if a directory on the way to a file is a link.

        Args:
            path: below the directory.

        Raises:
            StoreUnavailable: it is.
        """
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

    def prune(self, path: str) -> None:
        """Remove the directories above a removed file where they are empty: they too are named by keys.

        Args:
            path: below the directory.
        """
        while path := path.rpartition('/')[0]:
            if path in (META_DIR, DIGESTS):
                return
            try:
                os.rmdir(self.absolute(path))
            except OSError:
                return  # something is in it
