"""Metrics for Prometheus: what the router counts, under names of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import prometheus_client

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.prometheus import MetricsCollector
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer


@student_event_reducer(null_state=0, module_override='m', qualname_override='count')
async def count(event: Any, state: Any) -> Any:
    return state + 1, False


async def test_every_number_of_the_metrics_is_given_to_prometheus_with_its_store_and_reducer(tmp_path: Path) -> None:
    files = {'type': 'filesystem', 'path': str(tmp_path / 'files'), 'flush_interval': 3600}
    async with KVSRouter.from_settings({'kvs': {'default': files, 'cache': {'type': 'stub'}}}) as router:
        process = await count(None, router=router)
        await asyncio.gather(*(process(number) for number in range(5)))
        await router().flush()
        registry = prometheus_client.CollectorRegistry()
        registry.register(MetricsCollector(router))
        text = prometheus_client.generate_latest(registry).decode()
        store = router.metrics()['default']
        assert 'lo_kvs_events_total{reducer="m.count",store="default"} 5.0' in text
        assert 'lo_kvs_write_batches_total{store="default"} 1.0' in text
        assert 'lo_kvs_write_batches_total{store="cache"}' not in text  # it has none
        for name in store['reducers']['m.count']:
            assert f'lo_kvs_{name}_total{{reducer="m.count",store="default"}}' in text or (
                f'lo_kvs_{name}{{reducer="m.count",store="default"}}' in text
            ), name
        of_reducers = store['reducers']['m.count'].keys()
        for name in store.keys() - of_reducers - {'type', 'location', 'reducers'}:
            assert f'lo_kvs_{name}_total{{store="default"}}' in text or f'lo_kvs_{name}{{store="default"}}' in text, (
                name
            )
