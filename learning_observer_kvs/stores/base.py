"""The promise of every store: each public method, written once.

A backend adds where the text lives: ``place``, ``_read``, ``_commit`` and ``_scan``; the other methods below "What a
backend adds" it may override. They move JSON text (UTF-8 bytes) and never see a value; what they are given is valid
already. They begin with an underscore because they are for subclasses: users call what has none.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Protocol, Self, TypedDict

from learning_observer_kvs import json_codec
from learning_observer_kvs.config.options import Option
from learning_observer_kvs.errors import Conflict, CorruptValue, InvalidValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.reducers.batch import Step
from learning_observer_kvs.reducers.state_cache import Guesses
from learning_observer_kvs.reducers.worker import MAX_TRIES, TURN, Folder, pause
from learning_observer_kvs.reducers.write_behind import WriteBehind
from learning_observer_kvs.stores.key_locks import KeyLocks
from learning_observer_kvs.stores.keys import check_key, display_key

CLOSING = 5.0
"""Seconds that closing waits for what is under way."""

_COMMITS: set[asyncio.Task[bool]] = set()
"""What is under way must be held by somebody."""

PAGE = 1000
"""How many keys whole-store walks (``keys``, ``dump``) take at a time."""

FIRST_PORTION = 16
"""How many values ``dump`` reads at first; then as many as have ``PORTION_BYTES``."""

PORTION_BYTES = 1 << 20
"""Bytes of text that ``dump`` holds at once, unless a single value has more."""


class Missing(enum.Enum):
    """The type of :data:`MISSING`."""

    MISSING = 'MISSING'

    def __repr__(self) -> str:
        return 'MISSING'


MISSING: Final = Missing.MISSING
"""Stands for "no such key" where ``None`` would mean a stored ``null``."""


class Page(NamedTuple):
    """A page of keys, and the cursor of the next one; ``None`` ends the walk. A page may be empty before that."""

    keys: list[str]
    cursor: str | None


class Description(NamedTuple):
    """What a backend knows of a key: bytes stored, seconds until it expires, when it was last written (Unix time)."""

    bytes: int
    expires_in: float | None = None
    written: float | None = None


Outcome = bool | BaseException
"""Of a write: whether its condition held, or what went wrong."""

OnDone = Callable[[Outcome], None]


class Committer(Protocol):
    """Begins a write on condition; see :meth:`Store._committer`."""

    def __call__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
    ) -> None: ...


class Common(TypedDict, total=False):
    """The keyword arguments that every store takes; see :class:`Store`."""

    name: str | None
    flush_interval: float | None
    cache_bytes: int


class Store(ABC):
    """A key-value store of JSON values.

    Args:
        name: its name in the configuration, for messages.
        flush_interval: seconds for which what reducers changed is kept in the process before it is written
            (:mod:`~learning_observer_kvs.reducers.write_behind`); ``None`` writes with every event.
        cache_bytes: how much text of hot keys is kept in the process, so that reducers need not read it again.
    """

    TYPE: ClassVar[str]
    """The word for ``type:`` in the configuration."""
    OPTIONS: ClassVar[tuple[Option, ...]] = ()
    """The settings it takes; each is a keyword argument of its constructor."""

    COMMON: ClassVar[tuple[Option, ...]] = (
        Option('flush_interval', 'seconds', doc="write reducers' states every so many seconds, not with every event."),
        Option('cache_bytes', 'index', default=64 << 20, doc='how much text of hot keys is kept in the process.'),
    )
    """What every store takes; a backend begins its ``OPTIONS`` with them and hands them on."""

    SCAN_REPEATS: ClassVar[bool] = True
    """Whether a walk by ``_scan`` may give a key twice; then ``keys`` and ``dump`` remember all they have seen."""

    has_ttl = False
    """Whether what is written lives for a while only: a reducer's two states then live equally long."""

    # ``await store[key]`` reads; iterating or asking ``in`` would fall back on it and never end.
    __iter__ = None
    __contains__ = None

    def __init__(
        self, *, name: str | None = None, flush_interval: float | None = None, cache_bytes: int = 64 << 20
    ) -> None:
        self.name = name or self.TYPE
        self.flush_interval = flush_interval
        self.locks = KeyLocks()
        self._guesses = Guesses(cache_bytes)
        self._folders: PerLoop[Folder] = PerLoop(self._make_folder)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name!r} at {self.location()}>'

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Reading

    async def __getitem__(self, key: str) -> JSON:
        """``await store[key]``: the value, a fresh copy of the caller's own; ``None`` when missing.

        Raises:
            CorruptValue: what is stored is not JSON.
        """
        [text] = await self._newest([check_key(key)])
        return None if text is None else self.decode(key, text)

    async def multiget(self, keys: Iterable[str]) -> list[JSON]:
        """The values of many keys in their order, ``None`` for missing ones, in one round trip."""
        wanted = [check_key(key) for key in keys]
        texts = await self._newest(wanted) if wanted else []
        values, turn_ends = [], time.monotonic() + TURN
        for key, text in zip(wanted, texts, strict=True):
            values.append(None if text is None else self.decode(key, text))
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN
        return values

    async def keys(self, prefix: str = '') -> list[str]:
        """All keys that begin with a prefix, in no order."""
        found: list[str] = []
        async for page in self._pages(prefix):
            found += page
        return found

    async def scan(self, prefix: str = '', cursor: str | None = None, limit: int = 100) -> Page:
        """A page of keys that begin with a prefix.

        Args:
            prefix: any text; no character has a special meaning.
            cursor: of the page before; ``None`` for the first.
            limit: about how many keys to look at. A page may hold fewer or none, and some backends a few more.
        """
        if limit < 1:
            raise ValueError(f'limit is {limit}; it must be 1 or more.')
        if cursor is None:
            await self.flush()
        return Page(*await self._scan(prefix, cursor, limit))

    async def describe(self, key: str) -> Description | None:
        """What the backend knows of a key; ``None`` when missing."""
        await self._flush_keys([check_key(key)])
        return await self._describe(key)

    async def dump(self, filename: str | os.PathLike[str] | None = None, prefix: str = '') -> Any:
        """Everything, or all below a prefix.

        Args:
            filename: where to write it as one JSON object. The file appears whole or not at all. Values are in memory a
                few at a time whatever its size; of a backend that may give a key twice (Redis), all keys are.
            prefix: only keys that begin with it.

        Returns:
            Without a file a dict; with one the number of entries written.

        Raises:
            CorruptValue: what is stored under a key is not JSON.
            InvalidValue: it can be read, but a file cannot hold it: another program wrote ``NaN``, or nested too deep.
            DumpFileError: the file cannot be written.
        """
        from learning_observer_kvs.stores import dump

        if filename is None:
            return {key: value async for key, value in self._entries(prefix)}
        return await dump.write(filename, self._entries(prefix), self.encode)

    # Writing

    async def set(self, key: str, value: JSON) -> None:
        """Store a value: readers and crashes see the old one or the new one.

        Raises:
            InvalidKey, InvalidValue: before anything is touched.
        """
        await self._write({check_key(key): self.encode(key, value)}, {})

    async def multiset(self, mapping: Mapping[str, JSON]) -> None:
        """Store many values, all or none."""
        writes = {check_key(key): self.encode(key, value) for key, value in mapping.items()}
        if writes:
            await self._write(writes, {})

    async def remove(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        await self._flush_keys([check_key(key)])
        try:
            return await self._remove(key)
        finally:
            self._guesses.forget(key)

    async def commit(self, writes: Mapping[str, JSON], expected: Mapping[str, JSON] | None = None) -> bool:
        """Write several keys at once, on condition.

        Args:
            writes: values by key; ``MISSING`` removes the key.
            expected: what other keys (or the same) must hold for that; ``MISSING`` for "not there".

        Returns:
            Whether the condition held and everything was written; otherwise nothing was.
        """
        texts = {check_key(key): None if value is MISSING else self.encode(key, value) for key, value in writes.items()}
        wanted = {
            check_key(key): None if value is MISSING else self.encode(key, value)
            for key, value in (expected or {}).items()
        }
        await self._flush_keys(wanted)
        for attempt in range(MAX_TRIES):
            stored = dict(zip(wanted, await self.read_bytes(list(wanted)), strict=True)) if wanted else {}
            if any(not self._same(key, stored[key], text) for key, text in wanted.items()):
                return False
            # The condition is put in the bytes that are stored: equal values may be written differently.
            if await self._write(texts, stored):
                return True
            await pause(attempt)
        raise self._gave_up(next(iter(wanted)))

    async def compare_and_set(self, key: str, expected: JSON, value: JSON) -> bool:
        """Store a value if the key holds the expected one (``MISSING``: if it is not there); whether it did."""
        return await self.commit({key: value}, {key: expected})

    async def update(self, key: str, fn: Callable[[JSON], JSON | Awaitable[JSON]]) -> JSON:
        """Read, modify and write without losing an update of anybody else, in this process or another.

        Args:
            fn: takes the value (``None`` when missing) and gives the new one, or a coroutine of it; ``MISSING``
                removes the key. It may run more than once, each time with a fresh copy: no side effects.

        Returns:
            The new value.

        Raises:
            Conflict: others wrote in between ``MAX_TRIES`` times.
            ReducerError: ``fn`` updates its own key.
        """
        check_key(key)
        async with self.locks.holding(key):
            await self._flush_keys([key])
            for attempt in range(MAX_TRIES):
                [text] = await self.read_bytes([key])
                value = fn(None if text is None else self.decode(key, text))
                if inspect.isawaitable(value):
                    value = await value
                new = None if value is MISSING else self.encode(key, value)
                if await self._write({key: new}, {key: text}):
                    return value
                await pause(attempt)
        raise self._gave_up(key)

    async def load(self, filename: str | os.PathLike[str]) -> int:
        """Store every entry of a file that :meth:`dump` wrote.

        Returns:
            The number of entries.

        Raises:
            DumpFileError: the file is no such file; it is read through before anything is stored.
        """
        from learning_observer_kvs.stores import dump

        return await dump.read(filename, self._take_in)

    async def _take_in(self, entries: Mapping[str, JSON]) -> None:
        """Store a portion of what is loaded."""
        await self.multiset(entries)

    async def clear(self) -> None:
        """Remove everything that belongs to this store, and nothing else."""
        await self.flush()
        try:
            await self._clear()
        finally:
            self._guesses.clear()

    async def health_check(self) -> list[Problem]:
        """What is wrong with the place where the data lives. Whether it takes writes is tried; no data is changed.

        Raises:
            KVSError: it cannot be used.
        """
        return []

    async def flush(self) -> None:
        """Write what ``flush_interval`` has put off in this loop; without that option there is nothing.

        Raises:
            StoreUnavailable, WriteUnclear, …: it could not be written; it is kept and tried again.
        """
        if self.flush_interval is not None and isinstance(folder := self._folders.here(), WriteBehind):
            await folder.flush()

    async def close(self) -> None:
        """Finish what is under way, and let go of files and connections; the store can be used again.

        What reducers changed is written before, for ``CLOSING`` seconds at most; what could not be is counted in the
        log. Without ``flush_interval`` whatever was acknowledged is safe without this.
        """
        if (folder := self._folders.peek()) is not None:
            await folder.close(CLOSING)
            self._folders.pop()
        await self._close()

    # Reducers

    def fold(
        self, internal_key: str, external_key: str, step: Step, null_text: bytes = b'null'
    ) -> Coroutine[Any, Any, JSON]:
        """Fold one event into a reducer's pair of states; what the decorators of reducers use.

        Events of one key in this loop run one after the other, in order. Both states are written at once, on the
        condition that nobody wrote the internal one in between; otherwise the reducer runs again on what is there.

        Args:
            internal_key, external_key: the keys of the two states.
            step: the reducer with its event filled in: takes the internal state (a fresh copy), gives
                ``(internal_state, external_state)``, ``False`` for one that is not to be written. It may run more
                than once: no side effects.
            null_text: the JSON text of the state that a key starts from. It is stored with the first event, even if
                the reducer declines to write.

        Returns:
            The external state, as the reducer gave it.

        Raises:
            ReducerError: it gave something else than a pair, or waits for its own key.
            InvalidValue: a state that JSON cannot hold.
            Conflict: other processes wrote the key ``MAX_TRIES`` times in between.
            Overloaded: too many events wait for the key.

        Whatever is raised, by the reducer too, its event has changed neither state.
        """
        return self._folders.here().fold(internal_key, external_key, step, null_text)

    def busy_keys(self) -> int:
        """How many keys have an event or an update under way; 0 when the store is at rest."""
        return len(self.locks) + sum(len(folder.lanes) for folder in self._folders)

    def _make_folder(self) -> Folder:
        if self.flush_interval is None:
            return Folder(self, self._guesses)
        return WriteBehind(self, self._guesses, self.flush_interval)

    async def _newest(self, keys: Sequence[str]) -> list[bytes | None]:
        """The texts of keys, those that are not flushed yet as this process knows them."""
        if self.flush_interval is None or not isinstance(folder := self._folders.here(), WriteBehind):
            return await self.read_bytes(keys)
        known = {key: folder.newest[key] for key in keys if key in folder.newest}
        rest = [key for key in keys if key not in known]
        found = known | dict(zip(rest, await self.read_bytes(rest), strict=True)) if rest else known
        return [found[key] for key in keys]

    async def _flush_keys(self, keys: Collection[str]) -> None:
        """Before a key is written or looked at otherwise than by a reducer: so nothing put off comes after it."""
        if self.flush_interval is not None and isinstance(folder := self._folders.here(), WriteBehind):
            await folder.flush(keys)

    # Text

    def encode(self, key: str, value: JSON) -> bytes:
        """A value's JSON text; the error names the key."""
        try:
            return json_codec.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f'{self._at(key)}: {error}') from None

    def decode(self, key: str, text: bytes) -> JSON:
        """The value of a stored text; the error names the key and the place."""
        try:
            return json_codec.decode(text)
        except CorruptValue as error:
            raise CorruptValue(
                f'{self._at(key)}: what is stored {error}. Nothing was overwritten; remove the key or repair it.'
            ) from None

    def _same(self, key: str, stored: bytes | None, wanted: bytes | None) -> bool:
        if stored is None or wanted is None or stored == wanted:
            return stored == wanted
        try:
            return json_codec.encode(self.decode(key, stored)) == wanted
        except InvalidValue:  # a NaN that another program wrote: equal to nothing
            return False

    async def _write(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        await self._flush_keys(writes)
        try:
            return await self.commit_bytes(writes, expected)
        finally:
            # Also after a failure: who knows what is there now.
            for key in writes:
                self._guesses.forget(key)

    def _gave_up(self, key: str) -> Conflict:
        return Conflict(f'{self._at(key)}: others kept writing it; tried {MAX_TRIES} times.')

    def _at(self, key: str) -> str:
        return f'{display_key(key)} in store {self.name!r} ({self.location()})'

    # Walking

    async def _pages(self, prefix: str) -> AsyncIterator[list[str]]:
        await self.flush()
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            keys, cursor = await self._scan(prefix, cursor, PAGE)
            if self.SCAN_REPEATS:
                keys = [key for key in dict.fromkeys(keys) if key not in seen]
                seen.update(keys)
            yield keys
            if cursor is None:
                return

    async def _entries(self, prefix: str) -> AsyncIterator[tuple[str, JSON]]:
        portion, turn_ends = FIRST_PORTION, time.monotonic() + TURN
        async for page in self._pages(prefix):
            while page:
                some, page = page[:portion], page[portion:]
                texts = await self.read_bytes(some)
                size = sum(len(text) for text in texts if text is not None)
                portion = max(1, min(2 * portion, PAGE, portion * PORTION_BYTES // (size + 1)))
                for key, text in zip(some, texts, strict=True):
                    if text is not None:  # gone since the page was read
                        yield key, self.decode(key, text)
                    if time.monotonic() > turn_ends:
                        await asyncio.sleep(0)
                        turn_ends = time.monotonic() + TURN

    # What a backend adds

    @abstractmethod
    def location(self) -> str:
        """Where the data lives, for messages: a path, an address without its password."""

    @abstractmethod
    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """The stored bytes of each key in order, ``None`` for missing ones."""

    @abstractmethod
    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Atomically: if every expected key holds exactly these bytes (``None``: is missing), write everything
        (``None``: remove) and return True; else touch nothing and return False. Either may be empty."""

    def _hot(self, key: str) -> tuple[bytes | None, bool]:
        """A key's text as far as it is known without waiting, and whether it is a guess; ``(None, True)`` if not."""
        return self._guesses.get(key), True

    def _committer(self) -> Committer:
        """How reducers begin a :meth:`_commit` in the running loop: ``commit(writes, expected, tell, renew)``.

        Keys to ``renew`` are given where ``renews`` says so. ``tell`` is called once with the outcome, in this loop,
        perhaps at once. What has begun is carried through whatever becomes of the caller. A backend that can do this
        without a task for each commit overrides it.
        """
        loop = asyncio.get_running_loop()

        def begin(
            writes: Mapping[str, bytes | None],
            expected: Mapping[str, bytes | None],
            on_done: OnDone,
            refresh: Collection[str] = (),
        ) -> None:
            task = loop.create_task(self.commit_bytes(writes, expected))
            _COMMITS.add(task)
            task.add_done_callback(functools.partial(_commit_done, on_done))

        return begin

    @abstractmethod
    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """A page of keys with a prefix and the next cursor. A key there throughout the walk comes at least once."""

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
        async for keys in self._pages(''):
            await self.commit_bytes(dict.fromkeys(keys), {})

    async def _close(self) -> None:
        """Let go of files and connections; a later call opens them again."""
        return None


def _commit_done(on_done: OnDone, task: asyncio.Task[bool]) -> None:
    _COMMITS.discard(task)
    on_done(asyncio.CancelledError() if task.cancelled() else task.exception() or task.result())
