"""Folding an event into a pair of states: read, run the reducer, write both at once, on condition.

The condition is that the internal state still is what the reducer was given. Where another process wrote in between,
the new state is read and the reducer runs again, so that no event is lost whoever writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from learning_observer_kvs.errors import Conflict, ReducerError
from learning_observer_kvs.jsontext import JSON
from learning_observer_kvs.stores.base import MAX_TRIES, Store, pause, shown

Step = Callable[[JSON], Awaitable[Any]]
"""Takes the internal state, gives ``(internal_state, external_state)``; ``False`` means "do not write"."""

T = TypeVar('T')

_FOLDING: ContextVar[frozenset[tuple[int, str]]] = ContextVar('_FOLDING', default=frozenset())


async def fold(store: Store, internal_key: str, external_key: str, step: Step, null_state: JSON = None) -> JSON:
    """Fold one event into a reducer's states; events of one key in this loop run one after the other, in order.

    Args:
        store: where both states are.
        internal_key, external_key: their keys.
        step: the reducer with its event filled in. It may run more than once: no side effects.
        null_state: what a key that is not there starts from. It is stored even if the reducer declines to write.

    Returns:
        The external state, as the reducer gave it.

    Raises:
        ReducerError: it gave something else than a pair, or waits for its own key.
        InvalidValue: a state that JSON cannot hold.
        Conflict: other processes wrote the key ``MAX_TRIES`` times in between.

    Whatever is raised, by the reducer too, both states are as they were.
    """
    with _not_inside_itself(store, internal_key):
        async with store.locks.holding(internal_key):
            for attempt in range(MAX_TRIES):
                [text] = await store._read([internal_key])
                fresh = text is None
                state = store.decode(internal_key, store.encode(internal_key, null_state) if text is None else text)
                internal, external = _pair(await step(state), internal_key)
                writes: dict[str, bytes | None] = {}
                if internal is not False or fresh:
                    writes[internal_key] = store.encode(internal_key, null_state if internal is False else internal)
                if external is not False:
                    writes[external_key] = store.encode(external_key, external)
                if not writes or await _to_the_end(store._commit(writes, {internal_key: text})):
                    return external
                await pause(attempt)
    raise Conflict(f'{shown(internal_key)}: other processes kept writing it; tried {MAX_TRIES} times.')


def _pair(result: Any, key: str) -> tuple[JSON, JSON]:
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ReducerError(
            f'The reducer of {shown(key)} returned {type(result).__name__}; '
            'it must return (internal_state, external_state), with False for one that is not to be written.'
        )
    return result[0], result[1]


@contextmanager
def _not_inside_itself(store: Store, key: str) -> Iterator[None]:
    inside, here = _FOLDING.get(), (id(store), key)
    if here in inside:
        raise ReducerError(
            f'The reducer of {shown(key)} sent an event to its own key; it would wait for itself for ever.'
        )
    token = _FOLDING.set(inside | {here})
    try:
        yield
    finally:
        _FOLDING.reset(token)


async def _to_the_end(write: Coroutine[Any, Any, T]) -> T:
    """Await a write that a cancellation must not let go of: the key's next event waits until its outcome is known."""
    task = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            # Cancelled again, perhaps: the outcome still comes first.
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()
        raise
