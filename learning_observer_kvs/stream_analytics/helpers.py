"""The decorators that make a function a reducer, and the names that come with them.

@student_event_reducer(null_state={'count': 0})
async def count_events(event, internal_state):
    internal_state['count'] += 1
    return internal_state, {'events': internal_state['count']}
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import ScopeFieldError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope
from learning_observer_kvs.stream_analytics.keys import (
    fully_qualified_function_name,
    make_key,
    make_key_from_json,
    parse_key,
)
from learning_observer_kvs.stream_analytics.process_event import ProcessEvent, Reducer
from learning_observer_kvs.stream_analytics.registry import register_reducer

__all__ = [
    'EventField',
    'KeyField',
    'KeyStateType',
    'Pipeline',
    'ProcessEvent',
    'Reducer',
    'Scope',
    'ScopeFieldError',
    'fully_qualified_function_name',
    'kvs_pipeline',
    'make_key',
    'make_key_from_json',
    'parse_key',
    'student_event_reducer',
]


class Pipeline(Protocol):
    """A decorated reducer: awaited once for each connection, it returns what processes the connection's events.

    Attributes:
        scope: the fields that the state is kept by.
        null_text: the JSON text of the internal state that a key starts from.
    """

    __name__: str
    __qualname__: str
    scope: Scope
    null_text: bytes

    async def __call__(self, metadata: Mapping[str, Any] | None = None, *, router: KVSRouter = ...) -> ProcessEvent:
        """Begin a connection.

        Args:
            metadata: the metadata of the connection; the student is ``metadata['auth']['safe_user_id']``, or
                ``[guest]`` without it.
            router: the router whose default store keeps the states; by default ``KVS``, the router of the settings.

        Returns:
            The coroutine function to await for each event of the connection.

        Raises:
            KVSNotConfigured: the router has no default store.
        """
        ...


def kvs_pipeline(
    null_state: JSON = None,
    scope: Scope | None = None,
    module_override: str | None = None,
    qualname_override: str | None = None,
) -> Callable[[Reducer], Pipeline]:
    """Make ``async def reducer(event, internal_state)`` a pipeline that keeps its state in the store.

    The reducer returns ``(internal_state, external_state)``, with ``False`` for a state that is not to be written. If
    it raises, both states stay as they were.

    A reducer must be free of side effects: it may run more than once for an event (when another process wrote the
    state in between, or when a cached state turns out to be old), each time with a fresh copy of the state.

    Args:
        null_state: the internal state that a new key starts with, any JSON value; each key gets a copy.
        scope: the fields that the state is kept by; by default one state for each student.
        module_override: the module's name in keys, where the function's own does not fit (in a notebook, for example).
        qualname_override: the function's name in keys, likewise. The function itself keeps its name.

    Returns:
        A decorator, which makes a :class:`Pipeline` of a reducer. It never refuses a name: a second, different function
        of the same name is logged.

    Raises:
        ScopeFieldError: the scope has a field that the server cannot fill in from an event.
        InvalidValue: ``null_state`` is not a JSON value.
    """
    fields = Scope([KeyField.STUDENT]) if scope is None else scope
    for field in fields:
        if not isinstance(field, EventField) and field is not KeyField.STUDENT:
            raise ScopeFieldError(f'{field!r} cannot be filled in from an event; KeyField.STUDENT and EventFields can.')
    null_text = json_codec.encode(null_state)

    def decorator(func: Reducer) -> Pipeline:
        module = func.__module__ if module_override is None else module_override
        qualname = func.__qualname__ if qualname_override is None else qualname_override
        reducer_name = f'{module}.{qualname}'
        register_reducer(reducer_name, func, fields, null_text)

        @functools.wraps(func)
        async def pipeline(metadata: Mapping[str, Any] | None = None, *, router: KVSRouter = KVS) -> ProcessEvent:
            process_event = ProcessEvent(func, reducer_name, null_text, fields, metadata, router())
            process_event.set_listed(getattr(pipeline, 'listed', None), metadata)
            return process_event

        # The pipeline alone: another one may be made of the same function.
        pipeline.__module__, pipeline.__qualname__ = module, qualname
        pipeline.scope, pipeline.null_text = fields, null_text  # type: ignore[attr-defined]
        return pipeline  # type: ignore[return-value]

    return decorator


def student_event_reducer(
    null_state: JSON = None,
    *,
    module_override: str | None = None,
    qualname_override: str | None = None,
) -> Callable[[Reducer], Pipeline]:
    """Make ``async def reducer(event, internal_state)`` a pipeline with one state for each student.

    The same as :func:`kvs_pipeline` without a scope. A reducer must be free of side effects: it may run more than once
    for an event, each time with a fresh copy of the state.

    Args:
        null_state: the internal state that a new student starts with, any JSON value; each student gets a copy.
        module_override: the module's name in keys, where the function's own does not fit (in a notebook, for example).
        qualname_override: the function's name in keys, likewise.

    Returns:
        A decorator, which makes a :class:`Pipeline` of a reducer.

    Raises:
        InvalidValue: ``null_state`` is not a JSON value.
    """
    return kvs_pipeline(null_state, Scope([KeyField.STUDENT]), module_override, qualname_override)
