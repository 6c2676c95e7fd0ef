"""Reducers: events of one student, of a thousand, and ten at once of each, on every backend."""

from __future__ import annotations

import asyncio

from tests.benchmarks.comparisons import Comparison, all_contenders, compared
from tests.benchmarks.contender import Load
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import state_of
from tests.benchmarks.measure import Selection, interleaved
from tests.benchmarks.results import Rates, Table, ratios


def one(environment: Environment) -> list[Table]:
    """Measure one student, one event after the other."""
    text = 'A student sends the next event when the last one is answered.'
    return [
        _table(environment, comparison, f'One student in sequence: {comparison.backend}', Load(1), text)
        for comparison in compared(environment)
    ]


def many(environment: Environment) -> list[Table]:
    """Measure a thousand students at once, each one event after the other."""
    tables = []
    for comparison in compared(environment):
        load = Load(_students(environment, comparison))
        title = f'{load.students:,} students at once: {comparison.backend}'
        text = f'{load.students:,} students, each of which sends the next event when the last one is answered.'
        tables.append(_table(environment, comparison, title, load, text))
    return tables


def queued(environment: Environment) -> list[Table]:
    """Measure a thousand students, and ten events of each under way at once."""
    tables = []
    for comparison in compared(environment):
        load = Load(_students(environment, comparison), queued=10)
        title = f'10 events queued for each of {load.students:,} students: {comparison.backend}'
        text = (
            f'{load.students:,} students with ten events of each under way at once. The base gets them one after '
            'the other, or it would lose nine of ten.'
        )
        tables.append(_table(environment, comparison, title, load, text))
    return tables


def _students(environment: Environment, comparison: Comparison) -> int:
    return max(1, round(environment.plan.students * comparison.share))


def _table(environment: Environment, comparison: Comparison, title: str, load: Load, text: str) -> Table:
    environment.say(title)
    plan = environment.plan
    contenders = all_contenders(environment, comparison)
    if load.queued > 1:
        stores = (comparison.base, *comparison.ours)
        contenders = [contender for contender in contenders if isinstance(contender, stores)]
    columns: dict[str, list[Rates]] = {}
    with environment.pinned(to_redis=comparison.backend == 'redis'):
        for label in plan.sizes:
            columns[label] = asyncio.run(
                interleaved(contenders, state_of(label), load, plan, environment.say, label=label)
            )
    promises = {contender.name: contender.promise for contender in contenders}
    paired = plan.selection is Selection.PAIRS
    return ratios(title, text, comparison.base.name, promises, columns, paired=paired)
