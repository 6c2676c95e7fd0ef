"""Calls that wait for a backend that is away: they pause together, and are tried again until each one's deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.deadline import MIN_TRY, pause_after

T = TypeVar('T')


class Outage:
    """What the calls of one store in one event loop wait for.

    All of them are tried again in one tick of the loop, so that a backend that batches sends them together.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._waiting = 0
        self._pause: asyncio.Future[None] | None = None
        self._closed = False

    async def call_again(
        self,
        call: Callable[[], Awaitable[T]],
        deadline: float,
        error: StoreUnavailable,
        *,
        may_be_cut: bool = False,
    ) -> T:
        """Call something again that could not be done, until it is done or the deadline is over.

        Args:
            call: what to do; it may be done any number of times.
            deadline: the time of the monotonic clock after which it is not tried any more.
            error: why it could not be done.
            may_be_cut: whether a try ends at the deadline, or after ``MIN_TRY`` seconds if that is later; not a write.

        Returns:
            What ``call`` returns.

        Raises:
            StoreUnavailable: it could not be done until the deadline, or the store is being closed.
            Exception: whatever else ``call`` raises.
        """
        began = now = monotonic()
        self._waiting += 1
        try:
            while error.retry and now < deadline and not self._closed:
                await asyncio.wait([self._paused(now)], timeout=deadline - now)
                if self._closed:
                    break  # another try would open again what is being closed
                cut = asyncio.timeout(max(deadline - monotonic(), MIN_TRY) if may_be_cut else None)
                try:
                    async with cut:
                        return await call()
                except StoreUnavailable as again:
                    error = again
                except TimeoutError:
                    if not cut.expired():  # else the error before says why
                        raise
                now = monotonic()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._since = None
        if self._closed:
            raise gave_up(error, 'The store was closed meanwhile.')
        raise error if now - began < 1 else gave_up(error, f'The call waited {now - began:.0f} s for it.')

    def close(self) -> None:
        """Let no call wait any longer."""
        self._closed = True
        self._end_pause()

    def _paused(self, now: float) -> asyncio.Future[None]:
        """The pause that is under way, or a new one."""
        if self._pause is None:
            if self._since is None:
                self._since = now
            self._pause = self._loop.create_future()
            self._loop.call_later(pause_after(now - self._since), self._end_pause)
        return self._pause

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.set_result(None)
            self._pause = None


def gave_up(error: StoreUnavailable, why: str) -> StoreUnavailable:
    """Return the error of a call that is not tried any more.

    Args:
        error: of its last try.
        why: a sentence for its end.
    """
    return StoreUnavailable(f'{error} {why}', retry=error.retry)
