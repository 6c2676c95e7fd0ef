"""What is special to ``type: stub``."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from learning_observer_kvs.stores import memory
from learning_observer_kvs.stores.memory import MAX_PAGE, InMemoryKVS, clear


@pytest.fixture
async def store() -> AsyncIterator[InMemoryKVS]:
    async with InMemoryKVS() as store:
        yield store


async def test_two_stores_share_nothing_and_clear_wipes_all(store: InMemoryKVS) -> None:
    async with InMemoryKVS(name='other') as other:
        await store.set('k', 1)
        assert await other.dump() == {}
        await other.set('k', 2)
        clear()
        assert (await store.dump(), await other.dump()) == ({}, {})


async def test_a_page_is_in_order_and_right_after_keys_came_and_went(store: InMemoryKVS) -> None:
    await store.multiset(dict.fromkeys('hgfedcba', 1))
    page = await store.scan(limit=3)
    assert page.keys == ['a', 'b', 'c']
    await store.remove('d')
    await store.multiset({'aa': 1, 'e0': 1})
    assert (await store.scan(cursor=page.cursor, limit=3)).keys == ['e', 'e0', 'f']


async def test_a_walk_of_a_prefix_ends_with_it(store: InMemoryKVS) -> None:
    await store.multiset(dict.fromkeys(['a', 'b1', 'b2', 'c'], 1))
    assert await store.scan('b', limit=5) == (['b1', 'b2'], None)
    assert await store.scan('b', limit=2) == (['b1', 'b2'], 'b2')
    assert await store.scan('b', 'b2', limit=2) == ([], None)


async def test_clear_of_many_keys_gives_the_loop_its_turn(store: InMemoryKVS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, 'FREED_AT_ONCE', 1000)
    await store.multiset({str(number): number for number in range(5000)})
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await store.clear()
    counting.cancel()
    assert turns >= 4
    assert await store.keys() == []


async def bytes_a_key(store: InMemoryKVS, number: int) -> tuple[float, float]:
    """The memory that small keys take, and what they may take: twice their JSON text and 200 bytes, of each."""
    text = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, number, 1000):
            entries = {f'Internal,module.reducer,STUDENT:{n}': {'count': n} for n in range(start, start + 1000)}
            text += sum(len(key) + 2 + len(f'{{"count":{value["count"]}}}') for key, value in entries.items())
            await store.multiset(entries)
            del entries
        return (tracemalloc.get_traced_memory()[0] - before) / number, 2 * text / number + 200
    finally:
        tracemalloc.stop()


async def test_small_keys_take_little_memory(store: InMemoryKVS) -> None:
    taken, allowed = await bytes_a_key(store, 5000)
    assert taken < allowed
    assert store.busy_keys() == 0


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_million_small_keys_take_little_memory(store: InMemoryKVS) -> None:
    taken, allowed = await bytes_a_key(store, 1_000_000)
    assert taken < allowed


async def test_a_walk_gives_the_loop_its_turn_with_every_page(store: InMemoryKVS) -> None:
    await store.multiset({str(number): number for number in range(MAX_PAGE * 5)})
    walk = asyncio.ensure_future(store.keys())
    turns = 0
    while not walk.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 5
    assert len(await walk) == MAX_PAGE * 5
    assert len((await store.scan(limit=10**6)).keys) == MAX_PAGE


async def test_a_dump_gives_the_loop_its_turn_however_large_the_values_are(store: InMemoryKVS) -> None:
    await store.multiset({str(number): [number] * 20_000 for number in range(100)})
    dump = asyncio.ensure_future(store.dump())
    turns = 0
    while not dump.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 10
    assert len(await dump) == 100


async def test_a_dump_reads_large_values_few_at_a_time_and_small_ones_many(
    store: InMemoryKVS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await store.multiset({f'a{number}': 'x' * 500_000 for number in range(50)})
    await store.multiset({f'b{number}': number for number in range(3000)})
    read, portions = store.read_bytes, []

    async def note(keys: Sequence[str]) -> list[bytes | None]:
        portions.append(len(keys))
        return await read(keys)

    monkeypatch.setattr(store, 'read_bytes', note)
    assert await store.dump(tmp_path / 'dump.json') == 3050
    assert portions[0] == 16
    assert max(portions[1:15]) <= 2
    assert max(portions) > 100
