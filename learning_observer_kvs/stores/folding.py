"""Folding events into pairs of states: in order, none lost, one commit for all that wait behind a key.

Events of one key in this loop stand in one lane. The first runs its reducer in its own task, at once; those that come
while its commit is under way are reduced together when it is there, in order, and committed once. Every commit writes
the internal and the external state at once, on the condition that the internal state still is what the first reducer
was given; if another process wrote in between, it is read again and the reducers run again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from learning_observer_kvs import jsontext
from learning_observer_kvs.errors import Conflict, Overloaded, ReducerError
from learning_observer_kvs.jsontext import JSON
from learning_observer_kvs.stores.guesses import Guesses
from learning_observer_kvs.stores.key import check_key, shown

if TYPE_CHECKING:
    from learning_observer_kvs.stores.base import Store

Step = Callable[[JSON], Awaitable[Any]]
"""A reducer with its event filled in: takes the internal state, gives ``(internal_state, external_state)``."""

MAX_TRIES = 1000
"""How often a read-modify-write is tried again before it gives up with ``Conflict``."""

MAX_WAITING = 10_000
"""How many events may wait behind one key."""

MAX_BATCH = 100
"""How many of them are reduced before their one commit."""

TURN = 0.002
"""Seconds of reducing after which the loop gets its turn."""

_FOLDING: ContextVar[Any] = ContextVar('learning_observer_kvs_folding', default=None)
"""What this context is reducing: ``(store, internal key, what it was reducing before)``."""


class Event:
    """One event that waits, or whose commit is under way: whom to tell, and how to run its reducer again."""

    __slots__ = ('context', 'done', 'error', 'external_key', 'null_text', 'result', 'step')

    def __init__(
        self, external_key: str, step: Step, null_text: bytes, loop: asyncio.AbstractEventLoop, result: JSON = None
    ) -> None:
        self.external_key = external_key
        self.step = step
        self.null_text = null_text
        self.result = result
        self.error: BaseException | None = None
        self.context = copy_context()
        self.done: asyncio.Future[JSON] = loop.create_future()


class Batch:
    """The events of one commit: what they start from, and what they come to."""

    __slots__ = ('base', 'events', 'guessed', 'text', 'writes')

    def __init__(self, base: bytes | None, guessed: bool) -> None:
        self.base = base
        self.guessed = guessed
        self.text = base
        self.writes: dict[str, bytes | None] = {}
        self.events: list[Event] = []

    def take(self, store: Store, internal_key: str, external_key: str, null_text: bytes, result: Any) -> JSON:
        """Note what a reducer gave; both states are encoded before anything of it counts. The external state."""
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ReducerError(
                f'The reducer of {shown(internal_key)} returned {type(result).__name__}; it must return '
                '(internal_state, external_state), with False for one that is not to be written.'
            )
        internal, external = result
        text = self.text
        if internal is not False:
            text = store.encode(internal_key, internal)
        elif text is None:
            text = null_text  # a fresh key is there from its first event on; the roster finds students by it
        if self.base is None:
            check_key(internal_key)
            check_key(external_key)
        if external is not False:
            self.writes[external_key] = store.encode(external_key, external)
        if text is not self.text:
            self.writes[internal_key] = self.text = text
        return external


class Folder:
    """The lanes of one store in one event loop.

    Args:
        store: where the states are.
        guesses: the texts of its hot keys.
    """

    def __init__(self, store: Store, guesses: Guesses) -> None:
        self._store = store
        self._guesses = guesses
        self.loop = asyncio.get_running_loop()
        self.lanes: dict[str, deque[Event] | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_ends: float | None = None

    async def fold(self, key: str, external_key: str, step: Step, null_text: bytes) -> JSON:
        """Fold one event in; the external state, as its reducer gave it."""
        if self._turn_ends is None or time.monotonic() > self._turn_ends:
            await self._give_turn()
        lanes = self.lanes
        if key in lanes:
            return await self._wait(key, external_key, step, null_text)
        lanes[key] = None
        # Its turn is now: it runs in its caller's own task.
        token = _FOLDING.set((self._store, key, _FOLDING.get()))
        error: Exception | None = None
        result: JSON = None
        try:
            text, guessed = self._store._hot(key)
            batch = Batch(text, guessed) if text is not None or not guessed else await self._start(key)
            try:
                state = jsontext.decode(null_text if batch.text is None else batch.text)
                result = batch.take(self._store, key, external_key, null_text, await step(state))
            except Exception as raised:
                error = raised
            commit = self._commit(key, batch)
        except BaseException:
            self._next(key)
            raise
        finally:
            _FOLDING.reset(token)
        if commit is not True:
            # It goes on whatever becomes of the caller: its outcome must be known before the key's next event.
            event = Event(external_key, step, null_text, self.loop, result)
            event.error = error
            batch.events.append(event)
            if commit is False:
                self._work_on(key, batch.events)
            else:
                commit.add_done_callback(lambda outcome: self._committed(key, batch, outcome))
            return await event.done
        if lanes[key] is None:
            del lanes[key]
        else:
            self._next(key)
        if error is not None:
            raise error
        return result

    async def _wait(self, key: str, external_key: str, step: Step, null_text: bytes) -> JSON:
        inside = _FOLDING.get()
        while inside is not None:
            if inside[0] is self._store and inside[1] == key:
                raise ReducerError(
                    f'The reducer of {shown(key)} sent an event to its own key; it would wait for itself for ever.'
                )
            inside = inside[2]
        lane = self.lanes[key]
        if lane is None:
            lane = self.lanes[key] = deque()
        if len(lane) >= MAX_WAITING:
            raise Overloaded(
                f'{len(lane):,} events wait for {shown(key)} already; this one was not taken. '
                'Send it again later, or send slower.'
            )
        event = Event(external_key, step, null_text, self.loop)
        lane.append(event)
        return await event.done  # cancelled here, it withdraws the event if its turn has not come

    async def _start(self, key: str, *, anew: bool = False) -> Batch:
        if not anew:
            text, guessed = self._store._hot(key)
            if text is not None or not guessed:
                return Batch(text, guessed)
        [text] = await self._store._read([key])
        if text is not None:
            self._store.decode(key, text)  # what is corrupt is told with its key and place
        return Batch(text, guessed=False)

    async def _reduce(self, key: str, batch: Batch, event: Event) -> None:
        """Run a reducer in the context of a caller that waits."""
        event.error = None
        batch.events.append(event)
        event.context.run(_FOLDING.set, (self._store, key, event.context.get(_FOLDING)))
        text = event.null_text if batch.text is None else batch.text
        try:
            result = await self._run(event, text)
            event.result = batch.take(self._store, key, event.external_key, event.null_text, result)
        except Exception as error:
            event.error = error

    async def _run(self, event: Event, text: bytes) -> Any:
        """A reducer that only computes, as nearly all do, needs no task: it ends at the first step."""
        step = event.context.run(event.step, jsontext.decode(text))
        if isinstance(step, Coroutine):
            try:
                event.context.run(step.send, None)
            except StopIteration as end:
                return end.value
            step.close()
            step = event.context.run(event.step, jsontext.decode(text))  # it waits for something: again, in a task
        return await self.loop.create_task(_awaited(step), context=event.context)

    def _commit(self, key: str, batch: Batch) -> bool | asyncio.Future[bool]:
        """Begin to write what a batch came to; True if there is nothing to write or it is written already."""
        if not batch.writes and not batch.guessed:
            return True
        # A guess decides nothing alone: without anything to write, the comparison is still made.
        outcome = self._store._begin_commit(batch.writes, {key: batch.base})
        if outcome is False:
            self._guesses.forget(key)
        return outcome

    def _keep(self, key: str, batch: Batch) -> None:
        if batch.text is not None:
            self._guesses.put(key, batch.text)

    def _committed(self, key: str, batch: Batch, outcome: asyncio.Future[bool]) -> None:
        """Called when a commit's answer is there."""
        if self._settle(key, batch, outcome):
            self._next(key)
        else:
            self._work_on(key, batch.events)

    def _settle(self, key: str, batch: Batch, outcome: asyncio.Future[bool]) -> bool:
        """Tell each caller its own result; False if the batch has to be reduced again."""
        error = asyncio.CancelledError() if outcome.cancelled() else outcome.exception()
        if error is None and outcome.result():
            self._keep(key, batch)
        else:
            self._guesses.forget(key)
            if error is None:
                return False
        for event in batch.events:
            _tell(event, error or event.error)
        return True

    def _next(self, key: str) -> None:
        """Whoever waits is served; the lane of a key that nobody wants is gone."""
        if self.lanes[key]:
            self._work_on(key, [])
        else:
            del self.lanes[key]

    def _work_on(self, key: str, lost: list[Event]) -> None:
        task = self.loop.create_task(self._work(key, lost), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, key: str, lost: list[Event]) -> None:
        """Serve a lane until it is empty: first the events whose commit lost against another process, if any."""
        events = lost
        try:
            if lost:
                await self._serve(key, lost, lost=True)
            while lane := self.lanes[key]:
                events = [lane.popleft() for _ in range(min(len(lane), MAX_BATCH))]
                await self._serve(key, events, lost=False)
        except BaseException as error:
            # The loop ends, or a fault of ours: nobody is left to wait for ever.
            for event in (*events, *(self.lanes[key] or ())):
                _tell(event, error)
            if not isinstance(error, asyncio.CancelledError):
                raise
        finally:
            del self.lanes[key]

    async def _serve(self, key: str, events: list[Event], *, lost: bool) -> None:
        """Reduce events together and commit once; again and again until no other process was faster."""
        for attempt in range(MAX_TRIES):
            if lost:
                await pause(attempt)
            try:
                batch = await self._start(key, anew=lost)
            except Exception as error:
                for event in events:
                    _tell(event, error)
                return
            for event in events:
                if not event.done.done():
                    await self._reduce(key, batch, event)
                    await self._give_turn()
            commit = self._commit(key, batch)
            if commit is True:
                for event in batch.events:
                    _tell(event, event.error)
                return
            if commit is not False:
                await asyncio.wait([commit])
                if self._settle(key, batch, commit):
                    return
            lost = True
        for event in events:
            _tell(event, Conflict(f'{shown(key)}: other processes kept writing it; tried {MAX_TRIES} times.'))

    async def _give_turn(self) -> None:
        """Let the loop go on if reducers have run for ``TURN`` seconds in this turn of it."""
        now = time.monotonic()
        if self._turn_ends is not None and now > self._turn_ends:
            await asyncio.sleep(0)
        if self._turn_ends is None:
            self._turn_ends = now + TURN
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_ends = None


async def _awaited(step: Awaitable[Any]) -> Any:
    return await step


def _tell(event: Event, error: BaseException | None) -> None:
    if event.done.done():
        return
    if error is None:
        event.done.set_result(event.result)
    elif isinstance(error, asyncio.CancelledError):
        event.done.cancel()
    else:
        event.done.set_exception(error)


async def pause(attempt: int) -> None:
    """Between two tries of a write that lost against others: longer with each, up to 10 ms, and never in step."""
    await asyncio.sleep(random.random() * min(attempt, 10) / 1000)
