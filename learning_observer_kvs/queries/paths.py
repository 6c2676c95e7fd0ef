"""Values inside values, by dotted paths; and what is chosen of a state by them."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from typing import Any

from learning_observer_kvs.errors import InvalidValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.types import MISSING


class SelectFields(enum.StrEnum):
    """What is chosen where no fields are named; the runtime's name."""

    Missing = 'Missing'
    All = 'All'


Fields = Mapping[str, str] | str | None
"""``{dotted path: name}``, or one of :class:`SelectFields`, also as text."""


def at_path(value: Any, path: str) -> Any:
    """Return what a dotted path leads to.

    Args:
        value: any value.
        path: names of entries, joined by dots; an empty one leads to the value itself.

    Returns:
        The value there; ``MISSING`` if there is none.
    """
    for name in path.split('.'):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif name:
            return MISSING
    return value


def chosen(value: JSON, fields: Fields, timestamp: str | None = None) -> dict[str, Any]:
    """Return what is chosen of a state.

    Args:
        value: the state.
        fields: ``{dotted path: name}``; ``All`` for every top-level entry but ``provenance``; ``None`` or ``Missing``
            for nothing.
        timestamp: the time that errors have; ``None``: now.

    Returns:
        Values by name. Where a path leads to nothing, in its place a ``dict`` that describes the error, as the runtime
        has it.

    Raises:
        InvalidValue: ``All`` of a state that has no entries: a number, text or list.
        ValueError: the fields are something else.
    """
    if isinstance(fields, Mapping):
        return {name: _found(value, path, timestamp) for path, name in fields.items()}
    if fields is None or fields == SelectFields.Missing:
        return {}
    if fields != SelectFields.All:
        raise ValueError(f"fields is {fields!r}; it must be {{path: name}}, 'All' or 'Missing'.")
    if not value:
        return {}
    if not isinstance(value, dict):
        raise InvalidValue(
            f'The state is a {type(value).__name__}, which has no entries: name fields, such as {{"": …}}.'
        )
    return {name: entry for name, entry in value.items() if name != 'provenance'}


def _found(value: JSON, path: str, timestamp: str | None) -> Any:
    found = at_path(value, path)
    if found is not MISSING:
        return found
    has = f'has {", ".join(map(repr, value)) or "no entry"}' if isinstance(value, dict) else 'is not an object'
    message = f'There is nothing at {path!r}; the state {has}.'
    return {
        'error': message,
        'function': 'select',
        'error_provenance': {'target': value, 'key': path, 'exception': message},
        'timestamp': _now() if timestamp is None else timestamp,
        'traceback': '',
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()
