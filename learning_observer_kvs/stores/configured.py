"""From settings to rows, and from rows to stores, for given store types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

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
    row: StoreConfig, store_class: type[Store], connect: Callable[[Mapping[str, Any]], RedisConnection]
) -> Store:
    """Make the store that a row describes.

    Args:
        row: without an error.
        store_class: the class of its type.
        connect: returns the connection of a Redis store with these ``redis_*`` options of its own, or with none.

    Returns:
        The store.
    """
    arguments = {option.name: row.options[option.name] for option in store_class.OPTIONS if option.name in row.options}
    if issubclass(store_class, RedisKVS):
        known = [option.name for option in redis_options.OPTIONS]
        arguments['connection'] = connect({name: arguments.pop(name) for name in known if name in arguments})
    return store_class(**arguments, name=row.name)
