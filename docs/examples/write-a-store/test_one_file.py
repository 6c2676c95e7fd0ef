<<<<<<< HEAD:docs/examples/write-a-store/test_one_file.py
"""The one-file store keeps the contract of every store."""
=======
"""The store contract, kept by the store of this example."""
>>>>>>> part-f:docs/examples/test_one_file.py

import pytest
from one_file import OneFileKVS

from learning_observer_kvs.testing import StoreContract


class TestOneFile(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with OneFileKVS(tmp_path / 'store.json') as store:
            yield store
