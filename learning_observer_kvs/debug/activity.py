"""What this process writes to its stores: rates, from the metrics at this look and at one up to a minute before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

WINDOW_SECONDS = 60.0
"""Over how long rates are measured, if pages are looked at so often; else since the pages were opened."""

LOOK_SECONDS = 1.0
"""Over how long rates are measured at least; looks that follow sooner are not kept."""

COUNTED = ('writes', 'write_batches', 'write_seconds')


class Look(NamedTuple):
    """What was counted of a store at some time.

    Attributes:
        at: the time of the monotonic clock.
        writes, batches, seconds: as in the metrics of the store.
    """

    at: float
    writes: int
    batches: int
    seconds: float


class Activity:
    """Keeps what the metrics of each store were at the last looks.

    Args:
        now: the clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._looks: dict[str, deque[Look]] = {}

    def of(self, name: str, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what is written to a store.

        Args:
            name: the store's name.
            metrics: those of the store.

        Returns:
            ``{'per_second', 'over_seconds', 'microseconds', 'batch_size', 'pending', 'seconds_since_write'}``; the time
            of a write and the size of a batch are ``None`` where nothing was written. ``None`` for a store whose writes
            are not counted.
        """
        if not all(number in metrics for number in COUNTED):
            return None
        look = Look(self._now(), *(metrics[number] for number in COUNTED))
        looks = self._looks.setdefault(name, deque([Look(self._began, 0, 0, 0.0)]))
        if look.writes < looks[-1].writes:  # another store has the name now
            looks.clear()
            looks.append(Look(look.at, 0, 0, 0.0))
        while len(looks) > 1 and look.at - looks[1].at >= WINDOW_SECONDS:
            looks.popleft()
        before = looks[0]
        if look.at - looks[-1].at >= LOOK_SECONDS:
            looks.append(look)
        over = max(look.at - before.at, LOOK_SECONDS)
        writes, batches = look.writes - before.writes, look.batches - before.batches
        return {
            'per_second': writes / over,
            'over_seconds': over,
            'microseconds': (look.seconds - before.seconds) / writes * 1e6 if writes else None,
            'batch_size': writes / batches if batches else None,
            'pending': metrics['waiting_writes'] + metrics.get('pending_keys', 0),
            'seconds_since_write': metrics.get('seconds_since_write'),
        }
