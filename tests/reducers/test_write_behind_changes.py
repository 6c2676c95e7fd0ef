"""Changes of a store with ``flush_interval``: of this process after the event, of others after the flush."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.testing.changes import following, nothing_left
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Away, event, store_of


@pytest.mark.parametrize('kind', ['sqlite', 'filesystem', 'redis'])
async def test_an_event_is_announced_here_at_once_and_elsewhere_after_the_flush(
    kind: str, tmp_path: Path, redis: RedisConnection
) -> None:
    async with store_of(kind, tmp_path, redis, NEVER) as store, store_of(kind, tmp_path, redis, None) as other:
        async with store.changes(EXTERNAL) as here, other.changes(EXTERNAL) as elsewhere:
            await event(1, store)
            assert await (await following(here)).value() == {'count': 1}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(elsewhere), 0.1)
            await store.flush()
            assert await (await following(elsewhere)).value() == {'count': 1}
        assert await nothing_left(store)


async def test_an_event_that_will_never_be_written_is_announced_once_more() -> None:
    async with Away(flush_interval=NEVER) as store:
        await event(1, store)
        async with store.changes() as changes:
            store.wipe()
            assert {change.key for change in await changes.together()} == {INTERNAL, EXTERNAL}
            await event(2, store)
            assert {change.key for change in await changes.together()} == {INTERNAL, EXTERNAL}
            store.away = StoreUnavailable('away', retry=True)
            with pytest.raises(StoreUnavailable):
                await store.flush()
            store.away = None
            await store.flush()
            assert {await change.value() is None for change in await changes.together()} == {False}


async def test_what_another_process_erased_is_announced_when_the_events_are_dropped(
    tmp_path: Path, redis: RedisConnection
) -> None:
    async with store_of('redis', tmp_path, redis, None) as other, store_of('redis', tmp_path, redis, NEVER) as store:
        await event(1, other)
        await event(2, store)
        async with store.changes(EXTERNAL) as changes:
            await other.remove(EXTERNAL)
            await other.remove(INTERNAL)
            assert await (await following(changes)).value() == {'count': 2}  # as this process still reads it
            await store.flush()
            assert await (await following(changes)).value() is None
