"""The page of the keys of a store: the list, what it can be filtered by, and the links to other pages of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.debug import parameters, search, views
from learning_observer_kvs.debug.keys.census import Census, Censuses
from learning_observer_kvs.debug.keys.filter import KeyFilter
from learning_observer_kvs.debug.keys.listing import KeyList, KeyLists
from learning_observer_kvs.debug.keys.prefixes import Branches, Trees
from learning_observer_kvs.debug.keys.rows import Viewer, rows_view
from learning_observer_kvs.debug.keys.wanted import Wanted
from learning_observer_kvs.kvs import KVSRouter

STEP_SECONDS = 0.4
"""How long a page looks that a script asks for while one types; the script asks again for what follows."""


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
        count = self.census.groups.count(wanted.filter.reducer, wanted.filter.state)
        return count, None if count is None else self.census.counted

    def view(self, viewer: Viewer) -> dict[str, Any]:
        """Return the page as in JSON. To be called in a thread.

        Args:
            viewer: who looks.

        Returns:
            ``{'store', 'filter', 'limit', 'sort', 'sorted', 'at', 'total', 'counted', 'keys', 'keys_seen',
            'values_not_read', 'next_cursor', 'facets', 'prefixes'}``; each key as
            :func:`~learning_observer_kvs.debug.keys.rows.rows_view` returns it.
        """
        groups = self.census.groups
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
            'keys': rows_view(viewer.mask, self.found.rows),
            'keys_seen': self.found.seen,
            'values_not_read': self.found.unread,
            'next_cursor': self.found.next_cursor,
            'facets': {
                'keys': groups.keys,
                'counted': self.census.counted,
                'reducers': [
                    {'name': name, **group.view()} for name, group in sorted(groups.by_reducer.items()) if name
                ],
                'further_reducers': groups.further.view(),
                'other_keys': groups.by_reducer[''].keys,
                'fields': dict(sorted(groups.fields.items())),
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
        query = self.wanted.filter.query()
        size = len(parameters.query_of(query)) if parameters.fits_url(query) else 3 * len(''.join(query.values()))
        return views.KEY_CHARACTERS // (1 + size)

    def _words(self) -> list[str]:
        """How the keys are sorted, and how far the search for them went."""
        found, words = self.found, []
        if found.rows:
            words.append(_sorted(self.wanted.sort, self.census.is_ordered, found.is_whole))
        if self.wanted.filter.text or (found.next_cursor is not None and len(found.rows) < self.wanted.limit):
            is_more = found.next_cursor is not None
            of = f' of {self.census.groups.keys:,}' if is_more and self.census.is_complete else ''
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

    async def counted() -> tuple[Census, Branches]:
        census = await censuses.of(store)
        if census.has_only_states:
            return census, Branches.none(wanted.delimiter)
        kept = wanted.step is not None
        return census, await trees.of(store, wanted.filter.prefix, wanted.delimiter, may_be_kept=kept)

    # At once, so that one listing of many files does for them.
    found, (census, tree) = await asyncio.gather(viewer.paced(listed), viewer.paced(counted()))
    return KeysPage(store, wanted, found, census, tree)


def _sorted(sort: str, is_ordered: bool, is_whole: bool) -> str:
    """How the keys are sorted, in words."""
    if sort == 'key':
        return 'by key' if is_ordered else 'as the store gives them'
    words = {'bytes': 'the largest first', 'written': 'the latest first'}[sort]
    return words if is_whole else f'{words}, of those that were looked at'
