"""What a backend implements, and what the layers above a store use.

A backend says where the text lives. It moves JSON text (UTF-8 bytes) and never sees a value; what it is given is valid
already.
"""

from __future__ import annotations

import asyncio
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import ClassVar

from learning_observer_kvs import failed_events, json_codec
from learning_observer_kvs.config.options import Option
from learning_observer_kvs.errors import Conflict, CorruptValue, InvalidValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.key_locks import KeyLocks
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.overlay import Overlay, PlainOverlay
from learning_observer_kvs.stores.pacing import MAX_TRIES, pause
from learning_observer_kvs.stores.types import Description, OnDone, Submit

SCAN_KEYS = 1000
"""How many keys a scan of the whole store asks the backend for at a time."""

DEFAULT_CACHE_BYTES = 64 << 20

_COMMITS: set[asyncio.Task[bool]] = set()
"""Commits under way; a task that nothing refers to may be collected."""


class Backend(ABC):
    """Where a store keeps its bytes; the parent of :class:`~learning_observer_kvs.stores.base.Store`, which see."""

    TYPE: ClassVar[str]
    """What the configuration calls it, after ``type:``."""

    OPTIONS: ClassVar[tuple[Option, ...]] = ()
    """The options that the configuration may give; each is a keyword argument of the constructor."""

    COMMON: ClassVar[tuple[Option, ...]] = (
        Option('flush_interval', 'seconds', doc="write reducers' states every so many seconds, not with every event."),
        Option(
            'cache_bytes',
            'index',
            default=DEFAULT_CACHE_BYTES,
            doc='how many bytes of text of the keys in use are kept in the process.',
        ),
        Option(
            'reducer_timeout',
            'seconds',
            doc='how long a reducer may take for an event; then it is cancelled, and its event fails.',
        ),
        Option(
            'failed_events',
            'path',
            default=failed_events.DEFAULT_FOLDER,
            doc='the folder for events that were accepted and could not be stored; read by lo-kvs replay.',
        ),
    )
    """The options of every store; a backend begins its ``OPTIONS`` with them and passes them on."""

    SCAN_REPEATS: ClassVar[bool] = True
    """Whether a scan may give a key twice; ``keys`` and ``dump`` remember what they have seen then."""

    IS_IMMEDIATE: ClassVar[bool] = False
    """Whether ``read_bytes_now`` and ``commit_bytes_now`` work: nothing needs waiting, so no text is cached."""

    has_ttl = False
    """Whether what is written expires: both states of a reducer then get the same time to live."""

    def __init__(
        self,
        *,
        name: str | None = None,
        flush_interval: float | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        reducer_timeout: float | None = None,
        failed_events: str | os.PathLike[str] = failed_events.DEFAULT_FOLDER,
    ) -> None:
        self.name = name or self.TYPE
        self.flush_interval = flush_interval
        self.cache_bytes = cache_bytes
        self.reducer_timeout = reducer_timeout
        self.failed_events = os.path.abspath(failed_events)
        self.key_locks: PerLoop[KeyLocks] = PerLoop(KeyLocks)
        self.overlays: PerLoop[Overlay] = PerLoop(lambda: PlainOverlay(self.key_locks.here()))
        self._attached = False

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name!r} at {self.location()}>'

    # What a backend implements: the abstract methods, and those of the others where it can do better

    @abstractmethod
    def location(self) -> str:
        """Return where the data lives, for messages: a path, an address without its password."""

    @abstractmethod
    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the stored bytes of keys.

        Args:
            keys: valid keys.

        Returns:
            The bytes in the order of the keys, ``None`` for each that is missing.

        Raises:
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """

    @abstractmethod
    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Write all or nothing, on condition.

        Args:
            writes: bytes by key; ``None`` removes the key. May be empty.
            expected: the bytes that keys must hold exactly; ``None`` for a key that must be missing. May be empty.

        Returns:
            Whether the condition held and everything was written; otherwise nothing was.

        Raises:
            StoreUnavailable, Overloaded: nothing was written.
            WriteUnclear: it may or may not have been written.
        """

    @abstractmethod
    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """A page of keys with a prefix and the next cursor. A key there throughout the scan comes at least once."""

    async def _remove(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        for attempt in range(MAX_TRIES):
            [text] = await self.read_bytes([key])
            if text is None:
                return False
            if await self.commit_bytes({key: None}, {key: text}):
                return True
            await pause(attempt)
        raise self._gave_up(key)

    async def _describe(self, key: str) -> Description | None:
        """What is known of a key; ``None`` when missing."""
        [text] = await self.read_bytes([key])
        return None if text is None else Description(len(text))

    async def _clear(self) -> None:
        """Remove what belongs to this store."""
        async for keys in self._scan_pages(''):
            await self.commit_bytes(dict.fromkeys(keys), {})

    async def _close(self) -> None:
        """Release files and connections; a later call opens them again."""
        return None

    async def health_check(self) -> list[Problem]:
        """Find out what is wrong with the place where the data lives.

        Whether it accepts writes is tried; no data is changed.

        Returns:
            The problems; the subject of each is an option of the store, the location is left empty.

        Raises:
            KVSError: it cannot be used.
        """
        return []

    # For the layers above

    def attach_overlay(self, make: Callable[[], Overlay]) -> None:
        """Lay something over this store in every event loop, from now on. The first call counts.

        Args:
            make: makes the overlay of the running event loop.
        """
        if not self._attached:
            self._attached = True
            self.overlays = PerLoop(make)

    def overlay(self) -> Overlay:
        """Return what lies over this store in the running event loop."""
        return self.overlays.here()

    def busy_keys(self) -> int:
        """Return how many keys have an event, an update or a write under way; 0 when the store is idle."""
        return sum(len(locks.held) for locks in self.key_locks)

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
    ) -> None:
        """Begin a :meth:`commit_bytes`, and call back with its outcome.

        Once begun it is completed, also if the caller is cancelled. A backend that can do without a task for each
        commit overrides this.

        Args:
            writes: bytes by key, as for :meth:`commit_bytes`.
            expected: the bytes that keys must hold, as for :meth:`commit_bytes`.
            on_done: called once with the outcome, in this event loop, perhaps before this method returns.
            refresh: keys that are not written, but get the time to live of those that are, where ``has_ttl``.

        Raises:
            Overloaded: too many writes wait; this one was rejected.
        """
        task = asyncio.get_running_loop().create_task(self.commit_bytes(writes, expected))
        _COMMITS.add(task)
        task.add_done_callback(functools.partial(_task_done, on_done))

    def submitter(self) -> Submit:
        """Return :meth:`submit` for the running event loop; it is called with every event, and need not look for it."""
        return self.submit

    def read_bytes_now(self, key: str) -> bytes | None:
        """Return the stored bytes of a key without waiting; only where ``IS_IMMEDIATE``.

        Args:
            key: the key.

        Returns:
            The bytes; ``None`` when missing.
        """
        raise NotImplementedError(f'{type(self).__name__} cannot read without waiting.')

    def commit_bytes_now(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Write all or nothing, on condition, without waiting; only where ``IS_IMMEDIATE``.

        Args:
            writes: as for :meth:`commit_bytes`.
            expected: as for :meth:`commit_bytes`.

        Returns:
            Whether the condition held and everything was written; otherwise nothing was.
        """
        raise NotImplementedError(f'{type(self).__name__} cannot write without waiting.')

    def encode(self, key: str, value: JSON) -> bytes:
        """Return a value's JSON text.

        Args:
            key: the key, for the message.
            value: any JSON value.

        Raises:
            InvalidValue: JSON cannot hold it; the message names the key and the path inside the value.
        """
        try:
            return json_codec.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f'{self._at(key)}: {error}') from None

    def decode(self, key: str, text: bytes) -> JSON:
        """Return the value of a stored text.

        Args:
            key: the key, for the message.
            text: what is stored.

        Raises:
            CorruptValue: it is not JSON; the message names the key and where it is stored.
        """
        try:
            return json_codec.decode(text)
        except CorruptValue as error:
            raise CorruptValue(
                f'{self._at(key)}: what is stored {error}. Nothing was overwritten; remove the key or repair it.'
            ) from None

    # Inside

    async def _scan_pages(self, prefix: str) -> AsyncIterator[list[str]]:
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            keys, cursor = await self._scan(prefix, cursor, SCAN_KEYS)
            if self.SCAN_REPEATS:
                keys = [key for key in dict.fromkeys(keys) if key not in seen]
                seen.update(keys)
            yield keys
            if cursor is None:
                return

    def _gave_up(self, key: str) -> Conflict:
        return Conflict(f'{self._at(key)}: others kept writing it; gave up after {MAX_TRIES} tries.')

    def _at(self, key: str) -> str:
        return f'{display_key(key)} in store {self.name!r} ({self.location()})'


def _task_done(on_done: OnDone, task: asyncio.Task[bool]) -> None:
    _COMMITS.discard(task)
    on_done(asyncio.CancelledError() if task.cancelled() else task.exception() or task.result())
