"""Listings of many names, taken page by page: each is read and sorted once, however many pages are taken from it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice

CHUNK = 5000
"""How many names are sorted in one call: sorting lets no other thread run, this many take 2 ms."""

MAX_LISTINGS = 8
"""How many listings are kept for scans that have not ended."""

MAX_IDLE = 60.0
"""Seconds after which a listing that no scan has used is dropped."""


@dataclass
class _Listing:
    chunks: list[list[str]]
    """Names, sorted within each chunk."""
    cursors: set[str] = field(default_factory=set)
    """Those that were returned and not used yet."""
    used: float = 0.0
    """When a page was last taken."""


class ListingCache:
    """The listings of scans that have not ended, by prefix; scans of one prefix share a listing.

    A cursor is the last name of its page, so a scan whose listing was dropped goes on with a new one.

    Args:
        list_names: returns all names that may belong to a prefix, in any order.
        clock: returns seconds that only grow.
    """

    def __init__(self, list_names: Callable[[str], Iterable[str]], clock: Callable[[], float]) -> None:
        self._list_names = list_names
        self._clock = clock
        self._listings: dict[str, _Listing] = {}

    def __len__(self) -> int:
        """Return how many listings are kept."""
        return len(self._listings)

    def page(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """Return the next names of a scan.

        Args:
            prefix: of the scan.
            cursor: of the page before; ``None`` for the first page, which lists anew.
            limit: how many names at most.

        Returns:
            The names in order, and the cursor of those that follow; ``None`` at the end.
        """
        listing = self._listings.pop(prefix, None)
        if listing is None:
            listing = _Listing(sorted_chunks(self._list_names(prefix)))
        elif cursor is None:
            listing.chunks = sorted_chunks(self._list_names(prefix))
        listing.cursors.discard(cursor or '')
        names = _names_after(listing.chunks, cursor or '', limit)
        following = names[-1] if len(names) == limit else None
        if following is not None:
            listing.cursors.add(following)
        self._drop_idle()
        if listing.cursors:
            listing.used = self._clock()
            self._listings[prefix] = listing  # the most recently used stands last
            if len(self._listings) > MAX_LISTINGS:
                del self._listings[next(iter(self._listings))]
        return names, following

    def _drop_idle(self) -> None:
        since = self._clock() - MAX_IDLE
        while self._listings and next(iter(self._listings.values())).used < since:
            del self._listings[next(iter(self._listings))]


def sorted_chunks(names: Iterable[str]) -> list[list[str]]:
    """Sort names in chunks.

    Args:
        names: in any order.

    Returns:
        Lists of ``CHUNK`` names, the last one of fewer, each in order.
    """
    rest = iter(names)
    chunks = []
    while chunk := sorted(islice(rest, CHUNK)):
        chunks.append(chunk)
    return chunks


def _names_after(chunks: list[list[str]], name: str, limit: int) -> list[str]:
    heads = []
    for chunk in chunks:
        start = bisect_right(chunk, name)
        heads.append(chunk[start : start + limit])
    return list(islice(merge(*heads), limit))
