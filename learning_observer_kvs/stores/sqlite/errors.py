"""What the errors of SQLite, and of the system before it, mean: what to do, and whether waiting may help."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from learning_observer_kvs.errors import StoreUnavailable

_WAITING_HELPS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,  # others opened and closed the file at the same moment, many times
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE,  # no space for the memory that processes share
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_LOCK,  # the system has no lock left
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_NOMEM,
}
"""Primary or extended codes of errors that end when others let go, or free something.

A disk that reports errors (``SQLITE_IOERR``) does not recover.
"""

_NO_LOCK = 'The system gives no lock: a network disk without locks cannot hold a store. Choose a local disk, or Redis.'

_HINTS = {
    sqlite3.SQLITE_IOERR_LOCK: _NO_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK: _NO_LOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK: _NO_LOCK,
    sqlite3.SQLITE_PROTOCOL: 'Others open and close it all the time, or it is on a network disk; choose a local one.',
    sqlite3.SQLITE_IOERR_SHMSIZE: 'Free some space on the disk.',
    sqlite3.SQLITE_TOOBIG: 'The value is larger than SQLite allows.',
    sqlite3.SQLITE_FULL: 'Free some space on the disk.',
    sqlite3.SQLITE_READONLY: 'Make the file and its folder writable for this user.',
    sqlite3.SQLITE_CANTOPEN: 'Make its folder writable for this user, or choose another path.',
    sqlite3.SQLITE_PERM: 'Make the file and its folder writable for this user.',
    sqlite3.SQLITE_BUSY: 'Another process held it for too long; look for a transaction left open.',
    sqlite3.SQLITE_NOTADB: 'It is not an SQLite file; choose another path.',
    sqlite3.SQLITE_CORRUPT: 'The file is damaged; restore it from a copy, or try sqlite3 with ".recover".',
    sqlite3.SQLITE_IOERR: 'The disk reports an error; look at the system log.',
}

_TOO_MANY_FILES = 'Close some, or raise the limit of open files.'

_HINTS_OF_SYSTEM = {
    errno.ENOLCK: _NO_LOCK,
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.ENOSPC: _HINTS[sqlite3.SQLITE_FULL],
    errno.EDQUOT: _HINTS[sqlite3.SQLITE_FULL],
}
"""Waiting may help with each of them."""


def of_sqlite(path: Path, error: sqlite3.Error, outcome: str = '') -> StoreUnavailable:
    """Return what an error of SQLite means to the caller of the store.

    Args:
        path: the file.
        error: the error; its transaction was rolled back.
        outcome: what the message says at its end.

    Returns:
        The error to raise, with a hint.
    """
    code = getattr(error, 'sqlite_errorcode', 0)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_CANTOPEN and (exhausted := _exhausted(path)) is not None:
        return unusable(path, exhausted, _TOO_MANY_FILES + outcome, retry=True)
    hint = _HINTS.get(code) or _HINTS.get(primary, 'Look at the file and its disk.')
    return unusable(path, str(error), hint + outcome, retry=bool({code, primary} & _WAITING_HELPS))


def of_system(path: Path, error: OSError) -> StoreUnavailable:
    """Return what an error of the system means, before SQLite has opened the file.

    Args:
        path: the file.
        error: the error.

    Returns:
        The error to raise, with a hint.
    """
    hint = _HINTS_OF_SYSTEM.get(error.errno or 0)
    return unusable(path, str(error.strerror or error), hint or 'Choose another path.', retry=hint is not None)


def unusable(path: Path, message: str, hint: str, *, retry: bool = False) -> StoreUnavailable:
    """Return the error of a file that cannot be used.

    Args:
        path: the file.
        message: why.
        hint: what to do about it.
        retry: whether waiting may help.
    """
    return StoreUnavailable(f'{path} cannot be used: {message}. {hint}', retry=retry)


def _exhausted(path: Path) -> str | None:
    """What the system says if no more files can be opened; SQLite does not tell."""
    try:
        os.close(os.open(path.parent, os.O_RDONLY))  # opening the file itself would drop its locks
    except OSError as error:
        return error.strerror if error.errno in (errno.EMFILE, errno.ENFILE) else None
    return None
