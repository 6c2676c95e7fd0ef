"""The files and directories of a store, which must stay where they are while the store is open.

A file that is removed or replaced lives on for those that have it open: what they write there is written, and gone.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.write_request import WriteRequest

log = logging.getLogger('learning_observer_kvs')

CHECK_SECONDS = 0.1
"""Seconds for which :meth:`PinnedFiles.check_at_times` relies on the last check."""

FileIdentity: TypeAlias = tuple[int, int]
"""Device and inode number, which no other file has as long as this one is open anywhere."""

_TO_PIN = getattr(os, 'O_PATH', os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC


class PinnedFiles:
    """Paths that must go on leading to the files that they led to at first. Several threads may use it.

    Once one of them does not, every check fails, until the store is closed.

    Args:
        paths: each is pinned by the first check that finds a file there.
        clock: returns seconds that only grow.
    """

    def __init__(self, *paths: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._missing = list(paths)
        self._clock = clock
        self._pinned: dict[str, FileIdentity] = {}
        self._open: list[int] = []
        self._replaced: str | None = None
        self._check_after = 0.0

    def pin(self, path: str, found: os.stat_result) -> None:
        """Pin a file that is open already.

        Args:
            path: of the file.
            found: what ``os.stat`` returned for it.
        """
        self._pinned.setdefault(path, identity(found))

    def check(self) -> None:
        """Look at every path.

        Raises:
            StoreUnavailable: a pinned file was removed or replaced, or a path cannot be looked at.
        """
        self._raise_if_replaced()
        for path in self._missing[:]:
            self._open_and_pin(path)
        for path, pinned in list(self._pinned.items()):
            try:
                found = identity(os.stat(path))
            except (FileNotFoundError, NotADirectoryError):
                found = None
            except OSError as error:
                raise self._unknown(path, error) from None
            if found != pinned:
                self._stop(path)

    def check_at_times(self) -> None:
        """Look at every path, if that was not done in the last ``CHECK_SECONDS``.

        Raises:
            StoreUnavailable: as for :meth:`check`.
        """
        if self._replaced is not None or self._clock() >= self._check_after:
            self._check_after = self._clock() + CHECK_SECONDS
            self.check()

    def close(self) -> None:
        """Close what is kept open here; no thread may use this any more."""
        while self._open:
            os.close(self._open.pop())

    def _open_and_pin(self, path: str) -> None:
        try:
            number = os.open(path, _TO_PIN)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._unknown(path, error) from None
        self._open.append(number)
        self.pin(path, os.fstat(number))
        with suppress(ValueError):  # another thread pinned it at the same time
            self._missing.remove(path)

    def _unknown(self, path: str, error: OSError) -> StoreUnavailable:
        retry = error.errno in (errno.EMFILE, errno.ENFILE)
        return StoreUnavailable(f'{path} cannot be looked at: {error.strerror or error}.', retry=retry)

    def _stop(self, path: str) -> None:
        if self._replaced is None:
            self._replaced = path
            log.error('%s', self._message(path))
        self._raise_if_replaced()

    def _raise_if_replaced(self) -> None:
        if self._replaced is not None:
            raise StoreUnavailable(self._message(self._replaced))

    def _message(self, path: str) -> str:
        return (
            f'{path} was removed or replaced while it was in use. The store is stopped, so that no write is '
            'acknowledged and lost. Put back what was there if it is needed, and restart the programs that use it.'
        )


def mark_replaced(requests: Iterable[WriteRequest], replaced: StoreUnavailable) -> None:
    """Set the errors of requests that were processed while a file was replaced.

    Args:
        requests: with their results, or errors.
        replaced: what the check after them raised.
    """
    unclear = WriteUnclear(f'{replaced} This write may or may not be in what was there before.')
    for request in requests:
        is_written = request.error is None and request.result
        request.error = unclear if is_written or isinstance(request.error, WriteUnclear) else replaced


def identity(found: os.stat_result) -> FileIdentity:
    """Return which file it is, under whatever path.

    Args:
        found: what ``os.stat`` returned for it.
    """
    return found.st_dev, found.st_ino
