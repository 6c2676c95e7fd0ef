"""Reducer keys: ``<scope>,<module.function>,<FIELD:value>,…``, made and taken apart.

``Internal,writing.reconstruct,EventField.doc_id:1AbC,STUDENT:bob``: fields sorted by name. Programs split such keys on
``,`` and on the first ``:``, so ordinary values stand as they are. A value that itself holds a comma could forge
another student's key; it is written ``\\2c``, and the backslash itself ``\\5c``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType

Fields = Mapping[KeyField | EventField, Any]

_ESCAPED = re.compile(r'\\(2c|5c)')
_KEY_FIELDS = {str(field): field for field in KeyField}


def fully_qualified_function_name(func: Callable[..., Any]) -> str:
    """``module.function``, the name reducers go by in keys.

    >>> from math import sin
    >>> fully_qualified_function_name(sin)
    'math.sin'
    """
    return f'{func.__module__}.{func.__qualname__}'


def escape(value: object) -> str:
    """A field's value as it stands in a key."""
    text = str(value)
    if ',' in text or '\\' in text:
        text = text.replace('\\', r'\5c').replace(',', r'\2c')
    return text


def unescape(text: str) -> str:
    """The reverse of :func:`escape`."""
    return _ESCAPED.sub(lambda match: ',' if match[1] == '2c' else '\\', text)


def make_key(func: Callable[..., Any] | str, key_dict: Fields, state_type: KeyStateType) -> str:
    """The key of one state of one reducer.

    Args:
        func: the reducer (decorated or not), or its fully qualified name.
        key_dict: a value for each field of its scope.
        state_type: whether the internal or the external state is meant.

    >>> make_key('some_module.reducer', {KeyField.STUDENT: 123}, KeyStateType.INTERNAL)
    'Internal,some_module.reducer,STUDENT:123'
    """
    source = func if isinstance(func, str) else fully_qualified_function_name(func)
    parts = [state_type.name.capitalize(), escape(source)]
    parts += [f'{field.name}:{escape(key_dict[field])}' for field in sorted(key_dict, key=lambda field: field.name)]
    return ','.join(parts)


def make_key_from_json(js: Mapping[str, Any], sources: Collection[str] | None = None) -> str:
    """The external key that a browser asks for.

    Args:
        js: ``{"source": "module.function", "KeyField.STUDENT": "bob", "EventField.doc_id": "1AbC"}``.
            Whether the asker may see it is decided before this is called.
        sources: the reducers that may be asked for; by default all that were decorated in this process.

    Raises:
        InvalidKey: an unknown source or entry, or a value that is neither text nor a number.
    """
    known = _REDUCERS if sources is None else sources
    source = js.get('source')
    if not isinstance(source, str) or source not in known:
        names = ', '.join(sorted(known)) or 'none yet: import the modules that define them'
        raise InvalidKey(f'{source!r} is no reducer of this server. There are: {names}.')
    key_dict: dict[KeyField | EventField, Any] = {}
    for name, value in js.items():
        if name == 'source':
            continue
        if not isinstance(value, (str, int, float)) and value is not None:
            raise InvalidKey(f'{name} is {value!r}; a key takes text or a number there.')
        key_dict[_field(name)] = value
    return make_key(source, key_dict, KeyStateType.EXTERNAL)


def _field(name: object) -> KeyField | EventField:
    if isinstance(name, str):
        if name in _KEY_FIELDS:
            return _KEY_FIELDS[name]
        if name.startswith('EventField.'):
            try:
                return EventField(name.removeprefix('EventField.'))
            except AttributeError as error:
                raise InvalidKey(str(error)) from None
    raise InvalidKey(f'{name!r} is no field of a key. There are: source, {", ".join(_KEY_FIELDS)}, EventField.<name>.')


_REDUCERS: set[str] = set()


def register_reducer(name: str) -> None:
    """Note that a reducer of this fully qualified name exists, for :func:`make_key_from_json`."""
    _REDUCERS.add(name)


def is_reducer(name: str) -> bool:
    """Whether a reducer of this fully qualified name was decorated in this process."""
    return name in _REDUCERS


class ReducerKey(NamedTuple):
    """A reducer key taken apart: ``fields`` maps field names (``STUDENT``, ``EventField.doc_id``) to values."""

    state_type: KeyStateType
    source: str
    fields: dict[str, str]


_STATE_TYPES = {state_type.name.capitalize(): state_type for state_type in KeyStateType}


def parse_key(key: str) -> ReducerKey | None:
    """Take a reducer key apart; ``None`` for a key that is none."""
    first, *rest = key.split(',')
    if first not in _STATE_TYPES or not rest or not rest[0]:
        return None
    fields = {}
    for part in rest[1:]:
        name, colon, value = part.partition(':')
        if not colon:
            return None
        fields[name] = unescape(value)
    return ReducerKey(_STATE_TYPES[first], unescape(rest[0]), fields)
