"""The decorators that make a function a reducer, and the names that come with them.

@student_event_reducer(null_state={'count': 0})
async def count_events(event, internal_state):
    internal_state['count'] += 1
    return internal_state, {'events': internal_state['count']}
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope, ScopeFieldError
from learning_observer_kvs.stream_analytics.keys import (
    fully_qualified_function_name,
    make_key,
    make_key_from_json,
    parse_key,
    register_reducer,
)

__all__ = [
    'EventField',
    'KeyField',
    'KeyStateType',
    'Scope',
    'ScopeFieldError',
    'fully_qualified_function_name',
    'kvs_pipeline',
    'make_key',
    'make_key_from_json',
    'parse_key',
    'student_event_reducer',
]

GUEST = '[guest]'
"""The student of events that come without metadata."""

Reducer = Callable[[Any, JSON], Awaitable[Any]]
ProcessEvent = Callable[..., Awaitable[JSON]]
Pipeline = Callable[..., Awaitable[ProcessEvent]]


def kvs_pipeline(
    null_state: JSON = None,
    scope: Scope | None = None,
    module_override: str | None = None,
    qualname_override: str | None = None,
) -> Callable[[Reducer], Pipeline]:
    """Make ``async def reducer(event, internal_state)`` a pipeline that keeps its state in the store.

    The reducer returns ``(internal_state, external_state)``, ``False`` for one that is not to be written. It may run
    more than once for an event (when another process wrote the state in between), each time with a fresh copy of the
    state: it must be free of side effects. If it raises, both states stay as they were.

    Args:
        null_state: the internal state that a new key starts from; a copy each time.
        scope: the fields one state is kept for each value of; a student each, if not given.
        module_override, qualname_override: the name it goes by in keys, where the function's own does not fit
            (in a notebook, for example).

    Returns:
        A decorator. What it makes is awaited once for each connection with ``metadata`` (the student is
        ``metadata['auth']['safe_user_id']``, without metadata ``[guest]``) and gives
        ``process_event(event, event_fields={})``, which is awaited for every event and returns the external state.
        ``router=`` beside ``metadata`` names another router than the one of the settings.

    Raises:
        ScopeFieldError: the scope holds something that the server cannot fill in.
        InvalidValue: ``null_state`` is no JSON value.
    """
    fields = Scope([KeyField.STUDENT]) if scope is None else scope
    for field in fields:
        if not isinstance(field, EventField) and field is not KeyField.STUDENT:
            raise ScopeFieldError(f'{field!r} cannot be filled in from an event; KeyField.STUDENT and EventFields can.')
    event_fields_of_scope = [field for field in fields if isinstance(field, EventField)]
    names = [field.event for field in event_fields_of_scope]
    by_student = KeyField.STUDENT in fields
    null_text = json_codec.encode(null_state)

    def decorator(func: Reducer) -> Pipeline:
        if qualname_override is not None:
            func.__qualname__ = qualname_override
        if module_override is not None:
            func.__module__ = module_override
        register_reducer(fully_qualified_function_name(func))

        @functools.wraps(func)
        async def pipeline(metadata: Mapping[str, Any] | None = None, *, router: KVSRouter = KVS) -> ProcessEvent:
            store = router()
            student = GUEST
            if by_student and metadata is not None and 'auth' in metadata:
                student = metadata['auth']['safe_user_id']

            def keys_of(values: tuple[str, ...]) -> tuple[str, str]:
                key_dict: dict[KeyField | EventField, Any] = dict(zip(event_fields_of_scope, values, strict=True))
                if by_student:
                    key_dict[KeyField.STUDENT] = student
                return (
                    make_key(func, key_dict, KeyStateType.INTERNAL),
                    make_key(func, key_dict, KeyStateType.EXTERNAL),
                )

            # Nearly all events of a connection are of one document, so its last keys are kept.
            last_values = ('None',) * len(names)
            last_keys = keys_of(last_values)

            async def process_event(event: Any, event_fields: Mapping[str, Any] | None = None) -> JSON:
                nonlocal last_values, last_keys
                if names:
                    values = tuple([str((event_fields or {}).get(name)) for name in names])
                    if values != last_values:
                        last_values, last_keys = values, keys_of(values)
                return await worker_of(store).process(*last_keys, functools.partial(func, event), null_text)

            return process_event

        return pipeline

    return decorator


student_event_reducer = functools.partial(kvs_pipeline, scope=Scope([KeyField.STUDENT]))
"""``kvs_pipeline`` with one state for each student."""
