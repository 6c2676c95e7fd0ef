"""The one-file store keeps the contract of every store."""

import pytest
from one_file import OneFileKVS

from learning_observer_kvs.testing import StoreContract


class TestOneFile(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with OneFileKVS(tmp_path / 'store.json') as store:
            yield store
