"""One deadline for an event that several reducers get one after the other, once one of them has waited long.

Else a server that awaits its reducers in turn would wait for a backend that is away as often as it has reducers. Where
none waits nothing is noted: what each event noted in the context of its task would cost more than its reducer.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import Any

from learning_observer_kvs.stores.deadline import deadline_after

LONG = 0.1
"""Seconds from which on a reducer counts as having waited long."""

_LAST: ContextVar[tuple[Any, Any, float] | None] = ContextVar('kvs last event', default=None)
"""The last event of this task that waited long, the first reducer for which it did, and its deadline."""


def deadline_of(call: Any, retry_timeout: float, now: float | None = None) -> float:
    """Return the deadline of an event: that of a reducer which waited long with the same object, in the same task.

    Args:
        call: the reducer with its event filled in: a ``functools.partial``, or another callable, which shares with no
            other. If the reducer was the first that waited with the event before, it is another event.
        retry_timeout: seconds that an event waits for a backend that is away.
        now: the time of the monotonic clock, where the caller knows it.

    Returns:
        The time of the monotonic clock.
    """
    last = _LAST.get()
    return deadline_after(retry_timeout, now) if last is None or not _is_noted(call, last) else last[2]


def note_deadline(call: Any, deadline: float) -> None:
    """Note that a reducer has waited long with an event.

    Args:
        call: as for :func:`deadline_of`.
        deadline: what that returned.
    """
    last = _LAST.get()
    if type(call) is partial and call.args and (last is None or not _is_noted(call, last)):
        _LAST.set((call.args[0], call.func, deadline))


def _is_noted(call: Any, last: tuple[Any, Any, float]) -> bool:
    """Return whether what was noted is of the same event, and of another reducer."""
    event, reducer, _ = last
    return type(call) is partial and bool(call.args) and call.args[0] is event and call.func is not reducer
