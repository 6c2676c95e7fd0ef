"""The page of the keys of a store: the list, what it can be filtered by, and the links to other pages of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug import parameters, search, views
from learning_observer_kvs.debug.keys.census import Census, Censuses
from learning_observer_kvs.debug.keys.filter import KeyFilter
from learning_observer_kvs.debug.keys.listing import SORTS, KeyList, KeyLists, Viewer, rows_view
from learning_observer_kvs.debug.keys.prefixes import DELIMITER, MAX_DELIMITER, Branches, Trees
from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.debug.views import store_of
from learning_observer_kvs.kvs import KVSRouter

STEP_SECONDS = 0.4
"""How long a page looks that a script asks for while one types; the script asks again for what follows."""

MAX_BACK = 10
"""To how many pages before it a page links, one after the other."""

MAX_BACK_CHARACTERS = 1500


Start = tuple[int, str | None]
"""Where a page begins: how many keys came before, and the cursor."""


class Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        filter: which keys.
        sort: one of ``SORTS``.
        delimiter: what ends a prefix in the tree.
        limit: how many keys at most.
        cursor: where the page begins; ``None`` at the first key.
        at: how many keys the pages before it had.
        back: ``at`` and cursor of the pages before it, the latest last.
        step: where the page began, and its limit, if a script asks for the rest of it; ``None`` for a page.
    """

    filter: KeyFilter
    sort: str
    delimiter: str
    limit: int
    cursor: str | None
    at: int
    back: tuple[Start, ...]
    step: tuple[int, str | None, int] | None

    @classmethod
    def by(cls, query: Mapping[str, str]) -> Wanted:
        """Read the parameters of a request.

        Args:
            query: the parameters.

        Raises:
            BadParameters: one cannot be read.
        """
        sort = query.get('sort') or 'key'
        if sort not in SORTS:
            raise BadParameters(f'sort is {sort[:100]!r}; give one of: {", ".join(SORTS)}.')
        wanted = KeyFilter.of(query)
        if sort != 'key' and wanted.looks_inside:
            raise BadParameters(f'sort is {sort!r}, and keys are shown as their values are read. Sort by key.')
        return cls(
            wanted,
            sort,
            (query.get('delimiter') or DELIMITER)[:MAX_DELIMITER],
            parameters.limit_in(query),
            query.get('cursor') or None,
            _at_in(query),
            _back_in(query),
            _step_in(query),
        )

    def query(self, **changed: object) -> dict[str, object]:
        """Return the parameters of a page that is like this one, from the first key.

        Args:
            changed: what is other there; what is empty is left out.
        """
        query: dict[str, object] = dict(self.filter.query())
        query |= {name: value for name, value in self._standard().items() if value is not None}
        query |= changed
        return {name: value for name, value in query.items() if value not in ('', None)}

    def _standard(self) -> dict[str, object]:
        limit = self.limit if self.step is None else self.step[2]
        return {
            'sort': None if self.sort == 'key' else self.sort,
            'delimiter': None if self.delimiter == DELIMITER else self.delimiter,
            'limit': None if limit == parameters.DEFAULT_LIMIT else limit,
        }

    def following(self, found: KeyList) -> dict[str, object] | None:
        """Return the parameters of the next page; ``None`` at the end.

        Args:
            found: this page.
        """
        if found.next_cursor is None:
            return None
        began = (self.at, self.cursor) if self.step is None else self.step[:2]
        back = [*self.back, began][-MAX_BACK:]
        while len(text := json_codec.encode(back).decode()) > MAX_BACK_CHARACTERS:
            del back[0]
        return self.query(cursor=found.next_cursor, at=self.at + len(found.rows), back=text if back else None)

    def before(self) -> dict[str, object] | None:
        """Return the parameters of the page before; of the first where that is not known; ``None`` on the first."""
        if (self.cursor if self.step is None else self.step[1]) is None:
            return None
        if not self.back:
            return self.query()
        at, cursor = self.back[-1]
        back = json_codec.encode(self.back[:-1]).decode() if len(self.back) > 1 else None
        return self.query(cursor=cursor, at=at or None, back=back)

    def rest(self, found: KeyList) -> dict[str, object] | None:
        """Return the parameters of what a script asks for to fill up this page; ``None`` if it is full.

        Args:
            found: what the page has.
        """
        left = self.limit - len(found.rows)
        if found.next_cursor is None or left <= 0:
            return None
        step = json_codec.encode(self.step or (self.at, self.cursor, self.limit)).decode()
        back = json_codec.encode(self.back).decode() if self.back else None
        at = self.at + len(found.rows)
        return self.query(cursor=found.next_cursor, at=at or None, limit=left, back=back, step=step)


class KeysPage(NamedTuple):
    """The keys of a store, as they are shown.

    Attributes:
        store: the store's name.
        wanted: what was asked for.
        found: the keys.
        census: the counts of the store.
        tree: how keys go on after the prefix.
    """

    store: str
    wanted: Wanted
    found: KeyList
    census: Census
    tree: Branches

    @property
    def previewed(self) -> list[str]:
        """The keys of whose values a part is shown."""
        return [row.key for row in self.found.rows if row.has_preview]

    def total(self) -> tuple[int | None, str | None]:
        """How many keys match in all, and how they were counted; ``None`` each where that is not known."""
        wanted, found = self.wanted, self.found
        if wanted.sort == 'key' and found.next_cursor is None and (wanted.cursor is None or wanted.at):
            return wanted.at + len(found.rows), 'exactly' if wanted.cursor is None else self.census.counted
        if wanted.filter._replace(state='', reducer='') != KeyFilter() or self.census.error is not None:
            return None, None
        count = self.census.count(wanted.filter.reducer, wanted.filter.state)
        return count, None if count is None else self.census.counted

    def view(self, router: KVSRouter, viewer: Viewer) -> dict[str, Any]:
        """Return the page as in JSON. To be called in a thread.

        Args:
            router: the stores.
            viewer: who looks.

        Returns:
            ``{'store', 'filter', 'limit', 'sort', 'sorted', 'at', 'total', 'counted', 'keys', 'keys_seen',
            'values_not_read', 'next_cursor', 'facets', 'prefixes'}``; each key as
            :func:`~learning_observer_kvs.debug.keys.listing.rows_view` returns it.
        """
        store = store_of(router, self.store)
        total, counted = self.total()
        return {
            'store': self.store,
            'filter': self.wanted.filter._asdict(),
            'limit': self.wanted.limit,
            'sort': self.wanted.sort,
            'sorted': _sorted(self.wanted.sort, self.census.is_ordered, self.found.is_whole),
            'at': self.wanted.at,
            'total': total,
            'counted': counted,
            'keys': rows_view(store, viewer.mask, self.found.rows),
            'keys_seen': self.found.seen,
            'values_not_read': self.found.unread,
            'next_cursor': self.found.next_cursor,
            'facets': {
                'keys': self.census.keys,
                'counted': self.census.counted,
                'reducers': [
                    {'name': name, **group.view()} for name, group in sorted(self.census.groups.items()) if name
                ],
                'further_reducers': self.census.further.view(),
                'other_keys': self.census.groups[''].keys,
                'fields': dict(sorted(self.census.fields.items())),
            },
            'prefixes': self.tree.view(),
        }

    def links(self) -> dict[str, Any]:
        """Return what only the HTML needs: the parameters of the pages that this one links to."""
        wanted = self.wanted
        return {
            'words': self._words(),
            'most': self._most_links(),
            'wanted': wanted,
            'query': wanted.query,
            'following': wanted.following(self.found),
            'before': wanted.before(),
            'rest': wanted.rest(self.found),
        }

    def _most_links(self) -> int:
        """How many links to pages with this filter each list has: a filter may be as long as a key."""
        return views.KEY_CHARACTERS // (1 + len(parameters.query_of(self.wanted.filter.query())))

    def _words(self) -> list[str]:
        """How the keys are sorted, and how far the search for them went."""
        found, words = self.found, []
        if found.rows:
            words.append(_sorted(self.wanted.sort, self.census.is_ordered, found.is_whole))
        if self.wanted.filter.text or (found.next_cursor is not None and len(found.rows) < self.wanted.limit):
            is_more = found.next_cursor is not None
            of = f' of {self.census.keys:,}' if is_more and self.census.is_complete else ''
            words.append(f'{found.seen:,}{of} {"key" if found.seen == 1 and not of else "keys"} looked at')
            words += ['there are more'] if is_more else []
        if found.unread:
            values = 'value was' if found.unread == 1 else 'values were'
            words.append(f'{found.unread:,} {values} not looked into: too long, or not for you')
        return words


async def read(
    router: KVSRouter, censuses: Censuses, trees: Trees, store: str, query: Mapping[str, str], viewer: Viewer
) -> KeysPage:
    """Read the keys that a request asks for.

    Args:
        router: the stores.
        censuses: counts them.
        trees: finds what their keys begin with.
        store: the store's name.
        query: the parameters of the request.
        viewer: who looks.

    Raises:
        NotFound: there is no such store.
        BadParameters, InvalidKey: a parameter cannot be used.
        StoreUnavailable, Overloaded: the store cannot be used.
    """
    wanted = Wanted.by(query)
    lists = KeyLists(router, store, wanted.filter, viewer)
    seconds = STEP_SECONDS if wanted.step is not None else search.SEARCH_SECONDS
    if wanted.sort == 'key':
        listed = lists.page(wanted.cursor, wanted.limit, seconds)
    else:
        listed = lists.sorted_by(wanted.sort, wanted.limit, seconds)
    found, census, tree = await asyncio.gather(  # at once, so that one listing of many files does for them
        listed,
        censuses.of(store),
        trees.of(store, wanted.filter.prefix, wanted.delimiter, may_be_kept=wanted.step is not None),
    )
    return KeysPage(store, wanted, found, census, tree)


def _sorted(sort: str, is_ordered: bool, is_whole: bool) -> str:
    """How the keys are sorted, in words."""
    if sort == 'key':
        return 'by key' if is_ordered else 'as the store gives them'
    words = {'bytes': 'the largest first', 'written': 'the latest first'}[sort]
    return words if is_whole else f'{words}, of those that were looked at'


def _at_in(query: Mapping[str, str]) -> int:
    text = query.get('at') or '0'
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadParameters(f'at is {text[:100]!r}; give how many keys came before.')
    return int(text)


def _back_in(query: Mapping[str, str]) -> tuple[Start, ...]:
    pages: list[Start] = []
    for page in _list_in(query, 'back'):
        match page:
            case [int(at), None | str() as cursor] if len(pages) < MAX_BACK:
                pages.append((at, cursor))
            case _:
                raise BadParameters('back cannot be read; leave it out.')
    return tuple(pages)


def _step_in(query: Mapping[str, str]) -> tuple[int, str | None, int] | None:
    match _list_in(query, 'step'):
        case []:
            return None
        case [int(at), None | str() as cursor, int(limit)]:
            return at, cursor, limit
    raise BadParameters('step cannot be read; leave it out.')


def _list_in(query: Mapping[str, str], name: str) -> list[Any]:
    if not (text := query.get(name)):
        return []
    value = parameters.json_in(text)
    if not isinstance(value, list):
        raise BadParameters(f'{name} cannot be read; leave it out.')
    return value
