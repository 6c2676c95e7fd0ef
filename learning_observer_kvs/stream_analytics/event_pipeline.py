"""Many reducers, one pass: an event goes through all reducers whose scope it has, in one batch of commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import InvalidValue, KVSError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.reducers import workers_of
from learning_observer_kvs.reducers.joined import Run
from learning_observer_kvs.reducers.worker import ReducerWorker
from learning_observer_kvs.stream_analytics.helpers import Pipeline
from learning_observer_kvs.stream_analytics.process_event import ProcessEvent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event in one reducer.

    Args:
        reducer: what processes the connection's events with the reducer.
        fields: what it was given of the event's fields.
        error: what :class:`~.process_event.ProcessEvent` would raise; ``None`` if it succeeded.
        text: the JSON text of the external state that the reducer returned; empty where it declined to write one, or
            failed.
    """

    reducer: OneReducer
    fields: Mapping[str, Any]
    error: Exception | None
    text: bytes = b''

    @property
    def reducer_name(self) -> str:
        """The reducer's name in keys."""
        return self.reducer.reducer_name

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the internal and the external state; none where a field of the event makes no key."""
        try:
            return self.reducer.keys(self.fields)
        except Exception:  # whatever the text of a value raises
            return ()

    @property
    def result(self) -> JSON:
        """The external state that the reducer returned, decoded now; ``False`` where there is none."""
        return json_codec.decode(self.text) if self.text else False


class Results(Sequence[JSON]):
    """The external states that reducers returned, in their order; each is decoded when it is looked at.

    Args:
        outcomes: what became of an event in the reducers, none of which failed.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = outcomes

    def __len__(self) -> int:
        return len(self._outcomes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Results(self._outcomes[index])
        return self._outcomes[index].result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


async def event_pipeline(
    reducers: Sequence[Pipeline], metadata: Mapping[str, Any] | None = None, *, router: KVSRouter = KVS
) -> EventPipeline:
    """Begin a connection: return what takes each of its events through many reducers in one pass.

    Awaiting one reducer after the other costs a round trip to the store for each; here the commits of all of them
    travel together, and the caller is woken once.

    Args:
        reducers: decorated reducers.
        metadata: the metadata of the connection, as a :class:`~.helpers.Pipeline` takes it.
        router: the router whose default store keeps the states; by default ``KVS``, the router of the settings.

    Returns:
        The pipeline; await it with each event of the connection, one after the other.

    Raises:
        KVSNotConfigured: the router has no default store.
    """
    connection = [await reducer(metadata, router=router) for reducer in reducers]
    return EventPipeline(connection, workers_of(router()))


class EventPipeline:
    """The reducers of one connection; :func:`event_pipeline` returns it.

    Args:
        connection: what processes the connection's events, for each reducer.
        workers: returns the worker of the running event loop.

    Attributes:
        skipped: how many times an event did not reach a reducer; see :func:`fields_for`.
    """

    def __init__(self, connection: Sequence[ProcessEvent], workers: Callable[[], ReducerWorker]) -> None:
        self._connection = connection
        self._workers = workers
        self.skipped = 0

    async def __call__(self, event: Mapping[str, Any]) -> Results:
        """Take an event through all reducers whose scope it has.

        Each reducer is run and committed as if it were awaited alone. One that fails affects no other.

        Args:
            event: the event, as the reducers get it.

        Returns:
            The external states that the reducers returned, in the order of the reducers; each is decoded when it is
            looked at.

        Raises:
            ExceptionGroup: what the reducers that failed raised, each with a note that names the reducer; all others
                were committed.
        """
        outcomes = await self.outcomes(event)
        raise_failures(outcomes)
        return Results(outcomes)

    async def outcomes(self, event: Mapping[str, Any]) -> list[Outcome]:
        """Take an event through all reducers whose scope it has, and return what became of it in each.

        Args:
            event: the event, as the reducers get it.

        Returns:
            The outcomes, in the order of the reducers; none of those that it does not reach.
        """
        fields = event_fields(event)
        reached = [
            (process, given)
            for process in self._connection
            if (given := fields_for(process, event, fields)) is not None
        ]
        self.skipped += len(self._connection) - len(reached)
        return await process_all(reached, event, self._workers())


class OneReducer(Protocol):
    """What a pipeline needs of a :class:`~.process_event.ProcessEvent`."""

    @property
    def reducer_name(self) -> str:
        """The reducer's name in keys."""

    @property
    def field_names(self) -> Sequence[str]:
        """The fields of an event that the scope has."""

    @property
    def listed_fields(self) -> Sequence[str] | None:
        """The fields of an event that a Learning Observer server lists the reducer with; ``None``: it lists none."""

    @property
    def is_unreachable(self) -> bool:
        """Whether no event of the connection reaches the reducer."""

    @property
    def leniently(self) -> ProcessEvent | None:
        """What processes the event again where the reducer returned what JSON cannot hold; ``None`` for an error."""

    def run(self, event: Any, event_fields: Mapping[str, Any] | None = None) -> Run:
        """Return what a worker processes for an event.

        Args:
            event: the event, as the reducer gets it.
            event_fields: values by the name of an ``EventField`` of the scope; one that is missing is ``None``.

        Raises:
            InvalidKey: a field's value makes a key that no store accepts.
        """

    def keys(self, event_fields: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Return the keys of the internal and the external state that an event goes to.

        Args:
            event_fields: as for :meth:`run`.

        Raises:
            InvalidKey: a field's value makes a key that no store accepts.
        """


async def process_all(
    reducers: Sequence[tuple[OneReducer, Mapping[str, Any]]], event: Any, worker: ReducerWorker
) -> list[Outcome]:
    """Take an event through reducers in one pass.

    Args:
        reducers: what processes the connection's events, for each reducer, and what it is given of the event's fields:
            values by the name of an ``EventField`` of its scope; one that is missing is ``None``.
        event: the event, as the reducers get it.
        worker: runs the reducers.

    Returns:
        The outcomes, in the order of the reducers.
    """
    failed: dict[int, Exception] = {}

    def runs() -> Iterator[Run]:
        for position, (process, fields) in enumerate(reducers):
            try:
                yield process.run(event, fields)
            except Exception as error:  # a value of the event that makes no key
                failed[position] = error

    try:
        results = iter(await worker.process_together(runs()))
    except KVSError as error:  # no reducer has processed it
        return [Outcome(process, fields, error) for process, fields in reducers]
    outcomes = []
    for position, (process, fields) in enumerate(reducers):
        result = failed.get(position) or next(results)
        if isinstance(result, bytes):
            outcomes.append(Outcome(process, fields, None, result))
        elif isinstance(result, InvalidValue) and process.leniently is not None:  # neither state was changed
            outcomes += await process_all([(process.leniently, fields)], event, worker)
        elif isinstance(result, Exception):
            outcomes.append(Outcome(process, fields, result))
        else:
            raise result
    return outcomes


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise what went wrong in reducers.

    Args:
        outcomes: what became of an event in its reducers.

    Raises:
        ExceptionGroup: what the reducers that failed raised, each with a note that names the reducer.
    """
    errors = []
    for outcome in outcomes:
        if outcome.error is not None:
            outcome.error.add_note(f'Reducer: {outcome.reducer_name}')
            errors.append(outcome.error)
    if errors:
        names = ', '.join(outcome.reducer_name for outcome in outcomes if outcome.error is not None)
        raise ExceptionGroup(f'{len(errors)} of {len(outcomes)} reducers failed: {names}', errors)


def event_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that a reducer's scope may name.

    Args:
        event: an event as reducers get it.

    Returns:
        The text and integer values of its client part by name, such as ``doc_id``.
    """
    client: Mapping[str, Any] = event.get('client') or {}
    fields = {name: value for name, value in client.items() if isinstance(value, (str, int))}
    document = client.get('object')
    if 'doc_id' not in fields and isinstance(document, Mapping) and isinstance(document.get('id'), str):
        fields['doc_id'] = document['id']
    return fields


def fields_for(
    process: OneReducer, event: Mapping[str, Any], fields: Mapping[str, Any] | None = None
) -> Mapping[str, Any] | None:
    """Return what a reducer is given of an event's fields: the rule for which events reach which reducer.

    Not reached are the reducers whose scope has a field that the event lacks, and those whose scope has the student
    where the connection names none. ``terminate``, with which a browser ends a connection, reaches none. What a
    Learning Observer server lists with other fields than those of the scope is given those, as they are in the event.

    Args:
        process: what processes the connection's events with the reducer.
        event: the event.
        fields: its fields, where they are known: what :func:`event_fields` returned.

    Returns:
        The values by name; ``None`` if the event does not reach the reducer.
    """
    if fields is None:
        fields = event_fields(event)
    if process.is_unreachable or fields.get('event') == 'terminate':
        return None
    names = process.listed_fields
    if names is None:
        return fields if all(name in fields for name in process.field_names) else None
    client = event.get('client') or {}
    return {name: client[name] for name in names} if all(name in client for name in names) else None
