"""Clients of redis-py, made from the ``redis_*`` settings.

TLS, authentication, Sentinel and Cluster are redis-py's. Its defaults do not suit a store, so each of them is set here:
it would send a write again whose reply was lost, up to ten times, and fail with more than 100 commands at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    RedisCluster,
    Sentinel,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from learning_observer_kvs.stores.redis.failover import MasterWatch
from learning_observer_kvs.stores.redis.options import (
    TLS_OPTIONS,
    address,
    database,
    endpoint,
    given,
    sentinels,
    speaks_tls,
    url_part,
    user,
    value,
)


class Pool(BlockingConnectionPool):
    """Connections that are made in bounded time; where all are busy, callers wait.

    Args:
        within: seconds in which a connection must be ready to be used.
        options: as for redis-py's pool.
    """

    def __init__(self, *, within: float, **options: Any) -> None:
        super().__init__(**options)
        self._within = within

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect, log in and select the database.

        Args:
            connection: one of the pool.

        Raises:
            TimeoutError: it took too long.
        """
        try:
            async with asyncio.timeout(self._within):
                await super().ensure_connection(connection)
        except TimeoutError:
            raise TimeoutError(f'It accepts connections, but did not answer within {self._within:g} s') from None


class SentinelPool(SentinelConnectionPool, Pool):
    """Connections to the server that the Sentinels call the master; where all are busy, callers wait.

    Args:
        service: what the Sentinels call it.
        location: the service and its Sentinels, for messages.
        manager: redis-py's clients of the Sentinels.
        options: as for :class:`Pool`.
    """

    def __init__(self, service: str, location: str, manager: Sentinel, **options: Any) -> None:
        self.made: WeakSet[MasterConnection] = WeakSet()
        super().__init__(service, manager, **options)  # type: ignore[no-untyped-call]
        self.watch = MasterWatch(service, location, manager.sentinels, options['timeout'], self._abort)

    async def get_master_address(self) -> tuple[str, int]:
        """Return where the master is; while the Sentinels replace it this waits."""
        return await self.watch.master()

    def _abort(self) -> None:
        for connection in list(self.made):
            connection.abort()

    async def aclose(self) -> None:
        """Close the connections, and those to the Sentinels."""
        await self.watch.close()
        await super().aclose()
        await self.sentinel_manager.aclose()


class MasterConnection(SentinelManagedConnection):
    """A connection to the master; where that has moved meanwhile, to the new one.

    Args:
        options: as for redis-py's class.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.connection_pool.made.add(self)

    async def connect_to(self, address: tuple[str, int]) -> None:
        """Connect, log in and select the database.

        Args:
            address: where the master is; the one that it has moved to meanwhile is taken instead.
        """
        is_master = self.connection_pool.watch.is_master
        while True:
            try:
                await super().connect_to(address)  # type: ignore[no-untyped-call]
                if is_master(address):
                    return
            except (RedisConnectionError, RedisTimeoutError):
                if is_master(address):
                    raise
            await self.disconnect(nowait=True)
            address = await self.connection_pool.get_master_address()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply.

        Args:
            args: as for redis-py's connection.
            options: likewise.

        Raises:
            ReadOnlyError: the server is a replica, which redis-py's class takes for a lost connection.
        """
        return await Connection.read_response(self, *args, **options)

    def abort(self) -> None:
        """Close the connection at once, also under a call that waits for a reply."""
        if self._writer is not None:
            self._parser.on_disconnect()  # type: ignore[no-untyped-call]
            self._writer.transport.abort()


class MasterTLSConnection(MasterConnection, SSLConnection):
    """The same, with TLS."""


def client_of(settings: Mapping[str, Any]) -> Redis:
    """Return a client for one server, or for the master that Sentinels name; it connects when it is first used.

    Args:
        settings: all that hold for a connection.
    """
    options = _connection_options(settings) | _pool_options(settings) | {'db': database(settings)}
    tls = speaks_tls(settings)
    if hosts := sentinels(settings):
        of_sentinels = {
            name: option
            for name, option in options.items()
            if name.startswith(('socket_', 'ssl', 'retry', 'protocol', 'driver'))
        }
        of_sentinels['username'] = given(settings, 'redis_sentinel_username')
        of_sentinels['password'] = given(settings, 'redis_sentinel_password')
        manager = Sentinel(hosts, sentinel_kwargs=of_sentinels | {'ssl': tls})  # type: ignore[no-untyped-call]
        kind = MasterTLSConnection if tls else MasterConnection
        service = str(given(settings, 'redis_service_name'))
        return Redis.from_pool(SentinelPool(service, address(settings), manager, connection_class=kind, **options))
    location = endpoint(settings)
    if 'path' in location:
        return Redis.from_pool(Pool(connection_class=UnixDomainSocketConnection, **location, **options))
    kind_of = SSLConnection if tls else Connection
    return Redis.from_pool(Pool(connection_class=kind_of, **location, **options))


def cluster_of(settings: Mapping[str, Any]) -> RedisCluster:
    """Return a client for a cluster; it finds the nodes and slots when it is first used.

    Args:
        settings: all that hold for a connection.
    """
    options = _connection_options(settings) | {
        'socket_timeout': float(value(settings, 'redis_timeout')),
        'max_connections': int(value(settings, 'redis_max_connections')),
        'require_full_coverage': False,
    }
    return RedisCluster(ssl=speaks_tls(settings), **endpoint(settings), **options)


def _connection_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {
        'username': user(settings),
        'password': given(settings, 'redis_password') or url_part(settings, 'password'),
        'socket_timeout': None,  # each exchange has its deadline; redis-py's hides a cancellation on Python 3.11
        'socket_connect_timeout': float(value(settings, 'redis_connect_timeout')),
        'retry': Retry(NoBackoff(), 0),
        'protocol': 2,
        'driver_info': None,
    }
    if speaks_tls(settings):
        options |= {name.removeprefix('redis_'): given(settings, name) for name in TLS_OPTIONS}
        options['ssl_check_hostname'] = bool(value(settings, 'redis_ssl_check_hostname'))
    return options


def _pool_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    timeout = float(value(settings, 'redis_timeout'))
    return {
        'max_connections': int(value(settings, 'redis_max_connections')),
        'timeout': timeout,
        'within': float(value(settings, 'redis_connect_timeout')) + timeout,
    }
