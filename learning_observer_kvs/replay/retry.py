"""Giving failed events to the reducers that have not processed them, each event once."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from learning_observer_kvs.errors import EventFileError, Overloaded, StoreUnavailable
from learning_observer_kvs.identifiers import student_of
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.replay.events import student_ids
from learning_observer_kvs.replay.failures import Failure
from learning_observer_kvs.replay.once import AlreadyReplayed, ReplayStore
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stream_analytics.event_pipeline import fields_for
from learning_observer_kvs.stream_analytics.helpers import Pipeline
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name


@dataclass
class RetryReport:
    """The result of a replay of failed events; an event counts once for each reducer that it failed at.

    Attributes:
        replayed: how many events were applied.
        already: how many the states held already, from a replay before.
        suppressed: how many events were left out: of erased students, and not newer than the erasure.
        unclear: a location for each event that was left because it may have been applied when it failed.
        unmarked: a location for each event whose file does not say which reducers failed.
        other_reducers: how many events were left because they failed at a reducer that was not given, by its name.
        skipped: how many times an event of such a file did not reach a reducer; see
            :func:`~learning_observer_kvs.stream_analytics.event_pipeline.fields_for`.
        failures: a message for each event that failed again, and for each file or line that is not valid.
        seconds: how long it took.
    """

    replayed: int = 0
    already: int = 0
    suppressed: int = 0
    unclear: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    other_reducers: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every event that failed at one of the reducers is in the states now."""
        return not (self.unclear or self.unmarked or self.failures)


class _Call(NamedTuple):
    """The internal key of a reducer's states, and what runs the event through it."""

    key: str
    process: Callable[[], Awaitable[Any]]


async def retry(
    failures: Iterable[Failure | EventFileError],
    reducers: Sequence[Pipeline],
    *,
    router: KVSRouter = KVS,
    unclear: bool = False,
    unmarked: bool = False,
    progress: Callable[[int], None] = lambda events: None,
    clock: Callable[[], float] = time.perf_counter,
) -> RetryReport:
    """Give each failed event to the reducer that failed, one after the other, the oldest first.

    The states note what was replayed to them, so an event is applied once, also if this is interrupted and run again,
    or is given a file twice.

    Args:
        failures: as :func:`~learning_observer_kvs.replay.failures.read` yields them.
        reducers: decorated reducers; events that failed at others are left.
        router: the router whose default store keeps the states.
        unclear: whether to apply events that may have been applied when they failed.
        unmarked: whether to give events to all reducers where the file does not say which ones failed.
        progress: called with 1 after each event.
        clock: returns the time in seconds, for the report.

    Returns:
        What became of the events.

    Raises:
        KVSNotConfigured: the router has no default store.
        StoreUnavailable, Overloaded: the store cannot be used; the events before this are applied.
    """
    report, started = RetryReport(), clock()
    suppressed = await suppression.read(router())
    store = ReplayStore(router())
    by_name: dict[str, list[Pipeline]] = {}  # one function may be decorated several times, with several scopes
    for reducer in reducers:
        by_name.setdefault(fully_qualified_function_name(reducer), []).append(reducer)
    rows: list[Failure] = []
    for failure in failures:
        if isinstance(failure, Failure):
            rows.append(failure)
        else:
            report.failures.append(str(failure))
    replaying = KVSRouter(store)
    try:
        for failure in sorted(rows, key=lambda failure: failure.time):
            name = failure.reducer
            if suppressed and suppressed.keeps_out(_students(failure), failure.time):
                report.suppressed += 1
            elif name is None and not unmarked:
                report.unmarked.append(failure.location)
            elif name is not None and name not in by_name:
                report.other_reducers[name] += 1
            elif failure.is_unclear and not unclear:
                report.unclear.append(f'{failure.location}  {name}')
            else:
                calls = await _calls(failure, reducers if name is None else by_name[name], replaying)
                if failure.key is None:
                    report.skipped += len(reducers) - len(calls)
                elif not calls:
                    report.failures.append(
                        f'{failure.location}  {display_key(failure.key)} is not a key that {name} would write for this '
                        'event: the scope of the reducer has changed, or the key names another student.'
                    )
                for call in calls:
                    await _apply(failure, call, store, report)
            progress(1)
    finally:
        await store.close()
    report.seconds = clock() - started
    return report


def _students(failure: Failure) -> list[str]:
    student = None if failure.key is None else student_of(failure.key)
    return [*student_ids(failure.event), *([] if student is None else [student])]


async def _calls(failure: Failure, reducers: Sequence[Pipeline], router: KVSRouter) -> list[_Call]:
    """The calls of the reducers that missed an event; if they are not known, of all that a server gives it to."""
    found = []
    for reducer in reducers:
        process_event = await reducer(failure.metadata, router=router)
        fields = failure.fields if failure.key is not None else fields_for(process_event, failure.event)
        if fields is not None:
            key = process_event.keys(fields)[0]
            call = _Call(key, functools.partial(process_event, failure.event, fields))
            if key == failure.key:
                return [call]
            if failure.key is None:
                found.append(call)
    return found


async def _apply(failure: Failure, call: _Call, store: ReplayStore, report: RetryReport) -> None:
    try:
        await store.apply(failure.event_id, call.process)
    except AlreadyReplayed:
        report.already += 1
    except (StoreUnavailable, Overloaded):
        raise
    except Exception as error:
        report.failures.append(f'{failure.location}  {display_key(call.key)}: {type(error).__name__}: {error}')
    else:
        report.replayed += 1
