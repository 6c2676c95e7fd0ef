"""The contract of every store on the quickest of them, ``type: stub``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.testing import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with InMemoryKVS() as store:
            yield store
