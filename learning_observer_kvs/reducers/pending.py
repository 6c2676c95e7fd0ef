"""What ``flush_interval`` keeps until it is written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

from learning_observer_kvs.reducers.batch import Batch
from learning_observer_kvs.stores.keys import display_key

log = logging.getLogger('learning_observer_kvs')

MAX_EVENTS_OF_KEY = 1000
"""How many pending events a key may have; then it is flushed early."""

MAX_EVENTS = 100_000
"""How many pending events there may be in all; then everything is flushed early, and new events wait for that."""

MAX_BYTES = 256 << 20
"""How many bytes of pending states there may be in all; likewise."""

FORGOTTEN = b''
"""In place of the text that a batch starts from: no key holds it, as it is not JSON, so the batch is reduced again."""


class Pending:
    """What is not written yet of one key.

    Attributes:
        since: when the first event came, in seconds since the epoch.
        batch: the events, with what they started from and came to.
        events: how many of the batch's events have been counted.
        bytes: how many bytes they take.
        written: the keys that the flush writes.
        is_open: whether more events may join the batch; not while it is being written.
        waiters: those that wait for the flush.
        flush_requested: whether to flush as soon as the key's queue is free.
        had_base: whether the events stood on a text that another process has changed or removed since.
        is_reduced_again: whether another process wrote in between.
        is_tried_once: whether the flush under way is given up at the first failure, as no caller waited when it began.
        is_discarded: whether it was forgotten while it was being written; nothing of it is kept.
        error: why it could not be written the last time.
        unclear: texts that may have been written, each with the number of events that it holds.
    """

    __slots__ = (
        'batch',
        'bytes',
        'error',
        'events',
        'flush_requested',
        'had_base',
        'is_discarded',
        'is_open',
        'is_reduced_again',
        'is_tried_once',
        'since',
        'unclear',
        'waiters',
        'written',
    )

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.since = time.time()
        self.events = 0
        self.bytes = 0
        self.written: set[str] = set()
        self.is_open = True
        self.waiters: list[asyncio.Future[None]] = []
        self.flush_requested = False
        self.had_base = False
        self.is_reduced_again = False
        self.is_tried_once = False
        self.is_discarded = False
        self.error: BaseException | None = None
        self.unclear: dict[bytes | None, int] = {}

    def resolve(self, error: BaseException | None) -> None:
        """Let those go on that wait for the flush.

        Args:
            error: why it could not be written; ``None`` if nothing is pending any more.
        """
        waiters, self.waiters = self.waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)


class PendingStates(dict[str, Pending]):
    """What is not written yet of a store, by internal key.

    Attributes:
        texts: the texts that are newer than the backend's, by key.
        owners: the internal key, by each key that its flush writes.
        events: how many events are pending.
        bytes: how many bytes they take.
    """

    __slots__ = ('bytes', 'events', 'owners', 'texts')

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}
        self.events = 0
        self.bytes = 0

    def keep(self, key: str, pending: Pending) -> None:
        """Keep what is pending of a key, or note what came to it.

        Args:
            key: the internal key.
            pending: what is pending of it.
        """
        self[key] = pending
        batch = pending.batch
        self.texts.update(batch.writes)  # type: ignore[arg-type]  # reducers never remove
        if not batch.writes.keys() <= pending.written:
            pending.written.update(batch.writes)
            self.owners.update(dict.fromkeys(batch.writes, key))
        events, size = len(batch.events), len(batch.base or b'')
        for text in batch.writes.values():
            size += len(text)  # type: ignore[arg-type]
        self.events += events - pending.events
        self.bytes += size - pending.bytes
        pending.events, pending.bytes = events, size

    def events_by_reducer(self) -> dict[str, int]:
        """Return how many events are pending, by reducer."""
        found: dict[str, int] = {}
        for pending in list(self.values()):  # another thread may ask
            if events := pending.batch.events:
                reducer = events[0].tally.reducer
                found[reducer] = found.get(reducer, 0) + len(events)
        return found

    def is_full(self) -> bool:
        """Return whether as much is pending as may be."""
        return self.events >= MAX_EVENTS or self.bytes >= MAX_BYTES

    def hide(self, batch: Batch) -> None:
        """Read from the backend again what a batch writes: it is written, or will be reduced again.

        Args:
            batch: the batch.
        """
        for written, text in batch.writes.items():
            if self.texts.get(written) is text:
                del self.texts[written]

    def drop(self, key: str) -> Pending:
        """Keep nothing of a key any more.

        Args:
            key: the internal key.

        Returns:
            What was pending.
        """
        pending = self.pop(key)
        for written in pending.written:
            self.owners.pop(written, None)
        self.events -= pending.events
        self.bytes -= pending.bytes
        return pending


def log_kept(key: str, error: BaseException, interval: float) -> None:
    """Log that a key could not be written, and what becomes of its events.

    Args:
        key: the internal key.
        error: why.
        interval: seconds until it is tried again.
    """
    log.error(
        '%s cannot be written: %s Its events are kept and tried again every %g s.',
        display_key(key),
        str(error) or type(error).__name__,
        interval,
    )


async def ended(futures: Collection[asyncio.Future[None]]) -> None:
    """Wait until futures are done, also while this is being cancelled.

    Args:
        futures: what others complete in any case.
    """
    cancelled: asyncio.CancelledError | None = None
    while left := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
