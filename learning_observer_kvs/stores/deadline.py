"""Until when a call waits for a backend that is away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

ONE_TRY = -math.inf
"""The deadline of a call that waits for nothing: it is tried once."""

MIN_TRY = 1.0
"""Seconds that a try may take although the deadline ends sooner."""

MAX_PAUSE = 1.0
"""Seconds between two tries, at most."""

_MIN_PAUSE = 0.05

_LIMIT: ContextVar[float] = ContextVar('kvs retry limit', default=math.inf)


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Let the calls in a block wait no longer than this, whatever their store's ``retry_timeout`` is.

    Pages and commands use it: what a person waits for is to say soon that a server is away.

    Args:
        seconds: how long each call waits at most; 0 tries once.
    """
    token = _LIMIT.set(min(seconds, _LIMIT.get()))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def limit_of(seconds: float) -> float:
    """Return how long a call of this block may wait.

    Args:
        seconds: how long it would wait elsewhere.
    """
    return min(seconds, _LIMIT.get())


def deadline_after(retry_timeout: float, began: float | None = None) -> float:
    """Return the deadline of a call.

    Args:
        retry_timeout: seconds, as the store is configured.
        began: when the call began, as the time of the monotonic clock; by default now.

    Returns:
        The time of the monotonic clock; ``ONE_TRY`` if the call is not to wait.
    """
    limit = _LIMIT.get()
    if limit < retry_timeout:
        retry_timeout = limit
    if retry_timeout <= 0:
        return ONE_TRY
    return (monotonic() if began is None else began) + retry_timeout


def longest_try(timeout: float, seconds_left: float) -> float:
    """Return how long a try may take, in seconds.

    Args:
        timeout: how long an answer may take.
        seconds_left: until the latest deadline of those that wait for it.
    """
    return timeout if seconds_left == ONE_TRY else min(timeout, max(seconds_left, MIN_TRY))


def pause_after(seconds: float) -> float:
    """Return how long to pause before the next try: as long as it has failed, 50 ms at least, ``MAX_PAUSE`` at most.

    Args:
        seconds: for how long it has failed.
    """
    return min(max(seconds, _MIN_PAUSE), MAX_PAUSE)
