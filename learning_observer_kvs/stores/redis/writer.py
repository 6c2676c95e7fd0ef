"""The road to Redis: what is asked in one tick of the loop travels together.

Writes go in batches over one connection, each batch a single script call. A batch carries its writer's name and a
number; the script keeps the number and the outcome of the writer's last batch. So a batch whose reply was lost is sent
again, and is answered without being applied twice, whatever other writers did in between; and an old copy that was
held up somewhere is known to be late. Reads are scripts too, several at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

from redis import exceptions

from learning_observer_kvs.errors import KVSError, WriteUnclear
from learning_observer_kvs.stores.redis.connection import Line, RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.names import HIDDEN
from learning_observer_kvs.stores.redis.scripts import COMMIT, run
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteBatch

MAX_COMPARED = 1 << 10
"""Up to how many bytes an expected text is sent to be compared; of a longer one its digest is."""

PATIENCE = 10.0
"""Seconds for which a batch whose reply was lost is sent again."""


class Writing:
    """Where a store's writes leave one event loop.

    Args:
        connection: the way to the server.
        physical: the name in Redis of a key.
        wrong_type: the error for a key that holds no text.
        expiry_ms: how long what is written lives; 0 for ever.
        patience: seconds for which a batch whose reply was lost is sent again; ``None`` for as long as it takes.
        now: the clock.
    """

    def __init__(
        self,
        connection: RedisConnection,
        physical: Callable[[str], str],
        wrong_type: Callable[[str], Exception],
        expiry_ms: int,
        patience: float | None = PATIENCE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._physical = physical
        self._wrong_type = wrong_type
        self._expiry_ms = expiry_ms
        self._patience = patience
        self._now = now
        self._record = f'{HIDDEN}writer:{uuid.uuid4().hex}'
        self._number = 0
        self._line: Line = connection.line()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Begin to write a load; only one at a time."""
        self._task = self._loop.create_task(self._write(batch, on_batch_done))

    async def close(self) -> None:
        """Give the connection back. What is under way still, and had its time, is given up."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._line.close()

    async def _write(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._number += 1
        try:
            self._settle(batch, await self._until_answered(self._arguments(batch, self._record, self._number)))
        except Exception as error:
            self._settle(batch, error)
        except BaseException:
            self._settle(batch, self._given_up())
            on_batch_done(batch)
            raise
        on_batch_done(batch)

    def _settle(self, batch: WriteBatch, outcome: bytes | Exception) -> None:
        """Give each request of a batch its result, from the letters of the script or an error for all."""
        if isinstance(outcome, Exception):
            for request in batch:
                request.error = outcome
            return
        for request, letter in zip(batch, outcome, strict=True):
            if letter == 49:  # '1'
                request.result = True
            elif letter == 84:  # 'T'
                request.error = self._wrong_type(next(iter(request.expected)))

    def _given_up(self) -> WriteUnclear:
        return WriteUnclear(
            f'Redis at {self._connection.address()}: the store was closed, or its event loop ended, during a write. '
            'It was carried out or not; read the key again.'
        )

    def _arguments(self, batch: WriteBatch, record: str, number: int) -> list[str | bytes | int]:
        """What the script is called with: how many keys, the keys, the arguments."""
        physical = self._physical
        keys: list[str | bytes | int] = [0, record]
        arguments: list[str | bytes | int] = [number, self._expiry_ms]
        for request in batch:
            writes, word = request.writes, b''
            location = len(arguments)
            arguments.append(word)
            coming: list[bytes] = []
            for key, text in request.expected.items():
                keys.append(physical(key))
                if text is None:
                    word += b'0'
                elif len(text) <= MAX_COMPARED:
                    word += b'='
                    arguments.append(text)
                else:
                    word += b'#'
                    arguments.append(hashlib.sha1(text, usedforsecurity=False).hexdigest())
                if key in writes:
                    word += self._act(writes[key], coming)
                else:
                    word += b'E' if key in request.refresh else b'*'
            for key, text in writes.items():
                if key not in request.expected:
                    keys.append(physical(key))
                    word += b'*' + self._act(text, coming)
            for key in request.refresh:
                if key not in request.expected:
                    keys.append(physical(key))
                    word += b'*E'
            arguments[location] = word
            arguments += coming
        keys[0] = len(keys) - 1
        return keys + arguments

    @staticmethod
    def _act(text: bytes | None, coming: list[bytes]) -> bytes:
        if text is None:
            return b'-'
        coming.append(text)
        return b'S'

    async def _until_answered(self, arguments: list[Any]) -> bytes:
        """The same batch, again while its reply is lost: the script knows it by its number."""
        lost: Exception | None = None
        started, pause = self._now(), 0.0
        while True:
            try:
                [reply] = await run(self._line.exchange, COMMIT, [arguments])
            except ReplyLost as error:
                lost = error
            except KVSError:
                if lost is None:
                    raise  # never sent
            else:
                if not isinstance(reply, Exception):
                    return reply  # type: ignore[no-any-return]
                if lost is None:
                    raise self._connection.unavailable(reply)
                if not is_passing(reply):
                    raise WriteUnclear(
                        f'Redis at {lost}: the reply to a write was lost, and the server refused the same write: '
                        f'{reply}. It was carried out or not; read the key again.'
                    )
            if self._patience is not None and self._now() - started > self._patience:
                raise WriteUnclear(
                    f'Redis at {lost}: the reply to a write was lost, and no answer came for {self._patience:g} s '
                    'since. It was carried out or not; read the key again.'
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2 + 0.02, 1.0)


_PASSING = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.TryAgainError,
    exceptions.AskError,
)


def is_passing(reply: Exception) -> bool:
    """Whether a refusal passes, and says nothing of what became of an earlier copy: the server is loading, fails over,
    or moves a slot."""
    return isinstance(reply, _PASSING) or any(
        word in str(reply) for word in ('LOADING', 'READONLY', 'MASTERDOWN', 'BUSY')
    )
