"""What queries are asked for: reducers and students, one or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from learning_observer_kvs.arguments import several
from learning_observer_kvs.queries.described import ReducerLike

_HOLDS_SEVERAL = (Mapping, list, tuple, set, frozenset, bytes, bytearray)


def reducer_list(reducers: ReducerLike | Iterable[ReducerLike]) -> list[ReducerLike]:
    """Return the reducers that a query is asked for.

    Args:
        reducers: one, or several.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(reducers, (str, Mapping)) or callable(reducers):
        return [reducers]
    return several(reducers, 'reducers')


def student_list(students: Iterable[Any]) -> list[Any]:
    """Return the students that a query is asked for.

    Args:
        students: several, each as in keys.

    Raises:
        ValueError: it is a single one, or one of them is not a value that a key can have.
    """
    return [check_value(student, 'A student') for student in several(students, 'students')]


def check_value(value: Any, what: str) -> Any:
    """Check that a value is one that the field of a key can have.

    Args:
        value: what a caller gave.
        what: what the message calls it.

    Returns:
        The value.

    Raises:
        ValueError: it holds others: it is an entry of a roster, or a list.
    """
    if isinstance(value, _HOLDS_SEVERAL):
        raise ValueError(f'{what} is given as in keys, by text or a number; this one is a {type(value).__name__}.')
    return value
