"""One deadline for an event that several reducers get one after the other."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import Any

from learning_observer_kvs.stores.deadline import deadline_after

_LAST: ContextVar[tuple[Any, Any, float] | None] = ContextVar('kvs last event', default=None)
"""The last event of this task, the first reducer that got it, and its deadline."""


def deadline_of(call: Any, retry_timeout: float, now: float | None = None) -> float:
    """Return the deadline of an event: that of the reducers which got the same object before, in the same task.

    Args:
        call: the reducer with its event filled in: a ``functools.partial``, or another callable, which shares with no
            other. If the reducer was the first to get the event before, it is another event.
        retry_timeout: seconds that an event waits for a backend that is away.
        now: the time of the monotonic clock, where the caller knows it.

    Returns:
        The time of the monotonic clock.
    """
    if type(call) is not partial or not call.args:
        return deadline_after(retry_timeout, now)
    event, reducer, last = call.args[0], call.func, _LAST.get()
    if last is not None and last[0] is event and last[1] is not reducer:
        return last[2]
    deadline = deadline_after(retry_timeout, now)
    _LAST.set((event, reducer, deadline))
    return deadline
