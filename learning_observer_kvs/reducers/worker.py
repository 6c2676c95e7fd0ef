"""Events through reducers into pairs of states: in order, none lost, one commit for all that wait behind a key.

The events of a key, in one event loop, form a queue. The first runs its reducer in its caller's own task, at once;
those that come while its commit is under way are reduced together afterwards, in order, and committed once. Every
commit writes the internal and the external state at once, on the condition that the internal state still is what the
first reducer was given; if another process wrote in between, it is read again and the reducers run again.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from time import monotonic
from types import CoroutineType
from typing import Any

from learning_observer_kvs.errors import Conflict, Overloaded, ReducerError, StoreUnavailable
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.batch import Batch, Event, ReducerCall
from learning_observer_kvs.reducers.exclusive_access import ExclusiveAccess
from learning_observer_kvs.reducers.joined import Join, JoinedEvent, Run
from learning_observer_kvs.reducers.serving import EventQueue, QueueServer, run_on, shed_cancellation
from learning_observer_kvs.reducers.state_cache import StateCache
from learning_observer_kvs.reducers.time_limit import run_within
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.key_locks import (
    CURRENT,
    RESERVED,
    Hold,
    Holder,
    current_holder,
    waits_for_itself,
)
from learning_observer_kvs.stores.keys import check_key, display_key
from learning_observer_kvs.stores.overlay import PlainOverlay
from learning_observer_kvs.stores.pacing import MAX_TRIES, pause

log = logging.getLogger('learning_observer_kvs')

MAX_QUEUED_EVENTS = 10_000
"""How many events may wait behind one key."""

MAX_BATCH = 100
"""How many of them are reduced before their one commit."""

LARGE = 16 << 10
"""Bytes of text from which a state counts as large."""

LARGE_AT_ONCE = 64
"""How many large states may be decoded at once, while their reducers wait for something."""


class ReducerWorker(PlainOverlay):
    """Runs the reducers of one store in one event loop; an overlay of the store.

    Each event is written before it is answered, so nothing is ever pending.

    Args:
        store: where the states are.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.key_locks.here())
        self._store = store
        self._encode, self._decode = store.encode, store.decode
        self._submit = store.submitter()
        self._timeout = store.reducer_timeout
        self._is_immediate = store.IS_IMMEDIATE
        self._cache = StateCache(0 if store.IS_IMMEDIATE else store.cache_bytes)
        self._loop = asyncio.get_running_loop()
        self._queued: dict[str, int] = {}
        self._busy = 0
        self._server = QueueServer(self._serve, self._abandon, self._locks.watch)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._idle: asyncio.Future[None] | None = None
        self._is_full = self._is_closing = False

    async def process(self, key: str, external_key: str, call: ReducerCall, null_text: bytes = b'null') -> JSON:
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
        if self._is_full:
            await self._wait_for_capacity()
        locks, event = self._locks, Event(external_key, call, null_text)
        if key in locks.held or (locks.barrier is not None and locks.is_barred()):
            return await self._wait_in_queue(key, event)
        locks.held[key] = RESERVED
        server, now = self._server, monotonic()
        if server.slice_ends is None:
            server.begin_slice(now)
        elif now > server.slice_ends:
            self._serve_soon(key, event)
            return await event.wait(self._loop)
        self._busy += 1
        # Nothing is before it: it runs in its caller's own task.
        try:
            batch = self._open(key) or await self._read(key)
            await self._reduce(key, batch, event)
        except BaseException:
            self._next(key, None)
            raise
        batch.events.append(event)
        self._commit(key, batch, None)
        if batch.outcome is True:
            if event.error is not None:
                raise event.error
            return event.result
        if isinstance(batch.outcome, BaseException):
            raise batch.outcome
        # The commit goes on whatever becomes of the caller: its outcome must be known before the key's next event.
        return await event.wait(self._loop)

    async def process_together(self, runs: Sequence[Run]) -> list[JSON | BaseException]:
        """Run many reducers in one pass, commit what they return in one batch, and wait once.

        Each is processed as by :meth:`process`: in order behind the events of its key, on condition, and again where
        another process wrote in between. One that fails affects no other.

        Args:
            runs: the reducers, with their event.

        Returns:
            For each the external state as the reducer returned it, or what :meth:`process` would raise.

        Raises:
            Overloaded, StoreUnavailable: none of them was processed.
        """
        if current_holder() is not None:  # each wait must be looked at: it may depend on the caller itself
            return await asyncio.gather(*(self.process(*run) for run in runs), return_exceptions=True)
        if self._is_full:
            await self._wait_for_capacity()
        if not runs:
            return []
        join = Join(len(runs), self._loop)
        events = [JoinedEvent(run, join) for run in runs]
        for run, event in zip(runs, events, strict=True):
            self._begin(run.internal_key, event)
        await join.done  # cancelled in here, it withdraws the events whose turn has not come
        return [event.result if event.failure is None else event.failure for event in events]

    def _begin(self, key: str, event: JoinedEvent) -> None:
        """Run an event's reducer at once where nothing is before it and its state is known, else in its turn."""
        locks, server = self._locks, self._server
        if key in locks.held or (locks.barrier is not None and locks.is_barred()):
            try:
                self._enqueue(key, event)
            except Overloaded as error:
                event.resolve(error)
            return
        locks.held[key] = RESERVED
        batch = None if server.is_slice_over() else self._open(key)
        if batch is None:
            self._serve_soon(key, event)
            return
        self._busy += 1
        context = event.context
        assert context is not None
        reducing = self._reduce(key, batch, event)
        try:
            waits_for = context.run(reducing.send, None)
        except StopIteration:
            batch.events.append(event)
            self._commit(key, batch, None)
        except BaseException:
            self._next(key, None)
            raise
        else:
            server.spawn(self._finish(key, batch, event, reducing, waits_for), f'kvs reducer {display_key(key)}')

    async def _finish(
        self, key: str, batch: Batch, event: JoinedEvent, reducing: Coroutine[Any, Any, None], waits_for: Any
    ) -> None:
        """Run the rest of a reducer that waits for something, and commit."""
        task, context = asyncio.current_task(), event.context
        assert task is not None
        assert context is not None
        try:
            await run_on(context, reducing, waits_for)
            if task.cancelling():
                await shed_cancellation(task)
        except BaseException as error:  # the event loop ends
            self._cannot_reduce(key, [event], None, error)
            raise
        batch.events.append(event)
        self._commit(key, batch, None)

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

    # Waiting in line

    async def _wait_in_queue(self, key: str, event: Event) -> JSON:
        locks, holder = self._locks, current_holder()
        if holder is not None and locks.depends_on_caller([key]):
            raise waits_for_itself([key])
        queue = self._enqueue(key, event)
        future = event.wait(self._loop)  # cancelled in here, it withdraws the event unless its turn has come
        if holder is None:
            return await future
        wait = (locks, key, queue)
        holder.add_wait(wait)
        holder.give_back_permits()
        try:
            return await future
        finally:
            holder.remove_wait(wait)

    def _enqueue(self, key: str, event: Event) -> EventQueue:
        """Put an event behind those of its key; return the queue it is in."""
        queued = self._queued.get(key, 0)
        if queued >= MAX_QUEUED_EVENTS:
            raise Overloaded(
                f'{queued:,} events wait for {display_key(key)} already; the event was rejected. Retry later, or send '
                'slower.'
            )
        queue = self._locks.last_waiter(key)
        if not isinstance(queue, EventQueue) or queue.on_ready != self._on_ready:
            queue = EventQueue(self._on_ready)
            self._locks.request([key], queue)  # which takes nothing: the key is held, or the caller is barred
        queue.events.append(event)
        self._queued[key] = queued + 1
        return queue

    def _serve_soon(self, key: str, event: Event) -> None:
        """Have an event served whose key is held for it."""
        queue = EventQueue(self._on_ready)
        queue.events.append(event)
        self._queued[key] = self._queued.get(key, 0) + 1  # others may wait for a barrier
        self._on_ready(key, queue)

    async def _wait_for_capacity(self) -> None:
        """Wait while this is full."""
        if self._is_closing:
            raise StoreUnavailable(f'Store {self._store.name!r} is being closed; the event was rejected.')

    # Serving the queues

    def _on_ready(self, key: str, queue: EventQueue) -> None:
        """The key is held for a queue of events now."""
        self._busy += 1
        self._server.add(key, queue)

    def _serve(self, key: str, queue: EventQueue) -> Coroutine[Any, Any, None]:
        """Reduce events that wait, and commit once."""
        events, rest = queue.take(MAX_BATCH)
        self._note_dequeued(key, len(events))
        return self._process_batch(key, events, rest)

    def _note_dequeued(self, key: str, events: int) -> None:
        left = self._queued[key] - events
        if left:
            self._queued[key] = left
        else:
            del self._queued[key]

    async def _process_batch(self, key: str, events: list[Event], rest: EventQueue | None, attempt: int = 0) -> None:
        """Reduce events and commit once; ``attempt`` counts how often other processes wrote in between."""
        try:
            if attempt:
                await pause(attempt)
            batch = None if attempt else self._open(key)
            if batch is None:
                self._server.hand_over()
                batch = await self._read(key, attempt)
            task = asyncio.current_task()
            assert task is not None
            for event in events:
                if not event.is_withdrawn():
                    context = event.context
                    assert context is not None
                    reducing = self._reduce(key, batch, event)
                    try:
                        waits_for = context.run(reducing.send, None)
                    except StopIteration:
                        pass  # as most reducers do, it has ended without a wait
                    else:
                        self._server.hand_over()
                        await run_on(context, reducing, waits_for)
                    if task.cancelling():
                        await shed_cancellation(task)
                    batch.events.append(event)
                if self._server.is_slice_over():
                    await asyncio.sleep(0)
        except BaseException as error:
            self._cannot_reduce(key, events, rest, error)
            if not isinstance(error, Exception):  # the event loop ends
                raise
            return
        if batch.events:
            self._commit(key, batch, rest)
        else:  # all were withdrawn
            self._next(key, rest)

    def _abandon(self, key: str, queue: EventQueue, error: BaseException) -> None:
        """The event loop ends: no caller is left to wait forever."""
        for event in queue.events:
            event.resolve(error)
        self._note_dequeued(key, len(queue.events))
        self._next(key, None)

    def _cannot_reduce(self, key: str, events: list[Event], rest: EventQueue | None, error: BaseException) -> None:
        """The state that events start from cannot be read, or the event loop ends: they have changed nothing."""
        for event in events:
            event.resolve(error)
        self._next(key, rest)

    def _next(self, key: str, rest: EventQueue | None) -> None:
        """The events of a commit are done with: go on with those that wait."""
        self._busy -= 1
        if rest is not None:
            self._on_ready(key, rest)
            return
        self._locks.release(key)
        if self._idle is not None:
            self._look_if_idle()

    def _look_if_idle(self) -> None:
        """Let those go on that wait until no event is under way, if that is so."""
        if self._idle is not None and not self._busy and not self._queued:
            self._idle.set_result(None)
            self._idle = None

    # Reducing

    def _open(self, key: str) -> Batch | None:
        """The batch that an event of a free key joins; ``None`` if the state must be read."""
        if self._is_immediate:
            return Batch(self._store.read_bytes_now(key), False)
        text = self._cache.get(key)
        return None if text is None else Batch(text, True)

    async def _read(self, key: str, attempt: int = 0) -> Batch:
        [text] = await self._store.read_bytes([check_key(key)])
        if text is not None:
            self._store.decode(key, text)  # what is corrupt is reported with its key and location
        return Batch(text, False, attempt)

    async def _reduce(self, key: str, batch: Batch, event: Event) -> None:
        """Run an event's reducer in this task; what it raises is noted."""
        text, outer = batch.text, CURRENT.get()
        if outer is not None:
            outer = current_holder()
        holder = self._locks.held[key] = Holder()
        event.error = None
        if outer is not None:
            holder.outer = outer
            outer.add_wait(holder)
        is_large = text is not None and len(text) > LARGE and outer is None  # one inside another would wait for itself
        if is_large:
            await self._large.acquire()
            holder.permit = self._large
        token = CURRENT.set(holder)
        try:
            reducing = event.call(batch.state(self._decode, key, event))
            if type(reducing) is not CoroutineType and not inspect.isawaitable(reducing):
                raise ReducerError(
                    f'The reducer of {display_key(key)} is a plain function; write it as async def, to be awaited.'
                )
            timeout = self._timeout
            result = await reducing if timeout is None else await run_within(timeout, reducing, key)
            batch.accept(self._encode, key, event, result)
        except StopIteration as error:  # of a plain function; no future takes it
            event.error = RuntimeError(f'The reducer of {display_key(key)} raised StopIteration.')
            event.error.__cause__ = error
        except Exception as error:
            event.error = error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if (task is None or task.cancelling()) and not event.is_waited_for():
                raise
            event.error = error  # it met a task that was cancelled, or cancelled the one that it runs in
        finally:
            holder.has_ended = True
            CURRENT.reset(token)
            if is_large:
                holder.give_back_permits()
            if outer is not None:
                outer.remove_wait(holder)

    # Committing

    def _commit(self, key: str, batch: Batch, rest: EventQueue | None) -> None:
        """Begin to write what a batch came to; :meth:`_committed` is called with the outcome, perhaps at once."""
        if not batch.writes and not batch.is_cached:
            self._committed(key, batch, rest, True)
            return
        if self._is_immediate:
            self._committed(key, batch, rest, self._store.commit_bytes_now(batch.writes, {key: batch.base}))
            return
        # Cached text decides nothing alone: without anything to write, the comparison is still made.
        refresh: Collection[str] = ()
        if self._store.has_ttl and batch.writes:
            refresh = {key, *(event.external_key for event in batch.events)} - batch.writes.keys()
        on_done = functools.partial(self._committed, key, batch, rest)
        try:
            self._submit(batch.writes, {key: batch.base}, on_done, refresh)
        except Exception as error:  # rejected
            self._committed(key, batch, rest, error)

    def _committed(self, key: str, batch: Batch, rest: EventQueue | None, outcome: bool | BaseException) -> None:
        """A commit is answered: give each caller its own result, or reduce the events again."""
        if batch.outcome is None:
            batch.outcome = outcome
        if outcome is True:
            if batch.text is not None and not self._is_immediate:
                self._cache.put(key, batch.text)
            for event in batch.events:
                if event.done is not None:
                    event.resolve(None)
            self._next(key, rest)
            return
        self._cache.forget(key)
        if outcome is False:
            attempt = batch.attempt + 1
            if attempt < MAX_TRIES:
                self._server.spawn(
                    self._process_batch(key, batch.events, rest, attempt), f'kvs reducer {display_key(key)}'
                )
            else:
                gave_up = Conflict(
                    f'{display_key(key)}: other processes kept writing it; gave up after {MAX_TRIES} tries.'
                )
                self._committed(key, batch, rest, gave_up)
            return
        for event in batch.events:
            event.resolve(outcome)
        self._next(key, rest)

    # Closing

    async def _drain(self) -> None:
        """Wait until no event is under way."""
        while self._busy or self._queued:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])  # others may wait for it, too

    def _unsaved(self) -> int:
        """How many events are under way."""
        return self._busy + sum(self._queued.values())
