"""Every error of the package.

KVSError
├── InvalidKey (ValueError)            a key no store takes: empty, not text, too long
├── InvalidValue (ValueError)          a value JSON cannot hold; names the path inside the value
├── CorruptValue                       what is stored under a key is not JSON
├── Conflict                           others kept writing between our read and our write; nothing was written
├── WriteUnclear                       the connection broke after a write was sent: it may have been applied or not
├── StoreUnavailable                   the server, file or disk behind a store does not answer; nothing was written
├── Overloaded                         a queue is at its bound; nothing was taken
├── CrossSlot                          keys of one write live on several servers of a cluster; nothing was written
├── ReducerError                       a reducer broke its contract: wrong return value, re-entry of its own key
├── DumpFileError                      a file that ``load`` refuses, or that cannot be read or written
├── StudyLogError                      a study log that cannot be read
├── KVSNotConfigured (AttributeError)  a store that the configuration does not name
└── StartupCheck                       the configuration or a server it names is wrong
    └── StartupFailed (SystemExit)     the same, ending the process with exit status 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class KVSError(Exception):
    """The parent of every error of this package."""


class InvalidKey(KVSError, ValueError):
    """A key no store takes."""


class InvalidValue(KVSError, ValueError):
    """A value that JSON cannot hold. Raised before anything is touched."""


class CorruptValue(KVSError):
    """What is stored is not JSON. Nothing was overwritten."""


class Conflict(KVSError):
    """Others kept writing the same key; given up after a bounded number of tries. Nothing was written."""


class WriteUnclear(KVSError):
    """A write was sent and its answer never came: it may have been applied or not."""


class StoreUnavailable(KVSError):
    """What keeps the data cannot be reached or refuses to work. Nothing was written."""


class Overloaded(KVSError):
    """A queue is at its bound. Nothing was taken; try again later."""


class CrossSlot(KVSError):
    """The keys of one atomic write live on different servers of a cluster. Nothing was written."""


class ReducerError(KVSError):
    """A reducer broke its contract. Its state is as it was."""


class DumpFileError(KVSError):
    """A file that is not a dump, or that cannot be read or written. Nothing was loaded, or it says how much."""


class StudyLogError(KVSError):
    """A study log that cannot be read, with the line."""


class KVSNotConfigured(KVSError, AttributeError):
    """A store was asked for that the configuration does not name.

    It is an ``AttributeError``, because callers of ``KVS.<name>()`` catch that.
    """


class StartupCheck(KVSError):
    """A start-up check failed: the text says where, what is wrong and what cures it.

    Args:
        message: the whole text for people, several lines if need be.
        problems: the single findings behind it (``problems.Problem``), for programs.
    """

    def __init__(self, message: str = '', *, problems: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Any, ...] = tuple(problems)


class StartupFailed(StartupCheck, SystemExit):
    """What the aiohttp start-up hook raises: a ``StartupCheck`` that also ends ``web.run_app`` with status 1."""

    code = 1
