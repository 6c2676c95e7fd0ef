"""Every error of the package.

KVSError
├── InvalidKey (ValueError)            a key that no store accepts: empty, not text, too long
├── InvalidValue (ValueError)          a value that JSON cannot hold; the message gives the path inside the value
├── CorruptValue                       what is stored under a key is not JSON; it was not overwritten
├── Conflict                           other writers changed the key at every one of a bounded number of tries
├── WriteUnclear                       the connection broke after a write was sent; it may or may not have been applied
├── StoreUnavailable                   the server, file or disk behind a store cannot be used
│   └── StoreMissing                   a store that is opened without creating it is not there
├── Overloaded                         a queue is full; the call was rejected; retry later
├── CrossSlot                          the keys of one write are in several slots of a cluster
├── ForeignKeys                        clear() of a Redis store would remove what others wrote
├── ReducerError                       a reducer broke its contract: wrong return value, an event to its own key
├── ScopeFieldError                    a reducer's scope has a field that the server cannot fill in
├── DumpFileError                      a dump file that cannot be read or written, or is not valid
├── EventFileError                     a study log, or a file of failed events, that cannot be read or is not valid
├── Undecided                          an erasure found places that name the student and that no rule is known for
├── UnknownStudent                     an erasure found nothing that names the student
├── KVSNotConfigured (AttributeError)  a store that the configuration does not have
└── StartupCheck                       the configuration is wrong, or a server that it names cannot be used
    └── StartupFailed (SystemExit)     the same, ending the process with exit status 1

A write that ends with one of these errors was not applied; after ``WriteUnclear`` it may have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class KVSError(Exception):
    """The parent of every error of this package."""


class InvalidKey(KVSError, ValueError):
    """A key that no store accepts. Raised before the store is touched."""


class InvalidValue(KVSError, ValueError):
    """A value that JSON cannot hold. Raised before the store is touched."""


class CorruptValue(KVSError):
    """What is stored under a key is not JSON. It stays as it is until the key is set or removed."""


class Conflict(KVSError):
    """Other writers changed the key between every read and write, a bounded number of times. Nothing was written."""


class WriteUnclear(KVSError):
    """A write was sent and no reply came: it may or may not have been applied. Read the key to find out."""


class StoreUnavailable(KVSError):
    """The server, file or disk behind a store cannot be reached or used. A write that raises this was not applied.

    Args:
        message: what cannot be used, why, and what to do about it.
        retry: whether waiting may help: a server that is away, a file that is locked, a disk that is full.
    """

    def __init__(self, message: str = '', *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class StoreMissing(StoreUnavailable):
    """There is no such file, folder or table, and the caller wants none to be created."""


class Overloaded(KVSError):
    """A queue is full. The event or write was rejected; retry later."""


class CrossSlot(KVSError):
    """The keys of one atomic write are in several slots of a cluster. Nothing was written."""


class ForeignKeys(KVSError):
    """``clear()`` of a Redis store would remove keys of other programs or stores. Nothing was removed."""


class ReducerError(KVSError):
    """A reducer broke its contract. Both of its states are as they were."""


class ScopeFieldError(KVSError):
    """A reducer's scope has a field that the server cannot fill in from an event."""


class DumpFileError(KVSError):
    """A dump file that cannot be read or written, or is not valid.

    ``load`` raises it before anything is stored, unless the file changed while it was loaded: then the message counts
    the entries that were stored.
    """


class EventFileError(KVSError):
    """A study log or a file of failed events that cannot be read, or a part of it that is not an event.

    The message gives file and line.
    """


class Undecided(KVSError):
    """No rule is known for places that name a student. Nothing was erased.

    Args:
        places: the places, each a :class:`~learning_observer_kvs.privacy.places.Place`.
    """

    def __init__(self, places: Sequence[Any]) -> None:
        names = ', '.join(repr(place.name) for place in places[:5]) + (', …' if len(places) > 5 else '')
        super().__init__(
            f'Nothing was erased: no rule says what is to become of {len(places)} places that name the student: '
            f'{names}. Change or remove them by hand, or leave them as they are.'
        )
        self.places = list(places)


class UnknownStudent(KVSError):
    """Nothing names a student who was to be erased."""


class KVSNotConfigured(KVSError, AttributeError):
    """A store that the configuration does not have.

    It is an ``AttributeError``, because callers of ``KVS.<name>()`` catch that.
    """


class StartupCheck(KVSError):
    """A start-up check failed: the text gives location, message and hint of every problem.

    Args:
        message: the text for people; it may have several lines.
        problems: the problems behind it (:class:`~learning_observer_kvs.problems.Problem`), for programs.
    """

    def __init__(self, message: str = '', *, problems: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Any, ...] = tuple(problems)


class StartupFailed(StartupCheck, SystemExit):
    """A ``StartupCheck`` that also ends ``web.run_app`` with exit status 1; the aiohttp start-up hook raises it."""

    code = 1
