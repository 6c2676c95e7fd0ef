"""The data of the pages: each view is a function that returns one dict, which is served as JSON or as HTML."""

from __future__ import annotations

from typing import Any

from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyStateType
from learning_observer_kvs.stream_analytics.keys import parse_key

MAX_EMPTY_SCANS = 20
"""How many empty pages of a scan are skipped before one is shown."""

CORRUPT_BYTES = 2000
"""How many bytes of a corrupt value are shown."""


class NotFound(Exception):
    """There is no such store or key; the text says which there are."""


def store_of(router: KVSRouter, name: str) -> Store:
    """Return the store of a name.

    Args:
        router: the stores.
        name: the store's name.

    Returns:
        The store.

    Raises:
        NotFound: there is none of this name.
    """
    if name not in router.names():
        raise NotFound(f'There is no store {name!r}. There are: {", ".join(router.names()) or "none"}.')
    return router[name]


async def stores_view(router: KVSRouter) -> dict[str, Any]:
    """Return the view of all stores.

    Args:
        router: the stores.

    Returns:
        ``{'stores': [{'name', 'type', 'location'}, …]}``, in the order of the configuration.
    """
    stores = {name: store_of(router, name) for name in router.names()}
    return {
        'stores': [{'name': name, 'type': store.TYPE, 'location': store.location()} for name, store in stores.items()]
    }


async def keys_view(router: KVSRouter, name: str, prefix: str, cursor: str | None, limit: int) -> dict[str, Any]:
    """Return the view of a page of keys.

    Args:
        router: the stores.
        name: the store's name.
        prefix: only keys that begin with it.
        cursor: ``next_cursor`` of the page before; ``None`` for the first.
        limit: about how many keys.

    Returns:
        ``{'store', 'prefix', 'limit', 'keys', 'next_cursor'}``; each key as :func:`describe_key` returns it. A
        ``next_cursor`` of ``None`` ends the scan.

    Raises:
        NotFound: there is no such store.
        StoreUnavailable: the store cannot be used.
    """
    store = store_of(router, name)
    for _ in range(MAX_EMPTY_SCANS):
        keys, cursor = await store.scan(prefix, cursor, limit)
        if keys or cursor is None:
            break
    return {
        'store': name,
        'prefix': prefix,
        'limit': limit,
        'keys': [describe_key(key) for key in keys],
        'next_cursor': cursor,
    }


async def value_view(router: KVSRouter, name: str, key: str) -> dict[str, Any]:
    """Return the view of one value.

    Args:
        router: the stores.
        name: the store's name.
        key: the key.

    Returns:
        ``{'store', 'key', 'state', 'reducer', 'fields', 'bytes', 'expires_in', 'written', 'counterpart', 'error',
        'value'}``. The counterpart is the key of the same reducer's other state, if it exists, else ``None``. Of a
        value that is not JSON, ``error`` says why and ``raw`` has the first bytes; else ``error`` is ``None``.

    Raises:
        NotFound: there is no such store or key.
        InvalidKey: no store accepts such a key.
        StoreUnavailable: the store cannot be used.
    """
    store = store_of(router, name)
    description = await store.describe(key)
    if description is None:
        raise NotFound(f'There is no such key in store {name!r}. It may have expired or been removed.')
    view: dict[str, Any] = {
        'store': name,
        **describe_key(key),
        'bytes': description.bytes,
        'expires_in': description.expires_in,
        'written': description.written,
        'counterpart': None,
        'error': None,
        'value': None,
    }
    counterpart = counterpart_of(key)
    if counterpart is not None and await store.describe(counterpart) is not None:
        view['counterpart'] = counterpart
    try:
        view['value'] = await store[key]
    except CorruptValue as error:
        [text] = await store.read_bytes([key])
        view['error'] = str(error)
        view['raw'] = (text or b'')[:CORRUPT_BYTES].decode('utf-8', 'backslashreplace')
    return view


def describe_key(key: str) -> dict[str, Any]:
    """Return a key with its parts.

    Args:
        key: any key.

    Returns:
        ``{'key', 'state', 'reducer', 'fields'}``; of a key that is not a reducer's, state and reducer are ``None``.
    """
    parsed = parse_key(key)
    if parsed is None:
        return {'key': key, 'state': None, 'reducer': None, 'fields': {}}
    return {
        'key': key,
        'state': parsed.state_type.name.capitalize(),
        'reducer': parsed.source,
        'fields': parsed.fields,
    }


def counterpart_of(key: str) -> str | None:
    """Return the key of the same reducer's other state.

    Args:
        key: any key.

    Returns:
        The external key of an internal one, and the reverse; ``None`` for a key that is not a reducer's.
    """
    parsed = parse_key(key)
    if parsed is None:
        return None
    rest = key.partition(',')[2]
    other = KeyStateType.EXTERNAL if parsed.state_type is KeyStateType.INTERNAL else KeyStateType.INTERNAL
    return f'{other.name.capitalize()},{rest}'
