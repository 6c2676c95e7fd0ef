"""A table of a class as its page and its JSON have it: decoded, masked, and of large values the beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning_observer_kvs.debug.class_table import NOT_JSON, ClassTable
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.paths import Step
from learning_observer_kvs.debug.search import progress
from learning_observer_kvs.debug.values import nodes
from learning_observer_kvs.debug.views import NotFound
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.queries.kept import STUDENT
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stream_analytics.keys import parse_key
from learning_observer_kvs.stream_analytics.registry import reducer_names, registered_reducer

SHOWN_BYTES = 1 << 16
"""The largest object or list of which a cell shows the first items."""

SHOWN_CHARACTERS = 200
"""How many characters of a text a cell shows."""


Values = dict[str, nodes.Node] | None
"""What a state has at each path; ``None`` where it is not JSON."""


def values_of(texts: Mapping[str, bytes], fields: Sequence[str], mask: Mask) -> dict[str, Values]:
    """Return what states have at some paths. To be called in a thread, or in another process.

    Args:
        texts: the states by key.
        fields: the dotted paths; none: the whole state, as ``''``.
        mask: what is not shown.

    Returns:
        For each key its nodes by path, those that are there.
    """
    return {key: _values(key, text, fields, mask) for key, text in texts.items()}


def _values(key: str, text: bytes, fields: Sequence[str], mask: Mask) -> Values:
    try:
        root = nodes.root_of(key, text, mask)
        found = {path: _at(root, path, mask) for path in fields or ('',)}
    except CorruptValue:
        return None
    return {path: node for path, node in found.items() if node is not None}


def class_view(store: str, table: ClassTable, values: Mapping[str, Values]) -> dict[str, Any]:
    """Return the view of a table.

    Args:
        store: the store's name.
        table: the table.
        values: what :func:`values_of` returned of its states.

    Returns:
        ``{'store', 'state', 'reducers', 'fields', 'known', 'limit', 'rows', 'keys_seen', 'not_searched',
        'next_cursor'}``; each row is ``{'student', 'document', 'cells': [{'reducer', 'key', 'error', 'values'}, …]}``,
        by student and document. Values are nodes by field, ``''`` for the whole state; ``known`` are the reducers of
        this process.
    """
    rows = []
    for row in table.rows:
        parsed = parse_key(row)
        assert parsed is not None
        cells = [_cell(table, values, reducer, row) for reducer in table.chosen.reducers]
        place = {'student': parsed.fields[STUDENT], 'document': parsed.fields.get(DOCUMENT.name)}
        rows.append({**place, 'cells': cells})
    return {
        'store': store,
        'state': table.chosen.state.lower(),
        'reducers': list(table.chosen.reducers),
        'fields': list(table.chosen.fields),
        'known': sorted(name for name in reducer_names() if _is_of_students(name)),
        'limit': table.limit,
        'rows': sorted(rows, key=lambda row: (str(row['student']), str(row['document'] or ''))),
        **progress(table.search, ()),
    }


def _is_of_students(reducer: str) -> bool:
    known = registered_reducer(reducer)
    return known is not None and any(field.name == STUDENT for field in known.scope)


def _cell(table: ClassTable, values: Mapping[str, Values], reducer: str, row: str) -> dict[str, Any]:
    key = table.chosen.key(reducer, row)
    cell: dict[str, Any] = {'reducer': reducer, 'key': key, 'error': None, 'values': {}}
    if key in table.problems:
        return {**cell, 'error': table.problems[key]}
    if key is None or key not in values:
        return cell
    found = values[key]
    return {**cell, 'error': NOT_JSON} if found is None else {**cell, 'values': found}


def _at(root: nodes.Node, path: str, mask: Mask) -> nodes.Node | None:
    """What a dotted path leads to; ``None`` where that is nothing. A step may be a position in a list."""
    node = root
    for name in filter(None, path.split('.')):
        if node.is_hidden:
            return node
        step: Step = int(name) if node.kind == 'list' and name.isdecimal() and len(name) < 10 else name
        try:
            node = nodes.node_at(node, (step,), mask)
        except NotFound:
            return None
    if node.kind in nodes.CONTAINERS and len(node.text) <= SHOWN_BYTES:
        nodes.open_items(node, mask)
    elif node.kind == 'text':
        node.value = str(node.value)[:SHOWN_CHARACTERS]
    return node


def as_json(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the view of a table as JSON.

    Args:
        view: the view.
    """
    rows = [
        {
            **row,
            'cells': [
                {**cell, 'values': {path: _summary(node) for path, node in cell['values'].items()}}
                for cell in row['cells']
            ],
        }
        for row in view['rows']
    ]
    return {**view, 'rows': rows}


def _summary(node: nodes.Node) -> dict[str, Any]:
    names: Sequence[str] = ('kind', 'size', 'bytes', 'value', 'masked')
    return {name: value for name, value in node.as_json().items() if name in names}


def columns(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the columns of a table: those in which some row has something.

    Args:
        view: the view.

    Returns:
        The reducer and the field of each.
    """
    filled = {
        (cell['reducer'], path)
        for row in view['rows']
        for cell in row['cells']
        for path in (cell['values'] if not cell['error'] else view['fields'] or [''])
    }
    every = [(reducer, path) for reducer in view['reducers'] for path in view['fields'] or ['']]
    return [column for column in every if column in filled] or every
