"""A store as a replay of failed events sees it: it applies each of them once, whatever happens in between.

The store itself remembers what it was given, beside the states: the key ``Replayed,…`` of a reducer's pair of states
lists the events that were replayed to it, and is written in the same commit. So a replay that is interrupted at any
point, or run again, or run twice at a time, finds out exactly; and a copy or a backup of the store remembers what is
in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.types import OnDone
from learning_observer_kvs.stream_analytics.keys import replayed_key

T = TypeVar('T')


class AlreadyReplayed(Exception):
    """The states hold the event already."""


class ReplayStore(Store):
    """A store whose reducers note each replayed event in the commit that applies it.

    Args:
        store: where the states are. Texts are not cached here, and written with every event.
    """

    TYPE: ClassVar[str] = 'replay'

    def __init__(self, store: Store) -> None:
        options: dict[str, Any] = {option.name: getattr(store, option.name) for option in Store.COMMON}
        super().__init__(name=store.name, **{**options, 'flush_interval': None, 'cache_bytes': 0})
        self._store = store
        self.has_ttl = store.has_ttl
        self._replayed: _Replayed | None = None

    async def apply(self, event_id: str, process: Callable[[], Awaitable[T]]) -> T:
        """Run an event through a reducer, unless the states hold it already. One event at a time.

        Args:
            event_id: what the event is known by.
            process: processes the event with the reducer, in this store.

        Returns:
            What ``process`` returned.

        Raises:
            AlreadyReplayed: the states hold the event.
            Exception: what ``process`` raised. Neither state was changed, except after ``WriteUnclear``: then the next
                try finds out.
        """
        replayed = self._replayed = _Replayed(event_id)
        try:
            while True:
                result = await process()
                # Where the reducer leaves both states as they are, the event is noted all the same.
                deadline = deadline_after(self.retry_timeout)
                if replayed.is_committed or await self._commit(replayed.writes, replayed.expected, deadline):
                    return result
        finally:
            self._replayed = None

    def location(self) -> str:
        """Return where the data lives."""
        return self._store.location()

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return stored bytes; with the state of a reducer, look up whether it holds the event.

        Args:
            keys: valid keys.

        Raises:
            AlreadyReplayed: the states hold the event.
            StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
        """
        if self._replayed is None:
            return await self._store.read_bytes(keys)
        [key] = keys  # a worker reads the internal state, before each run of the reducer
        mark = replayed_key(key)
        text, marked = await self._store.read_bytes([key, mark])
        self._replayed.prepare(mark, marked)
        return [text]

    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        """Write all or nothing, on condition.

        Args:
            writes: bytes by key; ``None`` removes the key.
            expected: the bytes that keys must hold exactly.

        Returns:
            Whether the condition held and everything was written.
        """
        return await self._store.commit_bytes(writes, expected)

    def submit(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
        deadline: float | None = None,
        resend_until: float | None = None,
    ) -> None:
        """Begin a commit of states, with the note that they hold the event.

        Args:
            writes: bytes by key.
            expected: the bytes that keys must hold.
            on_done: called once with the outcome.
            refresh: keys that get the time to live of those that are written.
            deadline: until when it is tried again if it was never sent.
            resend_until: until when its outcome is found out if it was sent.
        """
        if self._replayed is not None and writes:
            self._replayed.is_committed = True
            writes, expected = {**writes, **self._replayed.writes}, {**expected, **self._replayed.expected}
        self._store.submit(writes, expected, on_done, refresh, deadline, resend_until)

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        page = await self._store.scan(prefix, cursor, limit)
        return page.keys, page.cursor


class _Replayed:
    """The event that is being replayed, and how its commit is to be marked."""

    def __init__(self, event_id: str) -> None:
        self._id = event_id
        self.is_committed = False
        self.writes: dict[str, bytes | None] = {}
        self.expected: dict[str, bytes | None] = {}

    def prepare(self, mark: str, marked: bytes | None) -> None:
        """Note what the list holds, and what it is to hold."""
        ids: Any = [] if marked is None else json_codec.decode(marked)
        if not isinstance(ids, list):
            raise CorruptValue(f'{display_key(mark)} is not a list of replayed events. Nothing was overwritten.')
        if self._id in ids:
            raise AlreadyReplayed
        self.is_committed = False
        self.writes = {mark: json_codec.encode([*ids, self._id])}
        self.expected = {mark: marked}
