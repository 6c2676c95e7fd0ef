"""Stores of ``type: sqlite``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

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
