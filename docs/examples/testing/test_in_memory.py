import pytest

from learning_observer_kvs.kvs import InMemoryKVS
from learning_observer_kvs.testing import StoreContract


class TestInMemory(StoreContract):
    @pytest.fixture
    async def store(self):
        async with InMemoryKVS() as store:
            yield store
