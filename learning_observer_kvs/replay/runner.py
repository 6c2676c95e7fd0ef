"""Feeding study logs through reducers, in the order in which a server processed the events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning_observer_kvs.errors import EventFileError, KVSError
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.replay.events import fields_for, metadata_of
from learning_observer_kvs.stream_analytics.event_pipeline import process_all
from learning_observer_kvs.stream_analytics.helpers import Pipeline, ProcessEvent
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name

FILES_AT_ONCE = 50
"""How many files are replayed concurrently, by default: about a school class."""

PROGRESS_EVERY = 200
"""Events of a file between two calls of ``progress``."""


@dataclass
class ReplayReport:
    """The result of a replay.

    Attributes:
        files: how many files were read.
        events: how many events were read; an event counts once, however many reducers there are.
        seconds: how long it took.
        failures: a message for each failure, with its file and line; the replay continued after it.
    """

    files: int = 0
    events: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def events_per_second(self) -> float:
        """The average rate; 0 if no time has passed."""
        return self.events / self.seconds if self.seconds else 0.0


async def replay(
    files: Sequence[Path],
    reducers: Sequence[Pipeline],
    *,
    router: KVSRouter = KVS,
    at_once: int = FILES_AT_ONCE,
    progress: Callable[[int], None] = lambda events: None,
    clock: Callable[[], float] = time.perf_counter,
) -> ReplayReport:
    """Feed every event of the files to every reducer.

    A file is one connection: its events are processed one after the other, each by all reducers concurrently.

    Args:
        files: study logs.
        reducers: decorated reducers.
        router: the router whose default store keeps the states.
        at_once: how many files are replayed concurrently.
        progress: called with how many events were done since the last call, every 200 events of a file.
        clock: returns the time in seconds, for the report.

    Returns:
        How many events were read, and a message for each failure of a reducer, a store or a file.

    Raises:
        KVSNotConfigured: the router has no default store.
    """
    report = ReplayReport()
    started = clock()
    waiting = iter(files)

    async def worker() -> None:
        for path in waiting:
            await _replay_file(path, reducers, router, report, progress)

    await asyncio.gather(*(worker() for _ in range(max(1, min(at_once, len(files))))))
    report.seconds = clock() - started
    return report


async def _replay_file(
    path: Path, reducers: Sequence[Pipeline], router: KVSRouter, report: ReplayReport, progress: Callable[[int], None]
) -> None:
    report.files += 1
    connection: list[tuple[Pipeline, ProcessEvent]] = []
    auth: object = None
    since = 0
    try:
        for number, event in study_log.read(path):
            metadata = metadata_of(event, f'{path}:{number}') or {}
            if not connection or metadata.get('auth') != auth:
                auth = metadata.get('auth')
                connection = [(reducer, await reducer(metadata, router=router)) for reducer in reducers]
            given = [(reducer, process_event, fields_for(reducer, event)) for reducer, process_event in connection]
            called = [
                (reducer, process_event, fields) for reducer, process_event, fields in given if fields is not None
            ]
            errors = await _process([(process_event, fields) for _, process_event, fields in called], event, router)
            for (reducer, _, _), error in zip(called, errors, strict=True):
                if error is not None:
                    name = fully_qualified_function_name(reducer)
                    report.failures.append(f'{path}:{number}  {name}: {type(error).__name__}: {error}')
            report.events += 1
            since += 1
            if since == PROGRESS_EVERY:
                progress(since)
                since = 0
    except EventFileError as error:
        report.failures.append(str(error))
    progress(since)


async def _process(
    called: Sequence[tuple[ProcessEvent, Mapping[str, Any]]], event: Any, router: KVSRouter
) -> Sequence[Exception | None]:
    """Give an event to reducers in one pass; the error of each."""
    try:
        return [outcome.error for outcome in await process_all(called, event, worker_of(router()))]
    except KVSError as error:  # none has processed it
        return [error] * len(called)
