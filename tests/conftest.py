"""The options of a test run, and what holds for every test. Servers stand in ``tests/support``."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from learning_observer_kvs import prestartup, redis_connection, settings
from learning_observer_kvs.kvs import KVS, clear

NOTES: pytest.StashKey[list[str]] = pytest.StashKey()
"""Lines for the end of a run: the tests that were left out, the seeds of those that draw at random."""

# How long an example takes says how busy the machine is.
hypothesis_settings.register_profile('busy', deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile('busy')


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--long', action='store_true', help='also run the tests that take minutes each')
    parser.addoption('--soak', type=float, metavar='MINUTES', help='how long the soak lasts; with --long 30 minutes')


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOTES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {} if config.getoption('--long') else {'long': '--long'}
    if 'LO_SOURCE' not in os.environ:
        missing['real_runtime'] = 'LO_SOURCE'
    if os.geteuid():
        missing['other_users'] = missing['own_disk'] = 'root (sudo)'
    left_out = {item: missing.keys() & item.keywords.keys() for item in items}
    config.hook.pytest_deselected(items=[item for item in items if left_out[item]])
    items[:] = [item for item in items if not left_out[item]]
    for item, marks in left_out.items():
        config.stash[NOTES] += [f'{item.nodeid} was left out: it runs with {missing[mark]}.' for mark in marks]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each processor, with ``-n auto``: half of what tests do is waiting."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: Sequence[Any]) -> None:
    """Workers, which ``-n`` starts, take warnings as this process does."""
    options = [part for option in sys.warnoptions for part in ('-W', option)]
    for spec in specs:
        spec.python = shlex.join([sys.executable, *options])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands its lines over."""
    if (output := getattr(session.config, 'workeroutput', None)) is not None:
        output['notes'] = session.config.stash[NOTES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended. What was left out, each of them says."""
    notes = node.config.stash[NOTES]
    notes += [line for line in getattr(node, 'workeroutput', {}).get('notes', ()) if line not in notes]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[NOTES]:
        terminalreporter.write_line(line)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line about this test to the end of the run."""
    return lambda text: request.config.stash[NOTES].append(f'{request.node.nodeid} {text}')


@pytest.fixture
def seed(request: pytest.FixtureRequest, note: Callable[[str], None]) -> int:
    """Where a test that draws at random begins; noted at the end of the run, whether the test fails or not."""
    given = request.config.getoption('--hypothesis-seed')
    number = random.randrange(10**6) if given is None else int(given)
    note(f'can be repeated with --hypothesis-seed={number}.')
    return number


@pytest.fixture(autouse=True)
def _fresh_globals(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds the three module-level objects as a new process would.

    The stores are closed in the event loop of the test; a test that is not a coroutine needs none, mostly.
    """
    monkeypatch.setattr(prestartup, 'STARTUP_CHECKS', list(prestartup.STARTUP_CHECKS))
    monkeypatch.setattr(prestartup, 'INIT_FUNCTIONS', list(prestartup.INIT_FUNCTIONS))
    if inspect.iscoroutinefunction(request.function):
        loop: asyncio.AbstractEventLoop = request.getfixturevalue(_loop.__name__)
        yield
        loop.run_until_complete(_close_stores())
    else:
        yield
        if KVS.names():
            asyncio.run(_close_stores())
    settings.settings.clear()
    redis_connection.shared.configure({})
    clear()


@pytest.fixture
async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _close_stores() -> None:
    for name in KVS.names():
        KVS.remove_item(name)
    await KVS.close()
