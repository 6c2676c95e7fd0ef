"""A class in one call: a row for each student, a cell for each reducer, read in one round trip."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.errors import ScopeFieldError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.queries.asked import reducer_list, student_list
from learning_observer_kvs.queries.described import Described, ReducerLike, describe_reducer
from learning_observer_kvs.queries.paths import Fields, chosen
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.keys import make_key

Documents = Mapping[Any, str | Iterable[str]] | str | None
"""The documents of each student, one or several; or one document for all."""


class Cell(NamedTuple):
    """A state in a table.

    Attributes:
        value: the state, or what is chosen of it; the reducer's default where it is not there.
        key: its key; ``None`` where the reducer keeps states by document and the row has none.
        found: whether it is there.
    """

    value: JSON
    key: str | None
    found: bool


class Row(NamedTuple):
    """The states of a student, or of a student's document.

    Attributes:
        student: the student, as asked for.
        document: the document; ``None`` in a table without documents, and for a student who has none.
        cells: a cell for each reducer, in the order asked, by the name that was asked for; of a reducer that was given
            as a function or an entry, by its name in keys.
    """

    student: Any
    document: str | None
    cells: dict[str, Cell]


async def table(
    store: Store,
    reducers: ReducerLike | Iterable[ReducerLike],
    students: Iterable[Any],
    *,
    documents: Documents = None,
    state: str = 'external',
    fields: Fields = None,
) -> list[Row]:
    """Read the states of a class: for 30 students and 5 reducers one round trip on Redis.

    Args:
        store: where the states are.
        reducers: a decorated function, an entry of a listing, or a name; or several of these.
        students: the students, as they are in keys.
        documents: for reducers that keep states by ``doc_id``: ``{student: document}`` or ``{student: [document, …]}``,
            or one document for all.
        state: ``'external'`` or ``'internal'``.
        fields: what is chosen of each state, ``{dotted path: name}`` or ``'All'``; ``None``: the whole state.

    Returns:
        Rows in the order of the students, and of each student's documents; without documents one a student. Values are
        copies of the caller's own.

    Raises:
        InvalidKey: one is not a reducer of this process.
        ScopeFieldError: a reducer keeps states by documents and none are given, or by fields that no table has.
        InvalidValue: all entries are asked of a state that has none: a number, text or list.
        ValueError: the state or the fields are something else; ``students`` is a single one, or holds what no key can
            have; two different reducers have one name.
        CorruptValue, StoreUnavailable, Overloaded: as for ``multiget``.
    """
    state_type = state_type_of(state)
    columns = [(_column(reducer), describe_reducer(reducer)) for reducer in reducer_list(reducers)]
    _check_names(columns)
    for _, reducer in columns:
        _check_scope(reducer, documents)
    of_class = student_list(students)
    places = [(student, document) for student in of_class for document in _documents_of(student, documents)]
    grid = [[_key(reducer, *place, state_type) for _, reducer in columns] for place in places]
    wanted = list(dict.fromkeys(key for row in grid for key in row if key is not None))
    found = dict(zip(wanted, await store.multiget(wanted, missing=MISSING), strict=True))
    given: set[str] = set()

    def cell(reducer: Described, key: str | None) -> Cell:
        value = MISSING if key is None else found[key]
        is_there = value is not MISSING
        if value is MISSING:
            value = reducer.default(state_type)
        elif key in given:  # the same state in several rows
            value = copy.deepcopy(value)
        if key is not None:
            given.add(key)
        return Cell(value if fields is None else chosen(value, fields), key, is_there)

    return [
        Row(*place, {name: cell(reducer, key) for (name, reducer), key in zip(columns, row, strict=True)})
        for place, row in zip(places, grid, strict=True)
    ]


def state_type_of(state: str) -> KeyStateType:
    """Return which of the two states of a reducer a query is about.

    Args:
        state: ``'external'`` or ``'internal'``.

    Raises:
        ValueError: it is something else.
    """
    if state not in ('external', 'internal'):
        raise ValueError(f"state is {state!r}; it must be 'external' or 'internal'.")
    return KeyStateType[state.upper()]


def _column(reducer: ReducerLike) -> str:
    return reducer if isinstance(reducer, str) else describe_reducer(reducer).name


def _check_names(columns: list[tuple[str, Described]]) -> None:
    by_name: dict[str, Described] = {}
    for name, reducer in columns:
        if by_name.setdefault(name, reducer) != reducer:
            raise ValueError(f'Two different reducers are called {name}. Ask for them by the ids of their entries.')


def _check_scope(reducer: Described, documents: Documents) -> None:
    if other := reducer.scope - {KeyField.STUDENT, DOCUMENT}:
        raise ScopeFieldError(
            f'{reducer.name} keeps its states by {", ".join(sorted(map(str, other)))} too, which a table does not '
            'have. Use queries.keys and queries.select.'
        )
    if DOCUMENT in reducer.scope and documents is None:
        raise ScopeFieldError(f'{reducer.name} keeps its states by document: say which with documents={{student: …}}.')


def _documents_of(student: Any, documents: Documents) -> list[str | None]:
    found = documents.get(student) if isinstance(documents, Mapping) else documents
    if found is None:
        return [None]
    return [found] if isinstance(found, str) else [*found] or [None]


def _key(reducer: Described, student: Any, document: str | None, state_type: KeyStateType) -> str | None:
    if document is None and DOCUMENT in reducer.scope:
        return None
    values: dict[KeyField | EventField, Any] = {KeyField.STUDENT: student, DOCUMENT: document}
    return make_key(reducer.name, {field: values[field] for field in reducer.scope}, state_type)
