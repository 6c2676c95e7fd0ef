"""How the cost of an event grows with the keys in the store, the size of a state, and the students at once."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import replace

from tests.benchmarks import ours
from tests.benchmarks.cases.keys import AT_ONCE, VALUE
from tests.benchmarks.comparisons import stores_on
from tests.benchmarks.contender import Load
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import SIZES, state_of
from tests.benchmarks.measure import Plan, empty_redis, warm
from tests.benchmarks.results import Table

KINDS: tuple[type[ours.Ours], ...] = (ours.Redis, ours.RedisBehind, ours.SQLite, ours.Filesystem, ours.Stub)


def growth(environment: Environment) -> list[Table]:
    """Measure microseconds an event, along each of the three."""
    plan = environment.plan
    few = plan.students // 10 or 1
    students = [count for count in (1, 10, 100, 1000, 10_000) if count <= plan.students * 10]
    keys = [0, *(count for count in (1000, 10_000, 100_000, 1_000_000) if count <= max(plan.keys))]
    sizes = [label for label in SIZES if label in plan.sizes or len(plan.sizes) > 1]
    base = '0.3 KB'
    return [
        _table(
            environment,
            'Cost of an event by the keys in the store',
            f'{plan.students:,} students at once, states of {base}; so many other keys of 0.1 KB are there.',
            {f'{count:,}': (Load(plan.students), base, count) for count in keys},
        ),
        _table(
            environment,
            'Cost of an event by the size of its state',
            f'{few:,} students at once.',
            {label: (Load(few), label, 0) for label in sizes},
        ),
        _table(
            environment,
            'Cost of an event by the students at once',
            f'States of {base}.',
            {f'{count:,}': (Load(count), base, 0) for count in students},
        ),
    ]


def _table(environment: Environment, title: str, text: str, points: dict[str, tuple[Load, str, int]]) -> Table:
    environment.say(title)
    table = Table(title, text + ' Microseconds an event.', ['', *points])
    for kind in stores_on(environment, *KINDS):
        costs = {}
        with environment.pinned(to_redis=kind.type == 'redis'):
            for label, (load, size, others) in points.items():
                if kind is not ours.Filesystem or (
                    others <= environment.plan.files and load.students <= environment.plan.students
                ):
                    costs[label] = asyncio.run(_cost(environment, kind, load, size, others))
        environment.say(f'  {kind.name}: ' + ', '.join(f'{label}: {cost:.1f}' for label, cost in costs.items()) + ' µs')
        table.add(
            [kind.name, *(f'{costs[label]:.3g}' if label in costs else '' for label in points)],
            contender=kind.name,
            **costs,
        )
    return table


async def _cost(environment: Environment, kind: type[ours.Ours], load: Load, size: str, others: int) -> float:
    plan: Plan = replace(environment.plan, seconds=environment.plan.seconds / 3)
    contender = kind(environment.location)
    await contender.open(state_of(size))
    try:
        for start in range(0, others, AT_ONCE):
            await contender.store.multiset(
                {f'External,other,STUDENT:ls-{n:07}': VALUE for n in range(start, min(others, start + AT_ONCE))}
            )
        load, repeats = await warm(contender, load, plan)
        costs = []
        for _ in range(repeats):
            done = await contender.run(load)
            costs.append(done.seconds / done.events * 1e6)
        return statistics.median(costs)
    finally:
        await contender.close()
        empty_redis(environment.location)
