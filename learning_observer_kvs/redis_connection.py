"""The Redis connection: settings in, clients out, and the one place that exchanges commands with a server.

redis-py's defaults are wrong for a store: it sends a write again whose reply was lost, up to ten times, and gives up
over 100 commands at once. So nothing here is sent twice without its sender's knowledge, and bursts wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from learning_observer_kvs.errors import CorruptValue, KVSError, Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.loops import PerLoop

Command = Sequence[str | bytes | int]

_LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, asyncio.TimeoutError, EOFError)


class ReplyLost(Exception):
    """The connection broke after commands were sent: nobody knows whether they were carried out."""


class RedisConnection:
    """How to reach one Redis, and a client for each event loop that asks.

    Args:
        settings: the ``redis_connection`` block; see :meth:`configure`.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self._settings: dict[str, Any] = {}
        self._clients = PerLoop(self._make)
        self._handed_in: Redis | None = None
        self.configure(settings or {})

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Fill it in place; clients made so far keep what they were made with until it is closed.

        Args:
            settings: ``redis_host`` (localhost), ``redis_port`` (6379), ``redis_password``, ``redis_username``,
                ``redis_db`` (0), ``redis_ssl`` (false), ``redis_socket`` (the path of a unix socket), ``redis_url``
                (instead of all these), ``redis_connect_timeout`` (2 seconds), ``redis_timeout`` (5 seconds for an
                answer), ``redis_max_connections`` (20).
        """
        changed = dict(settings)
        if changed != self._settings:
            self._clients = PerLoop(self._make)
        self._settings = changed

    def use(self, client: Redis) -> None:
        """Use a client of the caller's own, with bytes as replies; it is never closed here."""
        self._handed_in = client

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer."""
        return float(self._settings.get('redis_timeout') or 5)

    def address(self) -> str:
        """Where the server is, for messages; no password in it."""
        get = self._settings.get
        if get('redis_url'):
            return re.sub(r'(?<=://)[^/@]*@', '', str(get('redis_url')))
        if get('redis_socket'):
            return str(get('redis_socket'))
        return f'{get("redis_host") or "localhost"}:{get("redis_port") or 6379}'

    def client(self) -> Redis:
        """The client of the running event loop."""
        if self._handed_in is not None:
            return self._handed_in
        return self._clients.here()

    def _make(self) -> Redis:
        return Redis.from_pool(self._pool())

    def _pool(self) -> BlockingConnectionPool:
        get = self._settings.get
        options: dict[str, Any] = {
            'max_connections': get('redis_max_connections') or 20,
            'timeout': self.timeout,
            'socket_timeout': None,  # each exchange has a deadline of its own
            'socket_connect_timeout': float(get('redis_connect_timeout') or 2),
            'retry': Retry(NoBackoff(), 0),
            'protocol': 2,
        }
        password = get('redis_password')
        options['password'] = None if password in (None, '', 'None') else password
        options['username'] = get('redis_username') or None
        if get('redis_url'):
            url = {key: value for key, value in options.items() if value is not None}
            return BlockingConnectionPool.from_url(str(get('redis_url')), **url)
        options['db'] = get('redis_db') or 0
        if get('redis_socket'):
            return BlockingConnectionPool(
                connection_class=UnixDomainSocketConnection, path=str(get('redis_socket')), **options
            )
        return BlockingConnectionPool(
            connection_class=SSLConnection if get('redis_ssl') else Connection,
            host=str(get('redis_host') or 'localhost'),
            port=int(get('redis_port') or 6379),
            **options,
        )

    def line(self) -> Line:
        """A connection of the caller's own, in this loop: what is sent on it arrives in order."""
        return Line(self)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands over any free connection; see :meth:`Line.exchange`."""
        line = Line(self)
        try:
            return await line.exchange(commands)
        finally:
            await line.close()

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
            if isinstance(reply, exceptions.ResponseError) and not str(reply).startswith('WRONGTYPE'):
                raise self.unavailable(reply)
        return replies

    def unavailable(self, error: BaseException) -> KVSError:
        """What an error of redis-py means to the caller: the address, the fault, the cure."""
        text = re.sub(r'\s+', ' ', str(error)) or type(error).__name__
        if 'No connection available' in text:
            return Overloaded(
                f'Redis at {self.address()}: all {self._settings.get("redis_max_connections") or 20} connections were '
                f'busy for {self.timeout:g} s. Ask for less at once, or raise redis_connection.redis_max_connections.'
            )
        return StoreUnavailable(f'Redis at {self.address()} cannot be used: {text}. {_cure(error, text)}')

    async def close(self) -> None:
        """Close the running loop's connections; they are opened again when asked for."""
        client = self._clients.pop()
        if client is not None:
            await client.aclose(close_connection_pool=True)


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
        if self._taken is None:
            pool = self._owner.client().connection_pool
            try:
                self._taken = pool, await pool.get_connection()  # type: ignore[no-untyped-call]
            except (exceptions.RedisError, *_LOST) as error:
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
            if isinstance(error, _LOST):
                raise ReplyLost(f'{self._owner.address()}: {error or type(error).__name__}') from None
            raise
        return replies

    async def close(self) -> None:
        """Give the connection back."""
        if self._taken is not None:
            (pool, connection), self._taken = self._taken, None
            await pool.release(connection)


def _cure(error: BaseException, text: str) -> str:
    if isinstance(error, exceptions.AuthenticationError) or 'NOAUTH' in text or 'WRONGPASS' in text:
        return 'Set redis_connection.redis_password (and redis_username) as the server expects them.'
    if isinstance(error, exceptions.BusyLoadingError) or 'LOADING' in text:
        return 'It is still loading its data; try again in a moment.'
    if isinstance(error, exceptions.ReadOnlyError) or 'READONLY' in text:
        return 'This is a replica; name the master in redis_connection.redis_host.'
    if 'OOM' in text:
        return 'It is at its memory limit; raise maxmemory, or remove data.'
    if 'MISCONF' in text:
        return 'It cannot save to its disk; look at its log.'
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError, ReplyLost)):
        return 'Is it running there? See redis_connection.redis_host and redis_port.'
    return 'Look at its log.'


def wrong_type(place: str) -> CorruptValue:
    """The error for a key that holds a list, a hash or the like."""
    return CorruptValue(f'{place}: what is stored is no text, so no JSON. Nothing was overwritten; remove the key.')


shared = RedisConnection()
"""The program's connection; the start-up check fills it in place from ``redis_connection`` in the settings."""


async def connect() -> None:
    """Make sure that the server answers.

    Raises:
        StoreUnavailable: it does not, with its address, why, and what to do.
    """
    await shared.ask(['PING'])


async def connection() -> Redis:
    """The client of the running event loop, once the server has answered."""
    await connect()
    return shared.client()


async def get(key: str) -> bytes | None:
    """The bytes of a key; ``None`` when missing."""
    [reply] = await shared.ask(['GET', key])
    if isinstance(reply, Exception):
        raise wrong_type(repr(key))
    found: bytes | None = reply
    return found


async def mget(keys: Sequence[str]) -> list[bytes | None]:
    """The bytes of several keys, in order."""
    return (await shared.ask(['MGET', *keys]))[0] if keys else []


async def set(key: str, value: str | bytes, expiry: float | None = None) -> bool:
    """Set a key, to expire after so many seconds if given.

    Raises:
        WriteUnclear: the reply was lost.
    """
    command: list[str | bytes | int] = ['SET', key, value]
    if expiry is not None:
        command += ['PX', round(expiry * 1000)]
    return bool(await _change(command))


async def delete(key: str) -> int:
    """Remove a key; how many were there (0 or 1)."""
    return int(await _change(['UNLINK', key]))


async def keys() -> list[str]:
    """All keys that are text, by ``SCAN``: the server is never blocked."""
    found: dict[str, None] = {}
    cursor: bytes = b'0'
    while True:
        [(cursor, page)] = await shared.ask(['SCAN', cursor, 'COUNT', 1000])
        found.update(dict.fromkeys(text for key in page if (text := as_text(key)) is not None))
        if cursor == b'0':
            return list(found)


def as_text(key: bytes) -> str | None:
    """A key of Redis as text; ``None`` if it is not UTF-8, and so none of ours."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


async def _change(command: Command) -> Any:
    try:
        [reply] = await shared.exchange([command])
    except ReplyLost as lost:
        raise WriteUnclear(
            f'Redis at {lost}: the reply to {command[0]!r} was lost; it was carried out or not.'
        ) from None
    if isinstance(reply, Exception):
        raise shared.unavailable(reply)
    return reply
