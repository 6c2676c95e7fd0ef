"""A class as a table: a row for each student, or document, of the first reducer; a column for each chosen field.

It is :func:`learning_observer_kvs.queries.table.table` for pages: also of reducers that this process does not have, a
page at a time, with nothing decoded in the event loop but what is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.debug.paths import Step
from learning_observer_kvs.debug.search import NAME_CHARACTERS, Search, progress
from learning_observer_kvs.debug.values import nodes
from learning_observer_kvs.debug.views import NotFound, store_of, texts_of
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.identifiers import escape
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import STUDENT
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.keys import parse_key
from learning_observer_kvs.stream_analytics.registry import reducer_names, registered_reducer

MAX_ROWS = 200
"""How many rows a page has at most, whatever ``limit`` is."""

MAX_CHOSEN = 12
"""How many reducers, and how many fields, may be chosen."""

TABLE_BYTES = 16 << 20
"""How many bytes of states a page reads; those that are too many are named."""

CHOSEN_CHARACTERS = 2000
"""How long the list of reducers, or of fields, may be: the page has both in its URL."""

SHOWN_BYTES = 1 << 16
"""The largest object or list of which a cell shows the first items."""

TOO_LARGE = 'too large for a table'
REFUSED = 'you may not read it'
NOT_JSON = 'not JSON'


class Chosen(NamedTuple):
    """What a table shows.

    Attributes:
        reducers: the names of the reducers in keys; the first one says who has a row.
        fields: the dotted paths that are chosen of each state; none: the whole state.
        state: ``External`` or ``Internal``.
    """

    reducers: tuple[str, ...]
    fields: tuple[str, ...]
    state: str

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Chosen:
        """Return what a request asks for.

        Args:
            query: its parameters: ``reducers`` and ``fields`` with commas between them, ``state``.

        Raises:
            BadParameters: they are too many or too long, or the state is something else.
        """
        reducers, fields = (
            tuple(dict.fromkeys(part.strip() for part in query.get(name, '').split(',') if part.strip()))
            for name in ('reducers', 'fields')
        )
        for name, parts in (('reducers', reducers), ('fields', fields)):
            if sum(map(len, parts)) > CHOSEN_CHARACTERS:
                raise BadParameters(f'{name} has over {CHOSEN_CHARACTERS:,} characters; give fewer.')
            if len(parts) > MAX_CHOSEN:
                raise BadParameters(f'There are {len(parts)} {name}; give {MAX_CHOSEN} at most.')
        state = query.get('state', 'external')
        if state not in ('external', 'internal'):
            raise BadParameters("state is neither 'external' nor 'internal'.")
        return cls(reducers, fields, state.capitalize())

    @property
    def prefixes(self) -> list[str]:
        """What the keys of the states begin with."""
        return [f'{self.state},{escape(reducer)}' for reducer in self.reducers]

    def has(self, key: str) -> bool:
        """Return whether a key is of one of the states.

        Args:
            key: any key.
        """
        parsed = parse_key(key)
        return parsed is not None and parsed.source in self.reducers and parsed.state_type.name == self.state.upper()

    def key(self, reducer: str, row: str) -> str | None:
        """Return the key of a reducer's state for the student and document of a row.

        Args:
            reducer: the reducer.
            row: the key of the first reducer's state.

        Returns:
            The key; ``None`` where the reducer keeps its states by what the row does not have.
        """
        known = registered_reducer(reducer)
        parts = row.split(',')[2:]
        if known is not None:
            wanted = {field.name for field in known.scope}
            parts = [part for part in parts if part.partition(':')[0] in wanted]
            if len(parts) != len(wanted):
                return None
        return ','.join([self.state, escape(reducer), *parts])


class ClassTable(NamedTuple):
    """A page of a table, not decoded.

    Attributes:
        chosen: what it shows.
        rows: the key of the first reducer's state in each row.
        texts: the states by key, those that are there and not too large.
        problems: why a state is not there, by key.
        search: how far the search for rows went.
        limit: about how many rows were asked for.
    """

    chosen: Chosen
    rows: list[str]
    texts: dict[str, bytes]
    problems: dict[str, str]
    search: Search
    limit: int

    def keys(self) -> list[str]:
        """Return the keys of all cells."""
        cells = (self.chosen.key(reducer, row) for row in self.rows for reducer in self.chosen.reducers)
        return list(dict.fromkeys(key for key in cells if key is not None))


async def find_rows(router: KVSRouter, store: str, chosen: Chosen, cursor: str | None, limit: int) -> ClassTable:
    """Find who has a row.

    Args:
        router: the stores.
        store: the store's name.
        chosen: what the table shows.
        cursor: ``next_cursor`` of the page before; ``None`` begins.
        limit: about how many rows.

    Returns:
        The table, without states.

    Raises:
        NotFound: there is no such store.
        InvalidKey: the cursor is not one of this search.
    """
    store_of(router, store)
    limit = min(limit, MAX_ROWS)
    first = chosen._replace(reducers=chosen.reducers[:1])
    search = Search(router, [store] if first.reducers else [], first.prefixes, cursor, limit)
    rows: list[str] = []

    def matches(key: str) -> bool:
        return first.has(key) and f',{STUDENT}:' in key

    async with aclosing(search.pages(matches)) as pages:
        async for _, _, keys in pages:
            rows += keys
            search.most = max(1, limit - len(rows))
            # Each cell has a key as long as that of the row.
            if len(rows) >= limit or sum(map(len, rows)) * len(chosen.reducers) > NAME_CHARACTERS:
                break
    return ClassTable(chosen, list(dict.fromkeys(rows)), {}, {}, search, limit)


async def read_states(store: Store, table: ClassTable, allowed: Collection[str]) -> None:
    """Read the states of a table into it.

    Args:
        store: the store.
        table: the table, with its rows.
        allowed: the keys that the viewer may read.

    Raises:
        StoreUnavailable, Overloaded: the store cannot be used.
        CorruptValue: a Redis key holds a list, say.
    """
    keys = table.keys()
    table.problems.update({key: REFUSED for key in keys if key not in allowed})
    wanted, left = [], TABLE_BYTES
    readable = [key for key in keys if key in allowed]
    described = await store.describe_all(readable) if readable else []
    for key, description in zip(readable, described, strict=True):
        if description is None:
            continue
        if isinstance(description, CorruptValue):
            table.problems[key] = NOT_JSON
        elif description.bytes > left:
            table.problems[key] = TOO_LARGE
        else:
            left -= description.bytes
            wanted.append(key)
    texts = zip(wanted, await texts_of(store, wanted), strict=True)
    table.texts.update({key: text for key, text in texts if text is not None})


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


SHOWN_CHARACTERS = 200
"""How many characters of a text a cell shows."""


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
