"""The lock of a directory among tasks, threads and processes, and the count of its changes, in one small file."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.private_files import PRIVATE, Access, open_or_make
from learning_observer_kvs.stores.filesystem.descriptor import SAFELY, Descriptor

LOCK_SECONDS = 1.0
"""How long one try waits for the lock, which is held for milliseconds; the call tries again until its deadline."""

_COUNT_BYTES = 8


class LockHeld(StoreUnavailable):
    """Another process or thread held the lock for too long."""


class DirectoryLock:
    """One lock file, which is kept open.

    Args:
        path: where it is.
        seconds: how long to wait for the lock.
        access: who may open the file, if it is made here.

    Attributes:
        path, seconds: as given.
    """

    def __init__(self, path: str, seconds: float = LOCK_SECONDS, access: Access = PRIVATE) -> None:
        self.path = path
        self._access = access
        self.seconds = seconds
        self._mutex = threading.Lock()  # among threads: they share the open file, to which the lock belongs
        self._open: Descriptor | None = None
        _LOCKS.add(self)

    def exists(self) -> bool:
        """Return whether the lock file is there: whether any process has changed something in the directory."""
        return os.path.lexists(self.path)

    def is_open(self) -> bool:
        """Return whether the file is kept open by this process."""
        return self._open is not None

    @contextmanager
    def held(self, *, create: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold the lock, which excludes all other threads and processes.

        It blocks, and must never be held while a coroutine waits.

        Args:
            create: whether to make the file if there is none, and to open it for writing.
            wait: whether to wait for the lock.

        Raises:
            OSError: the file cannot be opened, or made.
            LockHeld: the lock was held by another process or thread for too long.
        """
        seconds = self.seconds if wait else 0.0
        deadline = time.monotonic() + seconds
        mutex = self._mutex
        if not mutex.acquire(timeout=seconds):
            raise self._held()
        try:
            while True:
                lock = self._opened(create)
                self._acquire(lock, deadline)
                try:
                    if lock.is_at(self.path):
                        yield
                        return
                finally:
                    if lock.number >= 0:  # not in a child that was just forked: the lock is its parent's
                        fcntl.flock(lock.number, fcntl.LOCK_UN)
                self._open = None
        finally:
            mutex.release()

    def count(self) -> bytes:
        """Read how many changes there have been.

        Returns:
            Another value after each change; empty before the first.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            lock = self._opened(False)
        except (FileNotFoundError, NotADirectoryError):
            return b''
        return os.pread(lock.number, _COUNT_BYTES, 0)

    def count_change(self) -> None:
        """Count one more change; to be called while the lock is held.

        Raises:
            OSError: the file cannot be written.
        """
        lock = self._open
        if lock is None or not lock.is_writable:
            lock = Descriptor(os.open(self.path, SAFELY | os.O_RDWR))
        count = int.from_bytes(os.pread(lock.number, _COUNT_BYTES, 0), 'big') + 1
        os.pwrite(lock.number, (count % (1 << 8 * _COUNT_BYTES)).to_bytes(_COUNT_BYTES, 'big'), 0)

    def close(self) -> None:
        """Let go of the file; who uses it at this moment goes on."""
        self._open = None

    def forget(self) -> None:
        """Forget what the parent of this forked process held."""
        self._mutex = threading.Lock()
        self._open = None

    def _opened(self, for_writing: bool) -> Descriptor:
        lock = self._open
        if lock is None or (for_writing and not lock.is_writable):
            lock = self._open = self._open_to_write() if for_writing else self._open_to_read()
        return lock

    def _open_to_write(self) -> Descriptor:
        return Descriptor(open_or_make(self.path, SAFELY | os.O_RDWR, self._access))

    def _open_to_read(self) -> Descriptor:
        with suppress(OSError):
            return Descriptor(os.open(self.path, SAFELY | os.O_RDWR))  # a change will need it
        return Descriptor(os.open(self.path, SAFELY | os.O_RDONLY), is_writable=False)

    def _held(self) -> LockHeld:
        return LockHeld(
            f'{self.path} has been held by another process for {self.seconds:g} seconds. Look for one that is stopped.',
            retry=True,
        )

    def _acquire(self, lock: Descriptor, deadline: float) -> None:
        """Take the lock; never wait for ever for a process that was stopped while it held it."""
        while True:
            try:
                fcntl.flock(lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._held() from None
            time.sleep(random.random() / 1000)


_LOCKS: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _forget_inherited() -> None:
    for lock in list(_LOCKS):
        lock.forget()


os.register_at_fork(after_in_child=_forget_inherited)
