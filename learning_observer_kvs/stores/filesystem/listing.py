"""The listing of a directory, from which scans take their pages: it is read and sorted once for many of them.

Reading the names of 100,000 files takes the system 50 ms, whatever part of them is wanted. So there is one listing of
all of them, and it serves a new scan, too, as long as it is what reading anew would give: nothing was counted as a
change since, and no folder has another time of change. Other programs do not count what they change, and the times of
folders are those of a clock that ticks: a listing is trusted only if the folders had been at rest for
``SETTLED_SECONDS``. A scan that was asked for before the listing was begun needs no such proof.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import NamedTuple, TypeAlias

from learning_observer_kvs.config.paths import text_of
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.names import DIGESTS

CHUNK = 5000
"""How many names are sorted in one call: sorting lets no other thread run, this many take 2 ms."""

SETTLED_SECONDS = 2.0
"""How long a folder must have been unchanged when it is read: some file systems count time in steps of this length."""

MAX_KEPT = 200_000
"""The most names of a listing that is kept when no scan is under way; they take 20 MB."""

MAX_SCANS = 100
"""How many scans are known to be under way; one that was forgotten goes on as a new one would, after its cursor."""

MAX_IDLE = 60.0
"""Seconds after which a scan that has not gone on is forgotten."""

FolderState: TypeAlias = tuple[int, int] | None
"""The inode of a folder and its time of change (``ctime``, which no program can set); ``None`` where there is none."""


class Listing(NamedTuple):
    """The files of a directory at one moment.

    Attributes:
        chunks: their paths, sorted within each chunk.
        since: when reading them began, in seconds of the clock of the scans.
        change_count: how many changes of the directory there had been.
        folders: the state of each folder that was read.
        is_settled: whether all of them had been at rest, so that any later change of them can be seen.
    """

    chunks: list[list[str]]
    since: float
    change_count: bytes
    folders: Mapping[str, FolderState]
    is_settled: bool

    def after(self, name: str, beginnings: Sequence[str], limit: int) -> list[str]:
        """Return the next paths in order.

        Args:
            name: after which they come.
            beginnings: what they begin with, one of these.
            limit: how many at most.
        """
        heads = []
        for chunk in self.chunks:
            for beginning in beginnings:
                start = max(bisect_right(chunk, name), bisect_left(chunk, beginning))
                head = chunk[start : start + limit]
                heads.append(head[: bisect_right(head, beginning, key=lambda path: path[: len(beginning)])])
        return list(islice(merge(*heads), limit))


def list_files(directory: Directory, subdirs: bool, clock: Callable[[], float]) -> Listing:
    """List the files that may be those of keys, all as of one moment.

    Args:
        directory: where they are.
        subdirs: whether folders below it are looked into.
        clock: returns seconds that only grow.

    Raises:
        OSError: the directory cannot be read.
        StoreUnavailable: the lock was held for too long, or the journal is damaged.
    """
    folders: dict[str, FolderState] = {}
    # Locked, because some file systems leave a name out of a listing when its file is replaced meanwhile.
    with directory.read_locked():
        since, count = clock(), directory.lock.count()
        rest = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        chunks = sorted_chunks(paths_in(directory, subdirs, folders))
    is_settled = all(state is None or state[1] < rest for state in folders.values())
    return Listing(chunks, since, count, folders, is_settled)


def is_current(listing: Listing, directory: Directory) -> bool:
    """Return whether a directory has the files of a listing, and no other ones.

    Args:
        listing: of the directory.
        directory: the directory.
    """
    return (
        listing.is_settled
        and listing.change_count == directory.lock.count()
        and not directory.is_journal_pending()
        and all(_state_of(directory, folder) == state for folder, state in listing.folders.items())
    )


def paths_in(directory: Directory, subdirs: bool, folders: dict[str, FolderState]) -> Iterator[str]:
    """Find the files that may be those of keys.

    Args:
        directory: where they are.
        subdirs: whether folders below it are looked into.
        folders: gets the state of each folder, as it was before it was read.

    Yields:
        Their paths below the directory, in no order.
    """
    waiting = ['', f'{DIGESTS}/']
    while waiting:
        above = waiting.pop()
        folders[above] = _state_of(directory, above)
        try:
            entries = os.scandir(directory.absolute(above))
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                name = text_of(entry.name)
                if name.startswith('.'):
                    continue
                if entry.is_file(follow_symlinks=False):
                    yield above + name
                elif subdirs and name[0] == '_' and above[:1] != '.' and entry.is_dir(follow_symlinks=False):
                    waiting.append(f'{above}{name}/')


def _state_of(directory: Directory, folder: str) -> FolderState:
    try:
        found = os.stat(directory.absolute(folder))
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


class ListingCache:
    """The latest listing of a directory, for all scans of it.

    A cursor is the last path of its page, so a scan can go on with any listing that was made after it began.

    Args:
        make: lists the directory.
        is_current: whether it still has the files of a listing.
        clock: returns seconds that only grow.
    """

    def __init__(
        self, make: Callable[[], Listing], is_current: Callable[[Listing], bool], clock: Callable[[], float]
    ) -> None:
        self._make = make
        self._is_current = is_current
        self._clock = clock
        self._listing: Listing | None = None
        self._cursors: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many names are kept."""
        return 0 if self._listing is None else sum(map(len, self._listing.chunks))

    def page(
        self, beginnings: Sequence[str], cursor: str | None, limit: int, asked: float
    ) -> tuple[list[str], str | None]:
        """Return the next paths of a scan.

        Args:
            beginnings: what the paths begin with, one of these; none begins with another one.
            cursor: of the page before; ``None`` for the first page.
            limit: how many at most.
            asked: when the page was asked for, in seconds of the clock.

        Returns:
            The paths in order, and the cursor of those that follow; ``None`` at the end.
        """
        is_under_way = cursor is not None and self._cursors.pop(cursor, None) is not None
        listing = self._listing
        if listing is None or not (is_under_way or listing.since >= asked or self._is_current(listing)):
            self._listing = None  # or both would be in memory
            listing = self._listing = self._make()
        paths = listing.after(cursor or '', beginnings, limit)
        following = paths[-1] if len(paths) == limit else None
        now = self._clock()
        if following is not None:
            self._cursors.pop(following, None)
            self._cursors[following] = now  # the latest is the last one
        while self._cursors and (len(self._cursors) > MAX_SCANS or next(iter(self._cursors.values())) < now - MAX_IDLE):
            del self._cursors[next(iter(self._cursors))]
        if not self._cursors and len(self) > MAX_KEPT:
            self._listing = None
        return paths, following


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
