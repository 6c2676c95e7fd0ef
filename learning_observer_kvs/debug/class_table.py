"""A class as a table: a row for each student, or document, of the first reducer; a column for each chosen field.

It is :func:`learning_observer_kvs.queries.table.table` for pages: also of reducers that this process does not have, a
page at a time, with nothing decoded in the event loop but what is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import aclosing
from typing import NamedTuple

from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.debug.search import NAME_CHARACTERS, Search
from learning_observer_kvs.debug.views import store_of, texts_of
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.identifiers import escape
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import STUDENT
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.keys import parse_key
from learning_observer_kvs.stream_analytics.registry import registered_reducer

MAX_ROWS = 200
"""How many rows a page has at most, whatever ``limit`` is."""

MAX_CHOSEN = 12
"""How many reducers, and how many fields, may be chosen."""

TABLE_BYTES = 16 << 20
"""How many bytes of states a page reads; those that are too many are named."""

CHOSEN_CHARACTERS = 2000
"""How long the list of reducers, or of fields, may be: the page has both in its URL."""

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
