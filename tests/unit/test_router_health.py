"""What a load balancer asks a router: whether the stores answer now."""

from __future__ import annotations

import asyncio
from typing import Any

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import InMemoryKVS, KVSRouter
from tests.support.write_behind import Away


class Silent(InMemoryKVS):
    """A store that never answers."""

    async def read_bytes(self, keys: Any) -> Any:
        await asyncio.Event().wait()


class Refusing(InMemoryKVS):
    """A store whose server is away."""

    async def read_bytes(self, keys: Any) -> Any:
        raise StoreUnavailable('The server is away.', retry=True)


async def test_stores_that_answer_are_healthy_and_it_says_how_long_each_took() -> None:
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}, 'cache': {'type': 'stub'}}}) as router:
        found = await router.health()
        assert found['ok'] is True
        assert list(found['stores']) == ['default', 'cache']
        assert 0 <= found['stores']['cache']['seconds'] < 1
        assert 'message' not in found['stores']['cache']


async def test_a_store_that_is_away_is_an_answer_at_once_without_waiting_for_retry_timeout() -> None:
    async with KVSRouter(Refusing(retry_timeout=3600)) as router:
        router.add_item('fine', InMemoryKVS())
        found = await router.health()
        assert found['ok'] is False
        assert found['stores']['default']['message'] == 'The server is away.'
        assert found['stores']['fine']['ok'] is True


async def test_a_store_that_does_not_answer_in_time_is_not_healthy() -> None:
    async with KVSRouter(Silent()) as router:
        found = await router.health(timeout=0.01)
        assert found['stores']['default']['ok'] is False
        assert 'does not answer within 0.01 s' in found['stores']['default']['message']


async def test_a_store_that_answers_reads_and_could_not_be_written_the_last_time_is_not_healthy() -> None:
    class Full(Away):
        def _write_metrics(self) -> dict[str, Any]:
            return {'is_away': True}

    async with KVSRouter(Full()) as router:
        found = await router.health()
        assert found['ok'] is False
        assert 'cannot be written' in found['stores']['default']['message']


async def test_a_router_has_the_metrics_of_each_store_that_is_made() -> None:
    router = KVSRouter(InMemoryKVS())
    router.add_item('later', InMemoryKVS)
    assert list(router.metrics()) == ['default']
    assert router.metrics()['default']['type'] == 'stub'
    router['later']
    assert list(router.metrics()) == ['default', 'later']
