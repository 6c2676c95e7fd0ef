"""Reducers run on a store."""

from __future__ import annotations

from typing import Any

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store


async def reduce_anything(store: Store, key: str) -> Any:
    """Run a reducer whose internal state is under a key, whatever is stored there."""

    async def step(state: Any) -> Any:
        return 1, 2

    return await worker_of(store).process(key, 'External', step)
