"""What ``flush_interval`` keeps of a key until it is written."""

from __future__ import annotations

import asyncio

from learning_observer_kvs.reducers.batch import Batch


class Pending:
    """What is not written yet of one key.

    Attributes:
        batch: the events, with what they started from and came to.
        events: how many of the batch's events have been counted.
        bytes: how many bytes they take.
        written: the keys that the flush writes.
        is_open: whether more events may join the batch; not while it is being written.
        waiters: those that wait for the flush.
        flush_requested: whether to flush as soon as the key's queue is free.
        is_reduced_again: whether another process wrote in between.
        error: why it could not be written the last time.
        unclear: texts that may have been written, each with the number of events that it holds.
    """

    __slots__ = (
        'batch',
        'bytes',
        'error',
        'events',
        'flush_requested',
        'is_open',
        'is_reduced_again',
        'unclear',
        'waiters',
        'written',
    )

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.events = 0
        self.bytes = 0
        self.written: set[str] = set()
        self.is_open = True
        self.waiters: list[asyncio.Future[None]] = []
        self.flush_requested = False
        self.is_reduced_again = False
        self.error: BaseException | None = None
        self.unclear: dict[bytes | None, int] = {}
