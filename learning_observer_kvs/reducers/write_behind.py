"""``flush_interval``: states are kept in the process and written every so many seconds, not with every event.

The process keeps, for each key, the text its events started from, what they came to, and the events themselves. The
flush is the same conditional commit as ever; if another process wrote in between, the events are reduced again onto
what is there. Until then reads in this process see the newest state, other processes the one of the last flush, and
results that reducers returned are provisional. A crash loses what was not flushed: at most what one interval held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager, suppress

from learning_observer_kvs.errors import Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.per_loop import call_in
from learning_observer_kvs.reducers.batch import Batch, Event
from learning_observer_kvs.reducers.erased_students import is_late, not_erased
from learning_observer_kvs.reducers.exclusive_access import FlushedAccess
from learning_observer_kvs.reducers.left_out import ErasedElsewhere, LeftOut, accepted
from learning_observer_kvs.reducers.pending import FORGOTTEN, MAX_EVENTS_OF_KEY, Pending, PendingStates, ended, log_kept
from learning_observer_kvs.reducers.serving import EventQueue
from learning_observer_kvs.reducers.worker import ReducerWorker
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import ONE_TRY, deadline_after, pause_after
from learning_observer_kvs.stores.key_locks import RESERVED, Hold, Holder, Wait, current_holder
from learning_observer_kvs.stores.keys import display_key

log = logging.getLogger('learning_observer_kvs')


class WriteBehindWorker(ReducerWorker):
    """A worker that commits after an interval.

    Args:
        store: where the states are.
        interval: seconds after which what an event changed is written.

    Attributes:
        states: what is pending, by key.
        left_out: the events that were acknowledged and did not come into a state after all.
    """

    def __init__(self, store: Store, interval: float) -> None:
        self._pending = self.states = PendingStates()
        super().__init__(store, self._pending.texts)
        self._interval = interval
        self._commits_wait = False
        self.left_out = LeftOut(store)
        self._exclusive: dict[str, asyncio.Future[None]] = {}
        self._no_waiter = EventQueue(self._on_ready)  # in no line: what waits for a flush waits for the holder alone
        self._timer: asyncio.TimerHandle | None = None
        self._capacity: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    # As an overlay

    def queue_of(self, key: str) -> str:
        """Return the key whose queue the writes of a key belong in.

        Args:
            key: the key.
        """
        return self._pending.owners.get(key) or super().queue_of(key)

    def exclusive(self, keys: Collection[str] | None) -> AbstractAsyncContextManager[Hold]:
        """Return an async context manager that holds these keys' queues, once what is pending of them is written.

        Args:
            keys: the keys; ``None`` for every key.
        """
        return FlushedAccess(self, None if keys is None else {self.queue_of(key) for key in keys})

    async def flush(self) -> None:
        """Write what is pending of all keys, but for those whose queue waits for the caller itself.

        Raises:
            StoreUnavailable, WriteUnclear, Conflict, Overloaded: it could not be written; it is kept and tried again
                after the interval.
        """
        holder = current_holder() or Holder()
        holder.give_back_permits()
        waiting: list[asyncio.Future[None]] = []
        waits: list[Wait] = []
        try:
            for key, pending in list(self._pending.items()):
                if self._pending.get(key) is pending and not self._locks.depends_on_caller([key]):
                    waiting.append(self._loop.create_future())
                    pending.waiters.append(waiting[-1])
                    waits.append((self._locks, key, self._no_waiter))
                    holder.add_wait(waits[-1])
                    self._request_flush(key, pending)
                    if self._server.is_slice_over():
                        await asyncio.sleep(0)
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            for wait in waits:
                holder.remove_wait(wait)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def flush_held(self, keys: Collection[str] | None) -> bool:
        """Write what is pending of keys that are held.

        Args:
            keys: the keys; ``None`` for every key.

        Returns:
            Whether it was written. Otherwise another process wrote in between, and the events must be reduced again;
            that is not done while the keys are held, as a reducer may need one of them.

        Raises:
            StoreUnavailable, WriteUnclear, Conflict, Overloaded: it could not be written; it is kept and tried again
                after the interval.
        """
        found = [key for key in (self._pending if keys is None else keys) if key in self._pending]
        if not found:
            return True
        waiting = []
        for key in found:
            waiting.append(self._loop.create_future())
            self._exclusive[key] = waiting[-1]
            self._busy += 1
            self._write_pending(key, self._pending[key])
        await ended(waiting)  # also when cancelled: what has begun ends before the keys are released
        left = [self._pending[key] for key in found if key in self._pending]
        for pending in left:
            if pending.error is not None:
                raise pending.error
        return not left

    def resume_flushes(self, keys: Collection[str] | None) -> None:
        """Begin the flushes that were asked for while keys were held.

        Args:
            keys: the keys; ``None`` for every key.
        """
        self._flush_requested(iter(list(self._pending if keys is None else keys)))

    def discard(self) -> None:
        """Forget the events that are pending of all keys. It may be called from another thread."""
        call_in(self._loop, self._discard_all)

    async def close(self, timeout: float) -> None:
        """Accept no more events, and write those there are.

        Args:
            timeout: seconds after which what is not written is not tried again, and counted in the log.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            await super().close(timeout)
        except asyncio.CancelledError:
            if self._pending:
                self._set_timer()
            raise
        for key, pending in list(self._pending.items()):
            error = self.left_out.not_saved(key, pending)
            pending.resolve(error)
            if pending.is_open:
                self._drop(key)
            else:
                pending.is_discarded = True

    def _unsaved(self) -> int:
        return self._pending.events + self._waiting()

    async def _drain(self) -> None:
        await super()._drain()
        while self._pending:
            with suppress(Exception):
                await self.flush()
            if self._pending:
                await asyncio.sleep(pause_after(0))  # the caller sets how long this may go on

    # Buffering

    def _open(self, key: str) -> Batch | None:
        pending = self._pending.get(key)
        return pending.batch if pending is not None and pending.is_open else super()._open(key)

    def _commit(self, key: str, batch: Batch, rest: EventQueue | None) -> None:
        pending = self._pending.get(key)
        if batch.attempt or not (batch.writes or batch.is_cached):
            if batch.attempt and pending is not None and pending.is_discarded:
                self._give_up(key, rest)
            else:
                super()._commit(key, batch, rest)
        elif pending is None and all(event.error is not None for event in batch.events):
            super()._commit(key, batch, rest)  # nothing to buffer; what was computed from cached text must be confirmed
        else:
            self._buffer(key, batch, pending or Pending(batch))
            self._next(key, rest)

    def _buffer(self, key: str, batch: Batch, pending: Pending) -> None:
        """Answer the callers, and keep the batch open for the events that follow."""
        batch.outcome = True
        new, failed = batch.events[pending.events :], False
        for event in new:
            failed = failed or event.error is not None
            event.keep_context()
            event.resolve(None)
        if failed:  # they changed nothing, and must not when the others are reduced again
            batch.events[pending.events :] = accepted(new)
        self._keep(key, pending)
        if self._store.listeners:  # this process reads the new texts from now on; others do after the flush
            self._store.announce(batch.writes.keys())
        if (pending.events >= MAX_EVENTS_OF_KEY or self._capacity is not None) and self._failure is None:
            pending.flush_requested = True

    def _keep(self, key: str, pending: Pending) -> None:
        """Keep what is pending of a key until the interval is over."""
        states = self._pending
        states.keep(key, pending)
        if states.is_full():
            self._is_full = True
        if self._timer is None:
            self._set_timer()

    def _drop(self, key: str) -> None:
        """Nothing of a key is pending any more."""
        states = self._pending
        states.drop(key).resolve(None)
        self._is_full = self._is_closing or states.is_full()
        if self._is_closing or not self._is_full:
            self._capacity_changed()

    def _discard_all(self) -> None:
        for key, pending in list(self._pending.items()):
            if pending.is_open:
                self._announce_end(pending)
                self._drop(key)
                # A reducer that is running joins this batch, whose commit is tried at once, and does not fit.
                batch = pending.batch
                batch.base, batch.attempt, batch.outcome = FORGOTTEN, 1, None
                batch.events.clear()
            else:
                pending.is_discarded = True  # once it is known what becomes of it
        self._pending.texts.clear()
        self._cache.clear()

    def _announce_end(self, pending: Pending) -> None:
        """What was read in this process will never be written: what the backend holds is read again."""
        if self._store.listeners:
            self._store.announce(pending.written)

    async def _wait_for_capacity(self) -> None:
        while self._is_full:
            await super()._wait_for_capacity()
            if self._failure is not None:
                raise Overloaded(
                    f'{self._pending.events:,} events wait to be written to {self._store.location()}, which fails: '
                    f'{self._failure} The event was rejected; retry later.'
                )
            if current_holder() is not None:
                return  # a reducer sent the event; what is pending of its own key cannot be flushed before it ends
            capacity = self._capacity
            if capacity is None:
                capacity = self._capacity = self._loop.create_future()
                self._flush_all()
            await asyncio.wait([capacity])  # others wait for it, too: cancelled here, it goes on

    def _capacity_changed(self) -> None:
        """Those that wait for capacity look again, whether there is some or there will be none."""
        if self._capacity is not None:
            self._capacity.set_result(None)
            self._capacity = None

    # Flushing

    def _set_timer(self) -> None:
        if not self._is_closing:
            self._timer = self._loop.call_later(self._interval, self._interval_over)

    def _interval_over(self) -> None:
        self._timer = None
        self._flush_all()

    def _flush_all(self) -> None:
        for pending in self._pending.values():
            pending.flush_requested = pending.is_open
        self._flush_requested(iter(list(self._pending)))

    def _flush_requested(self, keys: Iterator[str]) -> None:
        """Begin to flush what is free, in slices of time; what is busy is flushed when its queue is free."""
        for key in keys:
            if (pending := self._pending.get(key)) is not None and pending.flush_requested:
                self._request_flush(key, pending)
            if self._server.is_slice_over():
                self._loop.call_soon(self._flush_requested, keys)
                return

    def _request_flush(self, key: str, pending: Pending) -> None:
        pending.flush_requested = pending.is_open  # else it is being written
        barrier = self._locks.barrier
        if key not in self._locks.held and (barrier is None or not barrier.is_active):
            self._locks.held[key] = RESERVED
            self._busy += 1
            self._next(key, None)

    def _next(self, key: str, rest: EventQueue | None) -> None:
        if self._exclusive and (exclusive := self._exclusive.pop(key, None)) is not None:
            self._busy -= 1  # the key is released by what has exclusive access to it
            self._look_if_idle()
            exclusive.set_result(None)
        elif (pending := self._pending.get(key)) is not None and pending.flush_requested and pending.is_open:
            self._write_pending(key, pending, rest)  # the queue is held until the outcome is there
        else:
            super()._next(key, rest)

    def _write_pending(self, key: str, pending: Pending, rest: EventQueue | None = None) -> None:
        pending.flush_requested, pending.is_open, pending.error = False, False, None
        if pending.batch.base is not None or not is_late(pending, self._interval):
            return super()._commit(key, pending.batch, rest)
        self._server.spawn(self._leave_out_erased(key, pending, rest, False), f'kvs flush {display_key(key)}')

    def _deadlines(self, key: str, batch: Batch) -> tuple[float, float]:
        """Of a flush that no caller waits for: it is tried once, and again after the interval."""
        if (pending := self._pending.get(key)) is None:
            return super()._deadlines(key, batch)
        settled = deadline_after(self._store.retry_timeout)
        pending.is_tried_once = not pending.waiters and key not in self._exclusive
        return ONE_TRY if pending.is_tried_once else settled, settled

    def _committed(self, key: str, batch: Batch, rest: EventQueue | None, outcome: bool | BaseException) -> None:
        self._pending.hide(batch)
        pending = self._pending.get(key)
        if pending is None:
            super()._committed(key, batch, rest, outcome)
        elif pending.is_discarded:
            self._give_up(key, rest)
        elif outcome is True:
            self._failure = None
            pending.resolve(None)
            self._drop(key)
            self.left_out.raised(key, batch.events)
            super()._committed(key, batch, rest, outcome)
        elif outcome is False:
            self._conflict(key, pending, batch, rest)
        else:
            pending.batch = batch
            pending.is_reduced_again = False
            if isinstance(outcome, WriteUnclear):
                pending.unclear.setdefault(batch.text, len(batch.events))
            self._put_back(key, pending, outcome)
            may_pass = isinstance(outcome, StoreUnavailable) and outcome.retry
            if pending.is_tried_once and pending.waiters and may_pass and not self._is_closing:
                pending.flush_requested = True  # for those that came since, who may wait longer
            else:
                pending.resolve(outcome)
            super()._committed(key, batch, rest, outcome)

    def _conflict(self, key: str, pending: Pending, batch: Batch, rest: EventQueue | None) -> None:
        """Another process wrote in between."""
        pending.had_base = pending.had_base or batch.base is not None
        if pending.unclear:
            self._server.spawn(self._settle(key, pending, batch, rest), f'kvs flush {display_key(key)}')
        elif key in self._exclusive:
            self._reopen(key, pending)
            pending.flush_requested = True  # once the key is free; those that wait for it do so until then
            self._next(key, rest)
        else:
            pending.is_reduced_again = True
            super()._committed(key, batch, rest, False)

    async def _settle(self, key: str, pending: Pending, batch: Batch, rest: EventQueue | None) -> None:
        """A flush that may have been written before does not fit any more: if its text is there, it was.

        What came to it since stands on that text already.
        """
        try:
            found = await self._read(key, deadline_after(self._store.retry_timeout))
        except Exception as error:
            self._committed(key, batch, rest, error if isinstance(error, WriteUnclear) else WriteUnclear(str(error)))
            return
        applied = pending.unclear.get(found.text)
        doubtful = max(pending.unclear.values(), default=0)
        pending.unclear.clear()
        if applied == len(batch.events):
            self._committed(key, batch, rest, True)
        elif applied is not None:
            self.left_out.applied(key, batch.events[:applied])
            batch.base, batch.events = found.text, batch.events[applied:]
            super()._commit(key, batch, rest)
        else:
            if found.text is not None and found.text != batch.base:  # reducing them again could count them twice
                self.left_out.doubtful(key, batch.events[:doubtful])
                batch.events = batch.events[doubtful:]
            if batch.events:
                self._committed(key, batch, rest, False)
            else:
                self._give_up(key, rest)

    def _give_up(self, key: str, rest: EventQueue | None) -> None:
        """Nothing of a key is to be written any more, although its queue is held for a flush."""
        self._announce_end(self._pending[key])
        self._drop(key)
        self._cache.forget(key)
        self._next(key, rest)

    def _put_back(self, key: str, pending: Pending, error: BaseException) -> None:
        """It could not be written: kept, and tried again after the interval."""
        if self._failure is None:
            log_kept(key, error, self._interval)
        self._failure = pending.error = error
        self._capacity_changed()
        self._reopen(key, pending)

    def _reopen(self, key: str, pending: Pending) -> None:
        pending.batch.attempt = 0
        pending.is_open = True
        self._keep(key, pending)

    # Reducing again

    async def _read(self, key: str, deadline: float, attempt: int = 0) -> Batch:
        batch = await super()._read(key, deadline, attempt)
        pending = self._pending.get(key)
        is_gone = batch.base is None and pending is not None and pending.is_reduced_again and pending.had_base
        if is_gone and not self._store.has_ttl:  # where keys expire, it may have; elsewhere it must not come back
            raise ErasedElsewhere
        return batch

    def _cannot_reduce(self, key: str, events: list[Event], rest: EventQueue | None, error: BaseException) -> None:
        pending = self._pending.get(key)
        if pending is not None and pending.is_reduced_again:
            if isinstance(error, ErasedElsewhere):
                self._server.spawn(self._leave_out_erased(key, pending, rest, True), f'kvs flush {display_key(key)}')
            else:
                self._committed(key, pending.batch, rest, error)  # the next flush finds again that it does not fit
        else:
            super()._cannot_reduce(key, events, rest, error)

    async def _leave_out_erased(self, key: str, pending: Pending, rest: EventQueue | None, is_gone: bool) -> None:
        """Write what is pending without what another process has, or may have, erased the student of."""
        batch = pending.batch
        try:
            left = await not_erased(self._store, key, pending, is_gone=is_gone)
        except Exception as error:
            return self._committed(key, batch, rest, error)
        if not is_gone and len(left) == len(batch.events):
            return super()._commit(key, batch, rest)
        self._pending.hide(batch)
        self.left_out.erased_elsewhere(key, batch.events, left)
        batch.base, batch.events, pending.had_base = None, left, False
        return self._committed(key, batch, rest, False) if left else self._give_up(key, rest)
