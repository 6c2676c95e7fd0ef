"""``flush_interval``: states are kept in the process and written every so many seconds, not with every event.

The process keeps, for each key, the text its events started from, what they came to, and the events themselves. The
flush is the same conditional commit as ever; if another process wrote in between, the events are folded again onto
what is there. Until then reads in this process see the newest state, others the one of the last flush, and results
that reducers gave are provisional. A crash loses what was not flushed: at most what one interval held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING

from learning_observer_kvs.errors import Overloaded, WriteUnclear
from learning_observer_kvs.reducers.batch import Batch, Event
from learning_observer_kvs.reducers.state_cache import Guesses
from learning_observer_kvs.reducers.worker import Folder
from learning_observer_kvs.stores.keys import display_key

if TYPE_CHECKING:
    from learning_observer_kvs.stores.base import Store

log = logging.getLogger('learning_observer_kvs')

PAUSE = 0.05
"""Seconds between two tries to write all before closing."""

MAX_OF_KEY = 1000
"""How many unflushed events a key may have; then it is flushed early."""

MAX_EVENTS = 100_000
"""How many unflushed events there may be in all; then everything is flushed early, and new events wait for that."""

MAX_BYTES = 256 << 20
"""How many bytes of unflushed states there may be, likewise."""


class _Counted:
    """What is unflushed of a key: how many events, how many bytes, and which keys they write."""

    __slots__ = ('bytes', 'events', 'written')

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.written: set[str] = set()


class WriteBehind(Folder):
    """Lanes whose commits are put off.

    Args:
        store, guesses: as for :class:`Folder`.
        interval: seconds after which what an event changed is written.

    Attributes:
        newest: unflushed text by key, of internal and external states.
    """

    def __init__(self, store: Store, guesses: Guesses, interval: float) -> None:
        super().__init__(store, guesses)
        self._interval = interval
        self.newest: dict[str, bytes] = {}
        self._unflushed: dict[str, Batch] = {}
        self._due: set[str] = set()
        self._counted: dict[str, _Counted] = {}
        self._owners: dict[str, str] = {}
        self._events = 0
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refolding: dict[str, Batch] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._room_made: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    async def flush(self, keys: Collection[str] | None = None) -> None:
        """Write now what is not written yet, of some keys or of all.

        Raises:
            Whatever keeps it from being written; it is kept, and tried again after the interval.
        """
        waiting = []
        meant = self._counted if keys is None else {self._owners.get(key, key) for key in keys}
        for key in list(meant):
            if key in self._counted and not self.is_inside(key):
                waiting.append(self._flushed(key))
                self._due.add(key)
                self._flush_if_free(key)
                if self._turn_is_over():
                    await asyncio.sleep(0)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def close(self, seconds: float) -> None:
        """Take no more events, and write those there are; what is not written by then is not tried again."""
        if self._timer is not None:
            self._timer.cancel()
        await super().close(seconds)

    def unsaved(self) -> int:
        """How many events are not written yet."""
        return self._events + sum(len(lane or ()) for lane in self.lanes.values())

    async def drain(self) -> None:
        """Wait until all events are written."""
        await super().drain()
        while self._counted:
            try:
                await self.flush()
            except Exception:
                await asyncio.sleep(PAUSE)  # whoever waits sets how long this may go on

    # What is put off

    def _open(self, key: str) -> Batch | None:
        return self._unflushed.get(key) or super()._open(key)

    def _commit(self, key: str, batch: Batch) -> None:
        if batch.attempt or not (batch.writes or batch.guessed):
            super()._commit(key, batch)
        elif key not in self._counted and all(event.error is not None for event in batch.events):
            super()._commit(key, batch)  # nothing to put off; what is computed from a guess must be confirmed
        else:
            self._hold(key, batch)

    def _hold(self, key: str, batch: Batch) -> None:
        """Tell the callers, and keep the batch open for the events that follow."""
        batch.outcome = True
        counted = self._counted.get(key) or _Counted()
        new, failed = batch.events[counted.events :], False
        for event in new:
            failed = failed or event.error is not None
            if event.context is None:
                event.context = copy_context()
            else:
                event.tell(None)
        if failed:  # they changed nothing, and must not when the others are folded again
            batch.events[counted.events :] = [event for event in new if event.error is None]
        if batch.events:
            self._counted[key] = counted
            self._unflushed[key] = batch
            self.newest.update(batch.writes)  # type: ignore[arg-type]  # reducers never remove
            if not batch.writes.keys() <= counted.written:
                counted.written.update(batch.writes)
                self._owners.update(dict.fromkeys(batch.writes, key))
            self._count(counted, batch)
            self._set_timer()
            if (counted.events >= MAX_OF_KEY or self._room_made is not None) and self._failure is None:
                self._due.add(key)
        self._next(key)

    def _count(self, counted: _Counted, batch: Batch) -> None:
        """Keep account of what is unflushed of a key."""
        events, size = len(batch.events), len(batch.base or b'')
        for text in batch.writes.values():
            size += len(text)  # type: ignore[arg-type]
        self._events += events - counted.events
        self._bytes += size - counted.bytes
        counted.events, counted.bytes = events, size
        if self._events >= MAX_EVENTS or self._bytes >= MAX_BYTES:
            self.full = True

    def _discount(self, key: str) -> None:
        """Nothing of a key is unflushed any more."""
        counted = self._counted.pop(key, None)
        if counted is not None:
            for written in counted.written:
                self._owners.pop(written, None)
            self._events -= counted.events
            self._bytes -= counted.bytes
            self.full = self.closing or self._events >= MAX_EVENTS or self._bytes >= MAX_BYTES
            if self.closing or not self.full:
                self._look_for_room()

    async def _room(self) -> None:
        while self.full:
            await super()._room()
            if self._failure is not None:
                raise Overloaded(
                    f'{self._events:,} events wait to be written to {self._store.location()}, which fails: '
                    f'{self._failure} This one was not taken; send it again later.'
                )
            room = self._room_made
            if room is None:
                room = self._room_made = self.loop.create_future()
                self._flush_now()
            await asyncio.wait([room])  # others wait for it, too: cancelled here, it goes on

    def _look_for_room(self) -> None:
        """Those who wait for room look again, whether there is some or there will be none."""
        if self._room_made is not None:
            self._room_made.set_result(None)
            self._room_made = None

    # Flushing

    def _set_timer(self) -> None:
        if self._timer is None and not self.closing:
            self._timer = self.loop.call_later(self._interval, self._flush_all)

    def _flush_all(self) -> None:
        self._timer = None
        self._flush_now()

    def _flush_now(self) -> None:
        self._due.update(self._unflushed)
        self._flush_free(iter(list(self._due)))

    def _flush_free(self, keys: Iterator[str]) -> None:
        """Begin to flush what is free, in turns of the loop; what is busy is flushed when it gets free."""
        for key in keys:
            self._flush_if_free(key)
            if self._turn_is_over():
                self.loop.call_soon(self._flush_free, keys)
                return

    def _flush_if_free(self, key: str) -> None:
        if key not in self.lanes:
            self.lanes[key] = None
            self._next(key)

    def _next(self, key: str) -> None:
        if key in self._due:
            self._due.discard(key)
            batch = self._unflushed.pop(key, None)
            if batch is not None:
                super()._commit(key, batch)  # the lane is kept until the outcome is there
                return
        super()._next(key)

    def _flushed(self, key: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiters.setdefault(key, []).append(future)
        return future

    def _committed(self, key: str, batch: Batch, outcome: bool | BaseException) -> None:
        for written, text in batch.writes.items():
            if self.newest.get(written) is text:
                del self.newest[written]
        if outcome is False:
            if batch.unclear:
                self._spawn(self._settle(key, batch), key)
            else:
                self._refolding[key] = batch
                super()._committed(key, batch, outcome)
            return
        self._refolding.pop(key, None)
        if key in self._counted:
            if outcome is True:
                self._failure = None
                self._discount(key)
                self._tell_of_late_errors(key, batch)
            else:
                if isinstance(outcome, WriteUnclear):
                    batch.unclear.setdefault(batch.text, len(batch.events))
                self._put_back(key, batch, outcome)
        for future in self._waiters.pop(key, ()):
            if not future.done():
                future.set_result(None) if outcome is True else future.set_exception(outcome)
        super()._committed(key, batch, outcome)

    async def _settle(self, key: str, batch: Batch) -> None:
        """A flush that may have been written before does not fit any more: if its text is there, it was.

        What came to it since stands on that text already.
        """
        try:
            found = await self._read(key)
        except Exception as error:
            self._committed(key, batch, error if isinstance(error, WriteUnclear) else WriteUnclear(str(error)))
            return
        applied = batch.unclear.get(found.text)
        batch.unclear.clear()
        if applied is None or applied == len(batch.events):
            self._committed(key, batch, applied is not None)
        else:
            batch.base, batch.events = found.text, batch.events[applied:]
            super()._commit(key, batch)

    def _tell_of_late_errors(self, key: str, batch: Batch) -> None:
        for event in batch.events:
            if event.error is not None:
                log.error(
                    '%s: a reducer that had taken an event raised when it was folded again onto what another process '
                    'wrote; the event is left out.',
                    display_key(key),
                    exc_info=event.error,
                )

    def _put_back(self, key: str, batch: Batch, error: BaseException) -> None:
        """It could not be written: kept, and tried again after the interval."""
        self._failed(key, error)
        batch.attempt = 0
        self._unflushed[key] = batch
        self._count(self._counted[key], batch)
        self.newest.update(batch.writes)  # type: ignore[arg-type]
        self._set_timer()

    def _unreadable(self, key: str, events: list[Event], error: Exception) -> None:
        batch = self._refolding.get(key)
        if batch is None:
            super()._unreadable(key, events, error)
        else:
            self._committed(key, batch, error)  # the next flush finds again that it does not fit

    def _failed(self, key: str, error: BaseException) -> None:
        if self._failure is None:
            log.error(
                '%s cannot be written: %s Its events are kept and tried again every %g s.',
                display_key(key),
                error,
                self._interval,
            )
        self._failure = error
        self._look_for_room()
