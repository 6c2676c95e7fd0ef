"""The runtime's events: each goes through all reducers of its connection in one pass.

The runtime awaits its reducers one after the other, a round trip to the store for each. Its function
``student_event_pipeline`` stays what it is, with all it does around the reducers: it is given reducers that only note
that an event has come to them, and a last one that runs those together. Of the rule for which events reach which
reducer (:func:`~learning_observer_kvs.stream_analytics.event_pipeline.fields_for`) it does the part that is about the
fields of an event; the part that is about the student is done here.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import FunctionType
from typing import Any, TypeAlias

from learning_observer_kvs.errors import InvalidValue
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.replay import error_file
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.event_pipeline import process_all, raise_failures
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name
from learning_observer_kvs.stream_analytics.process_event import ProcessEvent
from learning_observer_kvs.stream_analytics.registry import is_reducer

log = logging.getLogger('learning_observer_kvs')

NAME = 'student_event_pipeline'


class ProcessRuntimeEvent:
    """Processes the events of one connection with one reducer of the runtime.

    Args:
        strictly: processes an event.
        leniently: does so again where the reducer returned what JSON cannot hold: of two keys of an object that JSON
            writes alike, the last one is kept, as in the runtime.
        store: where the states are.
        keys_after: returns the internal keys of the reducers that the runtime leaves out for an event if this one
            raises.
    """

    def __init__(
        self,
        strictly: ProcessEvent,
        leniently: ProcessEvent,
        store: Store,
        keys_after: Callable[[Any], Awaitable[Sequence[str]]],
    ) -> None:
        self.leniently = leniently
        self.store = store
        self.reducer_name, self.field_names = strictly.reducer_name, strictly.field_names
        self.listed_fields, self.is_unreachable = strictly.listed_fields, strictly.is_unreachable
        self.run, self.keys = strictly.run, strictly.keys
        self._strictly = strictly
        self._keys_after = keys_after

    async def __call__(self, event: Any, event_fields: Mapping[str, Any] | None = None) -> Any:
        """Run the reducer on one event, and commit both of its states.

        Args:
            event: the event, as the reducer gets it.
            event_fields: values by the name of an ``EventField`` of the scope.

        Returns:
            The external state, as the reducer returned it.

        Raises:
            Exception: as :class:`~learning_observer_kvs.stream_analytics.process_event.ProcessEvent`; it notes which
                states the event did not reach, for the error file that the runtime writes.
        """
        try:
            try:
                return await self._strictly(event, event_fields)
            except InvalidValue:  # neither state was changed
                return await self.leniently(event, event_fields)
        except Exception as error:
            with suppress(Exception):  # the runtime must get the reducer's error, not one of ours
                error_file.annotate(error, {self.keys(event_fields)[0]: error}, await self._keys_after(event))
            raise


_Noted: TypeAlias = tuple[ProcessRuntimeEvent, Any, Mapping[str, Any]]
"""A reducer, an event that has come to it, and the event's fields."""


class _Pass:
    """The reducers of one connection of the runtime.

    Args:
        stream_analytics: the runtime's module of this name, whose place it takes.
    """

    def __init__(self, stream_analytics: Any) -> None:
        self._stream_analytics = stream_analytics
        self._noted: list[_Noted] = []
        self._skipped = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream_analytics, name)

    def reducer_modules(self, source: str) -> list[dict[str, Any]]:
        """Return what the runtime's function of this name returns, to be run in one pass if all reducers are ours."""
        entries: list[dict[str, Any]] = self._stream_analytics.reducer_modules(source)
        if not all(getattr(entry['reducer'], 'kvs_plugin', False) for entry in entries):
            return entries
        noting = [{**entry, 'reducer': self._noting(entry['reducer'])} for entry in entries]
        return [*noting, {'reducer': self._begin_last, 'scope': ()}]

    def _noting(self, reducer: Any) -> Any:
        async def begin(metadata: Any) -> Any:
            process = await reducer(metadata)
            if not isinstance(process, ProcessRuntimeEvent):
                return process  # the default store is not one of ours
            if process.is_unreachable:
                return self._skip

            async def note(event: Any, event_fields: Mapping[str, Any]) -> None:
                self._noted.append((process, event, event_fields))

            return note

        return begin

    async def _begin_last(self, metadata: Any) -> Any:
        return self._run_noted

    async def _skip(self, event: Any, event_fields: Any) -> None:
        self._skipped += 1
        if str(self._skipped).strip('0') == '1':  # 1, 10, 100, …
            log.warning(
                '%d times an event did not reach a reducer, because its connection names no student.', self._skipped
            )

    async def _run_noted(self, event: Any, event_fields: Any) -> None:
        """Run the reducers that an event has come to."""
        noted, self._noted = self._noted, []
        # Of an event that the runtime failed on, some reducers have been reached and this has not.
        for _, group in itertools.groupby(noted, key=lambda each: id(each[1])):
            await self._process(list(group))

    async def _process(self, noted: Sequence[_Noted]) -> None:
        """Take one event through the reducers that it has come to."""
        first, event, _ = noted[0]
        outcomes = await process_all([(process, fields) for process, _, fields in noted], event, worker_of(first.store))
        try:
            raise_failures(outcomes)
        except ExceptionGroup as error:
            with suppress(Exception):  # the runtime must get the reducers' errors, not one of ours
                error_file.annotate(error, {each.keys[0]: each.error for each in outcomes if each.error and each.keys})
            raise


def describe_reducers(reducers: Iterable[Any]) -> list[str]:
    """Return lines that say how many reducers this package runs, and of each of the others why not.

    Args:
        reducers: the functions that the runtime lists; one may be listed several times.
    """
    listed = {id(reducer): reducer for reducer in reducers}
    left = []
    for reducer in listed.values():
        name = fully_qualified_function_name(reducer) if hasattr(reducer, '__qualname__') else repr(reducer)
        refusal = getattr(reducer, 'kvs_plugin_refusal', None)
        if not (hasattr(reducer, 'kvs_plugin') or (refusal is None and is_reducer(name))):
            reason = refusal or 'no decorator of the server made it.'
            left.append(f'The reducer {name} is left to the server: {reason}')
    return [f'{len(listed) - len(left)} of {len(listed)} reducers run through the key-value store.', *left]


def in_one_pass(pipeline: Any) -> Any:
    """Return a function that does the same as the runtime's ``student_event_pipeline``, with its reducers in one pass.

    Args:
        pipeline: the runtime's function.

    Returns:
        The function; where it is not the runtime's own, because a server has replaced or wrapped it, what was given.
    """
    if (
        not isinstance(pipeline, FunctionType)
        or hasattr(pipeline, '__wrapped__')
        or pipeline.__closure__
        or (pipeline.__module__, pipeline.__qualname__) != ('learning_observer.incoming_student_event', NAME)
        or not {'stream_analytics', 'reducer_modules'} <= set(pipeline.__code__.co_names)
    ):
        return pipeline

    async def student_event_pipeline(metadata: Any) -> Any:
        """Create an event pipeline, based on header metadata."""
        names = pipeline.__globals__
        code = FunctionType(pipeline.__code__, {**names, 'stream_analytics': _Pass(names['stream_analytics'])})
        return await code(metadata)

    return student_event_pipeline
