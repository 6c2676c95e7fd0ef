"""The router: the default store, the named stores, and the one object ``KVS`` that the program shares.

from learning_observer_kvs import kvs

store = kvs.KVS()                # the default store of the settings
cache = kvs.KVS.memoization()    # the one named ``memoization``
value = await store[key]
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from learning_observer_kvs import problems, redis_connection, settings
from learning_observer_kvs.checks import live, static
from learning_observer_kvs.errors import KVSNotConfigured
from learning_observer_kvs.prestartup import register_startup_check
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS, clear
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.options import OPTIONS
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS, RedisKVS
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
]

KVS_MAP: dict[str, type[Store]] = {
    cls.TYPE: cls for cls in (InMemoryKVS, EphemeralRedisKVS, PersistentRedisKVS, FilesystemKVS, SQLiteKVS)
}
"""The types that a configuration may name. Add your own class here before the start-up check runs, or let a package
bring it by an entry point of the group ``learning_observer_kvs.stores``: it is imported when its word is asked for."""

Factory = Callable[[], Store]


class KVSRouter:
    """Owns one store for each configured name: ``router()`` is the default one, ``router.<name>()`` another.

    Args:
        default: the default store, or a callable without arguments that makes it when it is first asked for.
        items: what ``kvs:`` holds in the settings: a mapping ``{name: {'type': …, …}}`` or pairs ``(name, options)``.
        connection: the Redis connection of its Redis stores; the process's shared one, if not given.

    Raises:
        StartupCheck: the items are no configuration; all faults at once.
    """

    def __init__(
        self,
        default: Store | Factory | None = None,
        items: Mapping[str, Any] | Iterable[Any] | None = None,
        *,
        connection: RedisConnection | None = None,
    ) -> None:
        self._connection = connection
        self._stores: dict[str, Store | Factory] = {}
        self._made_from: dict[str, dict[str, Any]] = {}
        self._own_connections: dict[str, RedisConnection] = {}
        if items is not None:
            block = dict(items) if isinstance(items, Mapping) else list(items)
            self._fill(settings.read_settings({'kvs': block}), default_required=False)
        if default is not None and 'default' not in self._stores:
            self.add_item('default', default)

    @classmethod
    def from_settings(cls, source: settings.Source) -> Self:
        """A router of one's own, with a Redis connection of its own, for scripts and tests.

            async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
                await router().set('key', 'value')

        Args:
            source: as for :func:`~learning_observer_kvs.settings.load_settings`.

        Raises:
            StartupCheck: the configuration is wrong; all faults at once.
        """
        router = cls(connection=RedisConnection())
        router.configure(settings.read_settings(source))
        return router

    def configure(self, configuration: Settings) -> None:
        """Take over a configuration, in place. A store whose settings did not change stays the object it is.

        Raises:
            StartupCheck: the configuration is wrong; then the router is as it was.
        """
        self._fill(configuration, default_required=True)

    def __call__(self) -> Store:
        """The default store."""
        return self._store('default')

    def __getattr__(self, name: str) -> Factory:
        """``router.<name>``, to be called for the store of that name.

        Raises:
            KVSNotConfigured: (an ``AttributeError``) there is none; the message names those there are.
        """
        if name.startswith('_'):
            raise AttributeError(name)
        if name not in self._stores:
            raise self._not_configured(name)
        return functools.partial(self._store, name)

    def __getitem__(self, name: str) -> Store:
        """``router[name]``: the store of a name that is known when the program runs only.

        Raises:
            KVSNotConfigured: there is none; the message names those there are.
        """
        return self._store(name)

    async def health_check(self, configuration: Settings) -> list[Problem]:
        """What is wrong with the files, folders and servers behind the stores that are there.

        Args:
            configuration: what they were made from, for the places.
        """
        stores = {name: store for name, store in self._stores.items() if isinstance(store, Store)}
        return await live.check_stores(stores, configuration)

    def add_item(self, name: str, value: Store | Factory) -> None:
        """Add a store, or a callable without arguments that makes it when it is first asked for."""
        self._stores[name] = value
        self._made_from.pop(name, None)

    def remove_item(self, name: str) -> None:
        """Forget a store; what it holds stays where it is.

        Raises:
            KVSNotConfigured: there is none of that name.
        """
        if name not in self._stores:
            raise self._not_configured(name)
        del self._stores[name]
        self._made_from.pop(name, None)

    def names(self) -> list[str]:
        """The names of the stores, in the order of the configuration."""
        return list(self._stores)

    async def close(self) -> None:
        """Close every store. They can be used again, but a program that ends is done with them.

        Raises:
            Exception: the first error of a store; the others are closed all the same.
        """
        stores = [store for store in self._stores.values() if isinstance(store, Store)]
        outcomes = await asyncio.gather(*(store.close() for store in stores), return_exceptions=True)
        for connection in (*self._own_connections.values(), self._redis()):
            await connection.close()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f'<KVSRouter of {", ".join(self._stores) or "nothing yet"}>'

    def _redis(self) -> RedisConnection:
        return self._connection or redis_connection.shared

    def _store(self, name: str) -> Store:
        try:
            store = self._stores[name]
        except KeyError:
            raise self._not_configured(name) from None
        if callable(store):
            store = self._stores[name] = store()
        return store

    def _fill(self, configuration: Settings, *, default_required: bool) -> None:
        found = static.check_settings(configuration, KVS_MAP, reserved_names(), default_required=default_required)
        problems.raise_on_errors(found)
        self._take(configuration)

    def _take(self, configuration: Settings) -> None:
        stores, made_from = dict[str, Store | Factory](), dict[str, dict[str, Any]]()
        for entry in settings.store_entries(configuration):
            options = dict(entry.options)
            if self._made_from.get(entry.name) == options:
                stores[entry.name] = self._stores[entry.name]
            else:
                stores[entry.name] = self._make(entry.name, options)
            made_from[entry.name] = options
        if 'redis_connection' in configuration or self._connection is not None:
            self._redis().configure(configuration.get('redis_connection') or {})
        self._stores, self._made_from = stores, made_from

    def _make(self, name: str, options: dict[str, Any]) -> Store:
        cls = KVS_MAP[options['type']]
        known = {option.name for option in cls.OPTIONS}
        arguments = {word: value for word, value in options.items() if word in known}
        if issubclass(cls, RedisKVS):
            own = {option.name: arguments.pop(option.name) for option in OPTIONS if option.name in arguments}
            arguments['connection'] = self._connection
            if own:
                arguments['connection'] = self._own_connections[name] = RedisConnection(own, base=self._redis())
        return cls(**arguments, name=name)

    def _not_configured(self, name: str) -> KVSNotConfigured:
        if not self._stores:
            return KVSNotConfigured(
                f'There is no store {name!r}: the key-value store is not configured yet. '
                'Load settings and run the start-up checks first.'
            )
        return KVSNotConfigured(
            f'There is no store {name!r}; configured are: {", ".join(self._stores)}. '
            f'Add kvs.{name} to the settings, or use one of those.'
        )


async def live_problems(configuration: Settings) -> list[Problem]:
    """What is wrong with the files, folders and servers that a configuration names, which has no error by itself."""
    async with KVSRouter(connection=RedisConnection()) as router:
        router._take(configuration)
        return await router.health_check(configuration)


def reserved_names() -> list[str]:
    """What a store cannot be called, because ``KVS.<name>`` means something else."""
    return [name for name in dir(KVSRouter) if not name.startswith('_')]


KVS = KVSRouter()
"""The program's stores. The start-up check fills it in place; importing it before that is fine."""


@register_startup_check
def kvs_startup_check() -> bool:
    """Check the ``kvs`` block of the loaded settings and fill ``KVS`` from it. May run again.

    Raises:
        StartupCheck: with every fault, its place and its cure; then ``KVS`` is as it was.
    """
    KVS.configure(settings.settings)
    return True


@register_startup_check
async def kvs_live_check() -> None:
    """Try whether the files, folders and servers behind the stores of ``KVS`` can be used.

    Raises:
        StartupCheck: with every fault, the stores it concerns, the address and the cure. Warnings are logged.
    """
    problems.raise_on_errors(await KVS.health_check(settings.settings))
