"""What the pages show: a router in, one dict a view out. The same dict is served as JSON or as HTML."""

from __future__ import annotations

from typing import Any

from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyStateType
from learning_observer_kvs.stream_analytics.keys import parse_key

MAX_PAGES = 20
"""How many empty pages of a backend are passed over before one is shown."""

SHOWN_OF_CORRUPT = 2000
"""How many bytes of a corrupt value are shown."""


class NotFound(Exception):
    """No such store or key; the text says what there is."""


def store_of(router: KVSRouter, name: str) -> Store:
    """The store of a name."""
    if name not in router.names():
        raise NotFound(f'There is no store {name!r}. There are: {", ".join(router.names()) or "none"}.')
    return router[name]


async def stores_view(router: KVSRouter) -> dict[str, Any]:
    """All stores: name, type, place."""
    stores = [store_of(router, name) for name in router.names()]
    names = router.names()
    return {
        'stores': [
            {'name': name, 'type': store.TYPE, 'location': store.location()}
            for name, store in zip(names, stores, strict=True)
        ]
    }


async def keys_view(router: KVSRouter, name: str, prefix: str, cursor: str | None, limit: int) -> dict[str, Any]:
    """A page of keys of a store, each taken apart if it is a reducer's."""
    store = store_of(router, name)
    for _ in range(MAX_PAGES):
        keys, cursor = await store.scan(prefix, cursor, limit)
        if keys or cursor is None:
            break
    return {
        'store': name,
        'prefix': prefix,
        'limit': limit,
        'keys': [described_key(key) for key in keys],
        'next_cursor': cursor,
    }


async def value_view(router: KVSRouter, name: str, key: str) -> dict[str, Any]:
    """One value, what is known of it, and whether its twin (internal ⇄ external) is there."""
    store = store_of(router, name)
    description = await store.describe(key)
    if description is None:
        raise NotFound(f'There is no such key in store {name!r}. It may have expired or been removed.')
    view: dict[str, Any] = {
        'store': name,
        **described_key(key),
        'bytes': description.bytes,
        'expires_in': description.expires_in,
        'written': description.written,
        'twin': None,
        'error': None,
        'value': None,
    }
    twin = twin_of(key)
    if twin is not None and await store.describe(twin) is not None:
        view['twin'] = twin
    try:
        view['value'] = await store[key]
    except CorruptValue as error:
        [text] = await store.read_bytes([key])
        view['error'] = str(error)
        view['raw'] = (text or b'')[:SHOWN_OF_CORRUPT].decode('utf-8', 'backslashreplace')
    return view


def described_key(key: str) -> dict[str, Any]:
    """A key, and what it is made of if it is a reducer's."""
    parsed = parse_key(key)
    if parsed is None:
        return {'key': key, 'state': None, 'reducer': None, 'fields': {}}
    return {
        'key': key,
        'state': parsed.state_type.name.capitalize(),
        'reducer': parsed.source,
        'fields': parsed.fields,
    }


def twin_of(key: str) -> str | None:
    """The external key of an internal one, and the reverse; ``None`` if it is no reducer's key."""
    parsed = parse_key(key)
    if parsed is None:
        return None
    rest = key.partition(',')[2]
    other = KeyStateType.EXTERNAL if parsed.state_type is KeyStateType.INTERNAL else KeyStateType.INTERNAL
    return f'{other.name.capitalize()},{rest}'
