"""What a store knows of keys, where one of them may hold something that is not a value: a list of Redis, say."""

from __future__ import annotations

from collections.abc import Sequence

from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import Description

Known = Description | CorruptValue | None
"""What is known of a key; why it is not a value; ``None`` where it is missing."""


async def describe(store: Store, keys: Sequence[str]) -> list[Known]:
    """Describe keys.

    Args:
        store: the store.
        keys: the keys.

    Returns:
        What is known of each.

    Raises:
        StoreUnavailable, Overloaded: the store cannot be used.
    """
    try:
        return [*await store.describe_all(keys)]
    except CorruptValue as error:
        if len(keys) == 1:
            return [error]
    half = len(keys) // 2
    return [*await describe(store, keys[:half]), *await describe(store, keys[half:])]
