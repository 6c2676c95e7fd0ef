"""The states of a student, of a document, or of a reducer: a page of each, and the commands that change them."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any, Literal, NamedTuple

from learning_observer_kvs.debug.search import NAME_CHARACTERS, Search, progress
from learning_observer_kvs.debug.views import store_of
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.find import State, state_at
from learning_observer_kvs.queries.kept import STUDENT, Matches, has, prefixes
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import Described, Description
from learning_observer_kvs.stream_analytics.keys import parse_key

_FIELDS = {'student': STUDENT, 'document': DOCUMENT.name}


class States(NamedTuple):
    """A page of states.

    Attributes:
        rows: the states, each as in ``states`` of :func:`student_view`.
        search: how far the search went.
        limit: about how many were asked for.
    """

    rows: list[dict[str, Any]]
    search: Search
    limit: int

    @property
    def shown(self) -> int:
        """How many keys the page shows."""
        return sum(len(row['keys']) for row in self.rows)


async def states_with(
    router: KVSRouter,
    names: Sequence[str],
    field: Literal['student', 'document'],
    value: str,
    cursor: str | None,
    limit: int,
) -> States:
    """Search stores for the states of a student, or of a document.

    Args:
        router: the stores.
        names: which stores.
        field: what the value is.
        value: the student or the document, as in keys.
        cursor: ``next_cursor`` of the page before; ``None`` begins.
        limit: about how many states.

    Returns:
        What was found until there were so many, or until ``SEARCH_SECONDS`` were over.

    Raises:
        InvalidKey: the cursor is not one of this search.
    """
    matches = has(_FIELDS[field], value)
    begin = ['']  # one scan of all keys, where Redis goes through all for each prefix
    return await _states(Search(router, names, begin, cursor), matches, limit)


async def states_by(router: KVSRouter, store: str, reducer: str, cursor: str | None, limit: int) -> States:
    """Search a store for the states of a reducer.

    Args:
        router: the stores.
        store: the store's name.
        reducer: the reducer's name in keys.
        cursor: ``next_cursor`` of the page before; ``None`` begins.
        limit: about how many states.

    Returns:
        What was found until there were so many, or until ``SEARCH_SECONDS`` were over.

    Raises:
        NotFound: there is no such store.
        InvalidKey: the cursor is not one of this search.
        StoreUnavailable: the store cannot be searched.
    """
    store_of(router, store)

    def matches(key: str) -> bool:
        parsed = parse_key(key)
        return parsed is not None and parsed.source == reducer

    return await _states(Search(router, [store], prefixes(reducer), cursor, limit), matches, limit)


async def _states(search: Search, matches: Matches, limit: int) -> States:
    rows: list[dict[str, Any]] = []
    characters = 0
    async with aclosing(search.pages(matches)) as pages:
        async for _, name, keys in pages:
            new = await search.ask(name, functools.partial(_rows, name, keys))
            if new is None:
                continue
            rows += new
            characters += sum(len(key['key']) for row in new for key in row['keys'])
            if len(rows) >= limit or characters > NAME_CHARACTERS:
                break
    return States(rows, search, limit)


async def _rows(name: str, keys: Iterable[str], store: Store) -> list[dict[str, Any]]:
    """The states of keys. A state is given with its internal key; with its external one only where it has no other."""
    states = {key: state_at(key, parsed) for key in keys if (parsed := parse_key(key)) is not None}
    both = [each for state in states.values() for each in (state.internal, state.external)]
    described = dict(zip(both, await store.describe_all(both), strict=True))
    return [
        _row(name, state, described)
        for key, state in states.items()
        if key == state.internal or described[state.internal] is None  # nearly all external states have an internal one
    ]


def _row(store: str, state: State, described: dict[str, Described]) -> dict[str, Any]:
    return {
        'store': store,
        'reducer': state.reducer,
        'fields': state.fields,
        'keys': [_key(key, found) for key in (state.internal, state.external) if (found := described[key]) is not None],
    }


def _key(key: str, found: Description | CorruptValue) -> dict[str, Any]:
    shown = {'key': key, 'state': key.partition(',')[0]}
    if isinstance(found, CorruptValue):
        return shown | {'bytes': None, 'written': None, 'error': str(found)}
    return shown | {'bytes': found.bytes, 'written': found.written}


def student_view(student: str, found: States, refused: Iterable[str]) -> dict[str, Any]:
    """Return the view of a student.

    Args:
        student: the student, as in keys.
        found: the states that were found.
        refused: the stores whose keys the viewer may not list.

    Returns:
        ``{'student', 'limit', 'states', 'keys_seen', 'not_searched', 'next_cursor', 'commands'}``; each state is
        ``{'store', 'reducer', 'fields', 'keys': [{'key', 'state', 'bytes', 'written'}, …]}``, sorted by document,
        reducer and store. A key that cannot be read, such as a list in Redis, has an ``error`` besides.
    """
    commands = {
        'find': ['find-student', student],
        'export': ['export-student', student, '--to', 'student-data.json'],
        'erase': ['erase-student', student, '--dry-run'],
    }
    return {'student': student, **_view(found, refused), 'commands': _commands(commands)}


def document_view(document: str, found: States, refused: Iterable[str]) -> dict[str, Any]:
    """Return the view of a document.

    Args:
        document: the document, as in keys.
        found: the states that were found.
        refused: the stores whose keys the viewer may not list.

    Returns:
        As :func:`student_view`, with ``document`` in place of ``student``, and without commands.
    """
    return {'document': document, **_view(found, refused), 'commands': {}}


def reducer_view(store: str, reducer: str, facts: dict[str, Any], found: States) -> dict[str, Any]:
    """Return the view of a reducer.

    Args:
        store: the store's name.
        reducer: the reducer's name in keys.
        facts: what this process knows of it.
        found: the states that were found.

    Returns:
        As :func:`student_view`, with ``store``, ``reducer`` and what
        :func:`~learning_observer_kvs.debug.reducer_facts.reducer_facts` returns in place of ``student``.
    """
    commands = {
        'count': ['remove-reducer', reducer, '--store', store],
        'remove': ['remove-reducer', reducer, '--store', store, '--yes'],
    }
    return {
        'store': store,
        'reducer': reducer,
        **facts,
        **_view(found, ()),
        'commands': _commands(commands),
    }


def _view(found: States, refused: Iterable[str]) -> dict[str, Any]:
    def place(row: dict[str, Any]) -> tuple[str, str, str]:
        return row['fields'].get(DOCUMENT.name, ''), row['reducer'], row['store']

    return {'limit': found.limit, 'states': sorted(found.rows, key=place), **progress(found.search, refused)}


def _commands(commands: dict[str, list[str]]) -> dict[str, str]:
    """The commands as one types them; none where a name has characters that a terminal would act on."""
    found = {}
    for name, (command, value, *options) in commands.items():
        if all(word.isprintable() for word in (value, *options)):
            found[name] = shlex.join(['lo-kvs', command, *options, *(['--'] if value.startswith('-') else []), value])
    return found
