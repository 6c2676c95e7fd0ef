"""The router closes the stores that it has replaced or removed."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from pathlib import Path

import pytest

from learning_observer_kvs.kvs import InMemoryKVS, KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.retired import RetiredStores
from tests.support.checks import parse


class Closing(InMemoryKVS):
    """Counts how often it is closed; closing waits for ``may_close``, if there is one."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.closed = 0
        self.may_close: asyncio.Event | None = None

    async def _close(self) -> None:
        if self.may_close is not None:
            await self.may_close.wait()
        self.closed += 1


class Stubborn(InMemoryKVS):
    """Cannot be closed."""

    async def _close(self) -> None:
        raise OSError('stubborn')


class Connection(RedisConnection):
    """Counts how often it is closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


def added(router: KVSRouter, name: str = 'a') -> Closing:
    store = Closing(name=name)
    router.add_item(name, store)
    return store


async def test_a_removed_store_is_closed_at_once_by_a_task_that_close_waits_for() -> None:
    router = KVSRouter()
    store = added(router)
    store.may_close = asyncio.Event()
    router.remove_item('a')
    closing = asyncio.create_task(router.close())
    await asyncio.sleep(0)
    assert (store.closed, closing.done()) == (0, False)
    store.may_close.set()
    await closing
    assert store.closed == 1


async def test_a_store_that_another_is_added_over_is_closed() -> None:
    router = KVSRouter()
    first = added(router)
    second = added(router)
    await router.close()
    assert (first.closed, second.closed) == (1, 1)
    assert router.a() is second


async def test_stores_whose_options_changed_or_that_are_gone_are_closed_and_others_stay(tmp_path: Path) -> None:
    def store(name: str, **options: object) -> dict[str, object]:
        return {'type': 'sqlite', 'path': str(tmp_path / f'{name}.sqlite3'), **options}

    kept, changed, gone = store('kept'), store('changed'), store('gone')
    router = KVSRouter.from_settings({'kvs': {'default': kept, 'changed': changed, 'gone': gone}})
    stores = [router[name] for name in router.names()]
    for each in stores:
        await each.set('k', 1)
    changed = store('changed', synchronous='normal')
    router.configure(parse({'kvs': {'default': kept, 'changed': changed}}))
    assert router() is stores[0]
    assert router.changed() is not stores[1]
    assert await router.changed()['k'] == 1
    await router.close()
    assert not [name for name in os.listdir(tmp_path) if name.endswith('-wal')]  # closing removes it


async def test_what_a_replaced_store_has_buffered_is_flushed(tmp_path: Path) -> None:
    options = {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3'), 'flush_interval': 3600}
    router = KVSRouter.from_settings({'kvs': {'default': options}})

    async def count(state: object) -> tuple[object, object]:
        number = (state if isinstance(state, int) else 0) + 1
        return number, number

    assert await worker_of(router()).process('Internal,k', 'External,k', count) == 1
    options['flush_interval'] = 1800
    router.configure(parse({'kvs': {'default': options}}))
    await router.close()
    async with KVSRouter.from_settings({'kvs': {'default': options}}) as later:
        assert await later()['Internal,k'] == 1


def test_outside_an_event_loop_a_removed_store_is_closed_with_the_router() -> None:
    router = KVSRouter()
    store = added(router)
    router.remove_item('a')
    assert store.closed == 0
    asyncio.run(router.close())
    assert store.closed == 1
    asyncio.run(router.close())
    assert store.closed == 1


def test_outside_an_event_loop_a_replaced_store_is_closed_by_the_next_health_check() -> None:
    router = KVSRouter()
    store, replacement = added(router), added(router)
    assert asyncio.run(router.health_check()) == []
    assert (store.closed, replacement.closed) == (1, 0)


def test_a_store_whose_loop_ends_before_it_is_closed_is_closed_in_the_next_one() -> None:
    router = KVSRouter()
    store = added(router)

    async def remove() -> None:
        store.may_close = asyncio.Event()
        router.remove_item('a')
        await asyncio.sleep(0)

    asyncio.run(remove())
    assert store.closed == 0
    store.may_close = None
    asyncio.run(router.close())
    assert store.closed == 1


def test_a_store_whose_loop_was_closed_under_it_is_closed_in_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    router = KVSRouter()
    store = added(router)
    loop = asyncio.new_event_loop()

    async def remove() -> None:
        store.may_close = asyncio.Event()
        router.remove_item('a')
        await asyncio.sleep(0)

    loop.run_until_complete(remove())
    loop.close()
    store.may_close = None
    asyncio.run(router.close())
    assert store.closed == 1
    gc.collect()  # an error in what is left of the closing in the closed loop would be a warning


def test_a_connection_whose_loop_was_closed_under_it_is_closed_after_its_store_in_the_next_one() -> None:
    retired, connection, store = RetiredStores(), Connection(), Closing()
    loop = asyncio.new_event_loop()

    async def retire() -> None:
        store.may_close = asyncio.Event()
        retired.add({store: connection})
        for _ in range(2):
            await asyncio.sleep(0)

    loop.run_until_complete(retire())
    loop.close()
    store.may_close = None
    asyncio.run(retired.close())
    assert (store.closed, connection.closed) == (1, 1)
    gc.collect()


async def test_a_store_that_has_another_name_too_stays_open() -> None:
    router = KVSRouter()
    store = added(router)
    router.add_item('b', store)
    router.add_item('b', store)
    router.remove_item('a')
    await asyncio.sleep(0)
    assert store.closed == 0
    router.remove_item('b')
    await router.close()
    assert store.closed == 1


def test_a_store_that_is_added_again_before_it_is_closed_stays_open() -> None:
    router = KVSRouter()
    store = added(router)
    router.remove_item('a')
    router.add_item('b', store)
    assert asyncio.run(router.health_check()) == []
    assert store.closed == 0


async def test_a_store_that_was_never_made_is_not_closed() -> None:
    made: list[Closing] = []

    def make() -> Closing:
        made.append(Closing())
        return made[-1]

    router = KVSRouter()
    router.add_item('a', make)
    router.add_item('a', make)
    router.remove_item('a')
    await router.close()
    assert made == []
    router.add_item('a', make)
    assert router.a() is router.a()
    router.remove_item('a')
    await router.close()
    assert [store.closed for store in made] == [1]


async def test_a_removed_store_that_cannot_be_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    router = KVSRouter()
    router.add_item('a', Stubborn(name='a'))
    router.remove_item('a')
    with caplog.at_level(logging.ERROR):
        await router.close()
    assert "'a'" in caplog.text
    assert 'could not be closed: stubborn' in caplog.text


@pytest.mark.parametrize('kind', [Closing, Stubborn])
async def test_the_connection_of_a_retired_store_is_closed_after_it(kind: type[InMemoryKVS]) -> None:
    retired, connection = RetiredStores(), Connection()
    retired.add({kind(name='a'): connection})
    await retired.close()
    assert connection.closed == 1


def test_a_store_that_is_used_again_keeps_its_connection() -> None:
    retired, connection, store = RetiredStores(), Connection(), Closing()
    retired.add({store: connection})
    assert retired.reuse(Closing()) is None
    assert retired.reuse(store) is connection
    assert retired.reuse(store) is None
    asyncio.run(retired.close())
    assert (store.closed, connection.closed) == (0, 0)


def test_closing_waits_for_stores_of_its_own_loop_alone() -> None:
    retired, elsewhere, here = RetiredStores(), Closing(), Closing()
    loop = asyncio.new_event_loop()

    async def add(store: Closing) -> None:
        store.may_close = asyncio.Event()
        retired.add({store: None})
        await asyncio.sleep(0)

    async def close() -> None:
        await add(here)
        closing = asyncio.ensure_future(retired.close())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not closing.done()
        assert here.may_close is not None
        here.may_close.set()
        await closing

    loop.run_until_complete(add(elsewhere))
    asyncio.run(close())
    assert (elsewhere.closed, here.closed) == (0, 1)
    assert elsewhere.may_close is not None
    elsewhere.may_close.set()
    loop.run_until_complete(retired.close())
    while left := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.wait(left))
    loop.close()
    assert elsewhere.closed == 1
