"""The metrics of a router for Prometheus; needs the package ``prometheus_client``.

from prometheus_client import REGISTRY

from learning_observer_kvs import KVS
from learning_observer_kvs.prometheus import MetricsCollector

REGISTRY.register(MetricsCollector(KVS))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from learning_observer_kvs.kvs import KVSRouter

COUNTERS = {
    'commits': 'Commits of reducers that came into the store.',
    'conflicts': 'Commits that another process came before, so that their events were reduced again.',
    'erased_events': 'Events that were dropped because another process had erased the state that they were for.',
    'events': 'Events that were answered, also those that failed.',
    'failed_events': 'Events that changed nothing.',
    'kept_events': 'Events that were acknowledged, and are in the folder of failed events.',
    'measured_bytes': 'Bytes of the states of the commits that were measured.',
    'measured_commits': 'Commits that were measured, one of 16.',
    'timed_calls': 'Calls of reducers that were timed.',
    'timed_seconds': 'Seconds of the calls of reducers that were timed.',
}
"""What is counted of each reducer."""

STORE_COUNTERS = {
    'retries': 'Writes that were put back because the backend was away.',
    'write_batches': 'Batches of writes that were sent.',
    'write_seconds': 'Seconds from sending each batch to its end.',
    'writes': 'Writes that were in the batches.',
    'written_bytes': 'Bytes that they wrote.',
}
"""What is counted of each store."""

GAUGES = {'pending_events': 'Events that were answered and are not written yet.'}
"""What each reducer has in hand."""

STORE_GAUGES = {
    'busy_keys': 'Keys with an event, an update or a write under way.',
    'cached_bytes': 'Bytes of states that are cached.',
    'cached_keys': 'States that are cached.',
    'is_away': 'Whether the backend could not be reached by the last write.',
    'pending_bytes': 'Bytes of states that are not written yet.',
    'pending_keys': 'Keys of states that are not written yet.',
    'queued_events': 'Events that wait for their turn.',
    'seconds_since_write': 'Seconds since the last batch of writes ended without a failure.',
    'waiting_bytes': 'Bytes that wait to be written.',
    'waiting_writes': 'Writes that wait to be sent.',
}
"""What each store has in hand."""


class MetricsCollector(Collector):
    """Gives ``router.metrics()`` to Prometheus, each time that it asks; nothing is counted for it.

    Args:
        router: the router.
    """

    def __init__(self, router: KVSRouter) -> None:
        self._router = router

    def collect(self) -> Iterable[Metric]:
        """Return the metrics: ``lo_kvs_…``, with the label ``store``, and those of reducers with ``reducer``.

        Returns:
            The metrics. What a store does not count, such as the batches of one in memory, has no sample of it.
        """
        stores = self._router.metrics()
        reducers = [
            ((store, reducer), numbers)
            for store, metrics in stores.items()
            for reducer, numbers in metrics['reducers'].items()
        ]
        whole = [((store,), metrics) for store, metrics in stores.items()]
        yield from _families(COUNTERS, CounterMetricFamily, ['store', 'reducer'], reducers)
        yield from _families(GAUGES, GaugeMetricFamily, ['store', 'reducer'], reducers)
        yield from _families(STORE_COUNTERS, CounterMetricFamily, ['store'], whole)
        yield from _families(STORE_GAUGES, GaugeMetricFamily, ['store'], whole)


def _families(
    described: dict[str, str],
    make: type[CounterMetricFamily] | type[GaugeMetricFamily],
    labels: list[str],
    rows: Iterable[tuple[tuple[str, ...], dict[str, Any]]],
) -> Iterator[Metric]:
    for name, description in described.items():
        family = make(f'lo_kvs_{name}', description, labels=labels)
        for values, numbers in rows:
            if name in numbers:
                family.add_metric(values, numbers[name])
        yield family
