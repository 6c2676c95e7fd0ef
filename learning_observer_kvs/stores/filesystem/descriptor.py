"""How files are opened; and those that a process keeps open, so that no call opens them anew."""

from __future__ import annotations

import os
import weakref

SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""The flags with which every file of a directory is opened: no link is followed, no pipe is waited for."""


class Descriptor:
    """An open file. It is closed when its last user lets go of it, and in a child that is forked meanwhile.

    Args:
        number: the file descriptor, which belongs to this object from now on.
        is_writable: whether it is open for writing.

    Attributes:
        number: as given; -1 in a forked child, which must open its own.
        is_writable: as given.
        found: what ``os.fstat`` returned when it was opened.
    """

    __slots__ = ('__weakref__', 'found', 'is_writable', 'number')

    def __init__(self, number: int, *, is_writable: bool = True) -> None:
        self.number = number
        self.is_writable = is_writable
        _OPEN.add(self)
        self.found = os.fstat(number)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it at once."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def is_at(self, path: str) -> bool:
        """Return whether a path leads to this file.

        Args:
            path: its last part is not followed if it is a link.

        Raises:
            OSError: it cannot be found out.
        """
        try:
            return os.path.samestat(self.found, os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return False


_OPEN: weakref.WeakSet[Descriptor] = weakref.WeakSet()


def _close_inherited() -> None:
    for descriptor in list(_OPEN):
        descriptor.close()  # a child would keep the lock of its parent alive, after that was killed


os.register_at_fork(after_in_child=_close_inherited)
