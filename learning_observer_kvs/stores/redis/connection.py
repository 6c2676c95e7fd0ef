"""The connection to Redis: clients made from the settings, and the only place that exchanges commands with a server.

Nothing is sent twice unless its sender decides so, and bursts wait for a free connection. What the settings mean is
in :mod:`learning_observer_kvs.stores.redis.options`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from hiredis import pack_command

from learning_observer_kvs.errors import InvalidKey, KVSError
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis import invalidations, redis_py
from learning_observer_kvs.stores.redis import options as redis_options
from learning_observer_kvs.stores.redis.cluster_client import (
    ClusterClient,
    Command,
    NodePermits,
    apart,
    has_unread_data,
)
from learning_observer_kvs.stores.redis.errors import ReplyLost, is_loss, is_wrong_type, lost, refusal, unavailable
from learning_observer_kvs.stores.redis.tracker import Tracker

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

_CURSOR = re.compile(r'(?:.* )?([0-9]{1,20})', re.ASCII)
"""A cursor of a server; in a cluster behind the name of its node."""


class RedisConnection:
    """How to reach one Redis, with a client for each event loop that uses it.

    Args:
        settings: the ``redis_connection`` block; see :meth:`configure`.
        base: another connection, whose settings hold where these say nothing.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, base: RedisConnection | None = None) -> None:
        self._own_settings = dict(settings or {})
        self._base = base
        self._clients: PerLoop[list[_Client]] = PerLoop(list)
        self._permits = PerLoop(lambda: NodePermits(redis_options.value(self.settings, 'redis_max_connections')))
        self._trackers = PerLoop(lambda: Tracker(self, invalidations.QUIET))
        self._handed_in: Redis | RedisCluster | None = None
        self._timeout: tuple[dict[str, Any], float] | None = None  # by settings, since each exchange asks for it

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Change the settings in place. What is under way goes on with those it began with.

        Args:
            settings: see :data:`~learning_observer_kvs.stores.redis.options.OPTIONS`; they have been checked.
        """
        self._own_settings = dict(settings)

    def pin(self, settings: Mapping[str, Any]) -> None:
        """Keep to settings from now on, whatever becomes of those of the base.

        Args:
            settings: all that hold for a connection, as :attr:`settings` returns them.
        """
        self._handed_in = self._client_handed_in()
        self._own_settings, self._base = dict(settings), None

    def use(self, client: Redis | RedisCluster) -> None:
        """Use a client that the caller made and closes.

        Args:
            client: its replies are bytes.
        """
        self._handed_in = client

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force."""
        if self._base is None:
            return self._own_settings
        if not self._own_settings:
            return self._base.settings
        return redis_options.overriding(self._base.settings, self._own_settings)

    @property
    def clustered(self) -> bool:
        """Whether it is a cluster."""
        if (handed_in := self._client_handed_in()) is not None:
            return isinstance(handed_in, redis_py.asyncio.RedisCluster)
        return bool(redis_options.value(self.settings, 'redis_cluster'))

    @property
    def timeout(self) -> float:
        """Seconds to wait for the replies of an exchange."""
        settings, known = self.settings, self._timeout
        if known is None or known[0] is not settings:
            known = self._timeout = settings, float(redis_options.value(settings, 'redis_timeout'))
        return known[1]

    @property
    def connect_timeout(self) -> float:
        """Seconds to wait for a connection."""
        return float(redis_options.value(self.settings, 'redis_connect_timeout'))

    def tracker(self) -> Tracker:
        """Return what follows the changes of the server in the running event loop."""
        return self._trackers.here()

    async def masters(self, *, refresh: bool = False) -> dict[str, Callable[[], Any]]:
        """Return what makes a connection to each server, apart from those that commands use.

        Args:
            refresh: whether a cluster is asked again which of its nodes are masters.

        Returns:
            By the address of the node; a single server has an empty one.

        Raises:
            StoreUnavailable, Overloaded: the cluster does not answer.
        """
        if self.clustered:
            return await self.cluster_client().masters(refresh=refresh)
        return {'': lambda: apart(self.client().connection_pool)}

    def address(self) -> str:
        """Return where the server is, for messages, without a password."""
        if (handed_in := self._client_handed_in()) is not None:
            if isinstance(handed_in, redis_py.asyncio.RedisCluster):
                return ', '.join(node.name for node in handed_in.startup_nodes)
            options = handed_in.connection_pool.connection_kwargs
            names = {'redis_host': 'host', 'redis_port': 'port', 'redis_socket': 'path'}
            return redis_options.address({option: options.get(name) for option, name in names.items()})
        return redis_options.address(self.settings)

    def client(self) -> Any:
        """Return redis-py's client of the running event loop: a ``Redis``, or a ``RedisCluster``."""
        if (handed_in := self._client_handed_in()) is not None:
            return handed_in
        clients = self._clients.here()
        settings = self.settings
        if not clients or clients[-1].settings != settings:
            from learning_observer_kvs.stores.redis import client as clients_of  # imports redis-py

            client = clients_of.cluster_of(settings) if self.clustered else clients_of.client_of(settings)
            clients.append(_Client(dict(settings), client, _closed_at_the_end_of_the_loop(client)))
        return clients[-1].client

    def cluster_client(self) -> ClusterClient:
        """Return the nodes of the cluster, for the running event loop; only for a cluster."""
        return ClusterClient(self.client(), self._permits.here(), self.timeout, self.unavailable)

    async def exchange(self, commands: Sequence[Command], timeout: float | None = None) -> list[Any]:
        """Send commands over any free connection, or to the nodes of their keys.

        Args:
            commands: in a cluster each names its keys.
            timeout: seconds for all of it; by default as the settings have it, for a connection and for the replies.

        Returns:
            The replies in order; a refusal is in the place of its reply.

        Raises:
            StoreUnavailable, Overloaded: nothing was sent.
            ReplyLost: not all replies came; each command may or may not have been carried out.
            UnicodeError, TypeError: a command cannot be put into bytes; nothing was sent.
        """
        if self.clustered:
            replies = await self.cluster_client().exchange(commands, timeout)
        else:
            connection = PinnedConnection(self)
            replies = await connection.exchange(commands, timeout)  # where it raises it has given the connection back
            await connection.close()
        for reply in replies:
            if isinstance(reply, Exception) and is_loss(reply):
                raise lost(reply)
        return replies

    async def ask(self, *commands: Command) -> list[Any]:
        """Exchange commands that only read; where replies are lost they are sent once more.

        Args:
            commands: in a cluster each names its keys.

        Returns:
            The replies in order; in place of one an error that the key holds another type.

        Raises:
            StoreUnavailable, Overloaded: no answer, or the server refuses.
        """
        try:
            replies = await self.exchange(commands)
        except ReplyLost:
            try:
                replies = await self.exchange(commands)
            except ReplyLost as error:
                raise self.unavailable(error) from None
        for reply in replies:
            if isinstance(reply, Exception) and not is_wrong_type(reply):
                raise self.unavailable(reply)
        return replies

    async def scan(self, cursor: str | None, count: int, pattern: str = '*') -> tuple[list[bytes], str | None]:
        """Read a page of Redis keys.

        Args:
            cursor: where it begins; ``None`` for the beginning.
            count: about how many keys the server looks at.
            pattern: a glob that the keys match.

        Returns:
            The page, and the cursor of the next one; ``None`` at the end.

        Raises:
            InvalidKey: the cursor is not one of a page.
            StoreUnavailable, Overloaded: no answer, or the server refuses.
        """
        if cursor is not None and not _is_cursor(cursor):
            raise InvalidKey(f'{display_key(cursor)} is not the cursor of a page of Redis keys.')
        options: list[str | bytes | int] = ['MATCH', pattern, 'COUNT', count]
        if self.clustered:
            return await self.cluster_client().scan(cursor, *options)
        [reply] = await self.ask(['SCAN', cursor or '0', *options])
        match reply:
            case [bytes() as next_cursor, list() as redis_keys]:
                return redis_keys, None if next_cursor == b'0' else next_cursor.decode('utf-8', 'replace')
        raise self.unavailable(lost(f'the reply to SCAN was {type(reply).__name__}'))

    async def pages(self, count: int, pattern: str = '*') -> AsyncGenerator[list[bytes], None]:
        """Go through all Redis keys, a page at a time.

        Args:
            count: about how many keys the server looks at for a page.
            pattern: a glob that the keys match.

        Yields:
            Pages of keys; a key may come twice.

        Raises:
            StoreUnavailable, Overloaded: no answer, or the server refuses.
        """
        cursor: str | None = None
        while True:
            page, cursor = await self.scan(cursor, count, pattern)
            yield page
            if cursor is None:
                return

    async def info(self) -> dict[str, dict[str, str]]:
        """Return the fields of ``INFO`` by address, of the server or of each master; none where it is refused.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        if self.clustered:
            return await self.cluster_client().info()
        try:
            [text] = await self.exchange([('INFO',)])
        except ReplyLost as error:
            raise self.unavailable(error) from None
        lines = text.decode('utf-8', 'replace').splitlines() if isinstance(text, bytes) else []
        return {self.address(): dict(line.split(':', 1) for line in lines if ':' in line)}

    def unavailable(self, error: BaseException) -> KVSError:
        """Return the error to raise for an error of redis-py: with the address, the message and a hint.

        Args:
            error: the error, or a lost reply of a command that only reads.
        """
        settings = {} if self._client_handed_in() is not None else self.settings
        return unavailable(error, self.address(), settings)

    async def close(self) -> None:
        """Close the running loop's connections; they are opened again when they are needed.

        The iterators over changes end.
        """
        if (tracker := self._trackers.pop()) is not None:
            await tracker.close()
        for made in self._clients.pop() or ():
            await made.lifetime.aclose()

    def _client_handed_in(self) -> Redis | RedisCluster | None:
        """Return the client that was handed in here, or to the base if these settings change nothing."""
        if self._handed_in is None and self._base is not None and not self._own_settings:
            return self._base._client_handed_in()
        return self._handed_in


RESTED = 0.001
"""Seconds without a reply after which a connection may have ended without notice."""


class PinnedConnection:
    """One connection for one sender: what is sent on it arrives in order.

    It is taken from the pool at the first exchange; after a failure it is another one.

    Args:
        owner: whose settings it is made by.
    """

    def __init__(self, owner: RedisConnection) -> None:
        self._owner = owner
        self._taken: tuple[Any, Any] | None = None
        self._used_at = 0.0  # when the last reply came

    async def exchange(self, commands: Sequence[Command], timeout: float | None = None) -> list[Any]:
        """Send commands in one packet and read their replies.

        Args:
            commands: the commands.
            timeout: seconds for all of it; by default as the settings have it, for a connection and for the replies.

        Returns:
            The replies in order. An error, also a lost reply, is in the place of its reply. Lost is whatever was sent
            and not answered as Redis answers.

        Raises:
            StoreUnavailable, Overloaded: nothing was sent.
            UnicodeError, TypeError: a command cannot be put into bytes; nothing was sent.
        """
        # One deadline for all, and hiredis to pack: both are several times faster than what redis-py does itself.
        packed = list(map(pack_command, map(tuple, commands)))  # type: ignore[arg-type]
        pool = self._owner.client().connection_pool
        if self._taken is not None:
            if monotonic() - self._used_at > RESTED:
                await asyncio.sleep(0)  # the event loop notices that the server has closed it
            if self._taken[0] is not pool or await has_unread_data(self._taken[1]):
                await self.close()  # the settings have changed, or the server has closed it meanwhile
        if self._taken is None:
            try:
                async with asyncio.timeout(timeout):
                    self._taken = pool, await pool.get_connection()
            except Exception as error:
                raise self._owner.unavailable(error) from None
        connection = self._taken[1]
        replies: list[Any] = []
        try:
            async with asyncio.timeout(self._owner.timeout if timeout is None else timeout):
                await connection.send_packed_command(packed, check_health=False)
                for _ in commands:
                    try:
                        replies.append(await connection.read_response(disconnect_on_error=False))
                    except redis_py.exceptions.ResponseError as error:
                        replies.append(error)
        except GeneratorExit:  # the event loop was closed meanwhile: nothing can be awaited
            raise
        except BaseException as error:
            await self.drop()
            if not isinstance(error, Exception):
                raise
            replies.append(refusal(error) or lost(error))
            replies += [lost(error)] * (len(commands) - len(replies))
        self._used_at = monotonic()
        return replies

    async def drop(self) -> None:
        """Break the connection: what comes on it is not to be read."""
        if self._taken is not None:
            await self._taken[1].disconnect(nowait=True)
            await self.close()

    async def close(self) -> None:
        """Give the connection back; the pool checks whether it can still be used."""
        if self._taken is not None:
            (pool, connection), self._taken = self._taken, None
            await pool.release(connection)


class _Client(NamedTuple):
    """A client of redis-py, what it was made with, and what closes it."""

    settings: dict[str, Any]
    client: Redis | RedisCluster
    lifetime: AsyncGenerator[None, None]

    def __repr__(self) -> str:
        return f'<{self.client!r}>'  # the settings hold passwords


def _closed_at_the_end_of_the_loop(client: Redis | RedisCluster) -> AsyncGenerator[None, None]:
    """Return a generator that closes a client when it is closed itself; a loop that ends closes all it has begun."""

    async def lifetime() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if isinstance(client, redis_py.asyncio.Redis):
                await client.aclose(close_connection_pool=True)
            else:
                await client.aclose()
                for nodes in ('nodes_cache', 'startup_nodes'):  # which it leaves alone if it has met an error
                    await client.nodes_manager.aclose(nodes)

    generator = lifetime()
    with contextlib.suppress(StopIteration):
        generator.__anext__().send(None)  # to its yield; nothing is awaited before
    return generator


def _is_cursor(text: str) -> bool:
    found = _CURSOR.fullmatch(text)
    return found is not None and int(found[1]) < 1 << 64


shared = RedisConnection()
"""The program's connection; the start-up check fills it in place from ``redis_connection`` in the settings."""
