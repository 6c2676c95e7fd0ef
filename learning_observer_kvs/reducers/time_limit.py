"""``reducer_timeout``: a reducer that does not return in time is cancelled, and left behind if it ignores that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.stores.keys import display_key

log = logging.getLogger('learning_observer_kvs')

CANCEL_TIMEOUT = 1.0
"""Seconds that a reducer has to end once it is cancelled; then its key goes on without it."""

_LEFT_BEHIND: set[asyncio.Future[Any]] = set()
"""Reducers that go on although they were cancelled; a task that nothing refers to may be collected."""


async def run_within(seconds: float, reducing: Awaitable[Any], key: str) -> Any:
    """Run a reducer in a task of its own, for a bounded time.

    Args:
        seconds: how long it may take.
        reducing: what the reducer returned: its coroutine.
        key: the internal key, for messages.

    Returns:
        What the reducer returns.

    Raises:
        ReducerError: it did not return in time.
        Exception: what the reducer raised.
    """
    task = asyncio.ensure_future(reducing)
    try:
        await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        if not task.done():
            await _end(task, key)
        raise
    if task.done():
        return task.result()
    await _end(task, key)
    raise ReducerError(
        f'The reducer of {display_key(key)} did not return within {seconds:g} s (reducer_timeout) and was cancelled; '
        'the event has changed neither state.'
    )


async def _end(task: asyncio.Future[Any], key: str) -> None:
    """Cancel a reducer, and leave it behind if it goes on."""
    _LEFT_BEHIND.add(task)
    task.add_done_callback(_ended)
    task.cancel()
    await asyncio.wait([task], timeout=CANCEL_TIMEOUT)
    if not task.done():
        log.error(
            'The reducer of %s goes on although it was cancelled (reducer_timeout). Its key goes on without it; what '
            'it returns is dropped.',
            display_key(key),
        )


def _ended(task: asyncio.Future[Any]) -> None:
    _LEFT_BEHIND.discard(task)
    if not task.cancelled():
        task.exception()  # it has been looked at: asyncio need not warn
