"""Every kind of Redis server, and two fixtures for servers that fail."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.stores.backend import Backend
from tests.support.redis_fixtures import guarded, redis, redis_nodes, redis_server, sentinels, tls
from tests.support.redis_server import RedisServer

__all__ = ['guarded', 'redis', 'redis_nodes', 'redis_server', 'sentinels', 'tls']


@pytest.fixture
def direct(redis_server: RedisServer) -> Any:
    """Another program's connection to the server, past the proxy; the server is empty."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def short_retry_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores made after this give up soon when no server answers, unless they say how long they wait."""
    defaults = Backend.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, 'retry_timeout', 0.2)


@pytest.fixture
def tls_settings(tls: dict[str, Any]) -> dict[str, Any]:
    """The settings of ``tls``, to change."""
    return dict(tls)
