"""Which reducers have states in a store, and how many."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, NamedTuple

from learning_observer_kvs.debug.search import NAME_CHARACTERS, Search, in_slices, progress
from learning_observer_kvs.debug.views import store_of
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import every_key
from learning_observer_kvs.stream_analytics.keys import parse_key

MAX_REDUCERS = 500
"""How many reducers a page has; then the rest of the search is another page."""


class Facets(NamedTuple):
    """What the keys of a store are, as far as they were looked at.

    Attributes:
        store: the store's name.
        states: how many states there are, by reducer and by state (``Internal``, ``External``).
        search: how far the search went.
    """

    store: str
    states: dict[str, dict[str, int]]
    search: Search


async def facets(router: KVSRouter, store: str, cursor: str | None) -> Facets:
    """Count the states of each reducer.

    Args:
        router: the stores.
        store: the store's name.
        cursor: ``next_cursor`` of the page before; ``None`` begins.

    Returns:
        What was counted until a page is full, or until ``SEARCH_SECONDS`` of a search were over.

    Raises:
        NotFound: there is no such store.
        InvalidKey: the cursor is not one of this search.
    """
    store_of(router, store)
    found = Facets(store, {}, Search(router, [store], [''], cursor))
    async with aclosing(found.search.pages(every_key)) as pages:
        async for _, _, keys in pages:
            async for key in in_slices(keys):
                if (parsed := parse_key(key)) is not None:
                    states = found.states.setdefault(parsed.source, {'Internal': 0, 'External': 0})
                    states[parsed.state_type.name.capitalize()] += 1
            if len(found.states) >= MAX_REDUCERS or sum(map(len, found.states)) > NAME_CHARACTERS:
                break
    return found


def facets_view(found: Facets) -> dict[str, Any]:
    """Return the view of the reducers of a store.

    Args:
        found: what was counted.

    Returns:
        ``{'store', 'reducers', 'other_keys', 'keys_seen', 'not_searched', 'next_cursor'}``; each reducer is ``{'name',
        'internal', 'external'}``, by name.
    """
    return {
        'store': found.store,
        'reducers': [
            {'name': name, 'internal': states['Internal'], 'external': states['External']}
            for name, states in sorted(found.states.items())
        ],
        'other_keys': found.search.seen - sum(sum(states.values()) for states in found.states.values()),
        **progress(found.search, ()),
    }
