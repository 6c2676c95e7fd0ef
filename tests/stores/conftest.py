"""The Redis servers that stores are tried on, and the SQLite connections that stores open."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from tests.support.checks import patient_checks
from tests.support.redis_fixtures import guarded, redis, redis_nodes, redis_server, sentinels, tls, valkey_server

__all__ = [
    'guarded',
    'patient_checks',
    'redis',
    'redis_nodes',
    'redis_server',
    'sentinels',
    'tls',
    'valkey_server',
]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The SQLite connections that stores have opened since the test began."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def note(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connect(*arguments, **options))
        return connections[-1]

    monkeypatch.setattr(sqlite3, 'connect', note)
    return connections
