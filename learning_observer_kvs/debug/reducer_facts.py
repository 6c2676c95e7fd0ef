"""What this process knows of a reducer: what it is, and what it has cost since the process began."""

from __future__ import annotations

import inspect
from typing import Any

from learning_observer_kvs.reducers.tally import Tally, tallies_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.registry import registered_reducer


def reducer_facts(store: Store, reducer: str | None) -> dict[str, Any]:
    """Return what is known of a reducer.

    Args:
        store: where its states are.
        reducer: its name in keys; ``None`` where there is no reducer.

    Returns:
        ``{'registered', 'module', 'doc', 'scope', 'costs'}``: whether the process has it; if so, its module, docstring
        and the fields that its states are kept by, else ``None`` each; its costs as :func:`costs_of` returns them.
    """
    known = registered_reducer(reducer) if reducer is not None else None
    return {
        'registered': known is not None,
        'module': known.func.__module__ if known else None,
        'doc': inspect.getdoc(known.func) if known else None,
        'scope': sorted(field.name for field in known.scope) if known else None,
        'costs': None if reducer is None else costs_of(tallies_of(store).get(reducer)),
    }


def costs_of(tally: Tally | None) -> dict[str, Any] | None:
    """Return what a reducer has cost.

    Args:
        tally: what was counted of it; ``None`` where it has had no event.

    Returns:
        ``{'events', 'failed', 'conflicts', 'commits', 'seconds', 'bytes'}``: seconds of a call and bytes of a commit
        are means, ``None`` where none was measured. ``None`` where there is no tally.
    """
    if tally is None:
        return None
    return {
        'events': tally.events,
        'failed': tally.failed,
        'conflicts': tally.conflicts,
        'commits': tally.commits,
        'seconds': tally.seconds / tally.timed if tally.timed else None,
        'bytes': tally.bytes // tally.measured if tally.measured else None,
    }
