"""The runtime's query for keys: those of a reducer's internal states, for values of the fields of its scope."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from learning_observer_kvs.queries.described import ReducerLike, find_reducer
from learning_observer_kvs.queries.scope import entries, field_values
from learning_observer_kvs.stream_analytics.fields import KeyStateType
from learning_observer_kvs.stream_analytics.keys import make_key


async def keys(reducer: ReducerLike, /, **scope: Any) -> AsyncIterator[dict[str, Any]]:
    """Go through the keys of a reducer's internal states, as the runtime's queries do.

    Args:
        reducer: the decorated function; its entry in a listing; or its ``id``, ``string_id`` or name in keys.
        scope: the values for each field of its scope, zipped: ``STUDENTS`` with ``STUDENTS_path``, ``RESOURCES``
            (documents) with ``RESOURCES_path``, ``<name>`` with ``<name>_path``, or ``scope_fields={name: spec}``; a
            spec is the values, or ``{'values': …, 'path': …}``. Lists and (asynchronous) iterables have a value in each
            item, at the path; text, a number or ``None`` is a single value, repeated for the items of the others.

    Yields:
        ``{'key': …, 'provenance': {field: …}, 'default': …}``; the default is a copy of the caller's own. Nothing if
        there is no such reducer, or a field of its scope has no values.

    Raises:
        ScopeFieldError: there are values for fields that the scope does not have.
        InvalidKey: an entry without a function.
    """
    found = find_reducer(reducer)
    values = field_values(found.scope, scope) if found else None
    if found is None or values is None:
        return
    async for fields, provenance in entries(values):
        yield {
            'key': make_key(found.name, fields, KeyStateType.INTERNAL),
            'provenance': provenance,
            'default': found.default(KeyStateType.INTERNAL),
        }
