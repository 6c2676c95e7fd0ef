"""Feeding study logs through reducers, in the order in which a server processed the events."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.reducers.erased_students import received
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.replay.events import metadata_of, student_ids
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stream_analytics.event_pipeline import EventPipeline, Outcome, event_pipeline
from learning_observer_kvs.stream_analytics.helpers import Pipeline

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
        skipped: how many times an event did not reach a reducer; see
            :func:`~learning_observer_kvs.stream_analytics.event_pipeline.fields_for`.
        suppressed: how many events were left out: of erased students, and not newer than the erasure.
        seconds: how long it took.
        failures: a message for each event that a reducer failed on, with its file and line.
        kept: the files in which those events are kept, for a replay of them alone.
        invalid: for each file that was not replayed what is wrong with it: a message for each of its first lines that
            are not events. Nothing of it is in the states.
        invalid_lines: how many such lines there are in all files.
    """

    files: int = 0
    events: int = 0
    skipped: int = 0
    suppressed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    kept: set[Path] = field(default_factory=set)
    invalid: dict[str, list[str]] = field(default_factory=dict)
    invalid_lines: int = 0

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
    """Feed every event of the files to the reducers that a server would give it to.

    A file is one connection: its events are processed one after the other, each by all reducers in one pass. A file
    with a line that is not an event is left out whole.

    Args:
        files: study logs.
        reducers: decorated reducers.
        router: the router whose default store keeps the states.
        at_once: how many files are replayed concurrently.
        progress: called with how many events were done since the last call, every 200 events of a file.
        clock: returns the time in seconds, for the report.

    Returns:
        How many events were read, and what went wrong; the replay continued after it.

    Raises:
        KVSNotConfigured: the router has no default store.
    """
    report = ReplayReport()
    started = clock()
    suppressed = await suppression.read(router())
    waiting = iter(files)

    async def worker() -> None:
        for path in waiting:
            await _replay_file(path, reducers, router, suppressed, report, progress)

    await asyncio.gather(*(worker() for _ in range(max(1, min(at_once, len(files))))))
    report.seconds = clock() - started
    return report


async def _replay_file(
    path: Path,
    reducers: Sequence[Pipeline],
    router: KVSRouter,
    suppressed: suppression.Suppression,
    report: ReplayReport,
    progress: Callable[[int], None],
) -> None:
    report.files += 1
    # As a whole, before anything of it is in the states: so it can be corrected and replayed again.
    checked = await asyncio.to_thread(study_log.check, path)
    if checked.error_count:
        report.invalid[str(path)] = checked.errors
        report.invalid_lines += checked.error_count
        progress(checked.lines)
        return
    pipeline: EventPipeline | None = None
    connection: object = None
    since = 0
    try:
        for number, event in itertools.islice(study_log.read(path), checked.lines):  # a server may write to it now
            if suppressed and suppressed.keeps_out(student_ids(event), received(event)):
                report.suppressed += 1
                continue
            metadata = metadata_of(event, f'{path}:{number}')
            named = metadata.get('auth'), metadata.get('source')
            if pipeline is None or named != connection:
                connection = named
                skipped = 0 if pipeline is None else pipeline.skipped
                pipeline = await event_pipeline(reducers, metadata, router=router)
                pipeline.skipped = skipped
            for outcome in await pipeline.outcomes(event):
                if outcome.error is not None:
                    _keep(outcome, event, f'{path}:{number}', router, report)
            report.events += 1
            since += 1
            if since == PROGRESS_EVERY:
                progress(since)
                since = 0
    except EventFileError as error:
        report.failures.append(f'{error} It was changed meanwhile: what comes before this is in the states.')
    if pipeline is not None:
        report.skipped += pipeline.skipped
    progress(since)


def _keep(outcome: Outcome, event: Any, location: str, router: KVSRouter, report: ReplayReport) -> None:
    """Report an event that a reducer failed on, and keep it for a replay of that reducer alone."""
    error = outcome.error
    assert error is not None
    message = f'{location}  {outcome.reducer_name}: {type(error).__name__}: {error}'
    try:
        path = failed_events.record(
            event, error, reducer=outcome.reducer_name, keys=outcome.keys, folder=router().failed_events
        )
        report.kept.add(path)
    except OSError as problem:
        message += f' It could not be kept in {router().failed_events}: {problem}.'
    report.failures.append(message)
