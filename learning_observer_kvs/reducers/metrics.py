"""What reducers have done over a store, as numbers."""

from __future__ import annotations

from typing import Any

from learning_observer_kvs.reducers.tally import COUNTS, Tally, tallies_of
from learning_observer_kvs.reducers.worker import ReducerWorker
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.base import Store


def reducer_metrics(store: Store) -> dict[str, Any]:
    """Return what reducers have done over a store in this process, and what is under way.

    Args:
        store: the store.

    Returns:
        Numbers by name, and under ``reducers`` those of each reducer; part of
        :meth:`Store.metrics <learning_observer_kvs.stores.base.Store.metrics>`.
    """
    in_hand = dict.fromkeys(('queued_events', 'cached_keys', 'cached_bytes', 'pending_keys', 'pending_bytes'), 0)
    pending: dict[str, int] = {}
    for worker in store.overlays:
        if isinstance(worker, ReducerWorker):
            for name, number in worker.metrics().items():
                in_hand[name] += number
        if isinstance(worker, WriteBehindWorker):
            in_hand['pending_keys'] += len(worker.states)
            in_hand['pending_bytes'] += worker.states.bytes
            for reducer, events in worker.states.events_by_reducer().items():
                pending[reducer] = pending.get(reducer, 0) + events
    total, reducers = Tally(''), {}
    for reducer, tally in sorted(tallies_of(store).items()):
        total.add(tally)
        reducers[reducer] = _numbers(tally, pending.get(reducer, 0))
    return {**_numbers(total, sum(pending.values())), **in_hand, 'reducers': reducers}


def _numbers(tally: Tally, pending: int) -> dict[str, Any]:
    return {_NAMES[name]: getattr(tally, name) for name in COUNTS} | {'pending_events': pending}


_NAMES = {
    'bytes': 'measured_bytes',
    'commits': 'commits',
    'conflicts': 'conflicts',
    'erased': 'erased_events',
    'events': 'events',
    'failed': 'failed_events',
    'kept': 'kept_events',
    'measured': 'measured_commits',
    'seconds': 'timed_seconds',
    'timed': 'timed_calls',
}
