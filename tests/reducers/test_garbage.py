"""What events leave to the garbage collector, which holds up everything to look at every living object."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import KVSRouter
from learning_observer_kvs.stream_analytics.event_pipeline import event_pipeline
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer

ROOT = str(Path(__file__).parents[2])

STORES = {
    'stub': {'type': 'stub'},
    'sqlite': {'type': 'sqlite', 'path': 'state.sqlite3'},
    'filesystem': {'type': 'filesystem', 'path': 'state'},
    'write-behind': {'type': 'sqlite', 'path': 'state.sqlite3', 'flush_interval': 0.01},
}

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
def test_what_succeeds_leaves_nothing_to_the_garbage_collector(kind: str, tmp_path: Path) -> None:
    # In a process of its own: a tool that measures coverage goes over all objects, and leaves some itself.
    script = f'from tests.reducers.test_garbage import main; main({kind!r})'
    ended = subprocess.run(
        [sys.executable, '-c', script],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': ROOT},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {}


def main(kind: str) -> None:
    """Print what each way leaves, if it does, as JSON."""

    async def look() -> dict[str, list[str]]:
        async with KVSRouter.from_settings({'kvs': {'default': STORES[kind]}}) as router:
            ways = await ways_of(router)
            for way in ways.values():  # what is made once may be left once
                await way()
            gc.collect()
            gc.disable()
            found = {name: await garbage_of(way) for name, way in ways.items()}
            return {name: types for name, types in found.items() if types}

    print(json.dumps(asyncio.run(look())))


async def garbage_of(way: Callable[[], Awaitable[Any]]) -> list[str]:
    """The types of this package's objects that a call leaves in cycles."""
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
