"""A watched store, and a Redis server for the rules that need a second process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.redis_fixtures import redis, redis_server
from tests.support.watched import watched
from tests.support.write_behind import NEVER, Pair, store_of

__all__ = ['redis', 'redis_server', 'watched']


@pytest.fixture(autouse=True)
def _failed_events_of_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store keeps of failed events lies below the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=['filesystem', 'sqlite', 'redis'])
async def delayed_pair(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection) -> AsyncIterator[Pair]:
    """A store with flush_interval, and what another process has of the same data."""
    async with (
        store_of(request.param, tmp_path, redis, NEVER) as store,
        store_of(request.param, tmp_path, redis, None) as other,
    ):
        yield store, other
