"""How long work may hold the event loop, and how a write that lost against others is tried again."""

from __future__ import annotations

import asyncio
import random

TIME_SLICE = 0.002
"""Seconds of computing after which the event loop gets its turn."""

URGENT_SLICE = 0.0005
"""The same while callers wait for a read."""

MAX_TRIES = 1000
"""How often a read-modify-write is tried before it gives up with ``Conflict``."""


async def pause(attempt: int) -> None:
    """Wait between two tries of a write that lost against others: longer each time, at random, 10 ms at most.

    Args:
        attempt: how many tries have failed.
    """
    await asyncio.sleep(random.random() * min(attempt, 10) / 1000)
