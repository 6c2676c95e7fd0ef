"""``type: stub`` shared by event loops in several threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.types import MISSING
from tests.support.watched import EXTERNAL, INTERNAL, count

THREADS = 4


class Yielding(dict[str, bytes]):
    """Texts; a thread that looks at one lets the other threads run before it goes on."""

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key, default)
        time.sleep(0)
        return found

    def __setitem__(self, key: str, text: bytes) -> None:
        time.sleep(0)
        super().__setitem__(key, text)


@pytest.fixture
def store() -> InMemoryKVS:
    store = InMemoryKVS()
    store._texts = Yielding()
    return store


def in_threads(work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """Run a coroutine function in a loop of each thread, all at once; what they return."""
    start = threading.Barrier(THREADS)

    async def begin(number: int) -> Any:
        start.wait(20)
        return await work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda number: asyncio.run(begin(number)), range(THREADS)))


def test_loops_in_several_threads_lose_no_event(store: InMemoryKVS) -> None:
    async def send(number: int) -> None:
        for _ in range(100):
            await worker_of(store).process(INTERNAL, EXTERNAL, count)

    in_threads(send)
    assert store._texts == {INTERNAL: b'400', EXTERNAL: b'400'}


def test_loops_in_several_threads_lose_no_update_and_agree_on_who_was_first(store: InMemoryKVS) -> None:
    async def update(number: int) -> int:
        for _ in range(100):
            await store.update('k', lambda value: (value or 0) + 1)
        return sum([await store.compare_and_set(f'first {step}', MISSING, number) for step in range(100)])

    assert sum(in_threads(update)) == 100
    assert store._texts['k'] == b'400'


def test_keys_that_come_and_go_in_several_threads_are_all_listed_and_no_others(store: InMemoryKVS) -> None:
    async def come_and_go(number: int) -> None:
        for step in range(200):
            await store.multiset({f'{number},{step}': 1, f'{number},stays,{step}': 1})
            assert await store.remove(f'{number},{step}')
            assert len(await store.keys(f'{number},stays')) == step + 1

    in_threads(come_and_go)
    assert asyncio.run(store.keys()) == sorted(store._texts)
    assert len(store._texts) == THREADS * 200


def test_a_key_is_removed_by_one_of_several_threads(store: InMemoryKVS) -> None:
    asyncio.run(store.multiset({str(step): 1 for step in range(300)}))

    async def remove(number: int) -> int:
        return sum([await store.remove(str(step)) for step in range(300)])

    assert sum(in_threads(remove)) == 300
    assert asyncio.run(store.keys()) == []


def test_a_reader_in_another_thread_sees_both_keys_of_a_commit_or_neither(store: InMemoryKVS) -> None:
    async def read_or_write(number: int) -> None:
        for step in range(200):
            if number:
                before, after = await store.multiget(['a', 'b'])
                assert before == after
            else:
                await store.multiset({'a': step, 'b': step})

    in_threads(read_or_write)
