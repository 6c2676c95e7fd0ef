"""Which writes are done in the event loop itself: a thread and back takes longer than a small one."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence

from learning_observer_kvs.stores.write_request import WriteRequest

MAX_FILES = 8
MAX_BYTES = 32 << 10
"""What a batch writes at most in the event loop: together about half of :data:`MAX_SECONDS` on an ordinary disk."""

MAX_SECONDS = 0.001
"""How long a write may hold the event loop. Where one waited longer for the disk, threads write for some time."""

FIRST_PAUSE, LAST_PAUSE = 0.05, 60.0
"""Seconds that threads write then: twice as long each time, unless many writes were fast in between."""

MANY = 1000


class Pace:
    """Whether the disk is fast enough for writes in the event loop.

    Args:
        clock: returns seconds that only grow.
        waits: returns how often this thread waited for something; not counting that others had the processor.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, waits: Callable[[], int] | None = None) -> None:
        self._clock = clock
        self._waits = waits or _count_waits
        self._pause = FIRST_PAUSE / 2
        self._fast = 0
        self._resume_at = 0.0

    def try_write(self, write: Callable[[Sequence[WriteRequest]], bool], batch: Sequence[WriteRequest]) -> bool:
        """Write a batch here, if it is small and the disk was fast.

        Args:
            write: writes it without waiting, and returns whether it did; an error means that nothing was written.
            batch: what to write.

        Returns:
            Whether it was written; if not, a thread has to do it, which finds the same errors.
        """
        if not _is_small(batch) or self._clock() < self._resume_at:
            return False
        waits = self._waits()
        began = self._clock()
        try:
            return write(batch)
        except Exception:
            return False
        finally:
            seconds = self._clock() - began
            self._note(seconds <= MAX_SECONDS or self._waits() == waits)

    def _note(self, is_fast: bool) -> None:
        if is_fast:
            self._fast += 1
            if self._fast == MANY:
                self._pause = FIRST_PAUSE / 2
            return
        self._fast = 0
        self._pause = min(LAST_PAUSE, self._pause * 2)
        self._resume_at = self._clock() + self._pause


def _count_waits() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _is_small(batch: Sequence[WriteRequest]) -> bool:
    if len(batch) > MAX_FILES:
        return False
    files = size = 0
    for request in batch:
        files += max(len(request.writes), len(request.expected))
        size += request.size + sum(map(len, filter(None, request.expected.values())))
        if request.clear or None in request.writes.values():  # what is removed is removed from staged files, too
            return False
    return files <= MAX_FILES and size <= MAX_BYTES
