"""The Redis connection: settings in, clients out, and the one place that exchanges commands with a server.

Nothing here is sent twice without its sender's knowledge, and bursts wait. What the settings mean is said in
``redis_settings``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.redis import options as redis_options
from learning_observer_kvs.stores.redis.client import client_of, cluster_of
from learning_observer_kvs.stores.redis.cluster_client import Command, Nodes
from learning_observer_kvs.stores.redis.errors import LOST, REFUSALS, ReplyLost, is_loss, unavailable


class RedisConnection:
    """How to reach one Redis, and a client for each event loop that asks.

    Args:
        settings: the ``redis_connection`` block; see :meth:`configure`.
        base: another connection, whose settings hold where these say nothing.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, base: RedisConnection | None = None) -> None:
        self._own = dict(settings or {})
        self._base = base
        self._clients: PerLoop[list[_Made]] = PerLoop(list)
        self._turns = PerLoop(lambda: asyncio.Semaphore(redis_options.value(self.settings, 'redis_max_connections')))
        self._handed_in: Redis | RedisCluster | None = None

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Fill it in place. What is under way goes on with the settings it began with.

        Args:
            settings: see :data:`OPTIONS`; the checks have found them right.
        """
        self._own = dict(settings)

    def use(self, client: Redis | RedisCluster) -> None:
        """Use a client of the caller's own, with bytes as replies; it is never closed here."""
        self._handed_in = client

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that hold."""
        return redis_options.overriding(self._base.settings, self._own) if self._base else self._own

    @property
    def clustered(self) -> bool:
        """Whether it is a cluster."""
        if self._handed_in is not None:
            return isinstance(self._handed_in, RedisCluster)
        return bool(redis_options.value(self.settings, 'redis_cluster'))

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer."""
        return float(redis_options.value(self.settings, 'redis_timeout'))

    def address(self) -> str:
        """Where the server is, for messages; no password in it."""
        if self._handed_in is not None:
            if isinstance(self._handed_in, RedisCluster):
                return ', '.join(node.name for node in self._handed_in.startup_nodes)
            options = self._handed_in.connection_pool.connection_kwargs
            names = {'redis_host': 'host', 'redis_port': 'port', 'redis_socket': 'path'}
            return redis_options.address({word: options.get(name) for word, name in names.items()})
        return redis_options.address(self.settings)

    def client(self) -> Any:
        """redis-py's client for the running event loop: a ``Redis``, or a ``RedisCluster``."""
        if self._handed_in is not None:
            return self._handed_in
        if self._base is not None and self._base._handed_in is not None and not self._own:
            return self._base._handed_in
        made = self._clients.here()
        settings = self.settings
        if not made or made[-1].settings != settings:
            make = cluster_of if self.clustered else client_of
            client = make(settings)
            made.append(_Made(dict(settings), client, _closed_at_the_end_of_the_loop(client)))
        return made[-1].client

    def line(self) -> Line:
        """A connection of the caller's own, in this loop: what is sent on it arrives in order."""
        return Line(self)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands over any free connection; see :meth:`Line.exchange`. In a cluster each names its keys."""
        if self.clustered:
            replies = await self.nodes().each(commands)
            for reply in replies:
                if is_loss(reply):
                    raise ReplyLost(f'{self.address()}: {reply or type(reply).__name__}')
            return replies
        line = Line(self)
        try:
            return await line.exchange(commands)
        finally:
            await line.close()

    def nodes(self) -> Nodes:
        """The nodes, if it is a cluster."""
        return Nodes(self.client(), self._turns.here(), self.timeout, self.unavailable)

    async def scan(self, cursor: str | None, count: int, pattern: str = '*') -> tuple[list[bytes], str | None]:
        """A page of names and the cursor of the next page, ``None`` at the end.

        Raises:
            StoreUnavailable: no answer.
        """
        options: list[str | bytes | int] = ['MATCH', pattern, 'COUNT', count]
        if self.clustered:
            return await self.nodes().scan(cursor, *options)
        [(following, names)] = await self.ask(['SCAN', cursor or '0', *options])
        return names, None if following == b'0' else following.decode()

    async def info(self) -> dict[str, dict[str, str]]:
        """What ``INFO`` tells of the server, or of each master of a cluster, by address; nothing if it is refused.

        Raises:
            StoreUnavailable, Overloaded, ReplyLost: no answer.
        """
        if self.clustered:
            return await self.nodes().info()
        [text] = await self.exchange([('INFO',)])
        lines = text.decode('utf-8', 'replace').splitlines() if isinstance(text, bytes) else []
        return {self.address(): dict(line.split(':', 1) for line in lines if ':' in line)}

    async def ask(self, *commands: Command) -> list[Any]:
        """Exchange commands that only read; one that met a broken connection is sent once more.

        Raises:
            StoreUnavailable: no answer, or the server refuses.
        """
        try:
            replies = await self.exchange(commands)
        except ReplyLost:
            try:
                replies = await self.exchange(commands)
            except ReplyLost as lost:
                raise self.unavailable(lost) from None
        for reply in replies:
            if isinstance(reply, Exception) and not str(reply).startswith('WRONGTYPE'):
                raise self.unavailable(reply)
        return replies

    def unavailable(self, error: BaseException) -> KVSError:
        """What an error of redis-py means to the caller: the address, the fault, the cure."""
        return unavailable(error, self.address(), self.timeout)

    async def close(self) -> None:
        """Close the running loop's connections; they are opened again when asked for."""
        for made in self._clients.pop() or ():
            await made.lifetime.aclose()


class _Made(NamedTuple):
    """A client, what it was made with, and what closes it."""

    settings: dict[str, Any]
    client: Redis | RedisCluster
    lifetime: AsyncGenerator[None, None]

    def __repr__(self) -> str:
        return f'<{self.client!r}>'  # the settings hold passwords


def _closed_at_the_end_of_the_loop(client: Redis | RedisCluster) -> AsyncGenerator[None, None]:
    """A generator that closes a client when it is closed itself; a loop that ends does that to all it has begun."""

    async def lifetime() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if isinstance(client, Redis):
                await client.aclose(close_connection_pool=True)
            else:
                await client.aclose()
                for nodes in ('nodes_cache', 'startup_nodes'):  # which it leaves alone if it has met an error
                    await client.nodes_manager.aclose(nodes)

    generator = lifetime()
    with contextlib.suppress(StopIteration):
        generator.__anext__().send(None)  # to its yield; nothing is awaited before
    return generator


class Line:
    """One connection, taken from the pool at the first exchange, and a new one after a fault.

    Args:
        owner: whose settings it is made by.
    """

    def __init__(self, owner: RedisConnection) -> None:
        self._owner = owner
        self._taken: tuple[Any, Any] | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one packet and read their replies in order; an error reply stands in its place.

        Raises:
            StoreUnavailable, Overloaded: nothing was sent.
            ReplyLost: all was sent, perhaps, and not all replies came.
        """
        pool = self._owner.client().connection_pool
        if self._taken is not None and (self._taken[0] is not pool or await _is_spoilt(self._taken[1])):
            await self.close()  # the settings have changed, or the server has closed it meanwhile
        if self._taken is None:
            try:
                self._taken = pool, await pool.get_connection()
            except (exceptions.RedisError, *LOST) as error:
                raise self._owner.unavailable(error) from None
        connection = self._taken[1]
        replies: list[Any] = []
        try:
            # One deadline for all, and hiredis to pack: both are several times faster than what redis-py does itself.
            async with asyncio.timeout(self._owner.timeout):
                packed = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
                await connection.send_packed_command(packed, check_health=False)
                for _ in commands:
                    try:
                        replies.append(await connection.read_response())
                    except exceptions.ResponseError as error:
                        replies.append(error)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            await self.close()
            if len(commands) == 1 and isinstance(error, tuple(REFUSALS)):
                return [exceptions.ResponseError(f'{REFUSALS[type(error)]} {error}')]
            if isinstance(error, LOST):
                raise ReplyLost(f'{self._owner.address()}: {error or type(error).__name__}') from None
            raise
        return replies

    async def close(self) -> None:
        """Give the connection back; the pool looks whether it can still be used."""
        if self._taken is not None:
            (pool, connection), self._taken = self._taken, None
            await pool.release(connection)


async def _is_spoilt(connection: Any) -> bool:
    """Whether something is there to be read though nothing was asked, be it the end."""
    try:
        return bool(await connection.can_read())
    except (exceptions.RedisError, OSError):
        return True


shared = RedisConnection()
"""The program's connection; the start-up check fills it in place from ``redis_connection`` in the settings."""


def as_text(key: bytes) -> str | None:
    """A key of Redis as text; ``None`` if it is not UTF-8, and so none of ours."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None
