"""Scans of a whole store: ``keys``, ``scan``, ``dump``, and what they delay meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import ours, today
from tests.benchmarks.comparisons import stores_on
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import state_of
from tests.benchmarks.measure import empty_redis
from tests.benchmarks.pinger import Pinger
from tests.benchmarks.results import Table

AT_ONCE = 1000
"""Keys written in one ``multiset``."""

TICK = 0.0005
"""Seconds between two looks at the clock."""

VALUE = {'total': 1234, 'words': 310, 'worked': 345_678, 'last': 1_700_000_000_000, 'word': {'count': 12, 'first': 1}}


@dataclass
class Scan:
    """One call, and what it cost.

    Attributes:
        milliseconds: how many it took.
        loop: the longest time for which the event loop stood still.
        others: the longest time that another client of the server waited.
    """

    call: str
    milliseconds: float = 0.0
    loop: float = 0.0
    others: float = 0.0


def scans(environment: Environment) -> list[Table]:
    """Measure every backend with many keys of a dashboard's values."""
    tables = []
    for count in environment.plan.keys:
        environment.say(f'Keys: {count:,}')
        table = Table(
            f'Scanning {count:,} keys',
            'Values of 0.1 KB. The last two columns: how long the event loop stood still at a stretch, and how long '
            'another client of Redis waited for an answer at most. `scan` with pages of 1,000 keys.',
            ['', 'keys', 'call', 'ms', 'loop still, ms', 'another client, ms'],
        )
        for kind in stores_on(environment, ours.Redis, ours.SQLite, ours.Stub, ours.Filesystem):
            size = min(count, environment.plan.files) if kind is ours.Filesystem else count
            with environment.pinned(to_redis=kind is ours.Redis):
                asyncio.run(_measure(environment, kind, size, table))
        tables.append(table)
    return tables


async def _measure(environment: Environment, kind: type[ours.Ours], count: int, table: Table) -> None:
    contender = kind(environment.location)
    await contender.open(state_of('0.3 KB'))
    store = contender.store
    is_redis = kind is ours.Redis
    try:
        started = time.perf_counter()
        for start in range(0, count, AT_ONCE):
            await store.multiset(
                {key_of(n, count): {**VALUE, 'total': n} for n in range(start, min(count, start + AT_ONCE))}
            )
        _row(
            environment,
            table,
            kind.name,
            count,
            Scan('filling', (time.perf_counter() - started) * 1000),
            is_redis=False,
        )

        async def every_page() -> None:
            cursor = None
            while True:
                page = await store.scan(cursor=cursor, limit=1000)
                cursor = page.cursor
                if cursor is None:
                    return

        path = environment.location.directory / 'dump.json'
        prefix = key_of(0, count)[: -(len(str(count - 1)) - 1)]
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            'first page of `scan`': lambda: store.scan(limit=1000),
            '`scan`, every page': every_page,
            '`keys()`': store.keys,
            '`keys(prefix)` of a tenth': lambda: store.keys(prefix),
            '`dump(filename)`': lambda: store.dump(path),
        }
        if is_redis:
            calls['today: `KEYS *`'] = lambda: contender_keys(environment)
        for call, go in calls.items():
            _row(environment, table, kind.name, count, await _scan(environment, call, go, is_redis), is_redis=is_redis)
    finally:
        await contender.close()
        empty_redis(environment.location)


def key_of(number: int, count: int) -> str:
    """Return a key as reducers write it; all numbers have as many digits."""
    return f'External,writing_0,STUDENT:ls-{number:0{len(str(count - 1))}}'


async def contender_keys(environment: Environment) -> None:
    """List keys as the runtime's store does."""
    client = today.client(environment.location.port)
    await client.keys('*')
    await client.aclose()


async def _scan(environment: Environment, call: str, go: Callable[[], Awaitable[Any]], is_redis: bool) -> Scan:
    scan = Scan(call)
    gc.collect()
    with Pinger(environment.location.port) if is_redis else contextlib.nullcontext() as pinger:
        async with standstill() as longest:
            started = time.perf_counter()
            await go()
            scan.milliseconds = (time.perf_counter() - started) * 1000
    scan.loop = longest[0]
    scan.others = pinger.longest if pinger else 0.0
    return scan


@contextlib.asynccontextmanager
async def standstill() -> AsyncIterator[list[float]]:
    """Yield a list of one figure: for how many milliseconds the loop stood still at a stretch, at most."""
    longest = [0.0]
    ended = False

    async def tick() -> None:
        last = time.perf_counter()
        while not ended:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            longest[0] = max(longest[0], (now - last - TICK) * 1000)
            last = now

    task = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield longest
    finally:
        ended = True
        await task


def _row(environment: Environment, table: Table, name: str, count: int, scan: Scan, *, is_redis: bool) -> None:
    filling = scan.call == 'filling'
    environment.say(
        f'  {name}, {scan.call}: {scan.milliseconds:,.1f} ms, loop {scan.loop:.1f} ms, others {scan.others:.1f} ms'
    )
    table.add(
        [
            name,
            f'{count:,}',
            scan.call,
            f'{scan.milliseconds:,.1f}',
            '' if filling else f'{scan.loop:.1f}',
            f'{scan.others:.1f}' if is_redis else '',
        ],
        contender=name,
        keys=count,
        call=scan.call,
        milliseconds=scan.milliseconds,
        loop_ms=None if filling else scan.loop,
        others_ms=scan.others if is_redis else None,
    )
