"""The stores of the program: the router ``KVS``, and the start-up checks that fill it.

from learning_observer_kvs import kvs

store = kvs.KVS()                # the default store of the settings
cache = kvs.KVS.memoization()    # the one named ``memoization``
value = await store[key]
"""

from __future__ import annotations

from learning_observer_kvs import problems, settings
from learning_observer_kvs.config.rows import Configuration
from learning_observer_kvs.prestartup import register_startup_check
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.router import (
    KVS_MAP,
    KVSRouter,
    checked_configuration,
    parse_settings,
    reserved_names,
    static_problems,
)
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS, clear
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
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
    'parse_settings',
    'reserved_names',
    'static_problems',
]

KVS = KVSRouter()
"""The program's stores. The start-up check fills it in place; importing it before that is fine."""


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


@register_startup_check
def kvs_startup_check() -> bool:
    """Check the loaded settings and fill ``KVS`` from them. It may run again.

    Returns:
        True.

    Raises:
        StartupCheck: the settings have an error; it names every problem. ``KVS`` is as it was.
    """
    KVS.configure(checked_configuration(settings.settings))
    return True


@register_startup_check
async def kvs_live_check() -> None:
    """Check the files, directories and servers behind the stores of ``KVS``. Warnings are logged.

    Raises:
        StartupCheck: a store cannot be used; it names every problem, with the stores it concerns.
    """
    problems.raise_on_errors(await KVS.health_check())
