"""The reads from a cluster, with a reader for each node, so that a node that does not answer holds up only its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from learning_observer_kvs.stores.redis import reader
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import slot_of
from learning_observer_kvs.stores.redis.reader import RedisReader
from learning_observer_kvs.stores.redis.tick_client import TickClient

_NO_NODE = ''
"""In place of a node's name: for keys that cannot be sent, and slots that no node is known to have."""


class NodeReaders:
    """The reads of a store in one event loop.

    Args:
        connection: the connection to the cluster.
        timeout: seconds for the replies of a packet; by default as the settings of the connection have it.
    """

    def __init__(self, connection: RedisConnection, timeout: float | None = None) -> None:
        self._connection = connection
        self._timeout = timeout
        self._client = TickClient(lambda: connection)
        self._readers: dict[str, RedisReader] = {}

    async def read(self, redis_keys: Sequence[str]) -> list[Any]:
        """Read keys, which may be on several nodes.

        Args:
            redis_keys: the Redis keys.

        Returns:
            The bytes of each, in order: ``None`` where there is no such key, an error where it does not hold a string.

        Raises:
            Overloaded: too many keys wait to be read, from whichever node.
            StoreUnavailable, Overloaded: no answer of one of the nodes, or it refuses.
        """
        client = self._client.get()
        if not client.knows_nodes():
            await client.find_nodes()
        by_node: dict[str, list[str]] = {}
        for redis_key in redis_keys:
            try:
                name = client.owner(slot_of(redis_key)) or _NO_NODE
            except UnicodeError:
                name = _NO_NODE
            by_node.setdefault(name, []).append(redis_key)
        self._check_bounds(redis_keys)
        if len(by_node) == 1:
            return await self._reader_of(*by_node).read(redis_keys)
        texts = await asyncio.gather(*(self._reader_of(name).read(keys) for name, keys in by_node.items()))
        found: dict[str, Any] = {}
        for keys, of_node in zip(by_node.values(), texts, strict=True):
            found.update(zip(keys, of_node, strict=True))
        return [found[redis_key] for redis_key in redis_keys]

    async def close(self, timeout: float) -> None:
        """Wait until nothing is under way, and give up what is then.

        Args:
            timeout: seconds after which that is.
        """
        await asyncio.gather(*(node_reader.close(timeout) for node_reader in self._readers.values()))

    def _check_bounds(self, redis_keys: Sequence[str]) -> None:
        count = size = 0
        for node_reader in self._readers.values():
            waiting, waiting_bytes = node_reader.backlog()
            count += waiting
            size += waiting_bytes
        if count and (
            count + len(redis_keys) > reader.MAX_QUEUED_KEYS
            or size + sum(map(len, redis_keys)) > reader.MAX_QUEUED_BYTES
        ):
            raise reader.overloaded(count, size, self._connection)

    def _reader_of(self, name: str) -> RedisReader:
        node_reader = self._readers.get(name)
        if node_reader is None:
            node_reader = self._readers[name] = RedisReader(self._connection, self._timeout)
        return node_reader
