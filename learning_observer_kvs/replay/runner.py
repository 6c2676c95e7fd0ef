"""Feeding study logs through reducers, as the server would have fed the events when they happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning_observer_kvs.errors import StudyLogError
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.stream_analytics.helpers import Pipeline, ProcessEvent
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name

FILES_AT_ONCE = 50
"""How many sessions are under way at once: a class that writes."""


@dataclass
class Report:
    """What a replay did.

    Attributes:
        files, events: how many were read; an event counts once, however many reducers took it.
        seconds: how long it took.
        failures: what went wrong, each with its file and line; the rest went on.
    """

    files: int = 0
    events: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def events_per_second(self) -> float:
        """How fast it went."""
        return self.events / self.seconds if self.seconds else 0.0


async def replay(
    files: Sequence[Path],
    reducers: Sequence[Pipeline],
    *,
    router: KVSRouter = KVS,
    at_once: int = FILES_AT_ONCE,
    progress: Callable[[int], None] = lambda events: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Report:
    """Feed every event of the files to every reducer.

    A file is one student's connection: its events go one after the other, each to all reducers at once.

    Args:
        files: study logs.
        reducers: what the decorators of reducers made.
        router: whose default store keeps the states.
        at_once: how many files are under way at once.
        progress: called now and then with how many events were done since.
        clock: for the report.
    """
    report = Report()
    started = clock()
    waiting = iter(files)

    async def worker() -> None:
        for path in waiting:
            await _replay_file(path, reducers, router, report, progress)

    await asyncio.gather(*(worker() for _ in range(max(1, min(at_once, len(files))))))
    report.seconds = clock() - started
    return report


async def _replay_file(
    path: Path, reducers: Sequence[Pipeline], router: KVSRouter, report: Report, progress: Callable[[int], None]
) -> None:
    report.files += 1
    connection: list[ProcessEvent] = []
    since = 0
    try:
        for number, event in study_log.read(path):
            if not connection:
                metadata = event.get('metadata') or {'auth': event['client'].get('auth') or {}}
                connection = [await reducer(metadata, router=router) for reducer in reducers]
            fields = event_fields(event)
            outcomes = await asyncio.gather(
                *(process_event(event, fields) for process_event in connection), return_exceptions=True
            )
            for reducer, outcome in zip(reducers, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    name = fully_qualified_function_name(reducer)
                    report.failures.append(f'{path}:{number}  {name}: {type(outcome).__name__}: {outcome}')
                elif isinstance(outcome, BaseException):
                    raise outcome
            report.events += 1
            since += 1
            if since == 200:
                progress(since)
                since = 0
    except StudyLogError as error:
        report.failures.append(str(error))
    progress(since)


def event_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event that a reducer's scope may name: plain values of its client part, such as ``doc_id``."""
    client: Mapping[str, Any] = event.get('client') or {}
    fields = {name: value for name, value in client.items() if isinstance(value, (str, int))}
    document = client.get('object')
    if 'doc_id' not in fields and isinstance(document, Mapping) and isinstance(document.get('id'), str):
        fields['doc_id'] = document['id']
    return fields
