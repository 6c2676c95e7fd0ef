"""A fail-over by Sentinels: what was acknowledged stays, and nothing is refused for longer than it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.kvs import live_problems
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.checks import parse
from tests.support.redis_sentinels import SERVICE, Sentinels

STUDENTS = 10

GRACE = 10.0
"""Seconds after a fail-over within which events are acknowledged again; a call waits for 15."""


class Lesson:
    """Students who send one event after the other, until the lesson ends.

    Args:
        store: where their states are.
    """

    def __init__(self, store: PersistentRedisKVS) -> None:
        self.acknowledged: dict[tuple[int, int], float] = {}
        """When each event was: by the number of the student and its own."""
        self.refused: list[tuple[float, KVSError]] = []
        """When an event was, and the error."""
        self._store = store
        self._goes_on = True
        self._wanted = 0
        self._reached = asyncio.Event()
        self._sockets = [asyncio.create_task(self._socket(student)) for student in range(STUDENTS)]

    async def until_acknowledged(self, more: int) -> None:
        """Wait until so many more events were acknowledged."""
        self._wanted = len(self.acknowledged) + more
        self._reached.clear()
        await self._reached.wait()

    async def end(self) -> None:
        """Let the students send nothing more."""
        self._goes_on = False
        await asyncio.gather(*self._sockets)

    async def lost(self) -> list[float]:
        """Return when each of those events was acknowledged that are not in the state now; none is there twice."""
        states = await self._store.multiget([f'Internal,r,STUDENT:{student}' for student in range(STUDENTS)])
        for state in states:
            assert len(state) == len(set(state))
        return sorted(at for (student, event), at in self.acknowledged.items() if event not in states[student])

    async def _socket(self, student: int) -> None:
        event = 0
        while self._goes_on:
            event += 1

            async def step(state: Any, event: int = event) -> Any:
                return [*(state or []), event], event

            keys = f'Internal,r,STUDENT:{student}', f'External,r,STUDENT:{student}'
            try:
                await worker_of(self._store).process(*keys, step)
                self.acknowledged[student, event] = time.monotonic()
                if len(self.acknowledged) >= self._wanted:
                    self._reached.set()
            except KVSError as error:
                self.refused.append((time.monotonic(), error))
            await asyncio.sleep(0.01)


def settings_of(sentinels: Sentinels) -> dict[str, Any]:
    return {'redis_sentinels': sentinels.addresses(), 'redis_service_name': SERVICE}


@asynccontextmanager
async def store_of(settings: dict[str, Any]) -> AsyncIterator[PersistentRedisKVS]:
    connection = RedisConnection(settings)
    async with PersistentRedisKVS(connection=connection) as store:
        yield store
    await connection.close()


async def go_through_fail_over(sentinels: Sentinels, how: str, settings: dict[str, Any]) -> None:
    """Have a lesson while another server becomes the master, and check what becomes of its events."""
    async with store_of(settings) as store:
        lesson = Lesson(store)
        await lesson.until_acknowledged(300)
        match how:
            case 'planned':
                sentinels.tolerate(60_000)  # there is no other fail-over
                await asyncio.to_thread(sentinels.plan_fail_over)
            case 'paused':
                sentinels.master.pause()
            case 'killed':
                sentinels.master.stop()
        await asyncio.to_thread(sentinels.until_moved)
        moved = time.monotonic()
        if how == 'paused':
            sentinels.master.resume()
        await lesson.until_acknowledged(300)
        await lesson.end()
        assert len(await lesson.lost()) <= STUDENTS  # those that were acknowledged at the very moment
        assert any(moved < at < moved + GRACE for at in lesson.acknowledged.values())
        assert [error for at, error in lesson.refused if at > moved + GRACE] == []


@pytest.mark.parametrize('how', ['planned', 'paused', 'killed'])
async def test_what_was_acknowledged_before_and_during_a_fail_over_stays(how: str) -> None:
    with Sentinels() as sentinels:
        await go_through_fail_over(sentinels, how, settings_of(sentinels))


@pytest.mark.parametrize('how', ['planned', 'paused'])
async def test_with_min_replicas_to_write_nothing_is_refused_for_longer_than_the_fail_over_takes(how: str) -> None:
    with Sentinels('--min-replicas-to-write', '1', replicas=2) as sentinels:
        await go_through_fail_over(sentinels, how, settings_of(sentinels))


@pytest.mark.long
async def test_planned_fail_overs_one_after_the_other_lose_nothing() -> None:
    with Sentinels('--min-replicas-to-write', '1', replicas=2) as sentinels:
        async with store_of(settings_of(sentinels)) as store:
            lesson = Lesson(store)
            for _ in range(5):
                await lesson.until_acknowledged(300)
                await asyncio.to_thread(sentinels.plan_fail_over)
                await asyncio.to_thread(sentinels.until_moved)
            await lesson.until_acknowledged(300)
            await lesson.end()
            assert len(await lesson.lost()) <= STUDENTS


@pytest.mark.long
async def test_a_fail_over_that_a_sentinel_leads_which_is_not_listed_loses_about_a_second() -> None:
    with Sentinels() as sentinels:
        async with store_of(settings_of(sentinels) | {'redis_sentinels': sentinels.addresses()[1:]}) as store:
            lesson = Lesson(store)
            await lesson.until_acknowledged(300)
            await asyncio.to_thread(sentinels.plan_fail_over)  # by the first one
            await asyncio.to_thread(sentinels.until_moved)
            await lesson.until_acknowledged(300)
            await lesson.end()
            lost = await lesson.lost()
            assert not lost or lost[-1] - lost[0] < 2


@pytest.mark.parametrize(
    ('options', 'expected'), [((), ['KVS.W014']), (('--min-replicas-to-write', '1'), [])], ids=['any', 'replicated']
)
async def test_a_master_that_accepts_what_no_replica_has_is_a_warning(
    options: tuple[str, ...], expected: list[str]
) -> None:
    with Sentinels('--appendonly', 'yes', *options) as sentinels:
        stores = {
            'default': {'type': 'redis', 'prefix': 'a:'},
            'cache': {'type': 'redis_ephemeral', 'expiry': 5, 'prefix': 'c:'},
        }
        found = await live_problems(parse(read_settings({'kvs': stores, 'redis_connection': settings_of(sentinels)})))
        assert [problem.id for problem in found] == expected
        assert {problem.subject for problem in found} <= {'kvs.default'}
