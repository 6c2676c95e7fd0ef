"""Finding students, documents, reducers and keys by a part of their name, in all stores."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from learning_observer_kvs.debug.keys.filter import has_text
from learning_observer_kvs.debug.search import NAME_CHARACTERS, Search, in_slices, progress
from learning_observer_kvs.debug.views import describe_key
from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import STUDENT
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stream_analytics.keys import parse_key

MAX_NAMES = 200
"""How many students, documents, reducers and keys together a page of a find shows."""


class Names(NamedTuple):
    """What has a text in its name.

    Attributes:
        text: the text.
        exact: the stores that have a key of just this text.
        students: how many keys were found of each student.
        documents: likewise of each document.
        reducers: likewise of each reducer in a store: ``(store, reducer)``.
        keys: other keys: ``(store, key)``.
        search: how far the search went.
    """

    text: str
    exact: list[str]
    students: dict[str, int]
    documents: dict[str, int]
    reducers: dict[tuple[str, str], int]
    keys: list[tuple[str, str]]
    search: Search

    def note(self, store: str, key: str) -> None:
        """Take a key whose text was found: under what it was found in.

        Args:
            store: the store's name.
            key: the key.
        """
        wanted, parsed = self.text.lower(), parse_key(key)
        if parsed is None:
            self.keys.append((store, key))
            return
        is_named = False
        for names, name in (
            (self.students, parsed.fields.get(STUDENT, '')),
            (self.documents, parsed.fields.get(DOCUMENT.name, '')),
        ):
            if wanted in name.lower():
                names[name] = names.get(name, 0) + 1
                is_named = True
        if wanted in parsed.source.lower():
            self.reducers[store, parsed.source] = self.reducers.get((store, parsed.source), 0) + 1
            is_named = True
        if not is_named:
            self.keys.append((store, key))

    @property
    def is_full(self) -> bool:
        """Whether a page has enough of them."""
        lists = (self.students, self.documents, [name for _, name in self.reducers], [key for _, key in self.keys])
        return (
            sum(map(len, lists)) >= MAX_NAMES or sum(len(name) for names in lists for name in names) > NAME_CHARACTERS
        )


async def find(router: KVSRouter, names: Sequence[str], text: str, cursor: str | None) -> Names:
    """Search stores for keys with a text in them, in small or capital letters.

    Args:
        router: the stores.
        names: which stores.
        text: the text.
        cursor: ``next_cursor`` of the page before; ``None`` begins.

    Returns:
        What was found until a page is full, or until ``SEARCH_SECONDS`` were over.

    Raises:
        InvalidKey: the cursor is not one of this search.
    """
    search = Search(router, names, [''], cursor)
    found = Names(text, [], {}, {}, {}, [], search)

    async def has_key(name: str) -> bool:
        try:
            found = await search.ask(name, lambda store: store.describe_all([text]))  # it may be a list in Redis
        except InvalidKey:
            return False
        return found is not None and found != [None]

    if cursor is None:  # all at once: those that hang are waited for together, and not again in the search
        found.exact.extend(itertools.compress(names, await asyncio.gather(*map(has_key, names))))

    async with aclosing(search.pages(has_text(text))) as pages:
        async for _, name, keys in pages:
            async for key in in_slices(keys):
                found.note(name, key)
            if found.is_full:
                break
    return found


def find_view(found: Names, refused: Iterable[str]) -> dict[str, Any]:
    """Return the view of a find.

    Args:
        found: what was found.
        refused: the stores whose keys the viewer may not list.

    Returns:
        ``{'text', 'exact', 'students', 'documents', 'reducers', 'keys', 'keys_seen', 'not_searched', 'next_cursor'}``:
        in ``exact`` stores; in ``students`` and ``documents`` ``{'name', 'keys'}``, in ``reducers`` also ``'store'``;
        in ``keys`` what :func:`~learning_observer_kvs.debug.views.describe_key` returns, with ``'store'``.
    """

    def counted(names: dict[str, int]) -> list[dict[str, Any]]:
        return [{'name': name, 'keys': keys} for name, keys in sorted(names.items())]

    return {
        'text': found.text,
        'exact': found.exact,
        'students': counted(found.students),
        'documents': counted(found.documents),
        'reducers': [
            {'store': store, 'name': name, 'keys': keys} for (store, name), keys in sorted(found.reducers.items())
        ],
        'keys': [{'store': store, **describe_key(key)} for store, key in found.keys],
        **progress(found.search, refused),
    }
