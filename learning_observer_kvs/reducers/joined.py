"""An event that goes through many reducers in one pass: its caller waits once, for all of them."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import NamedTuple

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.batch import Event, ReducerCall


class Run(NamedTuple):
    """One reducer with an event.

    Attributes:
        internal_key: the key of the internal state.
        external_key: the key of the external state.
        call: the reducer with the event filled in.
        null_text: the JSON text of the state that a key starts from.
        deadline: until when it waits for a backend that is away, as the time of the monotonic clock; by default the
            ``retry_timeout`` of the store from now.
    """

    internal_key: str
    external_key: str
    call: ReducerCall
    null_text: bytes = b'null'
    deadline: float | None = None


class Join:
    """What a caller waits for that waits for several events.

    Args:
        count: how many.
        loop: the running event loop.

    Attributes:
        done: a future that is done when all of them are.
    """

    __slots__ = ('_left', 'done')

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self._left = count
        self.done: asyncio.Future[JSON] = loop.create_future()

    def one_done(self) -> None:
        """Count an event that is done."""
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)


class JoinedEvent(Event):
    """One of the events that a caller waits for together.

    Args:
        run: the reducer with the event.
        join: what the caller waits for.
        deadline: the deadline of runs that have none.

    Attributes:
        failure: what befell it; ``None`` if it succeeded, and then ``result`` is its result.
    """

    __slots__ = ('_is_resolved', '_join', 'failure')

    def __init__(self, run: Run, join: Join, deadline: float) -> None:
        super().__init__(run.external_key, run.call, run.null_text, deadline if run.deadline is None else run.deadline)
        self._join = join
        self._is_resolved = False
        self.failure: BaseException | None = None
        self.done = join.done
        self.context = copy_context()

    def resolve(self, error: BaseException | None) -> None:
        """Note what came of it; the last one lets the caller go on.

        Args:
            error: what befell all events of the commit; ``None`` if it succeeded.
        """
        if self._is_resolved:
            return
        self._is_resolved = True
        self.failure = error or self.error
        self._join.one_done()
