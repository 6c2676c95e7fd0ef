"""The client of a cluster for one tick of the event loop: to make it compares settings, which is much for each key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from learning_observer_kvs.stores.redis.cluster_client import ClusterClient
from learning_observer_kvs.stores.redis.connection import RedisConnection


class TickClient:
    """What belongs to one event loop.

    Args:
        connection: returns the connection to the cluster.
    """

    def __init__(self, connection: Callable[[], RedisConnection]) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._client: ClusterClient | None = None

    def get(self) -> ClusterClient:
        """Return the client, the same one until this tick ends."""
        if self._client is None:
            self._client = self._connection().cluster_client()
            self._loop.call_soon(self._forget)  # by the next tick the settings may be others
        return self._client

    def _forget(self) -> None:
        self._client = None
