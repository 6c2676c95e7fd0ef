"""The stores of the program: the router ``KVS``, and the start-up checks that fill it.

from learning_observer_kvs import kvs

store = kvs.KVS()                # the default store of the settings
cache = kvs.KVS.memoization()    # the one named ``memoization``
value = await store[key]
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from learning_observer_kvs import problems, redis_connection, reducers, settings
from learning_observer_kvs.checks import live, static
from learning_observer_kvs.config.rows import Configuration, StoreConfig
from learning_observer_kvs.errors import KVSNotConfigured
from learning_observer_kvs.prestartup import register_startup_check
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.configured import make_store, parse_settings
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS, clear
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.retired import RetiredStores, close_store
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

__all__ = [
    'KVS',
    'KVS_MAP',
    'EphemeralRedisKVS',
    'FilesystemKVS',
    'InMemoryKVS',
    'KVSRouter',
    'PersistentRedisKVS',
    'SQLiteKVS',
    'clear',
    'kvs_live_check',
    'kvs_startup_check',
    'live_problems',
    'reserved_names',
]

KVS_MAP: dict[str, type[Store]] = {
    cls.TYPE: cls for cls in (InMemoryKVS, EphemeralRedisKVS, PersistentRedisKVS, FilesystemKVS, SQLiteKVS)
}
"""The store types that a configuration may name. Add your own class here before the start-up check runs, or let a
package bring it by an entry point of the group ``learning_observer_kvs.stores``, which is imported when it is named."""

Factory = Callable[[], Store]


class KVSRouter:
    """Holds one store for each configured name: ``router()`` is the default one, ``router.<name>()`` another.

    A store that is replaced or removed is flushed and closed: in a running event loop at once, as a task that
    :meth:`close` waits for; elsewhere in the next :meth:`close` or :meth:`health_check`.

    Args:
        default: the default store, or a callable without arguments that makes it when it is first used.
        items: what ``kvs:`` holds in the settings: a mapping ``{name: {'type': …, …}}`` or pairs ``(name, options)``.
        connection: the Redis connection of its Redis stores; the shared one of the program, if not given.

    Raises:
        StartupCheck: the items have an error; it names all of them.
    """

    def __init__(
        self,
        default: Store | Factory | None = None,
        items: Mapping[str, Any] | Iterable[Any] | None = None,
        *,
        connection: RedisConnection | None = None,
    ) -> None:
        self._connection = connection
        self._entries: dict[str, _Entry] = {}
        self._retired = RetiredStores()
        if items is not None:
            block = dict(items) if isinstance(items, Mapping) else list(items)
            self.configure(_checked(settings.read_settings({'kvs': block}), default_required=False))
        if default is not None and 'default' not in self._entries:
            self.add_item('default', default)

    @classmethod
    def from_settings(cls, source: settings.Source) -> Self:
        """Return a router with its own stores and Redis connection, for scripts and tests.

            async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
                await router().set('key', 'value')

        Args:
            source: as for :func:`~learning_observer_kvs.settings.load_settings`.

        Returns:
            The router.

        Raises:
            StartupCheck: the configuration has an error; it names all of them.
        """
        router = cls(connection=RedisConnection())
        router.configure(_checked(settings.read_settings(source)))
        return router

    def configure(self, configuration: Configuration) -> None:
        """Replace all stores by those of a configuration. A store whose options did not change stays the same object.

        Args:
            configuration: rows without an error.
        """
        entries = {row.name: self._entry_for(row) for row in configuration.stores}
        shared = configuration.redis_connection
        if shared is not None or self._connection is not None:
            self._shared_connection().configure(shared.mapping if shared is not None else {})
        before, self._entries = self._entries, entries
        for entry in before.values():
            self._retire(entry)

    def __call__(self) -> Store:
        """Return the default store.

        Raises:
            KVSNotConfigured: there is none.
        """
        return self._store('default')

    def __getattr__(self, name: str) -> Factory:
        """Return what ``router.<name>`` is: a callable that returns the store of that name.

        Args:
            name: the name of a store.

        Returns:
            The callable.

        Raises:
            KVSNotConfigured: (an ``AttributeError``) no store has the name; the message lists those that exist.
        """
        if name.startswith('_'):
            raise AttributeError(name)
        if name not in self._entries:
            raise self._not_configured(name)
        return functools.partial(self._store, name)

    def __getitem__(self, name: str) -> Store:
        """Return the store of a name that is known only when the program runs.

        Args:
            name: the name of a store.

        Returns:
            The store.

        Raises:
            KVSNotConfigured: no store has the name; the message lists those that exist.
        """
        return self._store(name)

    async def health_check(self) -> list[Problem]:
        """Check the files, directories and servers behind the stores; those that are not made yet are left out.

        Returns:
            The problems, each with the source location of the store that it concerns.
        """
        made = self._made()
        stores = {name: store for name, (store, _) in made.items()}
        configured = {name: row for name in made if (row := self._entries[name].row) is not None}
        found, _ = await asyncio.gather(live.check_stores(stores, configured), self._retired.close())
        return found

    def add_item(self, name: str, value: Store | Factory) -> None:
        """Add a store, or replace the one of that name.

        Args:
            name: the name of the store.
            value: the store, or a callable without arguments that makes it when it is first used.
        """
        before = self._entries.get(name)
        self._entries[name] = _Entry(value) if callable(value) else self._adopt(value)
        if before is not None:
            self._retire(before)

    def remove_item(self, name: str) -> None:
        """Remove a store from the router; its data stays.

        Args:
            name: the name of the store.

        Raises:
            KVSNotConfigured: no store has the name; the message lists those that exist.
        """
        if name not in self._entries:
            raise self._not_configured(name)
        self._retire(self._entries.pop(name))

    def names(self) -> list[str]:
        """Return the names of the stores.

        Returns:
            The names, in the order of the configuration.
        """
        return list(self._entries)

    async def close(self) -> None:
        """Flush and close every store, those that were replaced or removed too. They can be used again.

        Raises:
            Exception: the first error of a store; the others are closed all the same.
        """
        closing = (close_store(store, connection) for store, connection in self._made().values())
        *outcomes, _ = await asyncio.gather(*closing, self._retired.close(), return_exceptions=True)
        await self._shared_connection().close()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def __aenter__(self) -> Self:
        """Return the router, which is closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the router."""
        await self.close()

    def __repr__(self) -> str:
        """Return the names of the stores."""
        return f'<KVSRouter with the stores: {", ".join(self._entries) or "none"}>'

    def _shared_connection(self) -> RedisConnection:
        return self._connection or redis_connection.shared

    def _made(self) -> dict[str, tuple[Store, RedisConnection | None]]:
        """Return the stores that are made, with the connection that each has for itself."""
        return {
            name: (entry.store, entry.connection)
            for name, entry in self._entries.items()
            if isinstance(entry.store, Store)
        }

    def _stores_made(self) -> list[Store]:
        return [store for store, _ in self._made().values()]

    def _store(self, name: str) -> Store:
        try:
            store = self._entries[name].store
        except KeyError:
            raise self._not_configured(name) from None
        if callable(store):
            store = store()
            self._entries[name] = self._adopt(store)
        return store

    def _entry_for(self, row: StoreConfig) -> _Entry:
        """Return the entry of a row: with the store that is there, if it was made from the same options."""
        entry = self._entries.get(row.name)
        if entry is not None and entry.row is not None and entry.row.describes_same_store(row):
            return dataclasses.replace(entry, row=row)
        cls = KVS_MAP[row.type]
        return self._adopt(*make_store(row, cls, self._connection, self._shared_connection()), row)

    def _adopt(self, store: Store, connection: RedisConnection | None = None, row: StoreConfig | None = None) -> _Entry:
        """Return the entry of a store that the router makes or is given. Every store passes here."""
        if isinstance(store, Store):  # a program may have given something else in its place
            reducers.attach(store)
            store.siblings = self._stores_made
        return _Entry(store, connection or self._retired.reuse(store), row)

    def _retire(self, entry: _Entry) -> None:
        """Have a store closed that has lost its entry, unless another entry holds it."""
        store = entry.store
        if isinstance(store, Store) and all(other.store is not store for other in self._entries.values()):
            self._retired.add(store, entry.connection)

    def _not_configured(self, name: str) -> KVSNotConfigured:
        if not self._entries:
            return KVSNotConfigured(
                f'There is no store {name!r}: the key-value store is not configured yet. '
                'Load settings and run the start-up checks first.'
            )
        return KVSNotConfigured(
            f'There is no store {name!r}; configured are: {", ".join(self._entries)}. '
            f'Add kvs.{name} to the settings, or use one of those.'
        )


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A store of the router, or what makes it; the connection that it has for itself; the row it was made from."""

    store: Store | Factory
    connection: RedisConnection | None = None
    row: StoreConfig | None = None


KVS = KVSRouter()
"""The program's stores. The start-up check fills it in place; importing it before that is fine."""


def reserved_names() -> list[str]:
    """Return the names that a store cannot have, because ``KVS.<name>`` means something else.

    Returns:
        The public names of the router's methods.
    """
    return [name for name in dir(KVSRouter) if not name.startswith('_')]


async def live_problems(configuration: Configuration) -> list[Problem]:
    """Check the files, directories and servers that a configuration names.

    Args:
        configuration: rows without an error.

    Returns:
        The problems, in the order of the stores.
    """
    async with KVSRouter(connection=RedisConnection()) as router:
        router.configure(configuration)
        return await router.health_check()


def _checked(loaded: Settings, *, default_required: bool = True) -> Configuration:
    """Return the rows of settings that have no error; warnings are logged."""
    configuration = parse_settings(loaded, KVS_MAP)
    found = static.check(configuration, KVS_MAP, reserved_names(), default_required=default_required)
    problems.raise_on_errors(found)
    return configuration


@register_startup_check
def kvs_startup_check() -> bool:
    """Check the loaded settings and fill ``KVS`` from them. It may run again.

    Returns:
        True.

    Raises:
        StartupCheck: the settings have an error; it names every problem. ``KVS`` is as it was.
    """
    KVS.configure(_checked(settings.settings))
    return True


@register_startup_check
async def kvs_live_check() -> None:
    """Check the files, directories and servers behind the stores of ``KVS``. Warnings are logged.

    Raises:
        StartupCheck: a store cannot be used; it names every problem, with the stores it concerns.
    """
    problems.raise_on_errors(await KVS.health_check())
