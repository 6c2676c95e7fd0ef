"""An event that goes through many reducers in one pass: its caller waits once, for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import Context, copy_context
from typing import NamedTuple

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.batch import Event, ReducerCall
from learning_observer_kvs.reducers.tally import UNNAMED, Tally


class Run(NamedTuple):
    """One reducer with an event.

    Attributes:
        internal_key: the key of the internal state.
        external_key: the key of the external state.
        call: the reducer with the event filled in.
        null_text: the JSON text of the state that a key starts from.
        deadline: until when it waits for a backend that is away, as the time of the monotonic clock; by default the
            ``retry_timeout`` of the store from now.
        may_wait: whether the reducer may wait for something.
        tally: what is counted of the reducer.
    """

    internal_key: str
    external_key: str
    call: ReducerCall
    null_text: bytes = b'null'
    deadline: float | None = None
    may_wait: bool = True
    tally: Tally = UNNAMED


class Pass:
    """An event on its way through many reducers; stands in the line of the queues where reducers have run long enough.

    Args:
        runs: the reducers with the event. One after the other is taken: what is ready is dropped but for its text.
        deadline: the deadline of runs that have none.
        loop: the running event loop.

    Attributes:
        done: what the caller waits for: a future that is done when all reducers are.
        context: the caller's, from when it waits, or from when an event is kept to be reduced again perhaps.
    """

    __slots__ = ('_deadline', '_left', '_outcomes', '_runs', 'context', 'done')

    def __init__(self, runs: Iterable[Run], deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self._runs = iter(runs)
        self._deadline = deadline
        self._left = 1  # those that are not begun
        self._outcomes: list[bytes | BaseException | JoinedEvent] = []
        self.done: asyncio.Future[JSON] = loop.create_future()
        self.context: Context | None = None

    def next_event(self) -> JoinedEvent | None:
        """Return the event for the next reducer; ``None`` if there is none left, or the caller was cancelled."""
        if self._outcomes and isinstance(last := self._outcomes[-1], JoinedEvent) and last.is_resolved:
            self._outcomes[-1] = last.outcome()
        run = None if self.done.cancelled() else next(self._runs, None)
        if run is None:
            self.one_done()
            return None
        event = JoinedEvent(run, self, self._deadline)
        self._outcomes.append(event)
        self._left += 1
        return event

    def context_of_reducer(self) -> Context:
        """Return a context for one reducer: those of a pass may run at the same time."""
        assert self.context is not None
        return self.context.run(copy_context)

    def one_done(self) -> None:
        """Count an event that is done; the last one lets the caller go on."""
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Let the caller go on with an error: the event loop ends.

        Args:
            error: the error.
        """
        if not self.done.done():
            self.done.cancel() if isinstance(error, asyncio.CancelledError) else self.done.set_exception(error)

    def outcomes(self) -> list[bytes | BaseException]:
        """Return what became of each reducer, once all are done, and forget it; see :meth:`JoinedEvent.outcome`."""
        # An event refers to its pass: one that referred to its events for longer would leave all of them to the
        # garbage collector, which then looks at every living object again and again.
        outcomes, self._outcomes = self._outcomes, []
        return [each.outcome() if isinstance(each, JoinedEvent) else each for each in outcomes]


class JoinedEvent(Event):
    """One of the events that a caller waits for together.

    Args:
        run: the reducer with the event.
        joined: what the caller waits for.
        deadline: the deadline of a run that has none.

    Attributes:
        key: the key of the internal state.
        is_resolved: whether it is known what came of it.
    """

    __slots__ = ('_failure', '_pass', '_text', 'is_resolved', 'key')

    def __init__(self, run: Run, joined: Pass, deadline: float) -> None:
        super().__init__(
            run.external_key,
            run.call,
            run.null_text,
            deadline if run.deadline is None else run.deadline,
            run.may_wait,
            run.tally,
        )
        self._pass = joined
        self._failure: BaseException | None = None
        self._text = b''
        self.is_resolved = False
        self.key = run.internal_key
        self.done = joined.done

    def keep_context(self) -> None:
        """Keep the caller's context, which this is called in unless the caller waits; the reducer may run again."""
        if self._pass.context is None:
            self._pass.context = copy_context()

    def context_of_reducer(self) -> Context:
        """Return a context of its own: the reducers of a pass may run at the same time."""
        return self._pass.context_of_reducer()

    def keep(self, external: JSON, text: bytes) -> None:
        """Keep the text of what the reducer returned: the objects of many reducers would be many.

        Args:
            external: the external state; ``False`` where it is not to be written.
            text: its JSON text, empty where it is not to be written.
        """
        self._text = text

    def is_withdrawn(self) -> bool:
        """Tell whether the caller was cancelled before it was known what came of this event."""
        return not self.is_resolved and super().is_withdrawn()

    def is_waited_for(self) -> bool:
        """Tell whether a caller waits in its own task for this; the end of an event loop cancels that task, too."""
        return not self.is_resolved and super().is_waited_for()

    def resolve(self, error: BaseException | None) -> None:
        """Note what came of it; the last one lets the caller go on.

        Args:
            error: what befell all events of the commit; ``None`` if it succeeded.
        """
        if self.is_resolved:
            return
        self.is_resolved = True
        self._failure = error or self.error
        if error is not None:
            self.tally.events += 1  # no commit counts it
        self._pass.one_done()

    def outcome(self) -> bytes | BaseException:
        """Return the text of the external state, empty where it was not to be written; or what befell the event."""
        if self._failure is None:
            return self._text
        self.tally.failed += 1
        return self._failure
