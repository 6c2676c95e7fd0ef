"""Closing a store: bounded, with a line about what it waits for, and harmless where it is cancelled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores import closing
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_server import RedisServer
from tests.support.write_behind import INTERNAL, NEVER, event, store_of

STEPS = 40
"""Turns of the event loop after which closing is cancelled; by then most have ended."""

KINDS = ['stub', 'filesystem', 'sqlite', 'redis']


@pytest.mark.parametrize('way', ['store', 'router'])
@pytest.mark.parametrize('interval', [None, NEVER], ids=['at once', 'write-behind'])
@pytest.mark.parametrize('kind', KINDS)
async def test_closing_that_is_cancelled_at_any_moment_loses_nothing_and_leaves_the_store_in_use(
    kind: str, interval: float | None, way: str, tmp_path: Path, redis: RedisConnection
) -> None:
    store = store_of(kind, tmp_path, redis, interval)
    router = KVSRouter(default=store)
    expected = []
    for steps in range(STEPS):
        await event(steps, store)
        under_way = asyncio.create_task(event(steps + 1000, store))
        task = asyncio.create_task(store.close() if way == 'store' else router.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await under_way
        await event(steps + 2000, store)
        await store.set('k', steps)
        expected += [steps, steps + 1000, steps + 2000]
    assert await store[INTERNAL] == {'seen': expected}
    await router.close()
    assert await store_of(kind, tmp_path, redis, interval)[INTERNAL] == {'seen': expected} or kind == 'stub'


async def test_closing_with_a_timeout_too_short_can_be_repeated(tmp_path: Path) -> None:
    class Slow(InMemoryKVS):
        may_close = asyncio.Event()

        async def _close(self) -> None:
            await self.may_close.wait()

    router = KVSRouter(default=Slow(flush_interval=NEVER))
    await event(1, router())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(router.close(), 0.01)
    await event(2, router())
    Slow.may_close.set()
    await router.close()
    assert await router()[INTERNAL] == {'seen': [1, 2]}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing has little time."""
    monkeypatch.setattr(closing, 'CLOSING', 0.3)
    monkeypatch.setattr(closing, 'LOGGED_AFTER', 0.05)
    monkeypatch.setattr(closing, 'CLOSING_CONNECTIONS', 0.05)


class Stuck(InMemoryKVS):
    """Its closing never ends, not even when it is cancelled."""

    ends = False

    async def _close(self) -> None:
        while not self.ends:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    store = Stuck(name='stuck')
    yield store
    store.ends = True


@pytest.mark.usefixtures('short')
async def test_a_store_whose_closing_does_not_end_is_named_and_given_up_and_the_others_are_closed(
    stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    class Watched(InMemoryKVS):
        closed = False

        async def _close(self) -> None:
            self.closed = True

    router, other = KVSRouter(default=stuck), Watched()
    router.add_item('other', other)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        await router.close()
    assert time.monotonic() - started < 20
    assert other.closed
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ('WARNING', f'Closing waits for {stuck!r} (0 keys are busy).'),
        ('ERROR', f'Closing gives up waiting for {stuck!r} (0 keys are busy).'),
    ]
    stuck.ends = True
    await asyncio.sleep(0.05)


@pytest.mark.usefixtures('short')
async def test_a_removed_store_whose_closing_does_not_end_does_not_hold_up_the_others(stuck: Stuck) -> None:
    router = KVSRouter(default=InMemoryKVS())
    router.add_item('stuck', stuck)
    router.remove_item('stuck')
    started = time.monotonic()
    await router.close()
    assert time.monotonic() - started < 20
    stuck.ends = True
    await asyncio.sleep(0.05)


@pytest.mark.parametrize('interval', [None, NEVER], ids=['at once', 'write-behind'])
async def test_a_router_whose_redis_does_not_answer_is_closed_in_time_and_says_what_it_waits_for(
    interval: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as server:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.port})
        store: Store = PersistentRedisKVS(connection=connection, flush_interval=interval)
        router = KVSRouter(default=store, connection=connection)
        await event(1, store)
        server.pause()
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(event(2, store))]
        waiting += [asyncio.create_task(store[f'k{number}']) for number in range(20)]
        await asyncio.sleep(0)
        started = time.monotonic()
        with caplog.at_level(logging.WARNING):
            await router.close()
        assert time.monotonic() - started < 2 * closing.CLOSING
        assert f'Closing waits for {store!r} (1 keys are busy)' in caplog.text
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        server.resume()
