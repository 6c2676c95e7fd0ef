"""One deadline for an event that several reducers get one after the other."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeAlias

from learning_observer_kvs.stores.deadline import deadline_after

SharedDeadline: TypeAlias = tuple[Any, Any, float]
"""What :func:`deadline_of` takes: the deadline of most events is never needed."""

_LAST: ContextVar[tuple[Any, Any, float] | None] = ContextVar('kvs last event', default=None)
"""The last event of this task, the first reducer that got it, and its deadline."""


def deadline_of(event: Any, reducer: Any, retry_timeout: float) -> float:
    """Return the deadline of an event: that of the reducers which got the same object before, in the same task.

    Args:
        event: the event.
        reducer: the reducer that gets it. If it was the first to get it before, it is another event.
        retry_timeout: seconds that an event waits for a backend that is away.

    Returns:
        The time of the monotonic clock.
    """
    last = _LAST.get()
    if last is not None and last[0] is event and last[1] is not reducer:
        return last[2]
    deadline = deadline_after(retry_timeout)
    _LAST.set((event, reducer, deadline))
    return deadline
