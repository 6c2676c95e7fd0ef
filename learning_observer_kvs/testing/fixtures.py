"""Fixtures for the tests of a program that uses the stores.

    pytest_plugins = ['learning_observer_kvs.testing.fixtures']

They need ``pytest-asyncio`` (or ``pytest-aiohttp``) in auto mode.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from aiohttp import web

from learning_observer_kvs import plugin, settings
from learning_observer_kvs.kvs import KVS, KVSRouter, clear, kvs_startup_check
from learning_observer_kvs.replay.runner import replay
from learning_observer_kvs.stream_analytics.helpers import Pipeline
from learning_observer_kvs.testing.sample_class import SampleStudent, sample_class, write_study_logs


class ReplayClass(Protocol):
    """What the fixture :func:`replay_class` returns."""

    async def __call__(
        self, *reducers: Pipeline, students: int = 3, router: KVSRouter | None = None
    ) -> list[SampleStudent]:
        """Have a sample class write, through reducers.

        Args:
            reducers: decorated reducers.
            students: how many students there are.
            router: where the states are kept; by default ``kvs_router``.

        Returns:
            The students.

        Raises:
            AssertionError: a reducer failed; the message has the events.
        """


@pytest.fixture
def kvs_settings(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of the stores of a test; override it to have others.

    Args:
        tmp_path: where events that fail are kept.

    Returns:
        A ``default`` and a ``memoization``, in memory.
    """
    stub = {'type': 'stub', 'failed_events': str(tmp_path / 'failed-events')}
    return {'kvs': {'default': stub, 'memoization': stub}}


@pytest.fixture
async def kvs_router(kvs_settings: dict[str, Any]) -> AsyncIterator[KVSRouter]:
    """Give a test a router of its own, which is closed after it.

    Args:
        kvs_settings: its settings.

    Yields:
        The router; with stores in memory it is empty.
    """
    async with KVSRouter.from_settings(kvs_settings) as router:
        yield router


@pytest.fixture
async def kvs_program(kvs_settings: dict[str, Any]) -> AsyncIterator[KVSRouter]:
    """Fill ``KVS``, the router of the program, for a test of code that uses it.

    Args:
        kvs_settings: its settings.

    Yields:
        ``KVS``. After the test stores in memory are emptied, and all are closed; the settings are those from before.
    """
    before = settings.settings
    settings.load_settings(kvs_settings)
    kvs_startup_check()
    try:
        yield KVS
    finally:
        clear()
        await KVS.close()
        settings.load_settings(before)


@pytest.fixture
def kvs_app(kvs_router: KVSRouter) -> web.Application:
    """Return an application whose stores are those of ``kvs_router``.

    Args:
        kvs_router: its router.

    Returns:
        The application, to which a test adds its routes before ``aiohttp_client(kvs_app)`` starts it.
    """
    app = web.Application()
    plugin.setup(app, router=kvs_router)
    return app


@pytest.fixture
def replay_class(kvs_router: KVSRouter, tmp_path: Path) -> ReplayClass:
    """Return what replays a sample class, as ``lo-kvs replay`` replays study logs.

    Args:
        kvs_router: where the states are kept.
        tmp_path: where the study logs are.

    Returns:
        ``await replay_class(*reducers)``, which returns the students; see :class:`ReplayClass`.
    """

    async def run(*reducers: Pipeline, students: int = 3, router: KVSRouter | None = None) -> list[SampleStudent]:
        made = sample_class(students)
        files = write_study_logs(made, tmp_path / 'sample-class')
        report = await replay(files, reducers, router=kvs_router if router is None else router)
        assert not report.failures, '\n'.join(report.failures)
        return made

    return run
