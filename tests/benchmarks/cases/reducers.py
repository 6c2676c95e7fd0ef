"""Reducers: events of one student, of a thousand, and ten at once of each, on every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks import limits, ours, peers, today
from tests.benchmarks.contender import Contender, Load
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import state_of
from tests.benchmarks.measure import interleaved
from tests.benchmarks.results import Rates, Table, ratios


@dataclass(frozen=True)
class Field:
    """Who runs against whom on one backend.

    Attributes:
        backend: its type.
        base: the contender that the ratios are to.
        others: the rest.
        queueing: those of them that say something about queued events.
        share: of the plan's students that write, where a thousand would be more than it is for.
    """

    backend: str
    base: type[Contender]
    others: Sequence[type[Contender]]
    queueing: Sequence[type[Contender]]
    share: float = 1.0


FIELDS = (
    Field(
        'redis',
        today.OneByOne,
        (
            peers.Aiocache,
            peers.AiocacheOptimistic,
            peers.Cashews,
            peers.CashewsLock,
            peers.PyKeyValue,
            ours.Redis,
            ours.RedisBehind,
            limits.CodecAndSocket,
            limits.BareSocket,
        ),
        (ours.Redis, ours.RedisBehind),
    ),
    Field(
        'stub',
        today.Deepcopy,
        (peers.AiocacheMemory, peers.PyKeyValueMemory, ours.Stub, limits.Codec, limits.LooseCodec),
        (ours.Stub,),
    ),
    Field(
        'sqlite',
        today.FilePerKey,
        (
            today.FilePerKeyDurable,
            peers.Diskcache,
            peers.PyKeyValueDisk,
            ours.SQLite,
            ours.SQLiteBehind,
            limits.BareSQLite,
        ),
        (ours.SQLite, ours.SQLiteBehind),
    ),
    Field('filesystem', today.FilePerKey, (ours.Filesystem, ours.FilesystemBehind), (ours.Filesystem,), share=0.1),
)


def one(environment: Environment) -> list[Table]:
    """One student, one event after the other."""
    text = 'A student sends the next event when the last one is answered.'
    return [_table(environment, field, f'One student in sequence: {field.backend}', Load(1), text) for field in FIELDS]


def many(environment: Environment) -> list[Table]:
    """A thousand students at once, each one event after the other."""
    tables = []
    for field in FIELDS:
        load = Load(max(1, round(environment.plan.students * field.share)))
        text = f'{load.students:,} students, each of which sends the next event when the last one is answered.'
        tables.append(_table(environment, field, f'{load.students:,} students at once: {field.backend}', load, text))
    return tables


def queued(environment: Environment) -> list[Table]:
    """A thousand students, and ten events of each under way at once."""
    tables = []
    for field in FIELDS:
        load = Load(max(1, round(environment.plan.students * field.share)), queued=10)
        title = f'10 events queued for each of {load.students:,} students: {field.backend}'
        text = (
            f'{load.students:,} students with ten events of each under way at once. The base is handed them one after '
            'the other, or it would lose nine of ten.'
        )
        tables.append(_table(environment, field, title, load, text))
    return tables


def _table(environment: Environment, field: Field, title: str, load: Load, text: str) -> Table:
    environment.say(title)
    others = field.others if load.queued == 1 else field.queueing
    kinds = [kind for kind in (field.base, *others) if takes_part(kind)]
    columns: dict[str, list[Rates]] = {}
    with environment.pinned(to_redis=field.backend == 'redis'):
        for label in environment.plan.sizes:
            columns[label] = asyncio.run(
                interleaved(kinds, environment.place, state_of(label), load, environment.plan, environment.say)
            )
    return ratios(title, text, field.base.name, {kind.name: kind.promise for kind in kinds}, columns)


def takes_part(kind: type[Contender]) -> bool:
    """Whether a contender's library is installed, and its option known."""
    return peers.installed(kind) and (not issubclass(kind, ours.Ours) or ours.known(kind))
