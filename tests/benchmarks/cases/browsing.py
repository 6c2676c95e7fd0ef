"""A class that writes while ten people browse ``/debug/kvs``, and, in turn, without them."""

from __future__ import annotations

import asyncio
import statistics

from aiohttp import web
from aiohttp.test_utils import TestServer

import learning_observer_kvs
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.helpers import fully_qualified_function_name
from tests.benchmarks import ours
from tests.benchmarks.cases.readers import STATE, events_per_second
from tests.benchmarks.comparisons import stores_on
from tests.benchmarks.environment import Environment
from tests.benchmarks.interval import MIN_PAIRS, median_interval
from tests.benchmarks.load import REDUCERS, state_of, student
from tests.benchmarks.measure import empty_redis
from tests.benchmarks.results import Table, number
from tests.benchmarks.viewers import LOOK, PEOPLE, Viewers

LONGER = 16
"""How many times as long as others this is measured: people look at a page for seconds."""


def browsing(environment: Environment) -> list[Table]:
    """Measure what people who browse cost the events, in the process that serves both."""
    writers = max(1, environment.plan.students // REDUCERS)
    title = f'{PEOPLE} people browse `/debug/kvs` while {writers} students write through {REDUCERS} reducers'
    environment.say(title)
    table = Table(
        title,
        f'Each opens a page every {LOOK:g} s, and a value is followed live. The process that reduces the events serves '
        f'the pages; events come as fast as they are accepted, states of {STATE}. *Ratio*: of the events while people '
        'browse to those without, in turn; the median with its interval of 95 %.',
        ['', 'events/s alone', 'browsed', 'ratio', 'interval', 'pages/s'],
    )
    for kind in stores_on(environment, ours.Redis, ours.SQLite, ours.Stub, ours.Filesystem):
        asyncio.run(_measure(environment, kind, writers, table))
    return [table]


async def _measure(environment: Environment, kind: type[ours.Ours], writers: int, table: Table) -> None:
    app, router, state = web.Application(), KVSRouter(), state_of(STATE)
    settings = kind(environment.location).settings()
    learning_observer_kvs.setup(app, settings, authorize=lambda *_: True, router=router)
    seconds = environment.plan.seconds * LONGER
    alone, browsed, pages = list[float](), list[float](), 0
    watched = fully_qualified_function_name(state.reducers[0])
    async with TestServer(app) as server, Viewers(str(server.make_url('/')), student(0), watched) as viewers:
        with environment.pinned(viewers.pid, to_redis=kind is ours.Redis):
            metadata = [{'auth': {'safe_user_id': student(number)}} for number in range(writers)]
            processes = [await reducer(each, router=router) for each in metadata for reducer in state.reducers]
            await events_per_second(processes, seconds / 4)
            for turn in range(environment.plan.repeats):
                for is_browsed in (turn % 2 == 0, turn % 2 == 1):
                    if is_browsed:
                        await viewers.browse()
                    (browsed if is_browsed else alone).append(await events_per_second(processes, seconds))
                    if is_browsed:
                        pages += await viewers.rest()
    empty_redis(environment.location)
    ratios = [one / other for one, other in zip(browsed, alone, strict=True)]
    ratio = statistics.median(ratios)
    between = ' – '.join(map(number, median_interval(ratios))) if len(ratios) >= MIN_PAIRS else ''
    rate = pages / (seconds * len(browsed))
    environment.say(f'  {kind.name}: {ratio:.3f} {between}, {rate:.1f} pages/s')
    table.add(
        [
            kind.name,
            number(statistics.median(alone)),
            number(statistics.median(browsed)),
            number(ratio),
            between,
            number(rate),
        ],
        contender=kind.name,
        events_per_second_alone=statistics.median(alone),
        events_per_second=statistics.median(browsed),
        ratio=ratio,
        pages_per_second=rate,
    )
