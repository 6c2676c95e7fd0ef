"""What queries know of a reducer: its name in keys, the fields that its state is kept by, and its default."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import InvalidKey, ScopeFieldError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name
from learning_observer_kvs.stream_analytics.registry import (
    RegisteredReducer,
    listed_reducers,
    reducer_names,
    registered_reducer,
)

ReducerLike: TypeAlias = Callable[..., Any] | Mapping[str, Any] | str
"""How a reducer is named: the decorated function; an entry of a listing, with ``function`` and perhaps ``scope`` and
``default``; or text: its ``id`` or ``string_id`` in a listing, or its name in keys."""


class Described(NamedTuple):
    """A reducer, for queries.

    Attributes:
        name: its name in keys.
        scope: the fields that its state is kept by.
        null_text: the JSON text of the internal state that a key starts from.
        defaults: the ``default`` of its entry in a listing; nothing where it has none.
    """

    name: str
    scope: Scope
    null_text: bytes
    defaults: tuple[JSON, ...]

    def default(self, state_type: KeyStateType) -> JSON:
        """Return what stands for a state that is not there.

        Args:
            state_type: whether the internal or the external state is meant.

        Returns:
            A copy of the caller's own: the ``default`` of the reducer's entry in a listing; without one, the null state
            for the internal state, and ``None`` for the external one.
        """
        for default in self.defaults:
            return copy.deepcopy(default)
        return json_codec.decode(self.null_text) if state_type is KeyStateType.INTERNAL else None


def find_reducer(reducer: ReducerLike) -> Described | None:
    """Find out what is known of a reducer.

    Args:
        reducer: the function, an entry or a name.

    Returns:
        What is known; ``None`` if nothing is.

    Raises:
        ScopeFieldError: its scope has a field that no key can have.
    """
    if isinstance(reducer, Mapping):
        return _of_entry(reducer)
    entries = listed_reducers()
    if isinstance(reducer, str):
        by_id = (entry for entry in entries if reducer in (entry.get('id'), entry.get('string_id')))
        entry = next(by_id, None) or _entry_of(reducer)
        if entry is not None:
            return _of_entry(entry)
        registered = registered_reducer(reducer)
        return registered and _of_registered(reducer, registered)
    entry = next((entry for entry in entries if entry.get('function') is reducer), None)
    if entry is not None:
        return _of_entry(entry)
    name = fully_qualified_function_name(reducer)
    own = getattr(reducer, 'scope', None), getattr(reducer, 'null_text', None)
    if isinstance(own[0], Scope) and isinstance(own[1], bytes):
        return Described(name, own[0], own[1], ())
    return find_reducer(name)


def describe_reducer(reducer: ReducerLike) -> Described:
    """Return what is known of a reducer.

    Args:
        reducer: the function, an entry or a name.

    Raises:
        InvalidKey: it is not a reducer of this process.
        ScopeFieldError: its scope has a field that no key can have.
    """
    found = find_reducer(reducer)
    if found is None:
        known = {str(entry['id']) for entry in listed_reducers() if 'id' in entry} | {*reducer_names()}
        names = ', '.join(sorted(known)) or 'none yet: import the modules that define them'
        raise InvalidKey(f'{reducer!r} is not a reducer of this process. There are: {names}.')
    return found


def reducer_name(reducer: ReducerLike) -> str:
    """Return the name of a reducer in keys, also of one that this process does not have.

    Args:
        reducer: the function, an entry or a name.

    Raises:
        InvalidKey: an entry without a function.
    """
    found = find_reducer(reducer)
    return str(reducer) if found is None else found.name


def _entry_of(name: str) -> Mapping[str, Any] | None:
    """The entry that lists the reducer of a name in keys."""
    return next((entry for entry in listed_reducers() if _name_of(entry) == name), None)


def _name_of(entry: Mapping[str, Any]) -> str | None:
    function: Any = entry.get('function')
    return fully_qualified_function_name(function) if hasattr(function, '__qualname__') else None


def _of_entry(entry: Mapping[str, Any]) -> Described:
    name = _name_of(entry)
    if name is None:
        raise InvalidKey(f"An entry of a reducer needs its 'function'; this one has {', '.join(entry) or 'nothing'}.")
    registered = registered_reducer(name)
    null_text = registered.null_text if registered else b'null'
    if 'scope' in entry:
        scope = Scope(map(_field, entry['scope']))
    else:
        scope = registered.scope if registered else Scope([KeyField.STUDENT])
    return Described(name, scope, null_text, (entry['default'],) if 'default' in entry else ())


def _of_registered(name: str, registered: RegisteredReducer) -> Described:
    return Described(name, registered.scope, registered.null_text, ())


def _field(field: Any) -> KeyField | EventField:
    """Our field for one that a listing has, which may be of the runtime's classes."""
    event, name = getattr(field, 'event', None), getattr(field, 'name', None)
    if isinstance(event, str):
        return EventField(event)
    if name in KeyField.__members__:
        return KeyField[str(name)]
    raise ScopeFieldError(f'{field!r} is not a field of a key. There are KeyFields and EventFields.')


def sorted_fields(scope: Iterable[KeyField | EventField]) -> list[KeyField | EventField]:
    """Return the fields of a scope in the order in which the runtime takes them.

    Args:
        scope: the fields.

    Returns:
        The fields by their text: those of the event, then those that the server knows itself.
    """
    return sorted(scope, key=str)
