"""What the methods of a store take and return."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple, TypeAlias, TypedDict

from learning_observer_kvs.errors import CorruptValue


class Missing(enum.Enum):
    """The type of :data:`MISSING`."""

    MISSING = 'MISSING'

    def __repr__(self) -> str:
        return 'MISSING'


MISSING: Final = Missing.MISSING
"""Stands for "no such key" where ``None`` would mean a stored ``null``."""


class Page(NamedTuple):
    """A page of keys.

    Attributes:
        keys: the keys; there may be none although more pages follow.
        cursor: what the next call of ``scan`` is given; ``None`` ends the scan.
    """

    keys: list[str]
    cursor: str | None


class Description(NamedTuple):
    """What a backend knows of a key.

    Attributes:
        bytes: the size of the stored JSON text.
        expires_in: seconds until the key expires; ``None`` if it does not.
        written: when it was last written, in seconds since the epoch; ``None`` where the backend does not know.
    """

    bytes: int
    expires_in: float | None = None
    written: float | None = None


Described: TypeAlias = Description | CorruptValue | None
"""What is known of a key: ``None`` if it is missing, an error if what is there is not a text of this store."""

Outcome: TypeAlias = bool | BaseException
"""What became of a write: whether its condition held, or what went wrong."""

OnDone: TypeAlias = Callable[[Outcome], None]
"""Called once with the outcome of a write, in the event loop that asked for it."""

Submit: TypeAlias = Callable[
    [Mapping[str, bytes | None], Mapping[str, bytes | None], OnDone, Collection[str], float, float],
    None,
]
"""Begins a write on condition; see :meth:`Backend.submit <learning_observer_kvs.stores.backend.Backend.submit>`."""


class CommonOptions(TypedDict, total=False):
    """The keyword arguments that every store takes; see :class:`~learning_observer_kvs.stores.base.Store`."""

    name: str | None
    flush_interval: float | None
    cache_bytes: int
    retry_timeout: float
    reducer_timeout: float | None
    failed_events: str | os.PathLike[str]
