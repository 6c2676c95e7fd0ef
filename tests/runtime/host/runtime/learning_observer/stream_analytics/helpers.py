"""The decorators of reducers: read, run, write, one after the other."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import learning_observer.kvs
from learning_observer.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope


def make_key(func: Any, key_dict: dict[Any, Any], state_type: Any) -> str:
    """Return the key of a state."""
    fields = [f'{field.name}:{key_dict[field]}' for field in sorted(key_dict, key=lambda field: field.name)]
    return ','.join([state_type.name.capitalize(), f'{func.__module__}.{func.__qualname__}', *fields])


def kvs_pipeline(
    null_state: Any = None,
    scope: Any = None,
    module_override: str | None = None,
    qualname_override: str | None = None,
) -> Callable[[Any], Any]:
    """Make a function a reducer."""
    if scope is None:
        scope = Scope([KeyField.STUDENT])

    def decorator(func: Any) -> Any:
        func.__module__ = module_override or func.__module__
        func.__qualname__ = qualname_override or func.__qualname__

        @functools.wraps(func)
        async def connected(metadata: Any) -> Any:
            store = learning_observer.kvs.KVS()

            async def process_event(event: Any, event_fields: dict[str, Any] | None = None) -> Any:
                values: dict[Any, Any] = {}
                for field in scope:
                    if field is KeyField.STUDENT:
                        values[field] = metadata['auth']['safe_user_id'] if metadata else '[guest]'
                    elif isinstance(field, EventField):
                        values[field] = (event_fields or {}).get(field.event)
                    else:
                        raise ValueError(f'cannot fill in {field}')
                inside = make_key(func, values, KeyStateType.INTERNAL)
                state = await store[inside]
                if state is None:
                    state = copy.deepcopy(null_state)
                    await store.set(inside, state)
                state, external = await func(event, state)
                if state is not False:
                    await store.set(inside, state)
                if external is not False:
                    await store.set(make_key(func, values, KeyStateType.EXTERNAL), external)
                return external

            return process_event

        return connected

    return decorator


student_event_reducer = functools.partial(kvs_pipeline, scope=Scope([KeyField.STUDENT]))
