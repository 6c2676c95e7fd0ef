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


def class_view(store: str, table: ClassTable, mask: Mask) -> dict[str, Any]:
    """Return the view of a table.

    Args:
        store: the store's name.
        table: the table.
        mask: what is not shown.

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
        cells = [_cell(table, reducer, row, mask) for reducer in table.chosen.reducers]
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


def _cell(table: ClassTable, reducer: str, row: str, mask: Mask) -> dict[str, Any]:
    key = table.chosen.key(reducer, row)
    cell: dict[str, Any] = {'reducer': reducer, 'key': key, 'error': None, 'values': {}}
    if key is None or (key not in table.texts and key not in table.problems):
        return cell
    if key in table.problems:
        return {**cell, 'error': table.problems[key]}
    try:
        root = nodes.root_of(key, table.texts[key], mask)
        found = {path: _at(root, path, mask) for path in table.chosen.fields or ('',)}
    except CorruptValue:
        return {**cell, 'error': NOT_JSON}
    return {**cell, 'values': {path: node for path, node in found.items() if node is not None}}


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
