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
import logging
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from learning_observer_kvs import problems, redis_connection, reducers, settings
from learning_observer_kvs.applications import Applications
from learning_observer_kvs.checks import live, places, static
from learning_observer_kvs.config.rows import Configuration, StoreConfig
from learning_observer_kvs.errors import KVSNotConfigured
from learning_observer_kvs.prestartup import register_startup_check
from learning_observer_kvs.problems import Level, Problem
from learning_observer_kvs.settings import Settings
from learning_observer_kvs.stores.answering import check_answers
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.closing import close_connections, close_stores
from learning_observer_kvs.stores.configured import make_store, parse_settings
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS, clear
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.retired import RetiredStores
from learning_observer_kvs.stores.router_connections import RouterConnections, connection_of
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

log = logging.getLogger('learning_observer_kvs')

__all__ = [
    'KVS',
    'KVS_MAP',
    'EphemeralRedisKVS',
    'FilesystemKVS',
    'InMemoryKVS',
    'KVSRouter',
    'PersistentRedisKVS',
    'SQLiteKVS',
    'checked',
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
        connection: the Redis connection whose settings its Redis stores have; the one of the program, if not given,
            until :meth:`configure` gives it one of its own.

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
        self._applications = Applications()
        self._entries: dict[str, _Entry] = {}
        self._retired = RetiredStores()
        self._connections = RouterConnections(connection)
        self._warnings: dict[str, list[Problem]] = {}
        if items is not None:
            block = dict(items) if isinstance(items, Mapping) else list(items)
            self._fill(checked(settings.read_settings({'kvs': block}), default_required=False))
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
        router = cls()
        router.configure(checked(settings.read_settings(source)))
        return router

    def configure(self, configuration: Configuration) -> None:
        """Replace all stores by those of a configuration. A store whose options did not change stays the same object.

        So it does unless applications have used it and all have ended: what a ``stub`` held for them is gone then. The
        Redis connection is configured, too; where the configuration has no ``redis_connection``, by the defaults.

        Args:
            configuration: rows without an error.
        """
        block = configuration.redis_connection
        self._connections.configure(block.mapping if block is not None else {})
        self._fill(configuration)
        self._warnings = {'settings': list(configuration.warnings)}
        self._applications.ended = False

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

    @property
    def applications(self) -> Applications:
        """The running applications that use the router; :func:`~learning_observer_kvs.plugin.setup` keeps it."""
        return self._applications

    @property
    def warnings(self) -> list[Problem]:
        """What the last start-up checks of the settings, and of what they name, warned of."""
        return [problem for found in self._warnings.values() for problem in found]

    async def health_check(self) -> list[Problem]:
        """Check the files, directories and servers behind the stores; those that are not made yet are left out.

        Returns:
            The problems, each with the source location of the store that it concerns.
        """
        stores = self._made()
        configured = {name: row for name in stores if (row := self._entries[name].row) is not None}
        found, _ = await asyncio.gather(live.check_stores(stores, configured), self._retired.close())
        self._warnings['places'] = [problem for problem in found if problem.level is Level.WARNING]
        return found

    async def health(self, timeout: float = 1.0) -> dict[str, Any]:
        """Find out whether the stores that are made answer, for a load balancer; a key of each is read.

        Args:
            timeout: seconds that a store may take.

        Returns:
            ``ok``, whether all of them answer and can be written as far as this process knows, and under ``stores``, by
            name, ``ok``, ``seconds``, and a ``message`` where it is not.
        """
        return await check_answers(self._made(), timeout)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return what this process has done with each store that is made.

        Returns:
            What :meth:`Store.metrics <learning_observer_kvs.stores.base.Store.metrics>` returns, by the store's name.
        """
        return {name: store.metrics() for name, store in self._made().items()}

    def add_item(self, name: str, value: Store | Factory) -> None:
        """Add a store, or replace the one of that name.

        Args:
            name: the name of the store.
            value: the store, or a callable without arguments that makes it when it is first used.
        """
        before = self._entries.get(name)
        self._entries[name] = _Entry(value) if callable(value) else self._adopt(value)
        if before is not None:
            self._retire([before])

    def remove_item(self, name: str) -> None:
        """Remove a store from the router; its data stays.

        Args:
            name: the name of the store.

        Raises:
            KVSNotConfigured: no store has the name; the message lists those that exist.
        """
        if name not in self._entries:
            raise self._not_configured(name)
        self._retire([self._entries.pop(name)])

    def names(self) -> list[str]:
        """Return the names of the stores.

        Returns:
            The names, in the order of the configuration.
        """
        return list(self._entries)

    async def close(self) -> None:
        """Flush and close every store, those that were replaced or removed too. They can be used again.

        It takes ``CLOSING`` seconds at most; a line in the log says what it waits for, and what was given up.

        Raises:
            Exception: the first error of a store; the others are closed all the same.
        """
        closing = close_stores(self._made().values())
        outcome, _ = await asyncio.gather(closing, self._retired.close(), return_exceptions=True)
        await close_connections(self._connections.to_close())
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

    def _made(self) -> dict[str, Store]:
        """Return the stores that are made."""
        return {name: entry.store for name, entry in self._entries.items() if isinstance(entry.store, Store)}

    def _fill(self, configuration: Configuration) -> None:
        entries = {row.name: self._entry_for(row) for row in configuration.stores}
        before, self._entries = self._entries, entries
        self._retire(before.values())

    def _made_stores(self) -> list[Store]:
        return list(self._made().values())

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
        """Return the entry of a row: with the store that is there, if it is what a new one would be."""
        entry, cls = self._entries.get(row.name), KVS_MAP[row.type]
        if entry is not None and type(entry.store) is cls and not self._applications.ended:
            same_options = entry.row is not None and entry.row.describes_same_store(row)
            if same_options and not self._connections.is_outdated(entry.store):
                return dataclasses.replace(entry, row=row)
        return self._adopt(make_store(row, cls, self._connections.connect), row)

    def _adopt(self, store: Store, row: StoreConfig | None = None) -> _Entry:
        """Return the entry of a store that the router makes or is given. Every store passes here."""
        if isinstance(store, Store):  # a program may have given something else in its place
            reducers.attach(store)
            store.siblings = self._made_stores
            if connection := self._retired.reuse(store):
                self._connections.add(connection)
        return _Entry(store, row)

    def _retire(self, entries: Iterable[_Entry]) -> None:
        """Have the stores closed that no entry holds any more, and the connections that no store uses any more."""
        kept = set(self._made().values())
        dropped = [store for entry in entries if isinstance(store := entry.store, Store) and store not in kept]
        unused = self._connections.drop_unused(kept)
        self._retired.add(
            {store: connection if (connection := connection_of(store)) in unused else None for store in dropped}
        )

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
    """A store of the router, or what makes it; the row it was made from."""

    store: Store | Factory
    row: StoreConfig | None = None


KVS = KVSRouter(connection=redis_connection.shared)
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
        found = await router.health_check()
        if any(problem.level is Level.ERROR for problem in found):
            return found
        stores = {name: router[name] for name in router.names()}
        return found + await places.check_unrecognized(stores, configuration.stores_by_name)


def checked(loaded: Settings, *, default_required: bool = True) -> Configuration:
    """Return the rows of settings that have no error; warnings are logged.

    Args:
        loaded: settings, as :func:`~learning_observer_kvs.settings.read_settings` returns them.
        default_required: whether settings without a default store are an error.

    Returns:
        The rows, for :meth:`KVSRouter.configure`.

    Raises:
        StartupCheck: the settings have an error; it names every problem.
    """
    configuration = parse_settings(loaded, KVS_MAP)
    found = static.check(configuration, KVS_MAP, reserved_names(), default_required=default_required)
    problems.raise_on_errors(found)
    return dataclasses.replace(configuration, warnings=tuple(found))


@register_startup_check
def kvs_startup_check() -> bool:
    """Check the loaded settings and fill ``KVS`` from them. It may run again.

    Returns:
        True.

    Raises:
        StartupCheck: the settings have an error; it names every problem. ``KVS`` is as it was.
    """
    KVS.configure(checked(settings.settings))
    return True


@register_startup_check
async def kvs_live_check() -> None:
    """Check the files, directories and servers behind the stores of ``KVS``. Warnings are logged.

    Raises:
        StartupCheck: a store cannot be used; it names every problem, with the stores it concerns.
    """
    await check_live(KVS)


async def check_live(router: KVSRouter) -> None:
    """Check the files, directories and servers behind stores, and log where the stores are. Warnings are logged.

    Args:
        router: the stores.

    Raises:
        StartupCheck: a store cannot be used; it names every problem, with the stores it concerns.
    """
    problems.raise_on_errors(await router.health_check())
    stores = (f'{name}: {router[name].TYPE}, {router[name].location()}' for name in router.names())
    problems.announce(f'Key-value stores: {"; ".join(stores)}')
