"""Each store gets a worker of its own in each event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from learning_observer_kvs.reducers.metrics import reducer_metrics
from learning_observer_kvs.reducers.worker import ReducerWorker
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.base import Store


def attach(store: Store) -> None:
    """Lay the worker of the reducers over a store, in every event loop. Doing it again changes nothing.

    Args:
        store: the store.
    """
    store.attach_overlay(lambda: _make_worker(store), lambda: reducer_metrics(store))


def workers_of(store: Store) -> Callable[[], ReducerWorker]:
    """Return a function that returns the worker of the running event loop.

    Args:
        store: the store; a worker is attached to it if it has none.

    Raises:
        TypeError: another layer lies over the store.
    """
    attach(store)
    if not isinstance(overlay := store.overlay(), ReducerWorker):
        raise TypeError(f'{store!r} has an overlay of type {type(overlay).__name__}; reducers need their own.')
    return cast(Callable[[], ReducerWorker], store.overlays.here)


def worker_of(store: Store) -> ReducerWorker:
    """Return what runs reducers over a store in the running event loop.

    Args:
        store: the store; a worker is attached to it if it has none.

    Raises:
        TypeError: another layer lies over the store.
    """
    return workers_of(store)()


def _make_worker(store: Store) -> ReducerWorker:
    return ReducerWorker(store) if store.flush_interval is None else WriteBehindWorker(store, store.flush_interval)
