"""What is to be written in one tick of the loop travels together, and whoever wrote is told its own outcome.

One load is under way at a time: what comes meanwhile is the next one. So nothing is held back by a timer, a single
writer waits for nobody, and many writers share every round trip, transaction or lock.
"""

from __future__ import annotations

import asyncio
import functools
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores import base
from learning_observer_kvs.stores.base import Committer, Outcome, Store, Tell

MAX_WAITING = 100_000
"""How many requests may wait."""


class Request:
    """Something to be written, and whom to tell of it.

    Attributes:
        writes: text by key; ``None`` removes the key.
        expected: the bytes that keys must hold for that; ``None`` for a key that is not there.
        tell: called once with the outcome, in the loop that asked.
        clear: everything is to be removed.
        renew: keys that are not written, but shall live as long as those that are.
        size: the bytes it writes.
        result, error: set by who processes it. The result is whether the condition held; of a removal without a
            condition, whether something was there.
    """

    __slots__ = ('clear', 'error', 'expected', 'renew', 'result', 'size', 'tell', 'writes')

    def __init__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        tell: Tell,
        *,
        clear: bool = False,
        renew: Collection[str] = (),
    ) -> None:
        self.writes = writes
        self.expected = expected
        self.tell = tell
        self.clear = clear
        self.renew = renew
        self.size = 0
        for text in writes.values():
            if text is not None:
                self.size += len(text)
        self.result = False
        self.error: Exception | None = None


Load: TypeAlias = Sequence[Request]
Answer: TypeAlias = Callable[[Load], None]


class Gatherer:
    """The queue of one store in one event loop.

    Args:
        carry: begins to process a load, and calls back (in this loop) when each of its requests has a result or an
            error.
        place: where things are written, for messages.
        max_requests, max_bytes: how much a load carries; a single request may have more bytes.
    """

    def __init__(self, carry: Callable[[Load, Answer], None], place: str, max_requests: int, max_bytes: int) -> None:
        self._carry = carry
        self._place = place
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._under_way = False
        self._scheduled = False
        self._rests: asyncio.Future[None] | None = None

    def submit(self, request: Request) -> None:
        """Have a request carried out.

        Raises:
            Overloaded: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(
                f'{MAX_WAITING:,} writes wait for {self._place} already; this one was not taken. Send it again later.'
            )
        self._waiting.append(request)
        if not self._under_way and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._go)

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._waiting or self._under_way:
            if self._rests is None:
                self._rests = self._loop.create_future()
            await asyncio.wait([self._rests])

    def refuse(self, error: Exception) -> None:
        """Answer what still waits with an error: it was not written."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for request in waiting:
            request.tell(error)

    def _go(self) -> None:
        """The tick ends: send what has gathered."""
        self._scheduled = False
        if self._under_way or not self._waiting:
            return
        waiting = self._waiting
        load = [waiting.popleft()]
        size = load[0].size
        while waiting and len(load) < self._max_requests and size + waiting[0].size <= self._max_bytes:
            request = waiting.popleft()
            size += request.size
            load.append(request)
        self._under_way = True
        try:
            self._carry(load, self._answered)
        except Exception as error:  # no thread could be started, for example
            for request in load:
                request.error = error
            self._loop.call_soon(self._answered, load)

    def _answered(self, load: Load) -> None:
        self._under_way = False
        self._go()  # before anybody is told, so that nothing stands idle meanwhile
        for request in load:
            request.tell(request.result if request.error is None else request.error)
        if self._rests is not None and not self._under_way and not self._waiting:
            self._rests.set_result(None)
            self._rests = None


class GatheringStore(Store):
    """A store whose writes travel together: a backend adds ``_carry`` instead of ``_commit`` and ``_remove``."""

    MAX_REQUESTS = 1000
    MAX_BYTES = 16 << 20

    def _start_gathering(self) -> None:
        """To be called by the constructor."""
        self._gatherers: PerLoop[Gatherer] = PerLoop(
            lambda: Gatherer(self._carry, self.place(), self.MAX_REQUESTS, self.MAX_BYTES)
        )

    @abstractmethod
    def _carry(self, load: Load, answer: Answer) -> None:
        """Begin to process a load; see :class:`Gatherer`."""

    def _committer(self) -> Committer:
        def begin(
            writes: Mapping[str, bytes | None],
            expected: Mapping[str, bytes | None],
            tell: Tell,
            renew: Collection[str] = (),
        ) -> None:
            self._gatherers.here().submit(Request(writes, expected, tell, renew=renew))

        return begin

    async def _commit(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        return await self._outcome(writes, expected) or not expected

    async def _remove(self, key: str) -> bool:
        return await self._outcome({key: None}, {})

    async def _outcome(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None], *, clear: bool = False
    ) -> bool:
        """Wait for the outcome of a write; it is carried through also if the caller is cancelled meanwhile."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        tell = functools.partial(_resolve, future)
        self._gatherers.here().submit(Request(writes, expected, tell, clear=clear))
        return await future

    async def _drain(self) -> None:
        """Wait until this loop's writes are through, for ``CLOSING`` seconds at most, and let go of its queue."""
        gatherer = self._gatherers.peek()
        if gatherer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(base.CLOSING):
                    await gatherer.drain()
            self._gatherers.pop()
            gatherer.refuse(StoreUnavailable(f'Store {self.name!r} was closed before this was written; it was not.'))


def _resolve(future: asyncio.Future[bool], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
