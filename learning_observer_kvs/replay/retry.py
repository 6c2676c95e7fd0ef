"""Giving failed events to the reducers that have not processed them, each event once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from learning_observer_kvs.errors import EventFileError, Overloaded, StoreUnavailable
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.replay.failures import Failure
from learning_observer_kvs.replay.once import AlreadyReplayed, FieldMissing, ReplayStore
from learning_observer_kvs.stream_analytics.helpers import Pipeline
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name


@dataclass
class RetryReport:
    """The result of a replay of failed events; an event counts once for each reducer that it failed at.

    Attributes:
        replayed: how many events were applied.
        already: how many the states held already, from a replay before.
        unclear: a location for each event that was left because it may have been applied when it failed.
        unmarked: a location for each event whose file does not say which reducers failed.
        other_reducers: how many events were left because they failed at a reducer that was not given, by its name.
        failures: a message for each event that failed again, and for each file or line that is not valid.
        seconds: how long it took.
    """

    replayed: int = 0
    already: int = 0
    unclear: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    other_reducers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every event that failed at one of the reducers is in the states now."""
        return not (self.unclear or self.unmarked or self.failures)


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
    store = ReplayStore(router())
    by_name = {fully_qualified_function_name(reducer): reducer for reducer in reducers}
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
            if name is None and not unmarked:
                report.unmarked.append(failure.location)
            elif name is not None and name not in by_name:
                report.other_reducers[name] += 1
            elif failure.is_unclear and not unclear:
                report.unclear.append(f'{failure.location}  {name}')
            else:
                for reducer in reducers if name is None else (by_name[name],):
                    await _apply(failure, reducer, replaying, store, report)
            progress(1)
    finally:
        await store.close()
    report.seconds = clock() - started
    return report


async def _apply(
    failure: Failure, reducer: Pipeline, router: KVSRouter, store: ReplayStore, report: RetryReport
) -> None:
    process_event = await reducer(failure.metadata, router=router)

    def has_field(name: str) -> bool:
        return failure.key is not None or name in failure.fields

    try:
        await store.apply(
            failure.event_id, failure.key, has_field, lambda: process_event(failure.event, failure.fields)
        )
    except AlreadyReplayed:
        report.already += 1
    except FieldMissing:
        pass
    except (StoreUnavailable, Overloaded):
        raise
    except Exception as error:
        name = fully_qualified_function_name(reducer)
        report.failures.append(f'{failure.location}  {name}: {type(error).__name__}: {error}')
    else:
        report.replayed += 1
