"""Fixtures of real Redis servers. The ``conftest.py`` of a folder imports those that its tests use.

Each server is started when the first test wants it, once for the whole run however many folders import its fixture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.redis_guarded import guarded_server, tls_server
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_sentinels import SERVICE, Sentinels
from tests.support.redis_server import VALKEY, RedisServer

T = TypeVar('T')

STARTED: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def once_a_run(request: pytest.FixtureRequest, start: Callable[[], AbstractContextManager[T]]) -> T:
    """Return what a fixture starts; enter its context at the first call, and leave it at the end of the run.

    Args:
        request: the fixture's own; its name is the name of what is started.
        start: makes the context.
    """
    config = request.config
    started = config.stash.setdefault(STARTED, {})
    if request.fixturename not in started:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        started[str(request.fixturename)] = stack.enter_context(start())
    server: T = started[str(request.fixturename)]
    return server


@pytest.fixture(scope='session')
def redis_server(request: pytest.FixtureRequest) -> RedisServer:
    """A real Redis on a free loopback port."""
    return once_a_run(request, RedisServer)


@pytest.fixture(scope='session')
def valkey_server(request: pytest.FixtureRequest) -> RedisServer:
    """A real Valkey on a free loopback port."""
    return once_a_run(request, lambda: RedisServer(program=VALKEY))


@pytest.fixture(scope='session')
def redis_nodes(request: pytest.FixtureRequest) -> RedisNodes:
    """A Redis Cluster of three nodes."""
    return once_a_run(request, RedisNodes)


@pytest.fixture(scope='session')
def guarded(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis with passwords."""
    return once_a_run(request, guarded_server)


@pytest.fixture(scope='session')
def tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings that reach a Redis that speaks TLS only."""
    return once_a_run(request, lambda: tls_server(tmp_path_factory.mktemp('certificates')))


@pytest.fixture(scope='session')
def sentinels(request: pytest.FixtureRequest) -> Sentinels:
    """A master, a replica and three Sentinels, which stay what they are however busy the machine is."""
    patient = f'sentinel down-after-milliseconds {SERVICE} 60000'
    return once_a_run(request, lambda: Sentinels(lines=(patient,)))


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[RedisConnection]:
    """A connection to ``redis_server``, which is emptied."""
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': redis_server.port})
    await connection.client().flushall()
    yield connection
    await connection.close()
