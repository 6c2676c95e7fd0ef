"""The promise of every store as tests, for stores of others too.

    from learning_observer_kvs.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self, tmp_path):
            async with MyKVS(tmp_path / 'data') as store:
                yield store

pytest collects the tests of the class; it needs ``pytest`` and ``pytest-asyncio`` (or ``pytest-aiohttp``) in auto mode.
The values and keys are data: ``learning_observer_kvs.testing.values`` and ``.keys``.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    f'{__name__}.contents', f'{__name__}.calls', f'{__name__}.writes', f'{__name__}.reducers'
)

from learning_observer_kvs.testing.calls import CallsContract  # noqa: E402
from learning_observer_kvs.testing.contents import ContentsContract  # noqa: E402
from learning_observer_kvs.testing.reducers import ReducersContract  # noqa: E402
from learning_observer_kvs.testing.writes import WritesContract  # noqa: E402

__all__ = ['StoreContract']


class StoreContract(ContentsContract, CallsContract, WritesContract, ReducersContract):
    """What every store keeps; subclass it and give it a ``store`` fixture: an empty store, closed afterwards.

    Override ``spoil`` where ``commit_bytes`` takes no text but JSON, and ``leave`` where an event loop that ends must close
    more than the store.
    """
