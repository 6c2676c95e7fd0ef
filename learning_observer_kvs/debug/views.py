"""The data of the pages: each view is one dict, which is served as JSON or as HTML.

What is read from a store is one thing, in the event loop, and what is computed of it is another, in a thread, or of a
large value in a helper process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.types import Described, Description
from learning_observer_kvs.stream_analytics.fields import KeyStateType
from learning_observer_kvs.stream_analytics.keys import both_state_keys, parse_key

CORRUPT_BYTES = 2000
"""How many bytes of a corrupt value are shown."""


KEY_CHARACTERS = 1 << 20
"""How many characters the keys of a page have together; a page of longer ones has fewer keys."""

MAX_VALUE_BYTES = 16 << 20
"""The largest value that is shown; programs and commands read larger ones, too."""


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


class Found(NamedTuple):
    """A value, as a store returned it.

    Attributes:
        store: the store.
        name: the store's name.
        key: the key.
        description: what the store knows of it.
        text: the stored text; ``None`` where it is larger than ``MAX_VALUE_BYTES``.
        counterpart: the key of the same reducer's other state, if it was asked for and exists, else ``None``.
        of_counterpart: what the store knows of that.
    """

    store: Store
    name: str
    key: str
    description: Description
    text: bytes | None
    counterpart: str | None = None
    of_counterpart: Described = None

    @property
    def shown(self) -> bytes | None:
        """The text, unless it is too large; it may have grown since that was asked for."""
        return self.text if self.text is not None and len(self.text) <= MAX_VALUE_BYTES else None


async def read_value(router: KVSRouter, name: str, key: str, *, with_counterpart: bool = False) -> Found:
    """Read one value.

    Args:
        router: the stores.
        name: the store's name.
        key: the key.
        with_counterpart: whether to ask for the other state of the same reducer.

    Returns:
        The value, not decoded.

    Raises:
        NotFound: there is no such store or key.
        InvalidKey: no store accepts such a key.
        CorruptValue: the Redis key holds a list, say, and no text.
        StoreUnavailable, Overloaded: the store cannot be used.
    """
    store = store_of(router, name)
    other = counterpart_of(key) if with_counterpart else None
    described, *beside = await store.describe_all([key] if other is None else [key, other])
    found = await _read(store, name, key, described)
    return found._replace(counterpart=other, of_counterpart=beside[0]) if beside and beside[0] else found


async def read_counterpart(found: Found) -> Found:
    """Read the other state of the same reducer.

    Args:
        found: a value with a counterpart.

    Returns:
        The other value, not decoded.

    Raises:
        NotFound: it is gone.
        CorruptValue, StoreUnavailable, Overloaded: as for :func:`read_value`.
    """
    other = await _read(found.store, found.name, str(found.counterpart), found.of_counterpart)
    return other._replace(counterpart=found.key)


async def _read(store: Store, name: str, key: str, described: Described) -> Found:
    if isinstance(described, CorruptValue):
        raise described
    text = None
    if described is not None and described.bytes <= MAX_VALUE_BYTES:
        [text] = await texts_of(store, [key])
        described = None if text is None else described._replace(bytes=len(text))
    if described is None:
        raise NotFound(f'There is no such key in store {name!r}. It may have expired or been removed.')
    return Found(store, name, key, described, text)


async def texts_of(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """Return the stored texts of keys, as this process knows them: also those that are not written yet.

    Args:
        store: the store.
        keys: the keys.

    Returns:
        The text of each; ``None`` where there is none.

    Raises:
        CorruptValue: a Redis key holds a list, say, and no text.
        StoreUnavailable, Overloaded: the store cannot be used.
    """
    pending = store.overlay().pending(keys)
    rest = [key for key in keys if key not in pending]
    found: dict[str, bytes | None] = {**pending}
    if rest:
        found |= zip(rest, await store.read_until(deadline_after(store.retry_timeout), rest), strict=True)
    return [found[key] for key in keys]


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
    internal, external = both_state_keys(key)
    return external if parsed.state_type is KeyStateType.INTERNAL else internal
