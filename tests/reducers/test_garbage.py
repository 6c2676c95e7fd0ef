"""What events leave to the garbage collector, which holds up everything to look at every living object."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import KVSRouter
from learning_observer_kvs.stream_analytics.event_pipeline import event_pipeline
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer

STORES = {
    'stub': {'type': 'stub'},
    'sqlite': {'type': 'sqlite', 'path': 'state.sqlite3'},
    'filesystem': {'type': 'filesystem', 'path': 'state'},
    'write-behind': {'type': 'sqlite', 'path': 'state.sqlite3', 'flush_interval': 0.01},
}

CALLS = 20

BOB = {'auth': {'safe_user_id': 'bob'}}

Ways = dict[str, Callable[[], Awaitable[Any]]]


@student_event_reducer(null_state=0)
async def count(event: dict[str, Any], state: int) -> tuple[int, int]:
    return state + 1, state + 1


@student_event_reducer(null_state=0)
async def count_later(event: dict[str, Any], state: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return state + 1, state + 1


async def ways_of(router: KVSRouter) -> Ways:
    one, waiting = await count(BOB, router=router), await count_later(BOB, router=router)
    together = await event_pipeline([count, count_later], BOB, router=router)
    store = router()
    return {
        'an event': lambda: one({}),
        'an event that waits': lambda: waiting({}),
        'queued events': lambda: asyncio.gather(*(one({}) for _ in range(10))),
        'queued events that wait': lambda: asyncio.gather(*(waiting({}) for _ in range(10))),
        'a pass': lambda: together({}),
        'queued passes': lambda: asyncio.gather(*(together({}) for _ in range(10))),
        'reads': lambda: asyncio.gather(*(store[f'k{number}'] for number in range(10))),
        'writes': lambda: asyncio.gather(*(store.set(f'k{number}', number) for number in range(10))),
        'a flush': store.flush,
    }


@pytest.mark.parametrize('kind', STORES)
async def test_what_succeeds_leaves_nothing_to_the_garbage_collector(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with KVSRouter.from_settings({'kvs': {'default': STORES[kind]}}) as router:
        ways = await ways_of(router)
        for way in ways.values():  # what is made once may be left once
            await way()
        gc.collect()
        gc.disable()
        try:
            left = {name: len(await garbage_of(way)) for name, way in ways.items()}
        finally:
            gc.enable()
    assert {name: count for name, count in left.items() if count >= CALLS} == {}  # a stall may leave one once


async def garbage_of(way: Callable[[], Awaitable[Any]]) -> list[str]:
    """The types of this package's objects that calls leave in cycles."""
    for _ in range(CALLS):
        await way()
        await asyncio.sleep(0)
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        types = [type(each) for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return [each.__qualname__ for each in types if each.__module__.startswith('learning_observer_kvs')]
