"""The end of an event loop cancels its tasks: no caller waits forever, and no key stays held."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from learning_observer_kvs.reducers import serving, worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.watched import Watched, count, count_after, process, until
from tests.support.write_behind import NEVER


def cancel_tasks_of(store: Store) -> set[asyncio.Task[None]]:
    """Cancel the tasks that serve queues, as the end of the event loop does."""
    tasks = set(worker_of(store)._server._tasks)
    for task in tasks:
        task.cancel()
    return tasks


LEFT_OPEN = """
import asyncio, gc, socket, sys, weakref
from learning_observer_kvs.reducers.time_limit import run_within
from learning_observer_kvs.stores.redis.connection import RedisConnection

class State:
    pass

async def reduce(state):
    begun.set()
    await asyncio.Event().wait()

async def received():
    global client
    client, _ = await loop.sock_accept(server)
    while b'PING' not in await loop.sock_recv(client, 1000):
        pass

async def begin(work, until):
    global task
    task = asyncio.ensure_future(work)
    await until

begun = asyncio.Event()
server = socket.create_server(('127.0.0.1', 0))
server.setblocking(False)
state = State()
seen = weakref.ref(state)
connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': server.getsockname()[1]})
loop = asyncio.new_event_loop()
if sys.argv[1] == 'reducer':
    loop.run_until_complete(begin(run_within(60, reduce(state), 'k'), begun.wait()))
else:
    loop.run_until_complete(begin(connection.exchange([['PING']]), received()))
loop.close()
# As the garbage collector does, but from the outside in. It may begin inside, and CPython 3.11 then closes a coroutine
# that is just being closed.
task.get_coro().close()
del state, task, connection
gc.collect()
assert seen() is None
"""


@pytest.mark.parametrize('what', ['reducer', 'command'])
def test_a_loop_that_is_closed_with_tasks_under_way_is_told_so_once_and_keeps_nothing(what: str) -> None:
    ended = subprocess.run([sys.executable, '-c', LEFT_OPEN, what], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert 'Task was destroyed but it is pending' in ended.stderr  # asyncio says what is the matter
    assert 'Exception ignored' not in ended.stderr


async def test_queues_that_are_not_served_any_more_fail_their_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    store = InMemoryKVS()
    worker = worker_of(store)

    async def one(name: str) -> Any:
        return await worker.process(f'Internal,{name}', f'External,{name}', count)

    events = [asyncio.ensure_future(one(name)) for name in 'abcdefgh']
    await until(lambda: sum(event.done() for event in events) >= 3)
    [task] = cancel_tasks_of(store)
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(*events, return_exceptions=True)
    served = outcomes.count(1)
    assert 3 <= served < 8
    assert [type(outcome) for outcome in outcomes[served:]] == [asyncio.CancelledError] * (8 - served)
    assert task.cancelled()
    assert (store.busy_keys(), worker._queued, worker._busy) == (0, {}, 0)
    assert await one('a') == 2
    assert await asyncio.gather(*map(one, 'hij')) == [1, 1, 1]


async def test_queues_whose_task_is_cancelled_before_its_first_step_fail_their_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, 'TIME_SLICE', 0.0)
    store = InMemoryKVS()
    worker = worker_of(store)

    async def one(name: str) -> Any:
        return await worker.process(f'Internal,{name}', f'External,{name}', count)

    def cancel_soon() -> None:
        assert not worker._server._tasks
        asyncio.get_running_loop().call_soon(cancel_tasks_of, store)

    async def begin() -> list[asyncio.Task[Any]]:
        events = [asyncio.ensure_future(one(name)) for name in 'ab']
        cancel_soon()  # after the events have begun, and before the first step of the task that the second one starts
        return events

    events = await begin()
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert (store.busy_keys(), worker._queued, worker._busy) == (0, {}, 0)
    assert await asyncio.gather(*map(one, 'bcd')) == [1, 1, 1]


async def test_events_that_are_to_be_reduced_again_fail(watched: Watched) -> None:
    await process(watched, count)
    watched.before = watched.another_writes(b'70')
    events = [process(watched, count) for _ in range(3)]
    await until(lambda: watched.texts['Internal,r'] == b'70')
    worker = worker_of(watched)
    await until(lambda: any(task.get_name().startswith('kvs reducer ') for task in worker._server._tasks))
    await asyncio.sleep(0)
    cancel_tasks_of(watched)
    async with asyncio.timeout(12):
        first, *others = await asyncio.gather(*events, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert others == [71, 72]
    assert watched.busy_keys() == 0


async def test_a_task_whose_caller_was_cancelled_too_ends(watched: Watched) -> None:
    begun = asyncio.Event()

    async def hang(state: Any) -> Any:
        begun.set()
        await asyncio.get_running_loop().create_future()

    watched.gate.clear()
    first = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    second = process(watched, hang)
    watched.gate.set()
    await begun.wait()
    second.cancel()
    await asyncio.sleep(0)
    [task] = cancel_tasks_of(watched)
    await asyncio.wait([first, second, task], timeout=3)
    assert task.cancelled()
    assert second.cancelled()
    assert await first == 1
    assert watched.busy_keys() == 0


async def test_what_is_pending_of_a_key_stays_when_events_after_it_fail() -> None:
    store = InMemoryKVS(flush_interval=NEVER)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hang(state: Any) -> Any:
        begun.set()
        await asyncio.get_running_loop().create_future()

    assert await process(store, count) == 1
    second = process(store, count_after(go_on))
    await asyncio.sleep(0)
    third, fourth = process(store, hang), process(store, count)
    await asyncio.sleep(0)
    go_on.set()
    await begun.wait()
    third.cancel()
    await asyncio.sleep(0)
    cancel_tasks_of(store)
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(second, third, fourth, return_exceptions=True)
    assert outcomes[0] == 2
    assert [type(outcome) for outcome in outcomes[1:]] == [asyncio.CancelledError] * 2
    assert store.busy_keys() == 0
    await store.flush()
    assert store.read_bytes_now('External,r') == b'2'
