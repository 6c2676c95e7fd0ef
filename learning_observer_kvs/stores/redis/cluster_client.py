"""A Redis Cluster, as one event loop talks to it. Slots and redirections are redis-py's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.redis.errors import ALL_BUSY, FAILURES, LOST, TOPOLOGY_ERRORS

Command = Sequence[str | bytes | int]

_REDIRECTIONS = (exceptions.AskError, exceptions.TryAgainError)  # MOVED is an ASK to redis-py


class ClusterClient:
    """The nodes of a cluster.

    Args:
        client: redis-py's.
        permits: as many as there are connections to a node, so that no caller finds all of them busy.
        timeout: seconds to wait for a permit, and for the replies of a node.
        unavailable: returns the error to raise for one of redis-py.
    """

    def __init__(
        self,
        client: RedisCluster,
        permits: asyncio.Semaphore,
        timeout: float,
        unavailable: Callable[[BaseException], KVSError],
    ) -> None:
        self._client = client
        self._permits = permits
        self._timeout = timeout
        self._unavailable = unavailable

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands to the nodes of their keys, and follow redirections.

        After an error that says so the map of the cluster is read again.

        Args:
            commands: each with its keys in one slot.

        Returns:
            The replies in order. An error, also a lost reply, is in the place of its reply.

        Raises:
            StoreUnavailable, Overloaded: nothing was sent.
        """
        async with self._ready() as client:
            replies: list[Any] = [None] * len(commands)
            by_node: dict[ClusterNode, list[int]] = {}
            for position, command in enumerate(commands):
                try:
                    node = client.nodes_manager.get_node_from_slot(_slot(command))
                    by_node.setdefault(node, []).append(position)
                except exceptions.RedisClusterException as error:
                    replies[position] = error
            await asyncio.gather(
                *(self._exchange(node, commands, positions, replies) for node, positions in by_node.items())
            )
            for position, reply in enumerate(replies):
                if isinstance(reply, _REDIRECTIONS):
                    try:
                        replies[position] = await client.execute_command(*commands[position])
                    except FAILURES as error:
                        replies[position] = error
            if any(isinstance(reply, TOPOLOGY_ERRORS) for reply in replies):
                with contextlib.suppress(*FAILURES):
                    await client.nodes_manager.initialize()
            return replies

    async def _exchange(
        self, node: ClusterNode, commands: Sequence[Command], positions: Sequence[int], replies: list[Any]
    ) -> None:
        """Send those of the commands that are for a node, in one packet; its failure concerns no other node."""
        connection = node.acquire_connection()
        answered = 0
        try:
            async with asyncio.timeout(self._timeout):
                packed = [pack_command(tuple(commands[position])) for position in positions]  # type: ignore[arg-type]
                await connection.send_packed_command(packed, check_health=False)
                for position in positions:
                    try:
                        replies[position] = await connection.read_response()
                    except exceptions.ResponseError as error:
                        replies[position] = error
                    answered += 1
        except LOST as error:
            await connection.disconnect(nowait=True)
            replies[positions[answered]] = error
            for position in positions[answered + 1 :]:
                replies[position] = exceptions.ConnectionError(f'{node.name}: {error}')
        finally:
            node.release(connection)

    async def scan(self, cursor: str | None, *options: str | bytes | int) -> tuple[list[bytes], str | None]:
        """Read a page of Redis keys, of one node after the other.

        Args:
            cursor: where it begins: the name of a node and that node's cursor; ``None`` for the beginning.
            options: of the command ``SCAN``.

        Returns:
            The page, and the cursor of the next one; ``None`` at the end.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        async with self._ready() as client:
            nodes = sorted(client.get_primaries(), key=lambda node: node.name)
            name, _, node_cursor = (cursor or '').rpartition(' ')
            node = next((node for node in nodes if node.name == name), None)
            if node is None:
                node, node_cursor = nodes[0], '0'  # the beginning, or a node is gone: its keys are elsewhere now
            try:
                next_cursor, redis_keys = await node.execute_command('SCAN', node_cursor, *options)
            except FAILURES as error:
                with contextlib.suppress(*FAILURES):
                    await client.nodes_manager.initialize()
                raise self._unavailable(error) from None
        if next_cursor == 0:
            later = [other.name for other in nodes if other.name > node.name]
            return redis_keys, f'{later[0]} 0' if later else None
        return redis_keys, f'{node.name} {next_cursor}'

    async def one_for_each_node(self, redis_keys: Sequence[str]) -> list[str]:
        """Return, of some Redis keys, the first one for each master.

        Args:
            redis_keys: the Redis keys.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        async with self._ready() as client:
            found: dict[ClusterNode, str] = {}
            for redis_key in redis_keys:
                with contextlib.suppress(exceptions.RedisClusterException):  # no node has its slot
                    found.setdefault(client.nodes_manager.get_node_from_slot(key_slot(redis_key.encode())), redis_key)
            return list(found.values())

    async def info(self) -> dict[str, dict[str, str]]:
        """Return the fields of ``INFO`` of each master, by its address; of one that refuses, none.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        by_address: dict[str, dict[str, str]] = {}
        async with self._ready() as client:
            for node in client.get_primaries():
                by_address[node.name] = {}
                with contextlib.suppress(*FAILURES):
                    fields = await node.execute_command('INFO')
                    by_address[node.name] = {field: str(value) for field, value in fields.items()}
        return by_address

    @contextlib.asynccontextmanager
    async def _ready(self) -> AsyncIterator[RedisCluster]:
        """Give redis-py's client once it knows the nodes; to as many callers at once as there are permits."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._permits.acquire()
        except TimeoutError:
            raise self._unavailable(exceptions.ConnectionError(ALL_BUSY)) from None
        try:
            try:
                await self._client.initialize()
            except FAILURES as error:
                raise self._unavailable(error) from None
            yield self._client
        finally:
            self._permits.release()


def _slot(command: Command) -> int:
    """Return the slot of a command's first key."""
    key = command[3] if command[0] in ('EVAL', 'EVALSHA') else command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())
