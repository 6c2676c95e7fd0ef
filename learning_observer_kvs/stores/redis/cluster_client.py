"""A Redis Cluster, as one event loop talks to it. Slots and redirections are redis-py's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hiredis import pack_command

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.errors import ALL_BUSY, ReplyLost, lost, one_line, refusal

if TYPE_CHECKING:
    from redis.asyncio import RedisCluster
    from redis.asyncio.cluster import ClusterNode

Command = Sequence[str | bytes | int]


class NodePermits(dict[str, asyncio.Semaphore]):
    """For each node, by its name, as many permits as it has connections, so that no caller finds all of them busy.

    A node that does not answer keeps those of its own, and none of another.

    Args:
        size: how many connections a node has.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __missing__(self, name: str) -> asyncio.Semaphore:
        permits = self[name] = asyncio.Semaphore(self._size)
        return permits


class ClusterClient:
    """The nodes of a cluster.

    Args:
        client: redis-py's.
        permits: of the running event loop.
        timeout: seconds to wait for a permit, and for the replies of a node.
        unavailable: returns the error to raise for one of redis-py.
    """

    def __init__(
        self,
        client: RedisCluster,
        permits: NodePermits,
        timeout: float,
        unavailable: Callable[[BaseException], KVSError],
    ) -> None:
        self._client = client
        self._permits = permits
        self._timeout = timeout
        self._unavailable = unavailable

    def knows_nodes(self) -> bool:
        """Return whether it has found the nodes and their slots."""
        return bool(self._client.nodes_manager.slots_cache)

    async def find_nodes(self) -> None:
        """Find the nodes and their slots, unless that was done.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        await self._ready()

    def owner(self, slot: int) -> str | None:
        """Return the name of the node that has a slot; ``None`` if none is known.

        Args:
            slot: the slot. It may have moved since the nodes were last asked.
        """
        nodes = self._client.nodes_manager.slots_cache.get(slot)
        return nodes[0].name if nodes else None

    async def exchange(self, commands: Sequence[Command], timeout: float | None = None) -> list[Any]:
        """Send commands to the nodes of their keys, and follow redirections.

        After an error that says so the map of the cluster is read again.

        Args:
            commands: each with its keys in one slot.
            timeout: seconds for the replies of a node; by default as the settings have it.

        Returns:
            The replies in order. In the place of a reply: the refusal of a node; a ``ReplyLost``, where it was sent and
            not answered as Redis answers; a ``StoreUnavailable`` or ``Overloaded``, where it was not sent.

        Raises:
            StoreUnavailable, Overloaded: nothing was sent.
            UnicodeError, TypeError: a command cannot be put into bytes; nothing was sent.
        """
        packed = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        timeout = self._timeout if timeout is None else timeout
        client = await self._ready()
        replies: list[Any] = [None] * len(commands)
        by_node: dict[ClusterNode, list[int]] = {}
        for position, command in enumerate(commands):
            try:
                by_node.setdefault(_node_of(client, _slot(command)), []).append(position)
            except redis_py.exceptions.RedisClusterException as error:
                replies[position] = self._unavailable(error)
        await asyncio.gather(
            *(self._exchange(node, packed, positions, replies, timeout) for node, positions in by_node.items())
        )
        for position, reply in enumerate(replies):
            if _is_redirection(reply):
                replies[position] = await self._redirect(client, commands[position], reply, timeout)
        if any(_is_of_a_stale_map(reply) for reply in replies):
            await _read_map(client, timeout)
        return replies

    async def _exchange(
        self,
        node: ClusterNode,
        packed: Sequence[bytes],
        positions: Sequence[int],
        replies: list[Any],
        timeout: float,
    ) -> None:
        """Send those of the commands that are for a node, in one packet; its failure concerns no other node."""
        try:
            await self._acquire(node.name, timeout)
        except KVSError as error:
            for position in positions:
                replies[position] = error
            return
        connection: Any = None
        answered, is_sent = 0, False
        try:
            async with asyncio.timeout(timeout):
                connection = node.acquire_connection()
                if connection.is_connected and await has_unread_data(connection):
                    await connection.disconnect(nowait=True)  # the node has closed it meanwhile
                if not connection.is_connected:
                    await connection.connect()
                is_sent = True
                await connection.send_packed_command([packed[position] for position in positions], check_health=False)
                for position in positions:
                    try:
                        replies[position] = await connection.read_response()
                    except redis_py.exceptions.ResponseError as error:
                        replies[position] = error
                    answered += 1
        except BaseException as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
            for position in positions[answered:]:
                replies[position] = lost(f'{node.name}: {one_line(error)}') if is_sent else self._unavailable(error)
            if is_sent and (refused := refusal(error)) is not None:
                replies[positions[answered]] = refused
        finally:
            if connection is not None:
                node.release(connection)
            self._permits[node.name].release()

    async def _redirect(self, client: RedisCluster, command: Command, redirection: Any, timeout: float) -> Any:
        """Have redis-py follow a redirection; the reply, or an error in its place."""
        try:
            names = {_node_of(client, _slot(command)).name}
            if isinstance(redirection, redis_py.exceptions.AskError):
                names.add('{}:{}'.format(*redirection.node_addr))
            async with self._permitted(names, timeout), asyncio.timeout(timeout):
                return await client.execute_command(*command)
        except (KVSError, redis_py.exceptions.ResponseError) as error:
            return error
        except Exception as error:
            return refusal(error) or lost(error)

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
        client = await self._ready()
        nodes = sorted(client.get_primaries(), key=lambda node: node.name)
        name, _, node_cursor = (cursor or '').rpartition(' ')
        node = next((node for node in nodes if node.name == name), None)
        if node is None:
            node, node_cursor = nodes[0], '0'  # the beginning, or a node is gone: its keys are elsewhere now
        try:
            async with self._permitted({node.name}, self._timeout), asyncio.timeout(self._timeout):
                next_cursor, redis_keys = await node.execute_command('SCAN', node_cursor, *options)
        except Exception as error:
            await _read_map(client, self._timeout)
            raise self._unavailable(error) from None
        if next_cursor == 0:
            later = [other.name for other in nodes if other.name > node.name]
            return redis_keys, f'{later[0]} 0' if later else None
        return redis_keys, f'{node.name} {next_cursor}'

    async def masters(self, *, refresh: bool) -> dict[str, Callable[[], Any]]:
        """Return what makes a connection to each master, by its address, apart from those that commands use.

        Args:
            refresh: whether to ask the cluster again which nodes are masters.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        client = await self._ready()
        if refresh:
            await _read_map(client, self._timeout)
        return {node.name: partial(apart, node) for node in client.get_primaries()}

    async def one_for_each_node(self, redis_keys: Sequence[str]) -> list[str]:
        """Return, of some Redis keys, the first one for each master.

        Args:
            redis_keys: the Redis keys.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        client = await self._ready()
        found: dict[ClusterNode, str] = {}
        for redis_key in redis_keys:
            with contextlib.suppress(redis_py.exceptions.RedisClusterException):  # no node has its slot
                found.setdefault(_node_of(client, redis_py.crc.key_slot(redis_key.encode())), redis_key)
        return list(found.values())

    async def info(self) -> dict[str, dict[str, str]]:
        """Return the fields of ``INFO`` of each master, by its address; of one that refuses, none.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        by_address: dict[str, dict[str, str]] = {}
        client = await self._ready()
        for node in client.get_primaries():
            by_address[node.name] = {}
            async with self._permitted({node.name}, self._timeout):
                with contextlib.suppress(Exception):
                    fields = await node.execute_command('INFO')
                    by_address[node.name] = {field: str(value) for field, value in fields.items()}
        return by_address

    async def _ready(self) -> RedisCluster:
        """Return redis-py's client once it knows the nodes."""
        try:
            await self._client.initialize()
        except Exception as error:
            raise self._unavailable(error) from None
        return self._client

    async def _acquire(self, name: str, timeout: float) -> None:
        """Wait for a permit of a node; it is for the caller to release."""
        permits = self._permits[name]
        if not permits.locked():
            await permits.acquire()  # at once
            return
        try:
            async with asyncio.timeout(timeout):
                await permits.acquire()
        except TimeoutError:
            raise self._unavailable(redis_py.exceptions.ConnectionError(ALL_BUSY)) from None

    @contextlib.asynccontextmanager
    async def _permitted(self, names: Iterable[str], timeout: float) -> AsyncIterator[None]:
        """Hold a permit of each of some nodes."""
        async with contextlib.AsyncExitStack() as held:
            for name in sorted(names):  # in this order, so that no two callers wait for each other
                await self._acquire(name, timeout)
                held.callback(self._permits[name].release)
            yield


def apart(source: Any) -> Any:
    """Return a new connection in RESP2 that belongs to no pool; it is not connected yet.

    Args:
        source: a node of a cluster or a pool of redis-py, which knows how to connect.
    """
    return source.connection_class(**{**source.connection_kwargs, 'protocol': 2})


async def has_unread_data(connection: Any) -> bool:
    """Return whether there is something to read though no reply is due, be it the end of the connection.

    Args:
        connection: redis-py's, on which nothing is under way.
    """
    try:
        return bool(await connection.can_read())
    except (redis_py.exceptions.RedisError, OSError):
        return True


async def _read_map(client: RedisCluster, timeout: float) -> None:
    """Read again which node has which slots; where that fails the old map is kept."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(timeout):
            await client.nodes_manager.initialize()


def _is_of_a_stale_map(reply: object) -> bool:
    """Return whether a reply is an error after which the map of slots may be out of date."""
    return isinstance(reply, Exception) and isinstance(reply, (ReplyLost, KVSError, redis_py.exceptions.ClusterError))


def _is_redirection(reply: object) -> bool:
    """Return whether a reply says that another node has the slot; MOVED is an ASK to redis-py."""
    return isinstance(reply, Exception) and isinstance(
        reply, (redis_py.exceptions.AskError, redis_py.exceptions.TryAgainError)
    )


def _node_of(client: RedisCluster, slot: int) -> ClusterNode:
    """Return the node of a slot; raise a ``RedisClusterException`` if none is known."""
    try:
        return client.nodes_manager.get_node_from_slot(slot)
    except KeyError:  # as redis-py has it where no node has told of the slot
        raise redis_py.exceptions.SlotNotCoveredError(f'no node of the cluster has slot {slot}') from None


def _slot(command: Command) -> int:
    """Return the slot of a command's first key."""
    key = command[3] if command[0] in ('EVAL', 'EVALSHA') else command[1]
    return redis_py.crc.key_slot(key if isinstance(key, bytes) else str(key).encode())
