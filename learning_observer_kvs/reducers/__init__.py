"""Events in, committed pairs of states out: what runs reducers over a store."""

from learning_observer_kvs.reducers.attach import attach, worker_of

__all__ = ['attach', 'worker_of']
