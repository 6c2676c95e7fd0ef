"""Keys in a Redis database that a store would take for its own, and that others wrote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import aclosing

from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.stores.backend import SCAN_KEYS
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import META_PREFIX, Names, decode


async def find_foreign_key(connection: RedisConnection, names: Names, prefixes: Collection[str]) -> str | None:
    """Look for keys of others among those that begin with the prefix of a store on a single server.

    Args:
        connection: the connection to it.
        names: the Redis keys of the store. Without a prefix the database may be that of other programs too: a key whose
            name is not text, or that does not hold a string, is one of theirs.
        prefixes: of other stores in the same database.

    Returns:
        What was found first, to follow "holds"; ``None`` if there is nothing of that kind.

    Raises:
        StoreUnavailable, Overloaded: no answer, or the server refuses.
    """
    prefixes = [prefix for prefix in prefixes if prefix != names.prefix and prefix.startswith(names.prefix)]
    if names.prefix and not prefixes:
        return None
    async with aclosing(connection.pages(SCAN_KEYS, names.scan_pattern(''))) as pages:
        async for page in pages:
            found = _by_name(names, prefixes, page) or (None if names.prefix else await _by_type(connection, page))
            if found is not None:
                return found
    return None


def _by_name(names: Names, prefixes: Sequence[str], redis_keys: Sequence[bytes]) -> str | None:
    for redis_key in redis_keys:
        text = decode(redis_key)
        if text is None:
            if names.prefix:
                continue  # whatever is below it is its own
            return f'{redis_key[:100]!r}, a key that is not text'
        if META_PREFIX in text and names.key(redis_key) is None:
            prefix = text.partition(META_PREFIX)[0]
            foreign = prefix != names.prefix and prefix not in prefixes  # a store that another configuration has
        else:
            prefix = next((prefix for prefix in prefixes if text.startswith(prefix)), '')
            foreign = prefix != ''
        if foreign:
            return f'{display_key(text)}, a key of a store with the prefix {display_value("prefix", prefix)}'
    return None


async def _by_type(connection: RedisConnection, redis_keys: Sequence[bytes]) -> str | None:
    types = await connection.ask(*(('TYPE', redis_key) for redis_key in redis_keys)) if redis_keys else []
    for redis_key, kind in zip(redis_keys, types, strict=True):
        if kind not in (b'string', b'none'):  # none: it is gone since
            return f'{display_key(redis_key.decode())}, which holds a {kind.decode()}, not a string'
    return None
