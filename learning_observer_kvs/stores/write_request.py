"""A write that waits in a queue: what is to be written, on which condition, and whom to call with the outcome."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.types import OnDone, Outcome


class WriteRequest:
    """Something to be written, and whom to call with the outcome.

    Attributes:
        writes: text by key; ``None`` removes the key.
        expected: the bytes that keys must hold for that; ``None`` for a key that must be missing.
        on_done: called once with the outcome, in the event loop that asked.
        clear: whether everything is to be removed.
        refresh: keys that are not written, but get the time to live of those that are.
        deadline: until when it is tried again if it was never sent, as the time of the monotonic clock.
        resend_until: until when its outcome is found out if it was sent.
        size: the bytes it writes, and those of the keys.
        assignment: what a store with several queues keeps about it as long as the request lives; set by that alone.
        failing_since: when it could not be written for the first time; 0 before.
        result, error: set by what carries it out. The result is whether the condition held; of a removal without a
            condition, whether something was there.
    """

    __slots__ = (
        'assignment',
        'clear',
        'deadline',
        'error',
        'expected',
        'failing_since',
        'on_done',
        'refresh',
        'resend_until',
        'result',
        'size',
        'writes',
    )

    def __init__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        on_done: OnDone,
        refresh: Collection[str] = (),
        deadline: float = ONE_TRY,
        resend_until: float | None = None,
        *,
        clear: bool = False,
    ) -> None:
        self.writes = writes
        self.expected = expected
        self.on_done = on_done
        self.deadline = deadline
        self.resend_until = deadline if resend_until is None else resend_until
        self.clear = clear
        self.refresh = refresh
        size = 0
        for key, text in writes.items():
            size += len(key) if text is None else len(key) + len(text)
        self.size = size
        self.failing_since = 0.0
        self.result = False
        self.error: Exception | None = None
        self.assignment: object  # not set here, since most stores have one queue

    def answer_early(self, outcome: Exception) -> None:
        """Call back before the batch is done; what becomes of the request later is not told.

        Args:
            outcome: the outcome.
        """
        on_done, self.on_done = self.on_done, _ignore
        on_done(outcome)

    def is_answered(self) -> bool:
        """Tell whether :meth:`answer_early` was called."""
        return self.on_done is _ignore

    def withdraw(self) -> None:
        """Do not try it again once it has failed: its caller waits no longer.

        What the caller writes next may go past it while it waits for another try, and would be overwritten.
        """
        self.deadline = ONE_TRY


WriteBatch: TypeAlias = Sequence[WriteRequest]


def _ignore(outcome: Outcome) -> None:
    """Stand in for the callback of a request that was answered early."""
