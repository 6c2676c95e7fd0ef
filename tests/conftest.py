"""What all tests share: a real Redis, and the options of the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from learning_observer_kvs import prestartup, redis_connection, settings
from learning_observer_kvs.kvs import KVS, clear
from learning_observer_kvs.redis_connection import RedisConnection
from tests.redis_guarded import guarded_server, tls_server
from tests.redis_nodes import RedisNodes
from tests.redis_sentinels import Sentinels
from tests.redis_server import RedisServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--long', action='store_true', help='also run what takes long')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption('--long'):
        long = [item for item in items if 'long' in item.keywords]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if 'long' not in item.keywords]


@pytest.fixture(scope='session')
def redis_server() -> Iterator[RedisServer]:
    """A real Redis of the tests' own, on a free loopback port."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope='session')
def redis_nodes() -> Iterator[RedisNodes]:
    """A Redis Cluster of three nodes."""
    with RedisNodes() as nodes:
        yield nodes


@pytest.fixture(scope='session')
def guarded() -> Iterator[RedisServer]:
    """A Redis with passwords."""
    with guarded_server() as server:
        yield server


@pytest.fixture(scope='session')
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Redis that speaks TLS only: the settings that reach it."""
    with tls_server(tmp_path_factory.mktemp('certificates')) as settings:
        yield settings


@pytest.fixture
def tls_settings(tls: dict[str, Any]) -> dict[str, Any]:
    """The same, to change."""
    return dict(tls)


@pytest.fixture(scope='session')
def sentinels() -> Iterator[Sentinels]:
    """A master, a replica and three Sentinels."""
    with Sentinels() as sentinels:
        yield sentinels


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[RedisConnection]:
    """A connection to it, emptied."""
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': redis_server.port})
    await connection.client().flushall()
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
async def _globals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Each test finds the three module-level objects as a new process would."""
    monkeypatch.setattr(prestartup, 'STARTUP_CHECKS', list(prestartup.STARTUP_CHECKS))
    monkeypatch.setattr(prestartup, 'INIT_FUNCTIONS', list(prestartup.INIT_FUNCTIONS))
    yield
    await KVS.close()
    for name in KVS.names():
        KVS.remove_item(name)
    settings.settings.clear()
    redis_connection.shared.configure({})
    clear()
