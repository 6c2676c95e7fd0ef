"""What keys that are not of a reducer begin with: one level of a tree, whose delimiter the viewer chooses."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from learning_observer_kvs.debug import views
from learning_observer_kvs.debug.search import LAST_CHARACTER, SEARCH_SECONDS, after_reducer_of, in_slices
from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.keys import parse_key

TREE_SECONDS = 0.04
"""How long a page looks for prefixes."""

TREE_KEYS = 500
"""How many keys are looked at in one call of a store."""

KEPT_SECONDS = 10.0
"""For how long a tree is shown while one types, which does not change it."""

MAX_KEPT = 20
"""How many trees of a store are kept for that."""

MAX_BRANCHES = 200

MAX_BRANCH = 200
"""The longest name of a branch in characters; a key that goes on without a delimiter for longer has none."""

MAX_DELIMITER = 20
"""The longest delimiter in characters."""

DELIMITER = ':'


class Branches(NamedTuple):
    """How keys go on after a prefix.

    Attributes:
        delimiter: what ends a prefix.
        keys: how many keys were found with each longer prefix.
        here: how many keys have no further delimiter.
        cut: the prefixes that have more keys than were looked at.
        is_complete: whether all keys were looked at.
    """

    delimiter: str
    keys: Counter[str]
    here: int
    cut: set[str]
    is_complete: bool

    @classmethod
    def none(cls, delimiter: str) -> Branches:
        """Return those of a store that has only keys of reducers.

        Args:
            delimiter: what ends a prefix.
        """
        return cls(delimiter, Counter(), 0, set(), True)

    def view(self) -> dict[str, Any]:
        """Return it as ``{'delimiter', 'branches': [{'prefix', 'keys', 'counted'}, …], 'here', 'counted'}``."""
        return {
            'delimiter': self.delimiter,
            'branches': [
                {
                    'prefix': prefix,
                    'keys': keys,
                    'counted': 'at least' if prefix in self.cut or not self.is_complete else 'exactly',
                }
                for prefix, keys in sorted(self.keys.items())
            ],
            'here': self.here,
            'counted': 'exactly' if self.is_complete and not self.cut else 'at least',
        }


class Trees:
    """The trees of the stores of a router, kept while viewers type.

    Args:
        router: the stores.
    """

    def __init__(self, router: KVSRouter) -> None:
        self._router = router
        self._kept: WeakKeyDictionary[Store, dict[tuple[str, str], tuple[float, Branches]]] = WeakKeyDictionary()

    async def of(self, name: str, prefix: str, delimiter: str, *, may_be_kept: bool) -> Branches:
        """Return how keys go on after a prefix, see :func:`branches`.

        Args:
            name: the store's name.
            prefix: what the keys begin with.
            delimiter: what ends a prefix.
            may_be_kept: whether what was found ``KEPT_SECONDS`` ago will do.

        Raises:
            NotFound, InvalidKey: as :func:`branches` does.
        """
        kept = self._kept.setdefault(views.store_of(self._router, name), {})
        at, found = kept.get((prefix, delimiter), (0.0, None))
        if found is None or not may_be_kept or time.monotonic() - at > KEPT_SECONDS:
            found = await branches(self._router, name, prefix, delimiter)
            kept.pop((prefix, delimiter), None)
            kept[prefix, delimiter] = time.monotonic(), found
            if len(kept) > MAX_KEPT:
                del kept[next(iter(kept))]
        return found


async def branches(router: KVSRouter, name: str, prefix: str, delimiter: str) -> Branches:
    """Look at the keys that begin with a prefix and are not of a reducer, for ``TREE_SECONDS``.

    A store that has its keys in order is asked for the next branch where one has more than ``TREE_KEYS``.

    Args:
        router: the stores.
        name: the store's name.
        prefix: what the keys begin with.
        delimiter: what ends a prefix.

    Returns:
        What was found, nothing where the store does not answer.

    Raises:
        NotFound: there is no such store.
        InvalidKey: no key can begin so.
    """
    store = views.store_of(router, name)
    most = min(MAX_BRANCHES, 1 + views.KEY_CHARACTERS // (1 + len(prefix)))  # each begins with the prefix
    found, cut, here = Counter[str](), set[str](), 0
    ends, cursor = time.monotonic() + TREE_SECONDS, None
    while True:
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                keys, cursor = await store.scan(prefix, cursor, TREE_KEYS)
        except (KVSError, TimeoutError):
            return Branches(delimiter, found, here, cut, False)
        in_page, of_reducers = Counter[str](), None
        async for key in in_slices(keys):
            if parse_key(key) is not None:
                of_reducers = key
                continue
            head, is_there, _ = key[len(prefix) :].partition(delimiter)
            if is_there and len(head) <= MAX_BRANCH:
                in_page[prefix + head + delimiter] += 1
            else:
                here += 1
        found.update(in_page)
        if cursor is None or time.monotonic() > ends or len(found) > most:
            is_complete = cursor is None and len(found) <= most
            return Branches(delimiter, Counter(dict(sorted(found.items())[:most])), here, cut, is_complete)
        if store.IS_ORDERED:
            after = cursor
            if of_reducers == cursor:
                after = after_reducer_of(cursor)
            elif len(in_page) == 1 and in_page.total() == len(keys):
                [branch] = in_page
                cut.add(branch)
                after = branch + LAST_CHARACTER
            if after.startswith(prefix):
                cursor = after
