"""The contract of every store as tests, for stores of other packages too.

    from learning_observer_kvs.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self, tmp_path):
            async with MyKVS(tmp_path / 'data') as store:
                yield store

pytest collects the tests of the class. It needs ``pytest-asyncio`` (or ``pytest-aiohttp``) in auto mode. The values
and keys of the tests are data in ``learning_observer_kvs.testing.values`` and ``.keys``.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    f'{__name__}.contents', f'{__name__}.calls', f'{__name__}.writes', f'{__name__}.reducers', f'{__name__}.changes'
)

from learning_observer_kvs.testing.calls import CallsContract  # noqa: E402
from learning_observer_kvs.testing.changes import ChangesContract  # noqa: E402
from learning_observer_kvs.testing.contents import ContentsContract  # noqa: E402
from learning_observer_kvs.testing.reducers import ReducersContract  # noqa: E402
from learning_observer_kvs.testing.writes import WritesContract  # noqa: E402

__all__ = ['StoreContract']


class StoreContract(ContentsContract, CallsContract, WritesContract, ReducersContract, ChangesContract):
    """The tests that every store must pass.

    A subclass has a fixture ``store``: an empty store, closed afterwards. It overrides ``write_raw`` if its
    ``commit_bytes`` accepts only JSON, and ``leave_loop`` if more than the store must be closed at the end of an event
    loop.
    """
