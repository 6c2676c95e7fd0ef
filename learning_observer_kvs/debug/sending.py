"""Sending an answer no faster than its reader takes it, to few readers at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from learning_observer_kvs.debug.offload.frames import CHUNK
from learning_observer_kvs.errors import Overloaded

SEND_SECONDS = 10.0
"""How long a reader may take for an answer, and a second more for every ``SLOWEST`` bytes of it."""

SLOWEST = 100_000

MAX_WAITING = 400
"""How many requests wait until one of those before them was answered."""

MAX_WAITING_OF_ONE_CLIENT = 50
"""Behind a proxy all viewers are one client."""


class Viewers:
    """Bounds how many requests are answered at once: in all, and of one client.

    Args:
        most: how many in all.
        of_one_client: how many of one client.
    """

    def __init__(self, most: int, of_one_client: int) -> None:
        self._most = most
        self._of_one_client = of_one_client
        self._admitted: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}

    @asynccontextmanager
    async def admit(self, client: str) -> AsyncIterator[None]:
        """Enter when there is capacity; an asynchronous context.

        Args:
            client: which client it is.

        Raises:
            Overloaded: too many wait already.
        """
        if self._may_enter(client):
            self._admitted[client] += 1
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._leave(client)

    async def _wait(self, client: str) -> None:
        """Wait until a request before this one was answered, and has left its capacity to it."""
        if not self._may_wait(client):
            raise Overloaded('Too many pages wait to be read. Retry in a few seconds.')
        admitted = asyncio.get_running_loop().create_future()
        self._waiting[admitted] = client
        try:
            await admitted
        except asyncio.CancelledError:
            if self._waiting.pop(admitted, None) is None:  # it was admitted before it was cancelled
                self._leave(client)
            raise

    def _leave(self, client: str) -> None:
        """Leave the capacity to those that wait, in order; no other is woken: hundreds may wait."""
        self._admitted -= Counter([client])
        for admitted, other in list(self._waiting.items()):
            if self._admitted.total() >= self._most:
                break
            if not admitted.done() and self._may_enter(other):
                del self._waiting[admitted]
                self._admitted[other] += 1
                admitted.set_result(None)

    def _may_wait(self, client: str) -> bool:
        waiting = self._waiting.values()
        return len(waiting) < MAX_WAITING and Counter(waiting)[client] < MAX_WAITING_OF_ONE_CLIENT

    def _may_enter(self, client: str) -> bool:
        return self._admitted.total() < self._most and self._admitted[client] < self._of_one_client


async def send(
    request: web.Request, body: Sequence[bytes], *, status: int, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send an answer, a piece whenever the reader has taken the one before.

    A connection whose reader is too slow, or does not read, is closed.

    Args:
        request: the request.
        body: the answer's body, in pieces; nothing of it is sent for a HEAD request.
        status: its HTTP status.
        headers: its headers, with the content type.

    Returns:
        The response, sent.
    """
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = size = sum(map(len, body))
    last = memoryview(b'')
    try:
        async with asyncio.timeout(SEND_SECONDS + size / SLOWEST):
            await response.prepare(request)
            for piece in _chunks([] if request.method == 'HEAD' else body):
                if last:
                    await response.write(last)
                    await asyncio.sleep(0)  # it does not wait while the client reads as fast
                last = piece
            await response.write_eof(
                bytes(last)
            )  # with the last piece: without one it does not wait until it was taken
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionResetError:
        pass  # the reader has gone
    return response


def _chunks(body: Sequence[bytes]) -> Iterator[memoryview]:
    for text in body:
        piece = memoryview(text)
        for start in range(0, len(piece), CHUNK):
            yield piece[start : start + CHUNK]
