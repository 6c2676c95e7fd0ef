"""Batches of events: their queues are served, the reducers run, and what they return is committed on condition."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Collection, Coroutine, Mapping
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any

from learning_observer_kvs.errors import Conflict, Overloaded, StoreUnavailable
from learning_observer_kvs.reducers.batch import Batch, Event
from learning_observer_kvs.reducers.driving import awaited, rest_of, run_in, shed_cancellation
from learning_observer_kvs.reducers.event_queues import QueuedEvents
from learning_observer_kvs.reducers.joined import JoinedEvent, Pass
from learning_observer_kvs.reducers.serving import EventQueue, QueueServer
from learning_observer_kvs.reducers.state_cache import StateCache
from learning_observer_kvs.reducers.tally import NOT_MEASURED
from learning_observer_kvs.reducers.time_limit import run_within
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.key_locks import CURRENT, RESERVED, Holder, current_holder
from learning_observer_kvs.stores.keys import check_key, display_key
from learning_observer_kvs.stores.overlay import NOTHING, PlainOverlay
from learning_observer_kvs.stores.pacing import MAX_TRIES, pause

MAX_BATCH = 100
"""How many of them are reduced before their one commit."""

LARGE = 16 << 10
"""Bytes of text from which a state counts as large."""

LARGE_AT_ONCE = 64
"""How many large states may be decoded at once, while their reducers wait for something."""


class BatchWorker(PlainOverlay):
    """Serves the queues of one store in one event loop: reduces the events that wait for a key, and commits them once.

    :class:`~learning_observer_kvs.reducers.worker.ReducerWorker` is what events come to.

    Args:
        store: where the states are.
        pending: the texts that are delayed, by key.
    """

    def __init__(self, store: Store, pending: Mapping[str, bytes] = NOTHING) -> None:
        super().__init__(store.key_locks.here(), pending)
        self._store = store
        self._encode, self._decode = store.encode, store.decode
        self._submit = store.submitter()
        self._timeout = store.reducer_timeout
        self._is_immediate = store.IS_IMMEDIATE
        self._commits_wait = not store.IS_IMMEDIATE  # for the backend, as long as the deadline of the event allows
        self._cache = StateCache(0 if store.IS_IMMEDIATE else store.cache_bytes)
        self._loop = asyncio.get_running_loop()
        self._queued = QueuedEvents(self._locks, self._on_ready)
        self._busy = 0
        self._slices = -1  # that began with an event, or a pass; the first is timed
        self._server = QueueServer[EventQueue | Event | Pass](
            self._serve, self._abandon, self._locks.watch, lambda: self.urgent_reads
        )
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._idle: asyncio.Future[None] | None = None
        self._is_full = self._is_closing = False

    # Serving the queues

    def _on_ready(self, key: str, queue: EventQueue) -> None:
        """The key is held for a queue of events now."""
        self._busy += 1
        self._server.add(key, queue)

    def _serve(self, key: str, ready: EventQueue | Event | Pass) -> Coroutine[Any, Any, None] | None:
        """Reduce what is ready, and commit once; return what is left to be awaited."""
        if isinstance(ready, Event):
            return self._serve_event(key, ready)
        if isinstance(ready, Pass):
            return self._serve_pass(ready)
        return self._serve_queue(key, ready)

    def _serve_queue(self, key: str, queue: EventQueue) -> Coroutine[Any, Any, None]:
        events, rest = queue.take(MAX_BATCH)
        self._queued.note_dequeued(key, len(events))
        return self._process_batch(key, events, rest)

    def _serve_event(self, key: str, event: Event) -> Coroutine[Any, Any, None] | None:
        """Reduce an event that waited for a slice of time, with those that came behind it meanwhile."""
        if key in self._queued and (queue := self._queued.take_next(key)) is not None:
            return self._serve_queue(key, self._queued.put_first(key, [event], queue))
        if event.is_withdrawn():
            self._next(key, None)
            return None
        batch = self._open(key)
        if batch is None:
            return self._process_batch(key, [event], None)
        context = event.context_of_reducer()
        try:
            rest = context.run(self._reduce, key, batch, event)
        except BaseException as error:  # the event loop ends
            self._cannot_reduce(key, [event], None, error)
            raise
        if rest is not None or (task := asyncio.current_task()) is None or task.cancelling():
            self._server.hand_over()
            return self._finish(key, batch, event, context, rest)
        batch.events.append(event)
        self._commit(key, batch, None)
        return None

    async def _process_batch(self, key: str, events: list[Event], rest: EventQueue | None, attempt: int = 0) -> None:
        """Reduce events and commit once; ``attempt`` counts how often other processes wrote in between."""
        try:
            if attempt:
                await pause(attempt)
            batch = None if attempt else self._open(key)
            if batch is None:
                self._server.hand_over()
                batch = await self._read(key, events[0].deadline, attempt)
            task = asyncio.current_task()
            assert task is not None
            for event in events:
                if batch.events and self._server.is_slice_over():
                    await asyncio.sleep(0)
                if not event.is_withdrawn():
                    context = event.context_of_reducer()
                    rest_of_it = context.run(self._reduce, key, batch, event)
                    if rest_of_it is not None:
                        self._server.hand_over()
                        await run_in(context, rest_of_it)
                    if task.cancelling():
                        await shed_cancellation(task)
                    batch.events.append(event)
        except BaseException as error:
            self._cannot_reduce(key, events, rest, error)
            if not isinstance(error, Exception):  # the event loop ends
                raise
            return
        if batch.events:
            self._commit(key, batch, rest)
        else:  # all were withdrawn
            self._next(key, rest)

    def _abandon(self, key: str, ready: EventQueue | Event | Pass, error: BaseException) -> None:
        """The event loop ends: no caller is left to wait forever."""
        if isinstance(ready, Pass):
            ready.fail(error)
            self._end_pass()
            return
        if isinstance(ready, Event):
            ready.resolve(error)
        else:
            for event in ready.events:
                event.resolve(error)
            self._queued.note_dequeued(key, len(ready.events))
        self._next(key, None)

    def _cannot_reduce(self, key: str, events: list[Event], rest: EventQueue | None, error: BaseException) -> None:
        """The state that events start from cannot be read, or the event loop ends: they have changed nothing."""
        self._fail(key, events, rest, error)

    def _fail(self, key: str, events: list[Event], rest: EventQueue | None, error: BaseException) -> None:
        """Events have changed nothing: give them their error, and let those wait on that may."""
        if isinstance(error, StoreUnavailable) and self._is_closing:
            error = StoreUnavailable(str(error))  # waiting does not help any more
        self._next(key, self._queued.resolve(key, events, rest, error))

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

    async def _read(self, key: str, deadline: float, attempt: int = 0) -> Batch:
        [text] = await self._store.read_until(deadline, [check_key(key)])
        if text is not None:
            self._store.decode(key, text)  # what is corrupt is reported with its key and location
        return Batch(text, False, attempt)

    def _reduce(
        self, key: str, batch: Batch, event: Event, permit: asyncio.Semaphore | None = None
    ) -> Coroutine[Any, Any, None] | None:
        """Run an event's reducer in this context, up to where it waits for something; what it raises is noted.

        Returns:
            The rest, to be awaited in this context; ``None`` if the reducer has ended, as most do without a wait.
        """
        if not event.may_wait:
            self._reduce_at_once(key, batch, event)
            return None
        text, before = batch.text, CURRENT.get()
        outer = None if before is None else current_holder()
        if text is not None and len(text) > LARGE and permit is None and outer is None:
            return self._reduce_large(key, batch, event)  # not one inside another: it would wait for itself
        holder = self._locks.held[key] = Holder()
        event.error = None
        if permit is not None:
            holder.permit = permit
        if outer is not None:
            holder.outer = outer
            outer.add_wait(holder)
        CURRENT.set(holder)
        rest = None
        try:
            reducing: Any = event.call(batch.state(self._decode, key, event))
            if type(reducing) is not CoroutineType:
                reducing = awaited(reducing, key)
            if self._timeout is not None:
                reducing = run_within(self._timeout, reducing, key)
            try:
                waits_for = reducing.send(None)
            except StopIteration as end:
                result = end.value
            else:
                rest = self._reduce_on(holder, before, key, batch, event, rest_of(reducing, waits_for))
                return rest
            batch.accept(self._encode, key, event, result)
        except BaseException as error:
            self._raised(key, event, error)
        finally:
            if rest is None:
                _end(holder, before)
        return None

    def _reduce_at_once(self, key: str, batch: Batch, event: Event) -> None:
        """Run a reducer that never waits: nothing can wait for it either, so it need not be known as a holder."""
        event.error = None
        try:
            reducing: Any = event.call(batch.state(self._decode, key, event))
            try:
                reducing.send(None)
            except StopIteration as end:
                result = end.value
            batch.accept(self._encode, key, event, result)
        except BaseException as error:
            self._raised(key, event, error)

    async def _reduce_large(self, key: str, batch: Batch, event: Event) -> None:
        """Run a reducer with a large state, of which only so many may be decoded at once."""
        await self._large.acquire()
        if (rest := self._reduce(key, batch, event, self._large)) is not None:
            await rest

    async def _reduce_on(
        self,
        holder: Holder,
        before: Holder | None,
        key: str,
        batch: Batch,
        event: Event,
        rest: Awaitable[Any],
    ) -> None:
        """Run the rest of a reducer that waits for something."""
        try:
            batch.accept(self._encode, key, event, await rest)
        except BaseException as error:
            self._raised(key, event, error)
        finally:
            _end(holder, before)

    def _raised(self, key: str, event: Event, error: BaseException) -> None:
        """Note what a reducer raised; raise it again if it is the event loop that ends."""
        if isinstance(error, StopIteration):  # of a plain function; no future takes it
            event.error = RuntimeError(f'The reducer of {display_key(key)} raised StopIteration.')
            event.error.__cause__ = error
        elif isinstance(error, Exception):
            event.error = error
        elif isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if (task is None or task.cancelling()) and not event.is_waited_for():
                raise error
            event.error = error  # it met a task that was cancelled, or cancelled the one that it runs in
        else:
            raise error

    # Many reducers with one event

    async def _serve_pass(self, joined: Pass) -> None:
        """Begin the reducers that are left of a pass, in the caller's context."""
        context = joined.context_of_reducer()
        try:
            while (event := context.run(joined.next_event)) is not None:
                context.run(self._begin, event)
                if self._server.is_slice_over():
                    await asyncio.sleep(0)
        except BaseException as error:  # the event loop ends
            self._abandon('', joined, error)
            raise
        self._end_pass()

    def _end_pass(self) -> None:
        self._busy -= 1
        self._look_if_idle()

    def _begin(self, event: JoinedEvent) -> None:
        """Run an event's reducer at once where nothing is before it and its state is known, else in its turn."""
        locks, key = self._locks, event.key
        if key in locks.held or (locks.barrier is not None and locks.is_barred()):
            try:
                self._queued.put(key, event)
            except Overloaded as error:
                event.resolve(error)
            return
        locks.held[key] = RESERVED
        batch = self._open(key)
        self._busy += 1
        if batch is None:
            self._server.add(key, event)
            return
        before = CURRENT.get()
        try:
            rest = self._reduce(key, batch, event)
        except BaseException:
            self._next(key, None)
            raise
        if rest is None:
            batch.events.append(event)
            self._commit(key, batch, None)
        else:
            context = copy_context()
            CURRENT.set(before)
            self._server.spawn(self._finish(key, batch, event, context, rest), f'kvs reducer {display_key(key)}')

    async def _finish(
        self, key: str, batch: Batch, event: Event, context: Context, rest: Coroutine[Any, Any, None] | None
    ) -> None:
        """Run the rest of a reducer that waits for something, and commit."""
        task = asyncio.current_task()
        assert task is not None
        try:
            if rest is not None:
                await run_in(context, rest)
            if task.cancelling():
                await shed_cancellation(task)
        except BaseException as error:  # the event loop ends
            self._cannot_reduce(key, [event], None, error)
            raise
        batch.events.append(event)
        self._commit(key, batch, None)

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
            deadline, settled = self._deadlines(key, batch)
            self._submit(batch.writes, {key: batch.base}, on_done, refresh, deadline, settled)
        except Exception as error:  # rejected
            self._committed(key, batch, rest, error)

    def _committed(self, key: str, batch: Batch, rest: EventQueue | None, outcome: bool | BaseException) -> None:
        """A commit is answered: give each caller its own result, or reduce the events again."""
        if batch.outcome is None:
            batch.outcome = outcome
        if outcome is True:
            if batch.text is not None and not self._is_immediate:
                self._cache.put(key, batch.text)
            events = batch.events
            for event in events:
                if event.done is not None:
                    event.resolve(None)
            if events:
                tally = events[0].tally
                if not tally.commits & NOT_MEASURED:
                    tally.measure(batch.writes)
                tally.commits += 1
                tally.events += len(events)
            self._next(key, rest)
            return
        self._cache.forget(key)
        if outcome is False:
            if batch.events:
                batch.events[0].tally.conflicts += 1
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
        self._fail(key, batch.events, rest, outcome)

    def _deadlines(self, key: str, batch: Batch) -> tuple[float, float]:
        """Until when a commit is tried again, and until when it is settled if it was sent."""
        events = batch.events  # none, if all have been withdrawn
        return (events[0].deadline, events[-1].deadline) if events else (ONE_TRY, ONE_TRY)

    # Ending

    async def _drain(self) -> None:
        """Wait until no event is under way."""
        while self._busy or self._queued:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.wait([self._idle])  # others may wait for it, too

    def _waiting(self) -> int:
        """How many events wait for their turn."""
        return sum(list(self._queued.values())) + sum(isinstance(ready, Event) for ready in self._server.ready())

    def _unsaved(self) -> int:
        """How many events are under way."""
        return self._busy + sum(self._queued.values())


def _end(holder: Holder, before: Holder | None) -> None:
    """A reducer has ended; ``before`` was the current holder when it began."""
    holder.has_ended = True
    CURRENT.set(before)  # not by a token: what began in the caller's context may end in a copy of it
    if holder.permit is not None:
        holder.give_back_permits()
    if holder.outer is not None:
        holder.outer.remove_wait(holder)
