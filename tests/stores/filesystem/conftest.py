"""Stores of ``type: filesystem``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the stores, not made yet."""
    return tmp_path / 'store'


@pytest.fixture
def directory(root: Path) -> Directory:
    """The directory itself, whose lock is waited for in vain for a moment only."""
    return Directory(str(root), lock_seconds=0.01)


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FilesystemKVS]:
    """A store with its files in one directory."""
    async with FilesystemKVS(root) as store:
        yield store


@pytest.fixture
async def nested(root: Path) -> AsyncIterator[FilesystemKVS]:
    """A store with subdirectories."""
    async with FilesystemKVS(root, subdirs=True) as store:
        yield store
