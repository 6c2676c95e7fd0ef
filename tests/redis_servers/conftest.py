"""Every kind of Redis server, and fixtures for servers that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.proxy import Proxy
from tests.support.redis_fixtures import guarded, redis, redis_nodes, redis_server, sentinels, tls
from tests.support.redis_nodes import RedisNodes, settings_of
from tests.support.redis_server import RedisServer

__all__ = ['guarded', 'redis', 'redis_nodes', 'redis_server', 'sentinels', 'tls']


@pytest.fixture
def direct(redis_server: RedisServer) -> Any:
    """Another program's connection to the server, past the proxy; the server is empty."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """What stands before the server and makes faults."""
    async with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def tls_settings(tls: dict[str, Any]) -> dict[str, Any]:
    """The settings of ``tls``, to change."""
    return dict(tls)


@pytest.fixture
async def cluster(redis_nodes: RedisNodes) -> AsyncIterator[RedisConnection]:
    """A connection to the cluster, which is empty."""
    redis_nodes.flush()
    connection = RedisConnection(settings_of(redis_nodes))
    yield connection
    await connection.close()
