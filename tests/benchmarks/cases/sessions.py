"""Writing sessions, as ``lo-kvs replay`` feeds them, through the four reducers of devdata."""

from __future__ import annotations

import asyncio
import copy
import gc
import gzip
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from devdata.reducers import REDUCERS
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.replay import files, study_log
from learning_observer_kvs.replay.events import event_fields
from learning_observer_kvs.replay.runner import FILES_AT_ONCE, replay
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, KeyStateType, make_key
from tests.benchmarks import ours, today
from tests.benchmarks.cases.reducers import takes_part
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import state_of
from tests.benchmarks.measure import empty_redis
from tests.benchmarks.results import Table, number
from tests.support.sessions import FOLDER

NULL_STATES: dict[str, JSON] = {
    'reconstruct': {'text': ''},
    'time_on_task': {'last': None, 'seconds': 0.0},
    'event_count': {},
    'document_list': {'documents': {}, 'current': None},
}
"""What the reducers start from, for today's way, which has no pipelines."""


IN_REDIS: Sequence[type[ours.Ours]] = (ours.Redis, ours.RedisBehind)
ELSEWHERE: Sequence[type[ours.Ours]] = (ours.SQLite, ours.Filesystem, ours.Stub)


def sessions(environment: Environment) -> list[Table]:
    """How many events of real writing a process takes in a second."""
    plan = environment.plan
    files = shortened(environment.place.folder / 'sessions', plan.sessions, plan.events)
    where = 'the sessions of `LO_KVS_SESSIONS`' if 'devdata' not in FOLDER.parts else 'the sample of devdata'
    table = Table(
        f'`lo-kvs replay` of {len(files)} writing sessions through {len(REDUCERS)} reducers',
        f'From {where}, at most {plan.events:,} events each, {FILES_AT_ONCE} sessions at once. '
        'An event counts once, whichever of the four take it. Reading the files is part of it, for all alike.',
        ['', 'events', 'events/s', 'ratio'],
    )
    environment.say('Sessions')
    base = 0.0
    with environment.pinned(to_redis=True):
        events, seconds = asyncio.run(_one_by_one(environment, files))
        base = events / seconds
        _row(environment, table, today.OneByOne.name, events, base, base)
        for kind in IN_REDIS:
            if takes_part(kind):
                events, seconds = asyncio.run(_replay(environment, kind, files))
                _row(environment, table, kind.name, events, events / seconds, base)
    for kind in ELSEWHERE:
        events, seconds = asyncio.run(_replay(environment, kind, files))
        _row(environment, table, kind.name, events, events / seconds, base)
    return [table]


def shortened(folder: Path, count: int, events: int) -> list[Path]:
    """Copies of the first sessions, with no more than so many events each."""
    folder.mkdir(exist_ok=True)
    found = []
    for path in files.find([FOLDER]).study_logs[:count]:
        with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as lines:
            copied = folder / path.name.removesuffix('.gz')
            copied.write_bytes(b''.join(itertools.islice(lines, events)))
        found.append(copied)
    return found


async def _replay(environment: Environment, kind: type[ours.Ours], files: Sequence[Path]) -> tuple[int, float]:
    contender = kind(environment.place)
    await contender.open(state_of('0.3 KB'))
    try:
        gc.collect()
        report = await replay(files, REDUCERS, router=contender.router)
        started = time.perf_counter()
        await contender.settle()
        if report.failures:
            raise RuntimeError(report.failures[0])
        return report.events, report.seconds + time.perf_counter() - started
    finally:
        await contender.close()
        empty_redis(environment.place)


async def _one_by_one(environment: Environment, files: Sequence[Path]) -> tuple[int, float]:
    """The same, as the runtime does it today."""
    client = today.client(environment.place.port)
    events = 0

    def socket(reducer: Any) -> Callable[[Any, dict[str, Any], str], Awaitable[None]]:
        function, null_state = reducer.__wrapped__, NULL_STATES[reducer.__name__]
        by_document = reducer.__name__ == 'reconstruct'

        async def apply(event: Any, fields: dict[str, Any], student: str) -> None:
            names: dict[Any, Any] = {KeyField.STUDENT: student}
            if by_document:
                names[EventField('doc_id')] = fields.get('doc_id')
            internal_key = make_key(function, names, KeyStateType.INTERNAL)
            text = await client.get(internal_key)
            internal, external = await function(event, copy.deepcopy(null_state) if text is None else json.loads(text))
            if internal is not False:
                await client.set(internal_key, json.dumps(internal))
            if external is not False:
                await client.set(make_key(function, names, KeyStateType.EXTERNAL), json.dumps(external))

        return apply

    sockets = [socket(reducer) for reducer in REDUCERS]
    waiting = iter(files)

    async def worker() -> None:
        nonlocal events
        for path in waiting:
            for _, event in study_log.read(path):
                student = (event.get('metadata') or event['client'])['auth']['safe_user_id']
                fields = event_fields(event)
                await asyncio.gather(*(apply(event, fields, student) for apply in sockets))
                events += 1

    gc.collect()
    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(FILES_AT_ONCE)))
    seconds = time.perf_counter() - started
    await client.aclose()
    empty_redis(environment.place)
    return events, seconds


def _row(environment: Environment, table: Table, name: str, events: int, rate: float, base: float) -> None:
    environment.say(f'  {name}: {rate:,.0f} events/s')
    table.add(
        [name, f'{events:,}', number(rate), f'{number(rate / base)} ×'],
        contender=name,
        events=events,
        events_per_second=rate,
        ratio=rate / base,
    )
