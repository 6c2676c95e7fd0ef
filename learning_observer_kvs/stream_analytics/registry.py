"""The reducers of this process, by the name that is in their keys."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stream_analytics.fields import Scope

log = logging.getLogger('learning_observer_kvs')


class RegisteredReducer(NamedTuple):
    """A reducer that was decorated in this process.

    Attributes:
        func: the function that was decorated.
        scope: the fields that its state is kept by.
        null_text: the JSON text of the internal state that a key starts from.
    """

    func: Callable[..., Any]
    scope: Scope
    null_text: bytes


_REDUCERS: dict[str, RegisteredReducer] = {}

_LISTINGS: list[Callable[[], Iterable[Mapping[str, Any]]]] = []


def register_reducer(name: str, func: Callable[..., Any], scope: Scope, null_text: bytes) -> None:
    """Record that a reducer exists.

    A second, different function of the same name is logged, and replaces the first: in a notebook that is how a
    reducer is developed.

    Args:
        name: its fully qualified name.
        func: the reducer.
        scope: the fields that its state is kept by.
        null_text: the JSON text of the internal state that a key starts from.
    """
    before = _REDUCERS.get(name)
    if before is not None and not is_same_function(before.func, func):
        log.warning(
            '%s is the name of two reducers: of the function at %s, and now of that at %s. With the same scope they '
            'share their states. If both are used, name one of them with qualname_override.',
            name,
            source_of(before.func),
            source_of(func),
        )
    _REDUCERS[name] = RegisteredReducer(func, scope, null_text)


def registered_reducer(name: str) -> RegisteredReducer | None:
    """Return what is known of a reducer that was decorated in this process.

    Args:
        name: its fully qualified name.

    Returns:
        What :func:`register_reducer` was called with last; ``None`` if it never was.
    """
    return _REDUCERS.get(name)


def add_listing(listing: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
    """Have the reducers found that a server lists for its dashboards, by the ids that it gives them.

    Args:
        listing: returns the entries: ``function``, ``scope``, ``default``, ``id``, perhaps ``string_id``.
    """
    _LISTINGS.append(listing)


def listed_reducers() -> Iterator[Mapping[str, Any]]:
    """Return the entries of all that servers list, see :func:`add_listing`."""
    return (entry for listing in _LISTINGS for entry in listing())


def is_reducer(name: str) -> bool:
    """Return whether a reducer was decorated in this process.

    Args:
        name: its fully qualified name.

    Returns:
        Whether :func:`register_reducer` was called with it.
    """
    return name in _REDUCERS


def reducer_names() -> Collection[str]:
    """Return the names of all reducers that were decorated in this process."""
    return _REDUCERS.keys()


def is_same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Return whether two functions do the same, as far as can be told: also if their module was loaded again.

    Args:
        one: a function; of one that wraps another (``functools.wraps``) the other is meant.
        other: likewise.
    """
    try:
        one, other = inspect.unwrap(one), inspect.unwrap(other)
        return one is other or (one.__code__ == other.__code__ and _given(one) == _given(other))
    except Exception:  # not a Python function, or what it refers to cannot be compared
        return False


def _given(func: Any) -> Any:
    """What a function is given besides its arguments."""
    return func.__defaults__, func.__kwdefaults__, [cell.cell_contents for cell in func.__closure__ or ()]


def source_of(func: Callable[..., Any]) -> str:
    """Return where a function is defined, as ``path:12``.

    Args:
        func: any function; of one that wraps another the other is meant.
    """
    code = getattr(inspect.unwrap(func), '__code__', None)
    return f'{code.co_filename}:{code.co_firstlineno}' if code is not None else repr(func)


def shared_names(listed: Iterable[tuple[str, Collection[str], Callable[..., Any]]]) -> list[Problem]:
    """Find reducers that a server would have keep their states under the same keys.

    Args:
        listed: the name, the fields of the scope, and the function of each reducer that the server runs. One that is
            listed several times, for several kinds of events, is one reducer.

    Returns:
        A problem for each name and scope that different reducers have.
    """
    first: dict[tuple[str, frozenset[str]], Callable[..., Any]] = {}
    problems = []
    for name, fields, func in listed:
        before = first.setdefault((name, frozenset(fields)), func)
        if not is_same_function(before, func):
            message = f'is the name of two reducers, the other at {source_of(before)}; they would share their states'
            hint = 'Name one of them with qualname_override, or in its own module.'
            problems.append(Problem('KVS.E023', source_of(func), name, message, hint))
    return problems
