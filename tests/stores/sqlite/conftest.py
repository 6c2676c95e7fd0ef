"""Stores of ``type: sqlite``."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.stores.sqlite.store import SQLiteKVS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the stores, not made yet."""
    return tmp_path / 'state.sqlite3'


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteKVS]:
    """A store in that file."""
    async with SQLiteKVS(path) as store:
        yield store


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that stores have opened since the test began."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def note(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connect(*arguments, **options))
        return connections[-1]

    monkeypatch.setattr(sqlite3, 'connect', note)
    return connections
