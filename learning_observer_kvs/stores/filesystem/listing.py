"""Walks over many names, page by page: each listed and sorted once, however many pages are taken from it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice

PIECE = 5000
"""How many names are sorted in one go: sorting lets no other thread run, this many take 2 ms."""

MAX_WALKS = 8
"""How many listings are kept for walks that are under way."""

MAX_IDLE = 60.0
"""Seconds after which a walk that nobody went on with is forgotten."""


@dataclass
class _Walk:
    pieces: list[list[str]]
    cursors: set[str] = field(default_factory=set)
    """Those that were given out and are not used yet."""
    used: float = 0.0


class Walks:
    """The walks under way, by prefix; those of one prefix share a listing.

    A cursor is the last name of its page, so a walk whose listing is gone goes on with a new one.

    Args:
        listed: gives all names that may belong to a prefix, in any order.
        clock: gives seconds that only grow.
    """

    def __init__(self, listed: Callable[[str], Iterable[str]], clock: Callable[[], float]) -> None:
        self._listed = listed
        self._clock = clock
        self._walks: dict[str, _Walk] = {}

    def __len__(self) -> int:
        return len(self._walks)

    def page(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """The next names in order, and the cursor of those that follow; ``None`` at the end."""
        walk = self._walks.pop(prefix, None)
        if walk is None:
            walk = _Walk(_sorted_pieces(self._listed(prefix)))
        elif cursor is None:
            walk.pieces = _sorted_pieces(self._listed(prefix))
        walk.cursors.discard(cursor or '')
        names = _following(walk.pieces, cursor or '', limit)
        following = names[-1] if len(names) == limit else None
        if following is not None:
            walk.cursors.add(following)
        self._forget_idle()
        if walk.cursors:
            walk.used = self._clock()
            self._walks[prefix] = walk  # the one used last stands last
            if len(self._walks) > MAX_WALKS:
                del self._walks[next(iter(self._walks))]
        return names, following

    def clear(self) -> None:
        """Forget all."""
        self._walks.clear()

    def _forget_idle(self) -> None:
        since = self._clock() - MAX_IDLE
        while self._walks and next(iter(self._walks.values())).used < since:
            del self._walks[next(iter(self._walks))]


def _sorted_pieces(names: Iterable[str]) -> list[list[str]]:
    rest = iter(names)
    pieces = []
    while piece := sorted(islice(rest, PIECE)):
        pieces.append(piece)
    return pieces


def _following(pieces: list[list[str]], name: str, limit: int) -> list[str]:
    heads = []
    for piece in pieces:
        start = bisect_right(piece, name)
        heads.append(piece[start : start + limit])
    return list(islice(merge(*heads), limit))
