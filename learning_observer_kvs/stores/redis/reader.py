"""Reads of a Redis store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.scripts import READ, run

READ_KEYS = 20
"""How many keys one script call reads: a longer one would hold up what comes behind it."""

READ_CALLS = 20
"""How many such calls travel together."""

READERS = 4
"""How many read packets are under way at once."""


class Reading:
    """Where a store's reads leave one event loop.

    Args:
        connection: the way to the server.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Sequence[str], asyncio.Future[list[Any]]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def read(self, names: Sequence[str]) -> asyncio.Future[list[Any]]:
        """Begin to read; the future is the bytes of each name, ``None``s and errors, in order."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._waiting.append((names, future))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._go)
        return future

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks or self._waiting:
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    def _go(self) -> None:
        """The tick ends: send what has gathered, unless enough is under way."""
        self._scheduled = False
        while self._waiting and len(self._tasks) < READERS:
            packet = [self._waiting.popleft()]
            room = READ_KEYS * READ_CALLS - len(packet[0][0])
            while self._waiting and len(self._waiting[0][0]) <= room:
                packet.append(self._waiting.popleft())
                room -= len(packet[-1][0])
            task = self._loop.create_task(self._fetch(packet))
            self._tasks.add(task)
            task.add_done_callback(self._fetched)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._go()

    async def _fetch(self, packet: list[tuple[Sequence[str], asyncio.Future[list[Any]]]]) -> None:
        names = [name for some, _ in packet for name in some]
        found: list[Any] = []
        error: Exception | None = None
        try:
            for start in range(0, len(names), READ_KEYS * READ_CALLS):
                found += await self._texts(names[start : start + READ_KEYS * READ_CALLS])
        except ReplyLost as lost:
            error = self._connection.unavailable(lost)
        except Exception as raised:
            error = raised
        finally:
            position = 0
            for some, future in packet:
                if not future.done():
                    if error is not None:
                        future.set_exception(error)
                    elif position + len(some) > len(found):
                        future.cancel()  # the loop ends
                    else:
                        future.set_result(found[position : position + len(some)])
                position += len(some)

    async def _texts(self, names: list[str]) -> list[Any]:
        calls = [[len(some := names[i : i + READ_KEYS]), *some] for i in range(0, len(names), READ_KEYS)]
        try:
            replies = await run(self._connection.exchange, READ, calls)
        except ReplyLost:
            replies = await run(self._connection.exchange, READ, calls)  # reading twice does no harm
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._connection.unavailable(reply)
        return [text for reply in replies for text in reply]
