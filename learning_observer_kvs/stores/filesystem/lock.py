"""The lock of a directory among tasks, threads and processes, and the count of its changes, in one small file."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.private_files import PRIVATE, Access, open_or_make

LOCK_SECONDS = 1.0
"""How long one try waits for the lock, which is held for milliseconds; the call tries again until its deadline."""

_COUNT_BYTES = 8
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LockHeld(StoreUnavailable):
    """Another process or thread held the lock for too long."""


class DirectoryLock:
    """One lock file.

    Args:
        path: where it is.
        seconds: how long to wait for the lock.
        access: who may open the file.

    Attributes:
        path, seconds: as given.
    """

    def __init__(self, path: str, seconds: float = LOCK_SECONDS, access: Access = PRIVATE) -> None:
        self.path = path
        self._access = access
        self.seconds = seconds

    def exists(self) -> bool:
        """Return whether the lock file is there: whether any process has changed something in the directory."""
        return os.path.lexists(self.path)

    @contextmanager
    def held(self, *, create: bool = False) -> Iterator[None]:
        """Hold the lock, which excludes all other threads and processes.

        It blocks, and must never be held while a coroutine waits.

        Args:
            create: whether to make the file if there is none.

        Raises:
            OSError: the file cannot be opened, or made.
            LockHeld: the lock was held by another process or thread for too long.
        """
        deadline = time.monotonic() + self.seconds
        while True:
            # A lock belongs to the open file, so each call opens its own: threads exclude each other, too.
            lock = self._open(create)
            _OPEN.add(lock)
            try:
                self._acquire(lock, deadline)
                if self._is_in_place(lock):
                    yield
                    return
            finally:
                _OPEN.discard(lock)
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was just forked may have the file open, too
                os.close(lock)

    def count(self) -> bytes:
        """Read how many changes there have been.

        Returns:
            Another value after each change; empty before the first.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            lock = os.open(self.path, _SAFELY | os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return b''
        try:
            return os.pread(lock, _COUNT_BYTES, 0)
        finally:
            os.close(lock)

    def count_change(self) -> None:
        """Count one more change; to be called while the lock is held.

        Raises:
            OSError: the file cannot be written.
        """
        lock = os.open(self.path, _SAFELY | os.O_RDWR)
        try:
            count = int.from_bytes(os.pread(lock, _COUNT_BYTES, 0), 'big') + 1
            os.pwrite(lock, (count % (1 << 8 * _COUNT_BYTES)).to_bytes(_COUNT_BYTES, 'big'), 0)
        finally:
            os.close(lock)

    def _open(self, create: bool) -> int:
        if create:
            return open_or_make(self.path, _SAFELY | os.O_RDWR, self._access)
        return os.open(self.path, _SAFELY | os.O_RDONLY)

    def _is_in_place(self, lock: int) -> bool:
        """Whether the lock file is still the one that others find there."""
        try:
            return os.path.samestat(os.fstat(lock), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _acquire(self, lock: int, deadline: float) -> None:
        """Take the lock; never wait for ever for a process that was stopped while it held it."""
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockHeld(
                        f'{self.path} has been held by another process for {self.seconds:g} seconds. Look for one '
                        'that is stopped.',
                        retry=True,
                    ) from None
            time.sleep(random.random() / 1000)


_OPEN: set[int] = set()
"""The lock files that are open now. A child that is forked meanwhile would keep its parent's lock alive."""


def _close_inherited() -> None:
    while _OPEN:
        os.close(_OPEN.pop())


os.register_at_fork(after_in_child=_close_inherited)
