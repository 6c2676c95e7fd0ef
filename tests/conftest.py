"""What all tests share: a real Redis, and the options of the test run."""

from __future__ import annotations

import configparser
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import __version__, prestartup, redis_connection, settings
from learning_observer_kvs.kvs import KVS, clear
from learning_observer_kvs.stores.redis import store as redis_stores
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.redis_guarded import guarded_server, tls_server
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_sentinels import Sentinels
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent

TOLD: pytest.StashKey[list[str]] = pytest.StashKey()
"""What is said at the end of a run: the tests that were left out, the seeds of those that draw, figures."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--long', action='store_true', help='also run what takes long')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanting = {} if config.getoption('--long') else {'long': '--long'}
    if 'LO_SOURCE' not in os.environ:
        wanting['real_runtime'] = 'LO_SOURCE'
    left_out = {item: wanting.keys() & item.keywords.keys() for item in items}
    config.hook.pytest_deselected(items=[item for item in items if left_out[item]])
    items[:] = [item for item in items if not left_out[item]]
    for item, marks in left_out.items():
        config.stash[TOLD] += [f'{item.nodeid} was left out: it runs with {wanting[mark]}.' for mark in marks]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOLD] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[TOLD]:
        terminalreporter.write_line(line)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says something of this test at the end of the run."""
    return lambda text: request.config.stash[TOLD].append(f'{request.node.nodeid} {text}')


@pytest.fixture
def seed(tell: Callable[[str], None], request: pytest.FixtureRequest) -> int:
    """Where what is drawn begins; told at the end of the run, whether the test fails or not."""
    given = request.config.getoption('--hypothesis-seed')
    number = random.randrange(10**6) if given is None else int(given)
    tell(f'can be repeated with --hypothesis-seed={number}.')
    return number


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


@pytest.fixture
def direct(redis_server: RedisServer) -> Any:
    """Another program's way to the server, past the proxy; it is empty."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores made after this give up soon when nobody answers."""
    monkeypatch.setattr(redis_stores, 'PATIENCE', 0.2)


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


@pytest.fixture(scope='session')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path that holds this package with the entry points and requirements it is installed with."""
    folder = tmp_path_factory.mktemp('installed')
    (folder / 'learning_observer_kvs').symlink_to(ROOT / 'learning_observer_kvs')
    named = configparser.ConfigParser()
    named.read(ROOT / 'setup.cfg')
    needs = [f'Requires-Dist: {line}' for line in named['options']['install_requires'].split('\n') if line]
    info = folder / f'learning_observer_kvs-{__version__}.dist-info'
    info.mkdir()
    head = ['Metadata-Version: 2.1', 'Name: learning_observer_kvs', f'Version: {__version__}']
    (info / 'METADATA').write_text('\n'.join([*head, *needs, '']))
    points = named['options.entry_points']
    (info / 'entry_points.txt').write_text('\n'.join(f'[{group}]{lines}\n' for group, lines in points.items()))
    return folder


@pytest.fixture(autouse=True)
async def _globals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Each test finds the three module-level objects as a new process would."""
    monkeypatch.setattr(prestartup, 'STARTUP_CHECKS', list(prestartup.STARTUP_CHECKS))
    monkeypatch.setattr(prestartup, 'INIT_FUNCTIONS', list(prestartup.INIT_FUNCTIONS))
    yield
    for name in KVS.names():
        KVS.remove_item(name)
    await KVS.close()
    settings.settings.clear()
    redis_connection.shared.configure({})
    clear()
