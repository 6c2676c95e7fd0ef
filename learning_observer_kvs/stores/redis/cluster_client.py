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
from learning_observer_kvs.stores.redis.errors import ALL_BUSY, ASTRAY, FAILURES, LOST

Command = Sequence[str | bytes | int]


_REDIRECTIONS = (exceptions.AskError, exceptions.TryAgainError)  # MOVED is an ASK to redis-py


class Nodes:
    """The nodes of a cluster.

    Args:
        client: redis-py's.
        turns: as many as there are connections to a node, so that nobody finds all of them busy.
        timeout: seconds to wait for a turn.
        unavailable: what an error means to the caller.
    """

    def __init__(
        self,
        client: RedisCluster,
        turns: asyncio.Semaphore,
        timeout: float,
        unavailable: Callable[[BaseException], KVSError],
    ) -> None:
        self._client = client
        self._turns = turns
        self._timeout = timeout
        self._unavailable = unavailable

    async def each(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands to the nodes of a cluster, each to that of its keys; the replies in order.

        Redirections are followed. An error stands in its reply's place, also that no reply came; then the map of the
        cluster is read again.

        Raises:
            StoreUnavailable, Overloaded: nothing was sent.
        """
        async with self._turn() as client:
            replies: list[Any] = [None] * len(commands)
            of_nodes: dict[ClusterNode, list[int]] = {}
            for location, command in enumerate(commands):
                try:
                    node = client.nodes_manager.get_node_from_slot(_slot(command))
                    of_nodes.setdefault(node, []).append(location)
                except exceptions.RedisClusterException as error:
                    replies[location] = error
            await asyncio.gather(
                *(self._exchange(node, commands, locations, replies) for node, locations in of_nodes.items())
            )
            for location, reply in enumerate(replies):
                if isinstance(reply, _REDIRECTIONS):
                    try:
                        replies[location] = await client.execute_command(*commands[location])
                    except FAILURES as error:
                        replies[location] = error
            if any(isinstance(reply, ASTRAY) for reply in replies):
                with contextlib.suppress(*FAILURES):
                    await client.nodes_manager.initialize()
            return replies

    async def _exchange(
        self, node: ClusterNode, commands: Sequence[Command], locations: Sequence[int], replies: list[Any]
    ) -> None:
        """Send those of the commands that are for a node, in one packet; one node's failure is no other's."""
        connection = node.acquire_connection()
        answered = 0
        try:
            async with asyncio.timeout(self._timeout):
                packed = [pack_command(tuple(commands[location])) for location in locations]  # type: ignore[arg-type]
                await connection.send_packed_command(packed, check_health=False)
                for location in locations:
                    try:
                        replies[location] = await connection.read_response()
                    except exceptions.ResponseError as error:
                        replies[location] = error
                    answered += 1
        except LOST as error:
            await connection.disconnect(nowait=True)
            replies[locations[answered]] = error
            for location in locations[answered + 1 :]:
                replies[location] = exceptions.ConnectionError(f'{node.name}: {error}')
        finally:
            node.release(connection)

    async def scan(self, cursor: str | None, *options: str | bytes | int) -> tuple[list[bytes], str | None]:
        """A page of names of one node after the other; a cursor is the name of a node and its own cursor."""
        async with self._turn() as client:
            nodes = sorted(client.get_primaries(), key=lambda node: node.name)
            name, _, inner = (cursor or '').rpartition(' ')
            node = next((node for node in nodes if node.name == name), None)
            if node is None:
                node, inner = nodes[0], '0'  # the beginning, or a node is gone: its keys are elsewhere now
            try:
                position, names = await node.execute_command('SCAN', inner, *options)
            except FAILURES as error:
                with contextlib.suppress(*FAILURES):
                    await client.nodes_manager.initialize()
                raise self._unavailable(error) from None
        if position == 0:
            later = [other.name for other in nodes if other.name > node.name]
            return names, f'{later[0]} 0' if later else None
        return names, f'{node.name} {position}'

    async def info(self) -> dict[str, dict[str, str]]:
        """What ``INFO`` tells of each master, by address; nothing of one that refuses."""
        told: dict[str, dict[str, str]] = {}
        async with self._turn() as client:
            for node in client.get_primaries():
                told[node.name] = {}
                with contextlib.suppress(*FAILURES):
                    found = await node.execute_command('INFO')
                    told[node.name] = {word: str(value) for word, value in found.items()}
        return told

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[RedisCluster]:
        """The client of a cluster, which knows its nodes; so many at once as there are connections."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.acquire()
        except TimeoutError:
            raise self._unavailable(exceptions.ConnectionError(ALL_BUSY)) from None
        try:
            try:
                await self._client.initialize()
            except FAILURES as error:
                raise self._unavailable(error) from None
            yield self._client
        finally:
            self._turns.release()


def _slot(command: Command) -> int:
    """The slot of a command's first key."""
    key = command[3] if command[0] in ('EVAL', 'EVALSHA') else command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())
