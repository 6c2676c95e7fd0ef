"""Readers: a dashboard's table of 30 students × 5 reducers, and single values, while a class writes."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from tests.benchmarks.comparisons import Comparison, compared, with_base
from tests.benchmarks.contender import ByEvent
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import EVENTS, REDUCERS, ProcessEvent, state_of, student
from tests.benchmarks.measure import empty_redis
from tests.benchmarks.results import Table, number

SHOWN = 30
"""Students on the screen."""

PAUSE = 0.01
"""Seconds between two reads."""

LONGER = 8
"""How many times as long as others this is measured: one read in a hundred is looked at."""

STATE = '3 KB'

Read = Callable[[], Awaitable[Any]]


class Timed(NamedTuple):
    """How long a read took.

    Attributes:
        late: milliseconds from when it was due until it began.
        milliseconds: how many it took then.
    """

    late: float
    milliseconds: float


def readers(environment: Environment) -> list[Table]:
    """Measure how long reads take while events arrive, and what they cost the events."""
    return [_table(environment, comparison) for comparison in compared(environment)]


def _table(environment: Environment, comparison: Comparison) -> Table:
    writers = max(SHOWN, environment.plan.students // REDUCERS)
    title = f'Reads while {writers} students write through {REDUCERS} reducers: {comparison.backend}'
    environment.say(title)
    table = Table(
        title,
        f'A table of {SHOWN} students × {REDUCERS} reducers in one `multiget`, and at the same time single values, '
        f'each {PAUSE * 1000:g} ms after the last one; states of {STATE}. Events come as fast as they are accepted, so '
        'each read meets as many as there can be. Milliseconds; *begun late*: how long a read that was due waited for '
        'the event loop, which is not part of the columns before.',
        [
            '',
            'read',
            'alone',
            'while events come: median',
            '95 %',
            '99 %',
            'begun late: 95 %',
            'reads',
            'events/s alone',
            'with the reads',
        ],
    )
    contenders = with_base(environment, comparison, [kind(environment.location) for kind in comparison.ours])
    with environment.pinned(to_redis=comparison.backend == 'redis'):
        for contender in contenders:
            assert isinstance(contender, ByEvent)
            asyncio.run(_measure(environment, contender, writers, table))
    return table


async def _measure(environment: Environment, contender: ByEvent, writers: int, table: Table) -> None:
    seconds = environment.plan.seconds * LONGER
    await contender.open(state_of(STATE))
    try:
        processes = [
            await contender.process_event(student(n), reducer) for n in range(writers) for reducer in range(REDUCERS)
        ]
        keys = [contender.state.keys(student(n), reducer)[1] for n in range(SHOWN) for reducer in range(REDUCERS)]
        turn = itertools.cycle(keys)
        reads: dict[str, Read] = {
            'table': lambda: contender.read(keys),
            'one value': lambda: contender.read_one(next(turn)),
        }
        await events_per_second(processes, 0.0)
        assert None not in await contender.read(keys)
        quiet = {
            name: await _reads(read, asyncio.create_task(asyncio.sleep(seconds / 4))) for name, read in reads.items()
        }
        alone = await events_per_second(processes, seconds / 2)
        writing = asyncio.create_task(events_per_second(processes, seconds))
        await asyncio.sleep(0)
        busy = dict(zip(reads, await asyncio.gather(*(_reads(read, writing) for read in reads.values())), strict=True))
        both = await writing
    finally:
        await contender.close()
        empty_redis(environment.location)
    for name, found in busy.items():
        percentiles = _percentiles([read.milliseconds for read in found])
        figures = {
            'alone_ms': statistics.median(read.milliseconds for read in quiet[name]),
            'p50_ms': percentiles[49],
            'p95_ms': percentiles[94],
            'p99_ms': percentiles[98],
            'late_p95_ms': _percentiles([read.late for read in found])[94],
        }
        environment.say(
            f'  {contender.name}, {name}: {figures["p50_ms"]:.1f}, {figures["p95_ms"]:.1f}, {figures["p99_ms"]:.1f} ms '
            f'({len(found)} reads), {both:,.0f} events/s'
        )
        cells = [f'{value:.1f}' for value in figures.values()]
        table.add(
            [contender.name, name, *cells, str(len(found)), number(alone), number(both)],
            contender=contender.name,
            read=name,
            **figures,
            events_per_second_alone=alone,
            events_per_second=both,
        )


async def _reads(read: Read, until: asyncio.Task[Any]) -> list[Timed]:
    """Return how long each read took that was due before a task was done; one at least."""
    found: list[Timed] = []
    due = time.perf_counter()
    while True:
        started = time.perf_counter()
        await read()
        ended = time.perf_counter()
        found.append(Timed((started - due) * 1000, (ended - started) * 1000))
        if until.done():
            return found
        due = ended + PAUSE
        await asyncio.sleep(PAUSE)


def _percentiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=100, method='inclusive') if len(values) > 1 else values * 99


async def events_per_second(processes: Sequence[ProcessEvent], seconds: float) -> float:
    """Return the events per second while all write as fast as they are answered."""
    started = time.perf_counter()
    end = started + seconds

    async def write(process: ProcessEvent, number: int) -> int:
        count = 0
        while True:
            await process(EVENTS[(number * 13 + count) % len(EVENTS)])
            count += 1
            if time.perf_counter() >= end:
                return count
            await asyncio.sleep(0)  # as a socket does: where nothing waits, no other task would run

    done = sum(await asyncio.gather(*(write(process, number) for number, process in enumerate(processes))))
    return done / (time.perf_counter() - started)
