"""Folding events into pairs of states: in order, none lost, one commit for all that wait behind a key.

Events of one key in this loop stand in one lane. The first runs its reducer in its own task, at once; those that come
while its commit is under way are reduced together when it is there, in order, and committed once. Every commit writes
the internal and the external state at once, on the condition that the internal state still is what the first reducer
was given; if another process wrote in between, it is read again and the reducers run again.

Nothing here waits where it need not: outcomes of commits come as calls, and a lane is served in that very call unless
a reducer waits for something or a state must be read.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import time
from collections import deque
from collections.abc import Collection, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

from learning_observer_kvs.errors import Conflict, Overloaded, ReducerError, StoreUnavailable
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.batch import Batch, Event, Step, ends_at_once
from learning_observer_kvs.reducers.state_cache import Guesses
from learning_observer_kvs.stores.keys import display_key

if TYPE_CHECKING:
    from learning_observer_kvs.stores.base import Store

log = logging.getLogger('learning_observer_kvs')

MAX_TRIES = 1000
"""How often a read-modify-write is tried again before it gives up with ``Conflict``."""

MAX_WAITING = 10_000
"""How many events may wait behind one key."""

MAX_BATCH = 100
"""How many of them are reduced before their one commit."""

TURN = 0.002
"""Seconds of reducing after which the loop gets its turn."""

LARGE = 16 << 10
"""Bytes of text from which a state counts as large."""

LARGE_AT_ONCE = 64
"""How many large states may be decoded at once, while their reducers wait for something."""

_FOLDING: ContextVar[Running | None] = ContextVar('learning_observer_kvs_folding', default=None)
"""What this context is reducing."""


class Running:
    """A reducer that waits for something, inside ``outer``. Tasks that it began know it also when it has ended."""

    __slots__ = ('ended', 'key', 'outer', 'store')

    def __init__(self, store: Store, key: str, outer: Running | None) -> None:
        self.store = store
        self.key = key
        self.outer = outer
        self.ended = False


class Folder:
    """The lanes of one store in one event loop.

    Args:
        store: where the states are.
        guesses: the texts of its hot keys.
    """

    def __init__(self, store: Store, guesses: Guesses) -> None:
        self._store = store
        self._guesses = guesses
        self._begin_commit = store._committer()
        self.loop = asyncio.get_running_loop()
        self.lanes: dict[str, deque[Event] | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_ends: float | None = None
        self._ready: deque[str] = deque()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._rests: asyncio.Future[None] | None = None
        self.full = self.closing = False

    async def fold(self, key: str, external_key: str, step: Step, null_text: bytes) -> JSON:
        """Fold one event in; the external state, as its reducer gave it."""
        if self.full:
            await self._room()
        event = Event(external_key, step, null_text)
        if key in self.lanes:
            return await self._wait(key, event)
        if self._turn_is_over():
            self.lanes[key] = deque((event,))
            self._ready.append(key)
            return await event.wait(self.loop)
        # Its turn is now: it runs in its caller's own task.
        self.lanes[key] = None
        try:
            batch = self._open(key) or await self._read(key)
            if ends_at_once(step):
                try:
                    batch.take(self._store, key, event, await step(batch.state(self._store, key, event)))
                except Exception as error:
                    event.error = error
            else:
                await self._reduce_waiting(key, batch, event)
        except BaseException:
            self._next(key)
            raise
        batch.events.append(event)
        self._commit(key, batch)
        if batch.outcome is True:
            if event.error is not None:
                raise event.error
            return event.result
        if isinstance(batch.outcome, BaseException):
            raise batch.outcome
        # The commit goes on whatever becomes of the caller: its outcome must be known before the key's next event.
        return await event.wait(self.loop)

    async def _wait(self, key: str, event: Event) -> JSON:
        if self.is_inside(key):
            raise ReducerError(
                f'The reducer of {display_key(key)} sent an event to its own key; it would wait for itself for ever.'
            )
        lane = self.lanes[key]
        if lane is None:
            lane = self.lanes[key] = deque()
        if len(lane) >= MAX_WAITING:
            raise Overloaded(
                f'{len(lane):,} events wait for {display_key(key)} already; this one was not taken. '
                'Send it again later, or send slower.'
            )
        lane.append(event)
        return await event.wait(self.loop)  # cancelled here, it withdraws the event if its turn has not come

    def is_inside(self, key: str) -> bool:
        """Whether the caller is the reducer of this key: it must not wait for its own lane."""
        inside = _FOLDING.get()
        while inside is not None:
            if inside.store is self._store and inside.key == key and not inside.ended:
                return True
            inside = inside.outer
        return False

    # Serving a lane

    def _next(self, key: str) -> None:
        """A lane is free: whoever waits is served; the lane of a key that nobody wants is gone."""
        lane = self.lanes[key]
        if not lane:
            self._forget(key)
        elif self._turn_is_over():
            self._ready.append(key)
        else:
            self._serve(key)

    def _serve(self, key: str) -> None:
        """Reduce the events that wait, and commit once: in this very call, if no reducer waits for anything."""
        lane = self.lanes[key]
        assert lane is not None
        batch = self._open(key)
        if batch is not None:
            taken = 0
            while lane and taken < MAX_BATCH and ends_at_once(lane[0].step):
                taken += self._reduce_at_once(key, batch, lane.popleft())
                if self._turn_is_over():
                    break
            if taken:
                self._commit(key, batch)
                return
        if lane:
            self._spawn(self._work(key, [lane.popleft() for _ in range(min(len(lane), MAX_BATCH))], 0), key)
        else:
            self._next(key)  # all were withdrawn

    def _forget(self, key: str) -> None:
        del self.lanes[key]
        if self._rests is not None and not self.lanes:
            self._rests.set_result(None)
            self._rests = None

    async def _work(self, key: str, events: list[Event], attempt: int) -> None:
        """The same with everything that may wait; ``attempt`` counts how often others wrote in between."""
        try:
            if attempt:
                await pause(attempt)
            batch = await self._read(key, attempt) if attempt else self._open(key) or await self._read(key)
            for event in events:
                if ends_at_once(event.step):
                    self._reduce_at_once(key, batch, event)
                elif not event.withdrawn():
                    await self.loop.create_task(self._reduce_waiting(key, batch, event), context=event.context)
                    batch.events.append(event)
                if self._turn_is_over():
                    await asyncio.sleep(0)
        except Exception as error:
            self._unreadable(key, events, error)
            return
        except BaseException as error:
            # The loop ends: nobody is left to wait for ever.
            lane = self.lanes[key] or ()
            self._forget(key)
            for event in (*events, *lane):
                event.tell(error)
            raise
        self._commit(key, batch)

    def _unreadable(self, key: str, events: list[Event], error: Exception) -> None:
        """What events would be folded into cannot be read: they have changed nothing."""
        for event in events:
            event.tell(error)
        self._next(key)

    def _open(self, key: str) -> Batch | None:
        """The batch that an event of a free lane joins, if no reading is needed for it."""
        text, guessed = self._store._hot(key)
        return None if text is None and guessed else Batch(text, guessed)

    async def _read(self, key: str, attempt: int = 0) -> Batch:
        [text] = await self._store.read_bytes([key])
        if text is not None:
            self._store.decode(key, text)  # what is corrupt is told with its key and place
        return Batch(text, False, attempt)

    # Reducing

    def _reduce_at_once(self, key: str, batch: Batch, event: Event) -> bool:
        """Run a reducer that never waits, in the context of its caller who does; whether the event was still there."""
        if event.withdrawn():
            return False
        event.error = None
        batch.events.append(event)
        try:
            running: Any = event.step(batch.state(self._store, key, event))
            event.context.run(running.send, None)  # type: ignore[union-attr]  # it waits, so it has one
        except StopIteration as end:
            try:
                batch.take(self._store, key, event, end.value)
            except Exception as error:
                event.error = error
        except (Exception, asyncio.CancelledError) as error:  # it met a task that was cancelled
            event.error = error
        return True

    async def _reduce_waiting(self, key: str, batch: Batch, event: Event) -> None:
        """Run any reducer, in this task."""
        event.error = None
        text, inside = batch.text, _FOLDING.get()
        many: AbstractAsyncContextManager[Any] = nullcontext()
        if text is not None and len(text) > LARGE and inside is None:  # one inside another would wait for itself
            many = self._large
        async with many:
            running = Running(self._store, key, inside)
            token = _FOLDING.set(running)
            try:
                reducing: Any = event.step(batch.state(self._store, key, event))
                if not inspect.isawaitable(reducing):
                    raise ReducerError(
                        f'The reducer of {display_key(key)} is a plain function; write it as async def, so that it can be '
                        'awaited.'
                    )
                batch.take(self._store, key, event, await reducing)
            except Exception as error:
                event.error = error
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                event.error = error  # it met a task that was cancelled
            finally:
                running.ended = True
                _FOLDING.reset(token)

    # Committing

    def _commit(self, key: str, batch: Batch) -> None:
        """Begin to write what a batch came to; :meth:`_committed` is called with the outcome, perhaps at once."""
        if not batch.writes and not batch.guessed:
            self._committed(key, batch, True)
            return
        # A guess decides nothing alone: without anything to write, the comparison is still made.
        tell = functools.partial(self._committed, key, batch)
        renew: Collection[str] = ()
        if self._store.has_ttl and batch.writes:
            renew = {key, *(event.external_key for event in batch.events)} - batch.writes.keys()
        try:
            self._begin_commit(batch.writes, {key: batch.base}, tell, renew)
        except Exception as error:  # not taken at all
            self._committed(key, batch, error)

    def _committed(self, key: str, batch: Batch, outcome: bool | BaseException) -> None:
        """A commit's answer is there: tell each caller its own result, or reduce the events again."""
        if batch.outcome is None:
            batch.outcome = outcome
        if outcome is True:
            if batch.text is not None:
                self._guesses.put(key, batch.text)
            for event in batch.events:
                if event.done is not None:
                    event.tell(None)
            self._next(key)
            return
        self._guesses.forget(key)
        if outcome is False:
            attempt = batch.attempt + 1
            if attempt < MAX_TRIES:
                self._spawn(self._work(key, batch.events, attempt), key)
            else:
                gave_up = Conflict(f'{display_key(key)}: other processes kept writing it; tried {MAX_TRIES} times.')
                self._committed(key, batch, gave_up)
            return
        for event in batch.events:
            event.tell(outcome)
        self._next(key)

    # Closing

    async def close(self, seconds: float) -> None:
        """Take no more events, and wait until those there are written; those that are not by then are logged."""
        self.closing = self.full = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.drain()
        if unsaved := self.unsaved():
            log.error('%r was closed with %d events not saved.', self._store, unsaved)

    async def drain(self) -> None:
        """Wait until no event is under way."""
        while self.lanes:
            if self._rests is None:
                self._rests = self.loop.create_future()
            await asyncio.wait([self._rests])  # perhaps others wait, too

    def unsaved(self) -> int:
        """How many events are under way."""
        return sum(1 + len(lane or ()) for lane in self.lanes.values())

    async def _room(self) -> None:
        """Wait while this is full."""
        if self.closing:
            raise StoreUnavailable(f'Store {self._store.name!r} is being closed; this event was not taken.')

    # Turns and tasks

    def _turn_is_over(self) -> bool:
        """Whether reducers have run for ``TURN`` seconds in this turn of the loop, so that others should."""
        now = time.monotonic()
        if self._turn_ends is None:
            self._turn_ends = now + TURN
            self.loop.call_soon(self._begin_turn)
            return False
        return now > self._turn_ends

    def _begin_turn(self) -> None:
        """The loop has had its turn: lanes that were ready are served, first come, first served."""
        self._turn_ends = None
        while self._ready and not self._turn_is_over():
            self._serve(self._ready.popleft())

    def _spawn(self, work: Coroutine[Any, Any, None], key: str) -> None:
        task = self.loop.create_task(work, context=Context(), name=f'kvs fold {display_key(key)}')
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def pause(attempt: int) -> None:
    """Between two tries of a write that lost against others: longer with each, up to 10 ms, and never in step."""
    await asyncio.sleep(random.random() * min(attempt, 10) / 1000)
