"""The road to Redis: what is asked in one tick of the loop travels together.

Commits go in batches, one after the other, each a single script call. A batch carries its writer's name and a number;
the script keeps the number and the outcome of the writer's last batch. So a batch whose reply was lost is sent again,
and is answered without being applied twice, whatever other writers did in between; and an old copy that was held up
somewhere is known to be late. Reads are scripts too, several at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from learning_observer_kvs.errors import Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.redis_connection import Command, RedisConnection, ReplyLost
from learning_observer_kvs.stores.redis_scripts import COMMIT, READ, Script

MAX_COMMITS = 64
"""How many commits one script call makes: other clients of the server wait that long."""

MAX_BYTES = 1 << 20
"""How many bytes of text it carries, unless a single commit has more."""

MAX_WAITING = 100_000
"""How many commits may wait."""

MAX_COMPARED = 1024
"""Up to how many bytes an expected text is sent to be compared; of a longer one its digest is."""

READ_KEYS = 20
"""How many keys one script call reads: a longer one would hold up what comes behind it."""

READ_CALLS = 20
"""How many such calls travel together."""

READERS = 4
"""How many read packets are under way at once."""

PATIENCE = 10.0
"""Seconds for which a batch whose reply was lost is sent again."""

HIDDEN = '\x00lo-kvs:'
"""How the names of our own records begin in Redis."""


class Commit:
    """One commit on its way."""

    __slots__ = ('arguments', 'future', 'keys', 'size')

    def __init__(
        self,
        writes: Mapping[str, bytes | None],
        expected: Mapping[str, bytes | None],
        future: asyncio.Future[str],
    ) -> None:
        self.keys = [*expected, *writes]
        self.arguments: list[bytes | str | int] = [len(expected), len(writes)]
        self.arguments += [_proof(text) for text in expected.values()]
        self.arguments += [b'-' if text is None else b'=' + text for text in writes.values()]
        self.size = sum(len(text) for text in writes.values() if text is not None)
        self.future = future


def _proof(text: bytes | None) -> bytes:
    """What the script compares a stored text with: the text itself if it is short, else its digest."""
    if text is None:
        return b''
    return b'=' + text if len(text) <= MAX_COMPARED else b'#' + hashlib.sha1(text).hexdigest().encode()


class Batches:
    """The road of one store in one event loop. Keys here are physical ones.

    Args:
        connection: the way to the server.
        expiry_ms: how long what is written lives; 0 for ever.
        now: the clock.
    """

    def __init__(self, connection: RedisConnection, expiry_ms: int, now: Any = time.monotonic) -> None:
        self._connection = connection
        self._expiry_ms = expiry_ms
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._record = f'{HIDDEN}writer:{uuid.uuid4().hex}'
        self._number = 0
        self._commits: deque[Commit] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._reads: deque[tuple[list[str], asyncio.Future[list[Any]]]] = deque()
        self._readers: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def commit(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> asyncio.Future[str]:
        """Begin a commit; the future is its letter in the reply of the script.

        Raises:
            Overloaded: too many wait.
        """
        if len(self._commits) >= MAX_WAITING:
            raise Overloaded(
                f'{MAX_WAITING:,} writes wait for Redis at {self._connection.address()} already; this one was not '
                'taken. Send it again later.'
            )
        future: asyncio.Future[str] = self._loop.create_future()
        self._commits.append(Commit(writes, expected, future))
        self._schedule()
        return future

    def read(self, keys: Sequence[str]) -> asyncio.Future[list[Any]]:
        """Begin to read keys; the future is their bytes, ``None``s and errors, in order."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._reads.append((list(keys), future))
        self._schedule()
        return future

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._scheduled or self._writer or self._readers:
            tasks = [*self._readers, *([self._writer] if self._writer else [])]
            await (asyncio.wait(tasks) if tasks else asyncio.sleep(0))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._go)

    def _go(self) -> None:
        """The tick ends: send what has gathered, unless enough is under way."""
        self._scheduled = False
        if self._commits and self._writer is None:
            self._writer = self._loop.create_task(self._write())
        while self._reads and len(self._readers) < READERS:
            packet = [self._reads.popleft()]
            room = READ_KEYS * READ_CALLS - len(packet[0][0])
            while self._reads and len(self._reads[0][0]) <= room:
                packet.append(self._reads.popleft())
                room -= len(packet[-1][0])
            task = self._loop.create_task(self._fetch(packet))
            self._readers.add(task)
            task.add_done_callback(self._readers.discard)

    # Writing

    async def _write(self) -> None:
        """Send batch after batch until nobody waits."""
        batch: list[Commit] = []
        try:
            while self._commits:
                batch, size = [self._commits.popleft()], 0
                size = batch[0].size
                while self._commits and len(batch) < MAX_COMMITS and size + self._commits[0].size <= MAX_BYTES:
                    size += self._commits[0].size
                    batch.append(self._commits.popleft())
                await self._send(batch)
        except BaseException as error:
            for commit in (*batch, *self._commits):
                if not commit.future.done():
                    commit.future.cancel() if isinstance(
                        error, asyncio.CancelledError
                    ) else commit.future.set_exception(error)
            self._commits.clear()
            raise
        finally:
            self._writer = None

    async def _send(self, batch: list[Commit]) -> None:
        self._number += 1
        keys = [self._record, *(key for commit in batch for key in commit.keys)]
        arguments = [
            self._number,
            self._expiry_ms,
            len(batch),
            *(part for commit in batch for part in commit.arguments),
        ]
        try:
            outcomes = await self._until_answered(keys, arguments)
        except (StoreUnavailable, Overloaded, WriteUnclear) as error:
            for commit in batch:
                if not commit.future.done():
                    commit.future.set_exception(error)
            return
        for commit, outcome in zip(batch, outcomes, strict=True):
            if not commit.future.done():
                commit.future.set_result(outcome)

    async def _until_answered(self, keys: list[str], arguments: list[Any]) -> str:
        """The same batch, again while its reply is lost: the script knows it by its number."""
        lost: Exception | None = None
        started, pause = self._now(), 0.02
        while True:
            try:
                return str((await self._call(COMMIT, [(keys, arguments)]))[0], 'ascii')
            except ReplyLost as error:
                lost = error
            except (StoreUnavailable, Overloaded):
                if lost is None:
                    raise  # never sent, or refused
            if self._now() - started > PATIENCE:
                raise WriteUnclear(
                    f'Redis at {lost}: the reply to a write was lost, and no answer came for {PATIENCE:g} s since. '
                    'It was carried out or not; read the key again.'
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    # Reading

    async def _fetch(self, packet: list[tuple[list[str], asyncio.Future[list[Any]]]]) -> None:
        keys = [key for some, _ in packet for key in some]
        error: Exception | None = None
        found: list[Any] = []
        try:
            for start in range(0, len(keys), READ_KEYS * READ_CALLS):
                some = keys[start : start + READ_KEYS * READ_CALLS]
                calls: list[tuple[list[str], list[Any]]] = [
                    (some[i : i + READ_KEYS], []) for i in range(0, len(some), READ_KEYS)
                ]
                try:
                    replies = await self._call(READ, calls)
                except ReplyLost:
                    replies = await self._call(READ, calls)  # reading twice does no harm
                found += [text for reply in replies for text in reply]
        except ReplyLost as lost:
            error = self._connection.unavailable(lost)
        except Exception as raised:
            error = raised
        finally:
            if self._reads:
                self._schedule()
            position = 0
            for some, future in packet:
                if not future.done():
                    if error is not None:
                        future.set_exception(error)
                    elif position + len(some) > len(found):
                        future.cancel()
                    else:
                        future.set_result(found[position : position + len(some)])
                position += len(some)

    async def _call(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run a script with each of these keys and arguments."""
        commands: list[Command] = [
            ('EVALSHA', script.digest, len(keys), *keys, *arguments) for keys, arguments in calls
        ]
        replies = await self._connection.exchange(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # The server does not know it yet, so none of the calls has run.
            commands = [('EVAL', script.text, len(keys), *keys, *arguments) for keys, arguments in calls]
            replies = await self._connection.exchange(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._connection.unavailable(reply)
        return replies
