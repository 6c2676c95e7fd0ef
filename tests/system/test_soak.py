"""A school writes for half an hour (``--long``; without it for a minute), while its servers and its Redis come and go.

300 students send two numbered events a second through four reducers in two server processes, on a Redis with a replica
and Sentinels. The servers begin as an older version, and are replaced one after the other; Redis is killed and started
again; the Sentinels fail over; both servers are restarted. The states prove that each event was applied once, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from learning_observer_kvs.kvs import KVSRouter
from tests.support.redis_sentinels import SERVICE, Sentinels
from tests.support.soak import ROOT, School, Server, Settings, expected, percentile, previous_version

OLD = '96d31d3'
"""The commit of the version that is replaced."""

STUDENTS = 300

PATIENCE = 15_000
"""Milliseconds that the Sentinels wait for a slow master, so that they fail over only when it is planned."""

AWAY = 5.0
"""Seconds for which Redis is away."""

MEMORY_GROWTH = 24 << 20
"""Bytes by which a server's memory may grow between two undisturbed times: its cache, which has a bound."""

DESCRIPTORS_GROWTH = 4
"""Descriptors likewise: connections to Redis that are opened when they are wanted."""


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    given: float | None = request.config.getoption('--soak')
    return given if given is not None else (30.0 if request.config.getoption('--long') else 0.5)


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with Sentinels('--appendonly', 'yes', '--min-replicas-to-write', '0') as sentinels:
        yield sentinels


async def test_a_school_loses_no_event_while_its_servers_and_its_redis_come_and_go(
    minutes: float, sentinels: Sentinels, tmp_path: Path, note: Callable[[str], None]
) -> None:
    old = previous_version(OLD, tmp_path / 'old')
    settings: Settings = {
        'kvs': {'default': {'type': 'redis', 'prefix': 'soak:'}},
        'redis_connection': {'redis_sentinels': sentinels.addresses(), 'redis_service_name': SERVICE},
    }
    log = tmp_path / 'servers.log'
    servers = [await Server(settings, old, log).start() for _ in range(2)]
    started = list(servers)

    async def replace(position: int) -> None:
        """What a rolling restart does to one server; the other serves its students meanwhile."""
        assert await servers[position].stop() == 0, log.read_text()
        servers[position] = await Server(settings, ROOT, log).start()
        started.append(servers[position])

    async def outage() -> None:
        sentinels.tolerate(60_000)
        await asyncio.to_thread(sentinels.master.stop)
        await school.run(AWAY)
        await asyncio.to_thread(sentinels.master.start)
        sentinels.tolerate(PATIENCE)

    async def restart() -> None:
        await replace(0)
        await school.run(quiet / 2)
        await replace(1)

    async def fail_over() -> None:
        await asyncio.to_thread(sentinels.fail_over_without_loss)

    disturbances: dict[str, Callable[[], Awaitable[None]]] = {
        'upgrade of the first server': lambda: replace(0),
        'upgrade of the second server': lambda: replace(1),
        'outage': outage,
        'fail-over': fail_over,
        'rolling restart': restart,
    }
    sentinels.tolerate(PATIENCE)
    quiet = minutes * 60 / (len(disturbances) + 2)
    slow: dict[str, list[float]] = {}
    try:
        async with School(servers, STUDENTS) as school:
            for name, disturb in disturbances.items():
                before = len(school.waits)
                await school.run(quiet)
                slow[f'before {name}'] = school.waits[before:]
                before = len(school.waits)
                await disturb()
                await school.run(quiet / 5)
                slow[name] = school.waits[before:]
            await school.run(quiet)
            await school.end()
        for server in servers:
            assert await server.stop() == 0, log.read_text()
    finally:
        for server in started:
            server.kill()

    for name, waits in {'in all': school.waits, **slow}.items():
        p50, p99 = (percentile(waits, share) * 1000 for share in (0.5, 0.99))
        note(f'{name}: {len(waits):,} events, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(waits):.1f} s')
    assert not school.errors, log.read_text()[-3000:]
    async with KVSRouter.from_settings(settings) as router:
        found = await router().dump(prefix='Internal,soak.')
    assert found == dict(expected(school))
    for server in started:
        check_level(server, note)


def check_level(server: Server, note: Callable[[str], None]) -> None:
    """Compare what a server used when it had served for a while with what it used at the end."""
    samples = server.samples[len(server.samples) // 4 :]
    third = len(samples) // 3
    if not third:
        return  # it was replaced at once
    begin, end = samples[:third], samples[-third:]
    memory = [sorted(sample.memory for sample in part)[third // 2] for part in (begin, end)]
    descriptors = [min(sample.descriptors for sample in part) for part in (begin, end)]
    note(f'a server of {len(samples)} s: {memory[0] >> 20} to {memory[1] >> 20} MB, descriptors {descriptors}')
    assert memory[1] - memory[0] < MEMORY_GROWTH
    assert descriptors[1] <= descriptors[0] + DESCRIPTORS_GROWTH
