"""Applications with debug pages, alone or below another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import learning_observer_kvs


def make_app(settings: dict[str, Any], authorize: Any = None, below: str | None = None) -> web.Application:
    """Make an application with the debug pages.

    Args:
        settings: of the stores.
        authorize: who may see the pages, as ``setup`` takes it.
        below: the path of the application below another one, which is returned; alone if not given.
    """
    app = web.Application()
    learning_observer_kvs.setup(app, settings, authorize=authorize)
    if below is None:
        return app
    parent = web.Application()
    parent.add_subapp(below, app)
    return parent


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """The settings of an application with one store, in SQLite."""
    return {'kvs': {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}, 'config': {'run_mode': 'dev'}}


@pytest.fixture
def refused() -> set[str]:
    """The stores, actions or keys that the client of a test may not see; the test adds them."""
    return set()
