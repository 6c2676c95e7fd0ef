"""What a backend implements, and what the layers above a store use.

A backend says where the text lives. It moves JSON text (UTF-8 bytes) and never sees a value; what it is given is valid
already.
"""

from __future__ import annotations

import asyncio
import functools
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar, TypeVar

from learning_observer_kvs import failed_events, json_codec
from learning_observer_kvs.config.options import Option
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.errors import Conflict, CorruptValue, InvalidValue, StoreUnavailable
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.announcing import Announcer
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.key_locks import KeyLocks
from learning_observer_kvs.stores.keys import at, corrupt
from learning_observer_kvs.stores.outage import Outage
from learning_observer_kvs.stores.overlay import Overlay, PlainOverlay
from learning_observer_kvs.stores.pacing import MAX_TRIES, pause
from learning_observer_kvs.stores.types import Described, Description, OnDone, Submit

SCAN_KEYS = 1000
"""How many keys a scan of the whole store asks the backend for at a time."""

HIDDEN = '.lo-kvs:'
"""How the keys of hidden records begin where a backend has no other place for them."""

DEFAULT_CACHE_BYTES = 64 << 20

MIN_CLOSE_TIMEOUT = 0.25
"""Seconds that a backend has at least to finish what is under way when it is closed."""

DEFAULT_RETRY_TIMEOUT = 15
"""Seconds that a call waits for a backend that is away."""

T = TypeVar('T')

_COMMITS: set[asyncio.Task[bool]] = set()
"""Commits under way; a task that nothing refers to may be collected."""


class Backend(Announcer):
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
            'retry_timeout',
            'seconds or zero',
            default=DEFAULT_RETRY_TIMEOUT,
            doc='seconds that a call waits while the server, file or disk is away; 0 does not wait.',
        ),
        Option(
            'reducer_timeout', 'seconds', doc='how long an event may take a reducer; then it is cancelled and fails.'
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

    IS_ORDERED: ClassVar[bool] = False
    """Whether a scan gives the keys in the order of their characters; the cursor of a page is its last key then."""

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
        retry_timeout: float = DEFAULT_RETRY_TIMEOUT,
        reducer_timeout: float | None = None,
        failed_events: str | os.PathLike[str] = failed_events.DEFAULT_FOLDER,
    ) -> None:
        super().__init__()
        self.name = name or self.TYPE
        self.flush_interval = flush_interval
        self.cache_bytes = cache_bytes
        self.retry_timeout = retry_timeout
        self._outages: PerLoop[Outage] = PerLoop(Outage)
        self.reducer_timeout = reducer_timeout
        self.failed_events = absolute(failed_events)
        self.key_locks: PerLoop[KeyLocks] = PerLoop(KeyLocks)
        self.overlays: PerLoop[Overlay] = PerLoop(lambda: PlainOverlay(self.key_locks.here()))
        self.siblings: Callable[[], Sequence[Backend]] = tuple  # the stores of its router, this one too; set by that
        self._attached = False
        self._metrics_above: Callable[[], dict[str, Any]] = dict

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

    async def _commit(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], deadline: float
    ) -> bool:
        """:meth:`commit_bytes`, tried again until the deadline while nothing can be written."""
        try:
            is_written = await self.commit_bytes(writes, expected)
        except StoreUnavailable as error:
            again = self._outages.here().call_again
            is_written = await again(lambda: self.commit_bytes(writes, expected), deadline, error)
        if self.listeners and is_written:
            self._note_written(writes.keys())
        return is_written

    async def _remove(self, key: str, deadline: float) -> bool:
        """Remove a key; whether it was there. The deadline is that of :meth:`_commit`."""
        for attempt in range(MAX_TRIES):
            [text] = await self.read_until(deadline, [key])
            if text is None:
                return False
            if await self._commit({key: None}, {key: text}, deadline):
                return True
            await pause(attempt)
        raise self._gave_up(key)

    async def _describe(self, keys: Sequence[str]) -> Sequence[Described]:
        """What is known of each key, in order; ``None`` for missing ones, the error for what is not a text."""
        try:
            return [None if text is None else Description(len(text)) for text in await self.read_bytes(keys)]
        except CorruptValue as error:
            return [error] if len(keys) == 1 else [found for key in keys for found in await self._describe([key])]

    async def _check_clear(self) -> None:
        """Raise ``ForeignKeys`` where ``_clear`` would remove what others wrote."""
        return None

    async def _clear(self) -> None:
        """Remove what belongs to this store."""
        async for keys in self._scan_pages(''):
            removed = dict.fromkeys(key for key in keys if not key.startswith(HIDDEN))
            await self._commit(removed, {}, deadline_after(self.retry_timeout))

    async def _close(self) -> None:
        """Release files and connections; a later call opens them again."""
        return None

    async def _close_within(self, timeout: float) -> None:
        """Finish what is under way, for so many seconds at most, and :meth:`_close`."""
        await self._close()

    async def health_check(self) -> list[Problem]:
        """Find out what is wrong with the place where the data lives.

        Whether it accepts writes is tried; no data is changed.

        Returns:
            The problems; the subject of each is an option of the store, the location is left empty.

        Raises:
            KVSError: it cannot be used.
        """
        return []

    async def open_existing(self) -> None:
        """Open the store without creating anything, from now on.

        To be called before the first other call. What only reads calls it, so that a mistake in a path does not make a
        new, empty store. Where there is nothing to create, as in a server, it does nothing.

        Raises:
            StoreMissing: there is no such store.
            StoreUnavailable: it cannot be used.
        """
        return None

    async def unrecognized(self, limit: int = 20) -> list[str]:
        """Return what looks like a key of this store and is not, so that no call finds it.

        Args:
            limit: how much at most.

        Returns:
            Where each is, for messages.

        Raises:
            StoreUnavailable: the backend does not answer.
        """
        return []

    async def is_loading(self) -> bool:
        """Find out whether a server is there that is still loading its data, and will serve when it has.

        Raises:
            KVSError: it cannot be reached.
        """
        return False

    # For the layers above

    def attach_overlay(self, make: Callable[[], Overlay], metrics: Callable[[], dict[str, Any]] = dict) -> None:
        """Lay something over this store in every event loop, from now on. The first call counts.

        Args:
            make: makes the overlay of the running event loop.
            metrics: returns what is counted above this store, in all event loops, for ``metrics``.
        """
        if not self._attached:
            self._attached = True
            self.overlays = PerLoop(make)
            self._metrics_above = metrics

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
        deadline: float | None = None,
        resend_until: float | None = None,
    ) -> None:
        """Begin a :meth:`commit_bytes`, and call back with its outcome.

        Once begun it is completed, also if the caller is cancelled. While nothing can be written it is tried again, as
        every call is. A backend that can do without a task for each commit overrides this.

        Args:
            writes: bytes by key, as for :meth:`commit_bytes`.
            expected: the bytes that keys must hold, as for :meth:`commit_bytes`.
            on_done: called once with the outcome, in this event loop, perhaps before this method returns.
            refresh: keys that are not written, but get the time to live of those that are, where ``has_ttl``.
            deadline: until when it is tried again if it was never sent, as the time of the monotonic clock; by default
                ``retry_timeout`` from now.
            resend_until: until when its outcome is found out if it was sent; by default the same. A backend whose
                writes cannot be lost on their way leaves it out of account.

        Raises:
            Overloaded: too many writes wait; this one was rejected.
        """
        if deadline is None:
            deadline = deadline_after(self.retry_timeout)
        task = asyncio.get_running_loop().create_task(self._commit(writes, expected, deadline))
        _COMMITS.add(task)
        task.add_done_callback(functools.partial(_task_done, on_done))

    async def read_until(self, deadline: float, keys: Sequence[str]) -> list[bytes | None]:
        """Read as :meth:`read_bytes`, again and again while the backend is away.

        Args:
            deadline: until when, as the time of the monotonic clock.
            keys: valid keys.

        Returns:
            The bytes in the order of the keys, ``None`` for each that is missing.

        Raises:
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        try:
            return await self.read_bytes(keys)
        except StoreUnavailable as error:
            return await self._read_again(lambda: self.read_bytes(keys), deadline, error)

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
            raise corrupt(key, self.name, self.location(), error) from None

    # Inside

    def _write_metrics(self) -> dict[str, Any]:
        """What is counted of the writes to the backend; nothing where they are not counted."""
        return {}

    async def _close_backend(self, deadline: float) -> None:
        """:meth:`_close_within`, until a time of the monotonic clock; no call waits meanwhile for what is away."""
        outage = self._outages.here()
        outage.close()
        try:
            await self._end_changes()
            await self._close_within(max(MIN_CLOSE_TIMEOUT, deadline - monotonic()))
        finally:  # not sooner: what fails meanwhile must not open again what is being closed
            self._outages.drop(outage)

    async def _scan_pages(self, prefix: str, limit: int = SCAN_KEYS) -> AsyncIterator[list[str]]:
        cursor: str | None = None
        while True:
            keys, cursor = await self._scan_until(prefix, cursor, limit)
            yield keys
            if cursor is None:
                return

    async def _scan_until(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """:meth:`_scan`, tried again while the backend is away; each page has a deadline of its own."""
        return await self._retried(lambda: self._scan(prefix, cursor, limit))

    async def _retried(self, call: Callable[[], Awaitable[T]], *, may_be_cut: bool = True) -> T:
        """Read something, again and again while the backend is away; or write it, where a try must not be cut off."""
        deadline = deadline_after(self.retry_timeout)
        try:
            return await call()
        except StoreUnavailable as error:
            return await self._outages.here().call_again(call, deadline, error, may_be_cut=may_be_cut)

    async def _read_again(self, read: Callable[[], Awaitable[T]], deadline: float, error: StoreUnavailable) -> T:
        return await self._outages.here().call_again(read, deadline, error, may_be_cut=True)

    def _is_same(self, key: str, stored: bytes | None, wanted: bytes | None) -> bool:
        if stored is None or wanted is None or stored == wanted:
            return stored == wanted
        try:
            return json_codec.encode(self.decode(key, stored)) == wanted
        except InvalidValue:  # a NaN that another program wrote: equal to nothing
            return False

    def _gave_up(self, key: str) -> Conflict:
        return Conflict(f'{self._at(key)}: others kept writing it; gave up after {MAX_TRIES} tries.')

    def _at(self, key: str) -> str:
        return at(key, self.name, self.location())


def _task_done(on_done: OnDone, task: asyncio.Task[bool]) -> None:
    _COMMITS.discard(task)
    on_done(asyncio.CancelledError() if task.cancelled() else task.exception() or task.result())
