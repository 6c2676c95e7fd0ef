"""A dashboard: 30 students × 5 reducers in one read, while events arrive."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

from tests.benchmarks import ours, today
from tests.benchmarks.cases.reducers import takes_part
from tests.benchmarks.contender import ByEvent
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import EVENTS, REDUCERS, Apply, state_of, student
from tests.benchmarks.measure import empty_redis
from tests.benchmarks.results import Table, number

SHOWN = 30
"""Students on the screen."""

PAUSE = 0.01
"""Seconds between two reads."""

STATE = '3 KB'

KINDS: Sequence[type[ByEvent]] = (
    today.OneByOne,
    ours.Redis,
    ours.RedisBehind,
    ours.SQLite,
    ours.Filesystem,
    ours.Stub,
)


def dashboard(environment: Environment) -> list[Table]:
    """How long a dashboard waits, and what it costs the events."""
    writers = max(SHOWN, environment.plan.students // REDUCERS)
    environment.say('Dashboard')
    table = Table(
        f'A dashboard while {writers} students write through {REDUCERS} reducers',
        f'{SHOWN} students × {REDUCERS} reducers in one `multiget`, {PAUSE * 1000:g} ms after the last one; states of '
        f'{STATE}. Events come as fast as they are taken, so each read waits behind as many as there can be.',
        ['', 'read alone, ms', 'while events come: median', '95 %', '99 %', 'events/s alone', 'with the dashboard'],
    )
    for kind in KINDS:
        if takes_part(kind):
            with environment.pinned(to_redis=kind in (today.OneByOne, ours.Redis, ours.RedisBehind)):
                asyncio.run(_measure(environment, kind, writers, table))
    return [table]


async def _measure(environment: Environment, kind: type[ByEvent], writers: int, table: Table) -> None:
    seconds = environment.plan.seconds * 4
    contender = kind(environment.place)
    await contender.open(state_of(STATE))
    try:
        sockets = await contender.sockets(writers, REDUCERS)
        keys = [contender.state.keys(student(n), reducer)[1] for n in range(SHOWN) for reducer in range(REDUCERS)]
        await _events(sockets, 0.0)
        assert None not in await contender.read(keys)
        quiet = await _reads(contender, keys, asyncio.create_task(asyncio.sleep(seconds / 2)))
        alone = await _events(sockets, seconds)
        writing = asyncio.create_task(_events(sockets, seconds))
        await asyncio.sleep(0)
        busy = await _reads(contender, keys, writing)
        both = await writing
    finally:
        await contender.close()
        empty_redis(environment.place)
    percentiles = statistics.quantiles(busy, n=100) if len(busy) > 1 else busy * 99
    figures = {
        'alone_ms': statistics.median(quiet),
        'p50_ms': percentiles[49],
        'p95_ms': percentiles[94],
        'p99_ms': percentiles[98],
    }
    environment.say(f'  {kind.name}: {figures["p50_ms"]:.1f} ms, {both:,.0f} events/s')
    cells = [f'{value:.1f}' for value in figures.values()]
    table.add(
        [kind.name, *cells, number(alone), number(both)], contender=kind.name, events=alone, with_reads=both, **figures
    )


async def _reads(contender: ByEvent, keys: list[str], until: asyncio.Task[object]) -> list[float]:
    """How many milliseconds each read took, until a task is done."""
    found: list[float] = []
    while not found or not until.done():
        started = time.perf_counter()
        await contender.read(keys)
        found.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(PAUSE)
    return found


async def _events(sockets: list[Apply], seconds: float) -> float:
    """Events per second while all write as fast as they are answered."""
    started = time.perf_counter()
    end = started + seconds

    async def write(apply: Apply, number: int) -> int:
        count = 0
        while True:
            await apply(EVENTS[(number * 13 + count) % len(EVENTS)])
            count += 1
            if time.perf_counter() >= end:
                return count
            await asyncio.sleep(0)  # as a socket does: where nothing waits, nobody else would get his turn

    done = sum(await asyncio.gather(*(write(apply, number) for number, apply in enumerate(sockets))))
    return done / (time.perf_counter() - started)
