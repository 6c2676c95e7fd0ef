"""Removing what is kept by a reducer, also while servers run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from learning_observer_kvs.queries.described import ReducerLike
from learning_observer_kvs.queries.kept import kept
from learning_observer_kvs.reducers.erased_students import FLUSH_TIME
from learning_observer_kvs.stores.base import Store

MAX_SEARCHES = 5
"""How often the store is searched until nothing is found."""


class Removed(NamedTuple):
    """What a removal came to.

    Attributes:
        keys: how many keys were removed.
        is_complete: whether none was left at last; ``False`` if keys came back each time, as events still arrive.
    """

    keys: int
    is_complete: bool


async def remove_states(
    store: Store,
    reducer: ReducerLike,
    *,
    interval: float | None = None,
    progress: Callable[[int], None] = lambda keys: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Removed:
    """Remove all states of a reducer, and the notes on events that were replayed to it.

    Reducers that run forget what they have cached of them. Events that arrive meanwhile make new states, from the null
    state: the store is searched again until nothing is found, ``MAX_SEARCHES`` times at most.

    Args:
        store: the store.
        reducer: the function, its entry in a listing, or its name; also of one that this process does not have.
        interval: seconds after which other processes have written what they keep; by default ``flush_interval`` of the
            store. With one, the store is searched again after it.
        progress: called with how many keys have been looked at since the last call.
        sleep: waits for so many seconds.

    Returns:
        How many keys were removed, and whether none was left at last.

    Raises:
        InvalidKey: an entry without a function.
        ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for ``remove``; some keys may be gone.
    """
    what = kept(reducers=[reducer])
    wait = store.flush_interval or 0.0 if interval is None else interval
    removed = 0
    for number in range(MAX_SEARCHES):
        if number and wait:
            await sleep(wait + FLUSH_TIME)
        found = 0
        async for keys in what.pages(store, progress):
            found += len(keys)
            removed += sum(await asyncio.gather(*map(store.remove, keys)))
        if not found and (number or not wait):
            return Removed(removed, True)
    return Removed(removed, False)
