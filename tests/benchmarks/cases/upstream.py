"""As upstream: each event through as many reducers as the runtime's modules have, near the store and far from it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.benchmarks.comparisons import COMPARISONS, Comparison, compared, with_base
from tests.benchmarks.contender import Load
from tests.benchmarks.distance import Distance
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import UPSTREAM_REDUCERS, upstream_state_of
from tests.benchmarks.measure import Selection, interleaved
from tests.benchmarks.results import Rates, Table, ratios

STUDENTS = 90

DISTANT_STUDENTS = (1, 30)

MILLISECONDS = 5
"""How far the distant Redis is, each way."""

SIZES = ('0.3 KB', '3 KB')


def upstream(environment: Environment) -> list[Table]:
    """Measure three classes on every backend."""
    load = Load(min(STUDENTS, environment.plan.students), reducers=UPSTREAM_REDUCERS)
    tables = []
    for comparison in compared(environment):
        title = f'{load.students} students through {load.reducers} reducers: {comparison.backend}'
        with environment.pinned(to_redis=comparison.backend == 'redis'):
            tables.append(_table(environment, comparison, title, load))
    return tables


def distant(environment: Environment) -> list[Table]:
    """Measure one student, and a class, with a Redis that is some milliseconds away."""
    redis = COMPARISONS[0]
    if redis not in compared(environment):
        return []
    tables = []
    with Distance(environment.server.port, MILLISECONDS) as distance:
        far = replace(environment, location=replace(environment.location, port=distance.port))
        with far.pinned(distance.pid, to_redis=True):
            for students in DISTANT_STUDENTS:
                load = Load(min(students, environment.plan.students), reducers=UPSTREAM_REDUCERS)
                number = 'One student' if students == 1 else f'{students} students'
                title = f'{number} through {load.reducers} reducers: redis, {MILLISECONDS} ms away'
                tables.append(_table(far, redis, title, load))
    return tables


def _table(environment: Environment, comparison: Comparison, title: str, load: Load) -> Table:
    environment.say(title)
    plan = environment.plan
    stores = [kind(environment.location, joined=joined) for kind in comparison.ours for joined in (False, True)]
    contenders = with_base(environment, comparison, stores)
    columns: dict[str, list[Rates]] = {}
    for label in SIZES:
        if label in plan.sizes:
            columns[label] = asyncio.run(
                interleaved(contenders, upstream_state_of(label), load, plan, environment.say, label=label)
            )
    return ratios(
        title,
        f'A student sends the next event when the last one is answered. An event goes through {load.reducers} reducers '
        'and counts once; each returns one object as both states. They are awaited one after the other, as the runtime '
        'does, or by `event_pipeline`.',
        comparison.base.name,
        {contender.name: contender.promise for contender in contenders},
        columns,
        paired=plan.selection is Selection.PAIRS,
    )
