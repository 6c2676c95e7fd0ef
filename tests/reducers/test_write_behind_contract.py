"""The contract of every store holds also where writes are delayed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.testing import StoreContract
from tests.stores.test_conformance import write_raw_file
from tests.support.brief_contract import BriefContract
from tests.support.write_behind import NEVER, store_of


class Delayed:
    """What is other than with writes at once."""

    async def test_after_a_write_by_another_call_the_event_is_processed_again(self, store: Store) -> None:
        runs = []

        async def step(state: Any) -> Any:
            runs.append(state)
            if state != 2:
                await store.commit_bytes({'Internal,r': b'%d' % ((state or 0) + 1)}, {})
            return [state], state

        await worker_of(store).process('Internal,r', 'External,r', step)
        await store.flush()
        assert runs[0] is None
        assert runs[-1] == 2
        assert await store.multiget(['Internal,r', 'External,r']) == [[2], 2]


class TestContractBetweenFlushes(Delayed, StoreContract):
    """The same class as for every store."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with InMemoryKVS(flush_interval=NEVER) as store:
            yield store


class TestBackendsBetweenFlushes(Delayed, BriefContract):
    """What is delayed is the same for all of them; they differ in what follows."""

    @pytest.fixture(params=['filesystem', 'sqlite', 'redis'])
    async def store(
        self, request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection
    ) -> AsyncIterator[Store]:
        async with store_of(request.param, tmp_path, redis, NEVER) as store:
            yield store

    async def write_raw(self, store: Store, key: str, text: bytes) -> None:
        if isinstance(store, FilesystemKVS):
            await write_raw_file(store, key, text)
        else:
            await super().write_raw(store, key, text)

    async def leave_loop(self, store: Store) -> None:
        await super().leave_loop(store)
        if isinstance(store, PersistentRedisKVS):
            await store.close()
            await store.connection.close()
