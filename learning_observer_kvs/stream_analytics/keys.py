r"""Reducer keys: ``<state type>,<module.function>,<FIELD:value>,…``, made and parsed.

``Internal,writing.reconstruct,EventField.doc_id:1AbC,STUDENT:bob``: fields sorted by name. Programs split such keys on
``,`` and on the first ``:``, so ordinary values are written as they are. A value that itself holds a comma could forge
another student's key; it is written ``\2c``, and the backslash itself ``\5c``. Every value has a key that stores
accept: a lone surrogate is written as its number, ``\d83d``, and where a key would be too long, a long value as its
digest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.arguments import several
from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.identifiers import digest_of_long, escape, unescape
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES, check_key
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.registry import reducer_names

Fields = Mapping[KeyField | EventField, Any]

_KEY_FIELDS = {str(field): field for field in KeyField}


def fully_qualified_function_name(func: Callable[..., Any]) -> str:
    """Return ``module.function``, the name of a reducer in keys.

    Args:
        func: any function, decorated or not.

    Returns:
        Its module and qualified name.

    >>> from math import sin
    >>> fully_qualified_function_name(sin)
    'math.sin'
    """
    return f'{func.__module__}.{func.__qualname__}'


def written_values(value: object) -> list[str]:
    """Return how a field's value may be written in keys.

    Args:
        value: any value.

    Returns:
        The text that :func:`.escape` returns; of a long one also its digest, as in keys that would be too long.
    """
    text = escape(value)
    return list(dict.fromkeys([text, digest_of_long(text)]))


def make_key(func: Callable[..., Any] | str, key_dict: Fields, state_type: KeyStateType) -> str:
    """Return the key of one state of one reducer.

    Args:
        func: the reducer (decorated or not), or its fully qualified name.
        key_dict: a value for each field of its scope.
        state_type: whether the internal or the external state is meant.

    Returns:
        The key, such as ``Internal,some_module.reducer,STUDENT:123``; fields are sorted by name. Stores accept it
        whatever the values are.

    Raises:
        InvalidKey: the names alone are too long for a key.

    >>> make_key('some_module.reducer', {KeyField.STUDENT: 123}, KeyStateType.INTERNAL)
    'Internal,some_module.reducer,STUDENT:123'
    """
    source = func if isinstance(func, str) else fully_qualified_function_name(func)
    values = {field.name: escape(key_dict[field]) for field in sorted(key_dict, key=lambda field: field.name)}
    head = f'{state_type.name.capitalize()},{escape(source)}'
    key = _join(head, values)
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        key = check_key(_join(head, {name: digest_of_long(value) for name, value in values.items()}))
    return key


def _join(head: str, values: Mapping[str, str]) -> str:
    return ','.join([head, *(f'{name}:{value}' for name, value in values.items())])


def make_key_from_json(js: Mapping[str, Any], sources: Collection[str] | None = None) -> str:
    """Return the internal key that an object from a browser names.

    The names are checked here; whether the sender may read that state the caller decides before.

    Args:
        js: ``{"source": "module.function", "KeyField.STUDENT": "bob", "EventField.doc_id": "1AbC"}``.
        sources: the fully qualified names that ``source`` may have; by default all reducers that were decorated in
            this process.

    Returns:
        The key of the internal state, such as ``Internal,module.function,EventField.doc_id:1AbC,STUDENT:bob``.

    Raises:
        InvalidKey: an unknown source or field, or a value that is neither text nor a number.
        ValueError: ``sources`` is a text.
    """
    known = reducer_names() if sources is None else several(sources, 'sources')
    source = js.get('source')
    if not isinstance(source, str) or source not in known:
        names = ', '.join(sorted(known)) or 'none yet: import the modules that define them'
        raise InvalidKey(f'{source!r} is not a reducer of this server. There are: {names}.')
    key_dict: dict[KeyField | EventField, Any] = {}
    for name, value in js.items():
        if name == 'source':
            continue
        if not isinstance(value, (str, int, float)) and value is not None:
            raise InvalidKey(f'{name} is {value!r}; it must be text or a number.')
        key_dict[_field(name)] = value
    return make_key(source, key_dict, KeyStateType.INTERNAL)


def _field(name: object) -> KeyField | EventField:
    if isinstance(name, str):
        if name in _KEY_FIELDS:
            return _KEY_FIELDS[name]
        if name.startswith('EventField.'):
            try:
                return EventField(name.removeprefix('EventField.'))
            except AttributeError as error:
                raise InvalidKey(str(error)) from None
    names = ', '.join(['source', *_KEY_FIELDS, 'EventField.<name>'])
    raise InvalidKey(f'{name!r} is not a field of a key. There are: {names}.')


class ReducerKey(NamedTuple):
    """The parts of a reducer key; ``fields`` maps field names (``STUDENT``, ``EventField.doc_id``) to values."""

    state_type: KeyStateType
    source: str
    fields: dict[str, str]


_REPLAYED = 'Replayed,'


def replayed_key(internal_key: str) -> str:
    """Return the key that lists the failed events which were replayed to a reducer's states.

    Args:
        internal_key: the key of the internal state.
    """
    return _REPLAYED + internal_key.partition(',')[2]


def state_key(key: str) -> str:
    """Return the internal key of the states that a key of :func:`replayed_key` belongs to.

    Args:
        key: any key; others are returned as they are.
    """
    return f'Internal,{key.removeprefix(_REPLAYED)}' if key.startswith(_REPLAYED) else key


def both_state_keys(key: str) -> tuple[str, str]:
    """Return the keys of the two states that a reducer key is about.

    Args:
        key: the key of one of them, or one of :func:`replayed_key`.

    Returns:
        The keys of the internal and of the external state.
    """
    rest = key.partition(',')[2]
    return f'Internal,{rest}', f'External,{rest}'


_STATE_TYPES = {state_type.name.capitalize(): state_type for state_type in KeyStateType}


def parse_key(key: str) -> ReducerKey | None:
    """Split a reducer key into its parts.

    Args:
        key: any key.

    Returns:
        The parts, or ``None`` if it is not a reducer key.
    """
    first, _, rest = key.partition(',')
    source, has_fields, rest = rest.partition(',')
    if first not in _STATE_TYPES or not source:
        return None
    if has_fields and ':' not in rest.partition(',')[0]:
        return None  # before all of it is split: it may be text of 1 MB
    fields = {}
    for part in rest.split(',') if has_fields else ():
        name, colon, value = part.partition(':')
        if not colon:
            return None
        fields[name] = unescape(value)
    return ReducerKey(_STATE_TYPES[first], unescape(source), fields)
