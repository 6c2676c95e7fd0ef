"""What the writes of a store are counted in."""

from __future__ import annotations


class WriteCounts:
    """What the queues of a store have written in one thread.

    Attributes:
        batches: batches that were sent.
        writes: requests that were in them.
        bytes: what they wrote, with the keys.
        seconds: from sending each batch to its end.
        retries: requests that were put back, because the backend was away.
        ended_at: when the last batch without a failure ended, as the time of the monotonic clock; ``None`` before.
    """

    __slots__ = ('batches', 'bytes', 'ended_at', 'retries', 'seconds', 'writes')

    def __init__(self) -> None:
        self.batches = self.writes = self.bytes = self.retries = 0
        self.seconds = 0.0
        self.ended_at: float | None = None
