"""Events through reducers into pairs of states: in order, none lost, one commit for all that wait behind a key.

The events of a key, in one event loop, form a queue. The first runs its reducer in its caller's own task, at once;
those that come while its commit is under way are reduced together afterwards, in order, and committed once. Every
commit writes the internal and the external state at once, on the condition that the internal state still is what the
first reducer was given; if another process wrote in between, it is read again and the reducers run again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context
from time import monotonic

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.batch import Event, ReducerCall
from learning_observer_kvs.reducers.batch_worker import BatchWorker
from learning_observer_kvs.reducers.event_deadline import LONG, deadline_of, note_deadline
from learning_observer_kvs.reducers.exclusive_access import ExclusiveAccess
from learning_observer_kvs.reducers.joined import Pass, Run
from learning_observer_kvs.reducers.tally import NOT_MEASURED, UNNAMED, Tally
from learning_observer_kvs.stores.deadline import ONE_TRY, deadline_after
from learning_observer_kvs.stores.key_locks import RESERVED, Hold, current_holder

log = logging.getLogger('learning_observer_kvs')


class ReducerWorker(BatchWorker):
    """Runs the reducers of one store in one event loop; an overlay of the store.

    Each event is written before it is answered, so nothing is pending, unless a subclass delays it.

    Args:
        store: where the states are.
        pending: the texts that are delayed, by key.
    """

    async def process(
        self,
        key: str,
        external_key: str,
        call: ReducerCall,
        null_text: bytes = b'null',
        deadline: float | None = None,
        may_wait: bool = True,
        tally: Tally = UNNAMED,
    ) -> JSON:
        """Run one event through its reducer, and commit what it returns.

        Events of one key in this event loop run one after the other, in order. Both states are written at once, on the
        condition that no other process wrote the internal one in between; otherwise the reducer runs again on what is
        there.

        Args:
            key: the key of the internal state.
            external_key: the key of the external state.
            call: the reducer with its event filled in: takes the internal state (a fresh copy), returns
                ``(internal_state, external_state)``, ``False`` for one that is not to be written. It may run more than
                once: it must have no side effects.
            null_text: the JSON text of the state that a key starts from. It is stored with the first event, even if
                the reducer declines to write.
            deadline: until when it waits for a backend that is away, as the time of the monotonic clock; by default
                the ``retry_timeout`` of the store from now, or from when the first of several reducers got the event
                if one of them has waited long.
            may_wait: whether the reducer may wait for something; see :func:`~.driving.may_wait`.
            tally: what is counted of the reducer.

        Returns:
            The external state, as the reducer returned it.

        Raises:
            ReducerError: the reducer did not return a pair, or waits for its own key.
            InvalidKey, InvalidValue: a key that no store takes, or a state that JSON cannot hold.
            CorruptValue: what is stored is not JSON.
            Conflict: other processes wrote the key in between, ``MAX_TRIES`` times.
            Overloaded: too many events wait for the key; this one was rejected.
            StoreUnavailable: the backend does not answer, or the store is being closed.
            WriteUnclear: the states may or may not have been written.

        Whatever else is raised, by the reducer too, the event has changed neither state.
        """
        locks, event, now = self._locks, Event(external_key, call, null_text, ONE_TRY, may_wait, tally), monotonic()
        began = now if deadline is None else math.inf
        try:
            if self._is_full:
                if deadline is None:
                    deadline = event.deadline = deadline_of(call, self._store.retry_timeout, now)
                await self._wait_for_capacity()
                now = monotonic()
            if key in locks.held or (locks.barrier is not None and locks.is_barred()):
                event.deadline = deadline_of(call, self._store.retry_timeout, now) if deadline is None else deadline
                return await self._queued.wait(key, event)
            locks.held[key] = RESERVED
            server = self._server
            if server.slice_ends is None:
                server.begin_slice(now)
                self._slices += 1
                if not self._slices & NOT_MEASURED:
                    event.call = tally.time_call(call)
            elif now > server.slice_ends:
                event.deadline = deadline_of(call, self._store.retry_timeout, now) if deadline is None else deadline
                self._busy += 1
                server.add(key, event)
                return await event.wait(self._loop)
            self._busy += 1
            # Nothing is before it: it runs in its caller's own task.
            try:
                batch = self._open(key)
                if batch is None or self._commits_wait:
                    event.deadline = deadline_of(call, self._store.retry_timeout, now) if deadline is None else deadline
                if batch is None:
                    batch = await self._read(key, event.deadline)
                if (rest := self._reduce(key, batch, event)) is not None:
                    await rest
            except BaseException as error:
                if isinstance(error, Exception):
                    tally.note_failed()
                self._next(key, None)
                raise
            batch.events.append(event)
            self._commit(key, batch, None)
            if batch.outcome is True:
                if event.error is not None:
                    tally.failed += 1
                    raise event.error
                return event.result
            if isinstance(batch.outcome, BaseException):
                tally.note_failed()
                raise batch.outcome
            # The commit goes on whatever becomes of the caller: its outcome must be known before the key's next event.
            return await event.wait(self._loop)
        finally:
            if event.deadline != ONE_TRY and monotonic() - began > LONG:
                note_deadline(call, event.deadline)  # for the reducers that get the event after this one

    async def process_together(self, runs: Iterable[Run]) -> list[bytes | BaseException]:
        """Run many reducers in one pass, commit what they return in one batch, and wait once.

        Each is processed as by :meth:`process`: in order behind the events of its key, on condition, and again where
        another process wrote in between. One that fails affects no other.

        Args:
            runs: the reducers, with their event; each is taken when its turn comes.

        Returns:
            For each the JSON text of the external state that the reducer returned, empty where it declined to write
            one; or what :meth:`process` would raise.

        Raises:
            Overloaded, StoreUnavailable: none of them was processed.
        """
        if current_holder() is not None:  # each wait must be looked at: it may depend on the caller itself
            runs = list(runs)
            results = await asyncio.gather(*(self.process(*run) for run in runs), return_exceptions=True)
            return [self._text_of(run, result) for run, result in zip(runs, results, strict=True)]
        if self._is_full:
            await self._wait_for_capacity()
        self._slices += 1
        if not self._slices & NOT_MEASURED:
            runs = (run._replace(call=run.tally.time_call(run.call)) for run in runs)
        joined = Pass(runs, deadline_after(self._store.retry_timeout), self._loop)
        while (event := joined.next_event()) is not None:
            self._begin(event)
            if self._server.is_slice_over():
                self._busy += 1
                self._server.add('', joined)
                break
        if not joined.done.done():
            joined.context = copy_context()
            await joined.done  # cancelled in here, it withdraws the events whose turn has not come
        return joined.outcomes()

    def _text_of(self, run: Run, result: JSON | BaseException) -> bytes | BaseException:
        if isinstance(result, BaseException):
            return result
        return b'' if result is False else self._encode(run.external_key, result)

    # Metrics

    def metrics(self) -> dict[str, int]:
        """Return what this worker has in hand: numbers by name."""
        return {
            'queued_events': self._waiting(),  # another thread may ask
            'cached_keys': len(self._cache),
            'cached_bytes': self._cache.bytes,
        }

    # As an overlay

    def exclusive(self, keys: Collection[str] | None) -> AbstractAsyncContextManager[Hold]:
        """Return an async context manager that holds these keys' queues.

        Args:
            keys: the keys, of internal or external states or others; ``None`` for every key.

        Returns:
            The context manager; see :meth:`Overlay.exclusive <learning_observer_kvs.stores.overlay.Overlay.exclusive>`.
        """
        return ExclusiveAccess(self, None if keys is None else {self.queue_of(key) for key in keys})

    def queue_of(self, key: str) -> str:
        """Return the key whose queue the writes of a key belong in: that of the internal state for a pair of states.

        Args:
            key: the key.
        """
        return f'Internal,{key[9:]}' if key.startswith('External,') else key

    async def close(self, timeout: float) -> None:
        """Accept no more events, and wait until those there are have been written.

        Args:
            timeout: seconds after which those that have not are counted in the log.
        """
        self._is_closing = self._is_full = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._drain()
        except asyncio.CancelledError:
            self._is_closing = self._is_full = False  # the store was not closed: it can be used as before
            raise
        if unsaved := self._unsaved():
            log.error('%r was closed with %d events not saved.', self._store, unsaved)

    # For ExclusiveAccess

    def hold(self, keys: Collection[str] | None) -> Hold:
        """Return a hold of keys, and nothing else.

        Args:
            keys: the keys; ``None`` for every key.
        """
        return self._locks.hold(keys)

    def forget(self, keys: Collection[str] | None) -> None:
        """Forget the cached text of keys; it may have been written past this worker.

        Args:
            keys: the keys; ``None`` for every key.
        """
        if keys is None:
            self._cache.clear()
        else:
            for key in keys:
                self._cache.forget(key)

    async def _wait_for_capacity(self) -> None:
        """Wait while this is full."""
        if self._is_closing:
            raise StoreUnavailable(f'Store {self._store.name!r} is being closed; the event was rejected.')
