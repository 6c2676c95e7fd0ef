"""Writing sessions, as ``lo-kvs replay`` feeds them, through the four reducers of devdata."""

from __future__ import annotations

import asyncio
import copy
import gc
import gzip
import itertools
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from devdata.reducers import REDUCERS
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.replay.runner import FILES_AT_ONCE, replay
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, KeyStateType, make_key
from tests.benchmarks import ours, today
from tests.benchmarks.comparisons import compared, with_base
from tests.benchmarks.contender import Contender, Done, Load
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import JSON, State, state_of
from tests.benchmarks.measure import Selection, interleaved
from tests.benchmarks.results import Table, ratios
from tests.support.sessions import FOLDER

Kept = TypeVar('Kept', ours.Ours, today.Today)

NULL_STATES: dict[str, JSON] = {
    'reconstruct': {'text': ''},
    'time_on_task': {'last': None, 'seconds': 0.0},
    'event_count': {},
    'document_list': {'documents': {}, 'current': None},
}
"""What the reducers start from, for the base, which has no pipelines."""


def sessions(environment: Environment) -> list[Table]:
    """Measure how many events of real writing a process reduces in a second."""
    plan = environment.plan
    files = shortened(environment.location.directory / 'sessions', plan.sessions, plan.events)
    where = 'the sessions of `LO_KVS_SESSIONS`' if 'devdata' not in FOLDER.parts else 'the sample of devdata'
    tables = []
    for comparison in compared(environment):
        title = f'`lo-kvs replay` of {len(files)} writing sessions: {comparison.backend}'
        environment.say(title)
        stores = with_base(environment, comparison, [kind(environment.location) for kind in comparison.ours])
        contenders = [
            Replayed(store, files) if isinstance(store, ours.Ours) else OneByOne(store, files)
            for store in stores
            if isinstance(store, (ours.Ours, today.Today))
        ]
        with environment.pinned(to_redis=comparison.backend == 'redis'):
            rates = asyncio.run(interleaved(contenders, state_of('0.3 KB'), Load(1), plan, environment.say))
        text = (
            f'From {where}, at most {plan.events:,} events each, {FILES_AT_ONCE} sessions at once, through '
            f'{len(REDUCERS)} reducers. An event counts once, whichever of them get it. Reading the files is part of '
            'it, for all alike.'
        )
        promises = {contender.name: contender.promise for contender in stores}
        paired = plan.selection is Selection.PAIRS
        tables.append(ratios(title, text, comparison.base.name, promises, {'all sessions': rates}, paired=paired))
    return tables


def shortened(directory: Path, count: int, events: int) -> list[Path]:
    """Return copies of the first sessions, with no more than so many events each."""
    directory.mkdir(exist_ok=True)
    found = []
    logs = sorted(path for path in FOLDER.rglob('*') if path.name.endswith(study_log.SUFFIXES))
    for path in logs[:count]:
        with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as lines:
            copied = directory / path.name.removesuffix('.gz')
            copied.write_bytes(b''.join(itertools.islice(lines, events)))
        found.append(copied)
    return found


class Sessions(Contender, Generic[Kept]):
    """The sessions through a store, which is empty at the beginning of each measurement.

    Args:
        store: what keeps the states.
        files: the sessions.
    """

    def __init__(self, store: Kept, files: Sequence[Path]) -> None:
        super().__init__(store.location)
        self.name = store.name
        self._store: Kept = store
        self._files = files

    async def open(self, state: State) -> None:
        self._state = state

    async def run(self, load: Load) -> Done:
        await self._store.open(self._state)
        try:
            gc.collect()
            started = time.perf_counter()
            events = await self._reduce()
            return Done(events, time.perf_counter() - started)
        finally:
            await self._store.close()

    @abstractmethod
    async def _reduce(self) -> int:
        """Reduce the sessions; return the number of their events."""


class Replayed(Sessions[ours.Ours]):
    """Through a store of this package."""

    async def _reduce(self) -> int:
        report = await replay(self._files, REDUCERS, router=self._store.router)
        await self._store.settle()
        if report.failures:
            raise RuntimeError(report.failures[0])
        return report.events


class OneByOne(Sessions[today.Today]):
    """As the runtime does it without this package."""

    async def _reduce(self) -> int:
        waiting = iter(self._files)
        return sum(await asyncio.gather(*(self._feed(waiting) for _ in range(FILES_AT_ONCE))))

    async def _feed(self, waiting: Any) -> int:
        processes = [self._process(reducer) for reducer in REDUCERS]
        count = 0
        for path in waiting:
            for _, event in study_log.read(path):
                client = event['client']
                student = (event.get('metadata') or client)['auth']['safe_user_id']
                document = client.get('doc_id') or (client.get('object') or {}).get('id')
                await asyncio.gather(*(process(event, document, student) for process in processes))
                count += 1
        return count

    def _process(self, reducer: Any) -> Callable[[Any, Any, str], Awaitable[None]]:
        store, function, null_state = self._store, reducer.__wrapped__, NULL_STATES[reducer.__name__]
        by_document = reducer.__name__ == 'reconstruct'

        async def process(event: Any, document: Any, student: str) -> None:
            fields: dict[Any, Any] = {KeyField.STUDENT: student}
            if by_document:
                fields[EventField('doc_id')] = document
            internal_key = make_key(function, fields, KeyStateType.INTERNAL)
            found = await store.get(internal_key)
            internal, external = await function(event, copy.deepcopy(null_state) if found is None else found)
            if internal is not False:
                await store.set(internal_key, internal)
            if external is not False:
                await store.set(make_key(function, fields, KeyStateType.EXTERNAL), external)

        return process
