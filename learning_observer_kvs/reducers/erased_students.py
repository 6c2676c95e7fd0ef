"""Events that are pending when another process erases their student: older ones are left out, newer ones count."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from learning_observer_kvs.identifiers import student_of
from learning_observer_kvs.reducers.batch import Event
from learning_observer_kvs.reducers.pending import Pending
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.base import Store

FLUSH_TIME = 1.0
"""Seconds that a flush may take, once ``flush_interval`` is over; an erasure waits for as long."""


def is_late(pending: Pending, interval: float) -> bool:
    """Return whether an erasure would not wait any more for a flush that begins now.

    Args:
        pending: what is to be written.
        interval: the worker's, in seconds.
    """
    return time.time() - pending.since > interval + FLUSH_TIME


async def not_erased(store: Store, key: str, pending: Pending, *, is_gone: bool) -> list[Event]:
    """Return the events of a key that count although its student may have been erased.

    Args:
        store: where the states are.
        key: the internal key.
        pending: what is pending of it.
        is_gone: whether the state that the events stand on was removed: then none counts, unless the student was erased
            before it came.

    Returns:
        The events that came after the erasure. If some came before it, those that do not say when they came do not
        count.

    Raises:
        StoreUnavailable, Overloaded, CorruptValue: the record of erased students cannot be read.
    """
    events = pending.batch.events
    student = student_of(key)
    erased = None if student is None else (await suppression.read(store)).erased(student)
    if erased is None:
        return [] if is_gone else list(events)
    if pending.since > erased:
        return list(events)
    return [event for event in events if (received(_content(event)) or 0.0) > erased]


def received(event: Any) -> float | None:
    """Return when a server received an event. No two events have the same time and content.

    Args:
        event: any JSON value.

    Returns:
        Seconds since the epoch; ``None`` if it does not say so.
    """
    server = event.get('server') if isinstance(event, Mapping) else None
    at = server.get('time') if isinstance(server, Mapping) else None
    if not isinstance(at, (int, float)) or isinstance(at, bool):
        return None
    with suppress(OverflowError):
        return float(at)
    return None


def _content(event: Event) -> Any:
    """The event as its reducer is given it, if that can be told."""
    call = event.call
    return call.args[0] if isinstance(call, functools.partial) and call.args else None
