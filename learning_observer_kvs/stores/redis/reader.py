"""The reads of a Redis store: what is asked in one tick of the loop travels together, several keys a script call."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from hiredis import pack_command

from learning_observer_kvs.errors import KVSError, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost, lost
from learning_observer_kvs.stores.redis.names import slot_of
from learning_observer_kvs.stores.redis.scripts import READ, run

READ_KEYS = 20
"""How many keys one script call reads: a longer one would hold up what comes behind it."""

READ_CALLS = 20
"""How many such calls travel together."""

READERS = 4
"""How many packets of calls are under way at once."""

MAX_QUEUED_KEYS = 100_000
"""How many keys may wait to be read; a single call may have more."""

MAX_QUEUED_BYTES = 64 << 20
"""How many bytes these keys may have; likewise."""

_Read = tuple[Sequence[str], int, asyncio.Future[list[Any]]]


class RedisReader:
    """The reads of a store in one event loop.

    Args:
        connection: the connection to the server or cluster.
        timeout: seconds for the replies of a packet; by default as the settings of the connection have it.
    """

    def __init__(self, connection: RedisConnection, timeout: float | None = None) -> None:
        self._connection = connection
        self._clustered = connection.clustered
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Read] = deque()
        self._keys = self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._given_up: StoreUnavailable | None = None

    def read(self, redis_keys: Sequence[str]) -> asyncio.Future[list[Any]]:
        """Begin to read.

        Args:
            redis_keys: the Redis keys.

        Returns:
            A future of the bytes of each, in order: ``None`` where there is no such key, an error where it does not
            hold a string.

        Raises:
            Overloaded: too many keys wait to be read.
            StoreUnavailable, Overloaded: by the future: no answer, or the server refuses.
        """
        size = sum(map(len, redis_keys))
        if self._waiting and (self._keys + len(redis_keys) > MAX_QUEUED_KEYS or self._bytes + size > MAX_QUEUED_BYTES):
            raise overloaded(self._keys, self._bytes, self._connection)
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._waiting.append((redis_keys, size, future))
        self._keys += len(redis_keys)
        self._bytes += size
        if not self._scheduled:
            self._begin_packet()
        return future

    def backlog(self) -> tuple[int, int]:
        """Return how many keys wait to be read, and how many bytes these have."""
        return self._keys, self._bytes

    async def close(self, timeout: float) -> None:
        """Wait until nothing is under way, and give up what is then.

        Args:
            timeout: seconds after which that is.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        self._given_up = StoreUnavailable(
            f'Redis at {self._connection.address()} did not answer a read until the store was closed.'
        )
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._not_read(self._take_waiting(), self._given_up)

    def _begin_packet(self) -> None:
        """Send what gathers in this tick, unless enough is under way."""
        if len(self._tasks) < READERS:
            self._scheduled = True
            task = self._loop.create_task(self._fetch())
            self._tasks.add(task)
            task.add_done_callback(self._fetched)

    def _next_packet(self) -> list[_Read]:
        """What has gathered, up to what travels together; nothing, if all of it has failed meanwhile."""
        self._scheduled = False
        packet: list[_Read] = []
        capacity = READ_KEYS * READ_CALLS
        while self._waiting and (not packet or len(self._waiting[0][0]) <= capacity):
            packet.append(self._next())
            capacity -= len(packet[-1][0])
        if self._waiting:
            self._begin_packet()
        return packet

    def _next(self) -> _Read:
        read = self._waiting.popleft()
        self._keys -= len(read[0])
        self._bytes -= read[1]
        return read

    def _take_waiting(self) -> list[_Read]:
        return [self._next() for _ in range(len(self._waiting))]

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._scheduled = False  # it may not have had its first step
        elif self._waiting and not self._scheduled:
            self._begin_packet()

    async def _fetch(self) -> None:
        # It takes the packet itself: a task that is made with one would cost reads another turn of the event loop.
        packet = self._next_packet()
        redis_keys = [redis_key for keys, _, _ in packet for redis_key in keys]
        found: list[Any] = []
        try:
            for start in range(0, len(redis_keys), READ_KEYS * READ_CALLS):
                found += await self._texts(redis_keys[start : start + READ_KEYS * READ_CALLS])
        except ReplyLost as error:
            self._not_read(packet, self._connection.unavailable(error))
        except Exception as error:
            self._not_read(packet, error)
        except BaseException:
            if self._given_up is not None:
                self._not_read(packet, self._given_up)
            for _, _, future in packet:  # the loop ends
                future.cancel()
            raise
        else:
            position = 0
            for keys, _, future in packet:
                if not future.done():
                    future.set_result(found[position : position + len(keys)])
                position += len(keys)

    def _not_read(self, packet: list[_Read], error: Exception) -> None:
        if isinstance(error, StoreUnavailable) and error.retry:
            # Each read that waits decides for itself how long it goes on waiting.
            packet = packet + self._take_waiting()
        unsent = not isinstance(error, KVSError) and not all(_can_be_sent(keys) for keys, _, _ in packet)
        for read in packet:
            keys, size, future = read
            if future.done():
                continue
            if unsent and _can_be_sent(keys):
                self._waiting.append(read)  # what another read carries does not fail this one
                self._keys += len(keys)
                self._bytes += size
            else:
                future.set_exception(error)

    async def _texts(self, redis_keys: list[str]) -> list[Any]:
        # A script may touch one slot of a cluster only; a single server is slot 0.
        by_slot: Mapping[int, list[str]] = _by_slot(redis_keys) if self._clustered else {0: redis_keys}
        chunks = [keys[i : i + READ_KEYS] for keys in by_slot.values() for i in range(0, len(keys), READ_KEYS)]
        replies = await run(self._exchange, READ, [[len(chunk), *chunk] for chunk in chunks])
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, Exception):
                raise self._connection.unavailable(reply)
            if not isinstance(reply, list) or len(reply) != len(chunk) or not _are_texts(reply):
                raise lost('what came in reply to a read is not what Redis answers')
        if not self._clustered:
            return [text for reply in replies for text in reply]
        found: dict[str, Any] = {}
        for chunk, reply in zip(chunks, replies, strict=True):
            found.update(zip(chunk, reply, strict=True))
        return [found[redis_key] for redis_key in redis_keys]

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        return await self._connection.exchange(commands, self._timeout)


def overloaded(count: int, size: int, connection: RedisConnection) -> Overloaded:
    """Return the error of a read that is not accepted because too many keys wait.

    Args:
        count: how many wait.
        size: how many bytes these have.
        connection: where they are to be read.
    """
    return Overloaded(
        f'{count:,} keys, of {size / (1 << 20):,.1f} MB, wait to be read from Redis at {connection.address()} already; '
        'this read was rejected. Retry later.'
    )


def _are_texts(reply: list[Any]) -> bool:
    """Return whether each item of a reply is a text, nothing, or that the key holds something else."""
    kinds = set(map(type, reply)) - {bytes, NoneType}
    return all(issubclass(kind, Exception) for kind in kinds)


def _can_be_sent(redis_keys: Sequence[str]) -> bool:
    try:
        pack_command(tuple(redis_keys))  # type: ignore[arg-type]
    except UnicodeError:
        return False
    return True


def _by_slot(redis_keys: list[str]) -> dict[int, list[str]]:
    """Return the keys of each slot, each once."""
    by_slot: dict[int, list[str]] = {}
    for redis_key in dict.fromkeys(redis_keys):
        by_slot.setdefault(slot_of(redis_key), []).append(redis_key)
    return by_slot
