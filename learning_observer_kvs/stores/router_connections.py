"""The Redis connections of a router: one that its stores share, and one for each store with options of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from weakref import WeakSet

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis.connection import RedisConnection, shared
from learning_observer_kvs.stores.redis.store import RedisKVS


class RouterConnections:
    """Makes connections, and keeps account of those that stores use.

    Args:
        base: the connection whose settings hold where a store says nothing; the one of the program, if not given, until
            the first :meth:`configure`.
    """

    def __init__(self, base: RedisConnection | None) -> None:
        self._base = base
        self._common: RedisConnection | None = None
        self._made: set[RedisConnection] = set()
        self._outdated: set[RedisConnection] = set()
        self._dropped: WeakSet[RedisConnection] = WeakSet()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Change the settings. Stores that would be somewhere else now keep to the former ones.

        Args:
            settings: the ``redis_connection`` block; empty for the defaults.
        """
        before = {connection: connection.settings for connection in self._made}
        if self._base is None:
            self._base = RedisConnection()
            self._outdated.update(self._made)
        self._base.configure(settings)
        self._outdated.update(connection for connection in self._made if connection.settings != before[connection])
        for connection in self._outdated & self._made:
            connection.pin(before[connection])
        if self._common in self._outdated:
            self._common = None

    def connect(self, own: Mapping[str, Any]) -> RedisConnection:
        """Return the connection for a store.

        Args:
            own: its own ``redis_*`` options.

        Returns:
            One for it alone if it has options; else the one that stores share.
        """
        if not own and self._common is not None:
            return self._common
        made = RedisConnection(own, base=self._base or shared)
        self._made.add(made)
        if not own:
            self._common = made
        return made

    def add(self, connection: RedisConnection) -> None:
        """Keep account of the connection of a store that is used again.

        Args:
            connection: one that was made here.
        """
        self._made.add(connection)

    def is_outdated(self, store: object) -> bool:
        """Return whether a store keeps to former settings, and so is not where a new one would be.

        Args:
            store: a store of the router.
        """
        return connection_of(store) in self._outdated

    def drop_unused(self, stores: Collection[Store]) -> set[RedisConnection]:
        """Return the connections that no store uses, which are the caller's to close.

        Args:
            stores: the stores of the router.
        """
        unused = self._made - {connection_of(store) for store in stores}
        for connection in unused:
            connection.pin(connection.settings)
        if self._common in unused:
            self._common = None
        self._made -= unused
        self._dropped.update(unused)
        self._outdated -= unused
        return unused

    def to_close(self) -> list[RedisConnection]:
        """Return the connections that end with the router, also those that replaced stores have opened again."""
        return [*self._made, *self._dropped, *([self._base] if self._base is not None else [])]


def connection_of(store: object) -> RedisConnection | None:
    """Return the connection of a store.

    Args:
        store: any object; ``None`` is returned for what is not a Redis store.
    """
    return store.connection if isinstance(store, RedisKVS) else None
