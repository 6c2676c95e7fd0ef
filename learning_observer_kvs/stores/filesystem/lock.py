"""The lock of a folder among tasks, threads and processes, and the count of its changes, in one small file."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from learning_observer_kvs.errors import StoreUnavailable

LOCK_SECONDS = 10.0
"""How long the lock is waited for; whoever holds it needs milliseconds."""

_COUNT_BYTES = 8
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LockHeld(StoreUnavailable):
    """Somebody held the lock for too long."""


class FolderLock:
    """One lock file.

    Args:
        path: where it is.
        seconds: how long to wait for the lock.
    """

    def __init__(self, path: str, seconds: float = LOCK_SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def is_there(self) -> bool:
        """Whether anybody ever changed something in the folder."""
        return os.path.lexists(self._path)

    @contextmanager
    def held(self, *, create: bool = False) -> Iterator[None]:
        """Nobody else holds it meanwhile. It blocks, and must never be held while a coroutine waits.

        Raises:
            OSError: the file cannot be opened, or (with ``create``) made.
            LockHeld: somebody held it for too long.
        """
        # A lock belongs to the open file, so each opens its own: threads of one process exclude one another, too.
        lock = os.open(self._path, _SAFELY | (os.O_RDWR | os.O_CREAT if create else os.O_RDONLY), 0o666)
        _OPEN.add(lock)
        try:
            self._acquire(lock)
            yield
        finally:
            _OPEN.discard(lock)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was just forked may have the file open, too
            os.close(lock)

    def count(self) -> bytes:
        """How many changes there have been: another value after each of them."""
        try:
            lock = os.open(self._path, _SAFELY | os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return b''
        try:
            return os.pread(lock, _COUNT_BYTES, 0)
        finally:
            os.close(lock)

    def count_change(self) -> None:
        """One more; to be called while the lock is held."""
        lock = os.open(self._path, _SAFELY | os.O_RDWR)
        try:
            count = int.from_bytes(os.pread(lock, _COUNT_BYTES, 0), 'big') + 1
            os.pwrite(lock, (count % (1 << 8 * _COUNT_BYTES)).to_bytes(_COUNT_BYTES, 'big'), 0)
        finally:
            os.close(lock)

    def _acquire(self, lock: int) -> None:
        """Take the lock; never wait for ever for a process that was stopped while it held it."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockHeld(
                        f'{self._path} has been held by another process for {self._seconds:g} seconds. Look for one '
                        'that is stopped. Nothing was written.'
                    ) from None
            time.sleep(random.random() / 1000)


_OPEN: set[int] = set()
"""The lock files that are open now. A child that is forked meanwhile would keep its parent's lock alive."""


def _let_go() -> None:
    while _OPEN:
        os.close(_OPEN.pop())


os.register_at_fork(after_in_child=_let_go)
