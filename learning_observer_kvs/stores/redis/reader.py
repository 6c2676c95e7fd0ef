"""The reads of a Redis store: what is asked in one tick of the loop travels together, several keys a script call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.names import slot_of
from learning_observer_kvs.stores.redis.scripts import READ, run

READ_KEYS = 20
"""How many keys one script call reads: a longer one would hold up what comes behind it."""

READ_CALLS = 20
"""How many such calls travel together."""

READERS = 4
"""How many packets of calls are under way at once."""

_Read = tuple[Sequence[str], asyncio.Future[list[Any]]]


class RedisReader:
    """The reads of a store in one event loop.

    Args:
        connection: the connection to the server or cluster.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._clustered = connection.clustered
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Read] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def read(self, redis_keys: Sequence[str]) -> asyncio.Future[list[Any]]:
        """Begin to read.

        Args:
            redis_keys: the Redis keys.

        Returns:
            A future of the bytes of each, in order: ``None`` where there is no such key, an error where it does not
            hold a string.

        Raises:
            StoreUnavailable, Overloaded: by the future: no answer, or the server refuses.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._waiting.append((redis_keys, future))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)
        return future

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks or self._waiting:
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    def _send(self) -> None:
        """Send what has gathered in this tick, unless enough is under way."""
        self._scheduled = False
        while self._waiting and len(self._tasks) < READERS:
            packet = [self._waiting.popleft()]
            capacity = READ_KEYS * READ_CALLS - len(packet[0][0])
            while self._waiting and len(self._waiting[0][0]) <= capacity:
                packet.append(self._waiting.popleft())
                capacity -= len(packet[-1][0])
            task = self._loop.create_task(self._fetch(packet))
            self._tasks.add(task)
            task.add_done_callback(self._fetched)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._send()

    async def _fetch(self, packet: list[_Read]) -> None:
        redis_keys = [redis_key for keys, _ in packet for redis_key in keys]
        found: list[Any] = []
        error: Exception | None = None
        try:
            for start in range(0, len(redis_keys), READ_KEYS * READ_CALLS):
                found += await self._texts(redis_keys[start : start + READ_KEYS * READ_CALLS])
        except ReplyLost as lost:
            error = self._connection.unavailable(lost)
        except Exception as raised:
            error = raised
        finally:
            position = 0
            for keys, future in packet:
                if not future.done():
                    if error is not None:
                        future.set_exception(error)
                    elif position + len(keys) > len(found):
                        future.cancel()  # the loop ends
                    else:
                        future.set_result(found[position : position + len(keys)])
                position += len(keys)

    async def _texts(self, redis_keys: list[str]) -> list[Any]:
        # A script may touch one slot of a cluster only; a single server is slot 0.
        by_slot: Mapping[int, list[str]] = _by_slot(redis_keys) if self._clustered else {0: redis_keys}
        chunks = [keys[i : i + READ_KEYS] for keys in by_slot.values() for i in range(0, len(keys), READ_KEYS)]
        calls = [[len(chunk), *chunk] for chunk in chunks]
        try:
            replies = await run(self._connection.exchange, READ, calls)
        except ReplyLost:
            replies = await run(self._connection.exchange, READ, calls)  # reading twice does no harm
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._connection.unavailable(reply)
        if not self._clustered:
            return [text for reply in replies for text in reply]
        found: dict[str, Any] = {}
        for chunk, reply in zip(chunks, replies, strict=True):
            found.update(zip(chunk, reply, strict=True))
        return [found[redis_key] for redis_key in redis_keys]


def _by_slot(redis_keys: list[str]) -> dict[int, list[str]]:
    """Return the keys of each slot, each once."""
    by_slot: dict[int, list[str]] = {}
    for redis_key in dict.fromkeys(redis_keys):
        by_slot.setdefault(slot_of(redis_key), []).append(redis_key)
    return by_slot
