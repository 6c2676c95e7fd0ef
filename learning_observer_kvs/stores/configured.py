"""From settings to rows, and from rows to stores, for given store types."""

from __future__ import annotations

from collections.abc import MutableMapping

from learning_observer_kvs.config import rows
from learning_observer_kvs.config.layers import Settings
from learning_observer_kvs.config.rows import Configuration, StoreConfig
from learning_observer_kvs.stores import entry_points
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis import options as redis_options
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import RedisKVS


def parse_settings(settings: Settings, types: MutableMapping[str, type[Store]]) -> Configuration:
    """Parse settings, after adding the store types of installed packages that they name.

    Args:
        settings: what was read; not changed.
        types: the store types by the word for ``type:``, such as ``KVS_MAP``; types are added to it.

    Returns:
        The rows, not checked.
    """
    named = rows.named_types(settings)
    rejected = {word: reason for word in named if (reason := entry_points.add_type(types, word)) is not None}
    options_by_type = {word: cls.OPTIONS for word, cls in types.items()}
    return rows.parse(settings, options_by_type, redis_options.OPTIONS, rejected)


def make_store(
    row: StoreConfig, cls: type[Store], connection: RedisConnection | None, base: RedisConnection
) -> tuple[Store, RedisConnection | None]:
    """Make the store that a row describes.

    Args:
        row: without an error.
        cls: the class of its type.
        connection: what a Redis store without ``redis_*`` options uses; ``None`` for the program's shared connection.
        base: the connection whose options hold where the ``redis_*`` options of a store say nothing.

    Returns:
        The store, and the connection that was made for it alone, if any.
    """
    arguments = {option.name: row.options[option.name] for option in cls.OPTIONS if option.name in row.options}
    own_connection = None
    if issubclass(cls, RedisKVS):
        known = [option.name for option in redis_options.OPTIONS]
        if own := {name: arguments.pop(name) for name in known if name in arguments}:
            own_connection = RedisConnection(own, base=base)
        arguments['connection'] = own_connection or connection
    return cls(**arguments, name=row.name), own_connection
