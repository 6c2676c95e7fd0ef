"""The writes of a Redis store: what is submitted in one tick of the loop travels together, and is applied once.

Each batch is a single call of the script ``COMMIT``, and holds the name of its writer and a sequence. The script
keeps the sequence and the outcome of the writer's last batch in an idempotency record. So a batch whose reply was lost
is sent again and answered without being applied twice, whatever other writers did in between; and an old copy that was
held up on its way is recognised as late. A batch that was sent again and finds no such record is unclear.

A script may touch one slot of a cluster only. So the writes of each slot are a batch, with a record and a sequence in
that slot: the record moves with its slot, and the batch may be sent again to another node. A single server is slot 0.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from learning_observer_kvs.errors import CrossSlot, KVSError, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.errors import is_loss, is_transient
from learning_observer_kvs.stores.redis.names import Names, slot_of
from learning_observer_kvs.stores.redis.records import Records
from learning_observer_kvs.stores.redis.scripts import (
    ABSENT,
    ANYTHING,
    APPLIED,
    COMMIT,
    DELETE,
    EQUAL_SHA1,
    EQUAL_TEXT,
    KEEP,
    NO_RECORD,
    REFRESH_TTL,
    REFUSED,
    SET,
    WRONG_TYPE,
    run,
)
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteBatch, WriteRequest

MAX_COMPARED = 1 << 10
"""Up to how many bytes an expected text is sent to be compared; of a longer one its SHA-1 is."""

RETRY_TIMEOUT = 10.0
"""Seconds from its first sending for which a batch whose reply was lost is sent again."""

MAX_PAUSE = 1.0
"""Seconds between two sendings of a batch, at most."""

_UNCLEAR = 'The write may or may not have been applied; read the key to find out.'


class RedisWriter:
    """The writes of a store in one event loop.

    Args:
        connection: the connection to the server or cluster.
        names: the Redis keys of the store.
        wrong_type: returns the error for a key that does not hold a string.
        expiry_ms: the TTL of what is written, in milliseconds; 0 for none.
        retry_timeout: seconds from its first sending for which a batch whose reply was lost is sent again; ``None`` for
            as long as it takes.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        connection: RedisConnection,
        names: Names,
        wrong_type: Callable[[str], Exception],
        expiry_ms: int,
        retry_timeout: float | None = RETRY_TIMEOUT,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._clustered = connection.clustered
        self._names = names
        self._wrong_type = wrong_type
        self._expiry_ms = expiry_ms
        self._retry_timeout = retry_timeout
        self._now = now
        self._records = Records()
        self._pinned = PinnedConnection(connection)
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Begin to write a batch; only one at a time.

        Args:
            batch: the requests; each gets a result or an error.
            on_batch_done: called with the batch when they all have.
        """
        self._task = self._loop.create_task(self._write(batch, on_batch_done))

    async def close(self) -> None:
        """Give the connection back. A batch that is still under way is given up: its requests are unclear."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._pinned.close()

    async def _write(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        waiting = self._by_slot(batch) if self._clustered else {0: list(batch)}
        try:
            await self._until_answered(waiting)
        except Exception as error:
            for part in waiting.values():
                self._settle(part, error)
        except BaseException:
            for part in waiting.values():
                self._settle(part, self._given_up())
            raise
        finally:
            on_batch_done(batch)

    def _by_slot(self, batch: WriteBatch) -> dict[int, list[WriteRequest]]:
        """Return the requests of each slot; those that have none, or more than one, get their outcome here."""
        by_slot: dict[int, list[WriteRequest]] = {}
        for request in batch:
            keys = list(dict.fromkeys((*request.writes, *request.expected, *request.refresh)))
            slots = {slot_of(self._names.redis_key(key)) for key in keys}
            if not slots:
                request.result = True  # without a key no condition can fail
            elif len(slots) == 1:
                by_slot.setdefault(slots.pop(), []).append(request)
            else:
                listed = ', '.join(map(display_key, keys[:3])) + (', …' if len(keys) > 3 else '')
                request.error = CrossSlot(
                    f'{listed} are in {len(slots)} slots of the cluster at {self._connection.address()}, and cannot be '
                    'written at once; nothing was written. Write them one by one.'
                )
        return by_slot

    def _settle(self, batch: WriteBatch, outcome: bytes | Exception) -> None:
        """Give each request of a batch its result, from the letters of the script, or the error of all of them."""
        if isinstance(outcome, Exception):
            for request in batch:
                request.error = outcome
            return
        for request, letter in zip(batch, outcome, strict=True):
            if letter == APPLIED:
                request.result = True
            elif letter == WRONG_TYPE:
                request.error = self._wrong_type(next(iter(request.expected)))
            elif letter == REFUSED:
                command = 'UNLINK' if None in request.writes.values() else 'PEXPIRE'
                request.error = self._connection.unavailable(
                    NoPermissionError(f'it refuses the command {command}; nothing was written')
                )

    # What is sent

    def _call(self, slot: int, batch: WriteBatch) -> list[Any]:
        """Return the call of ``COMMIT`` for a batch, with the next sequence of its slot."""
        record = self._records[slot]
        record.sequence += 1
        redis_key = self._names.redis_key
        keys: list[str | bytes | int] = [0, record.redis_key]
        arguments: list[str | bytes | int] = [record.sequence, record.answered, self._expiry_ms, b'']
        all_codes = b''
        for request in batch:
            writes, refresh, codes = request.writes, request.refresh, b''
            codes_position = len(arguments)
            arguments.append(codes)
            new_texts: list[bytes] = []
            for key, text in request.expected.items():
                keys.append(redis_key(key))
                if text is None:
                    codes += ABSENT
                elif len(text) <= MAX_COMPARED:
                    codes += EQUAL_TEXT
                    arguments.append(text)
                else:
                    codes += EQUAL_SHA1
                    arguments.append(hashlib.sha1(text, usedforsecurity=False).hexdigest())
                if key in writes:
                    codes += self._action(writes[key], new_texts)
                else:
                    codes += REFRESH_TTL if key in refresh else KEEP
            for key, text in writes.items():
                if key not in request.expected:
                    keys.append(redis_key(key))
                    codes += ANYTHING + self._action(text, new_texts)
            for key in refresh:
                if key not in request.expected:
                    keys.append(redis_key(key))
                    codes += ANYTHING + REFRESH_TTL
            arguments[codes_position] = codes
            arguments += new_texts
            all_codes += codes
        keys[0] = len(keys) - 1
        arguments[3] = b''.join(action for action in (DELETE, REFRESH_TTL) if action in all_codes)
        return keys + arguments

    @staticmethod
    def _action(text: bytes | None, new_texts: list[bytes]) -> bytes:
        if text is None:
            return DELETE
        new_texts.append(text)
        return SET

    async def _send(self, waiting: Mapping[int, WriteBatch], calls: dict[int, list[Any]]) -> dict[int, Any]:
        """Send the call of each slot, which is made here at first, and return the replies by slot.

        Args:
            waiting: the batches.
            calls: the calls that have been made; new ones are added.
        """
        new = [slot for slot in waiting if slot not in calls]
        replies: dict[int, Any] = {}
        if missing := {slot: self._a_key_of(waiting[slot]) for slot in new if slot not in self._records}:
            failed = await self._records.lay_down(self._exchange, self._names, missing)
            replies = {slot: self._connection.unavailable(error) for slot, error in failed.items()}
        for slot in new:
            if slot not in replies:
                calls[slot] = self._call(slot, waiting[slot])
        if calls:
            try:
                answers = await run(self._exchange, COMMIT, list(calls.values()))
            except KVSError as error:  # nothing was sent
                answers = [error] * len(calls)
            replies.update(zip(calls, answers, strict=True))
        return replies

    def _a_key_of(self, batch: WriteBatch) -> str:
        request = batch[0]
        key = next(itertools.chain(request.writes, request.expected, request.refresh), '')
        return self._names.redis_key(key)

    # What comes back

    async def _until_answered(self, waiting: dict[int, list[WriteRequest]]) -> None:
        """Send the batch of each slot until it is settled; then it is taken out of those that wait.

        A batch whose reply is lost is sent again: the script knows it by its sequence.
        """
        calls: dict[int, list[Any]] = {}
        lost: dict[int, Exception] = {}
        started, pause = self._now(), 0.0
        while waiting:
            for slot, reply in (await self._send(waiting, calls)).items():
                if reply == NO_RECORD:
                    del self._records[slot], calls[slot]
                    reply = self._without_record(lost.get(slot), self._now() - started)
                elif isinstance(reply, Exception):
                    if is_loss(reply):
                        lost[slot] = reply
                    reply = self._final_error(reply, lost.get(slot), self._now() - started)
                else:
                    record = self._records[slot]
                    record.answered = record.sequence
                if reply is not None:
                    self._settle(waiting.pop(slot), reply)
                    calls.pop(slot, None)
            if waiting:
                await asyncio.sleep(pause)
                pause = min(pause * 2 + 0.02, MAX_PAUSE)

    def _exchange(self, commands: Sequence[Command]) -> Awaitable[list[Any]]:
        if self._clustered:
            return self._connection.cluster_client().exchange(commands)
        return self._pinned.exchange(commands)

    def _final_error(self, reply: Exception, lost: Exception | None, seconds: float) -> Exception | None:
        """Return the error with which a batch ends; ``None`` if it is to be sent again.

        Args:
            reply: the error in the place of its reply; a ``KVSError`` says that nothing was sent.
            lost: the error with which a reply to it was lost; without one no copy of it was applied.
            seconds: how long ago it was first sent.
        """
        over = self._retry_timeout is not None and seconds > self._retry_timeout
        not_sent = isinstance(reply, KVSError)
        if lost is None:
            if self._clustered and is_transient(reply) and not (not_sent or over):
                return None  # the slot moves, or its node is being replaced
            return self._connection.unavailable(reply)
        where = f'Redis at {self._connection.address()}: the reply to a write was lost ({lost}), and'
        if not (not_sent or is_loss(reply) or is_transient(reply)):
            return WriteUnclear(
                f'{where} the server refused the same write when it was sent again: {reply}. {_UNCLEAR}'
            )
        if over:
            return WriteUnclear(f'{where} no reply came for {self._retry_timeout:g} s. {_UNCLEAR}')
        return None

    def _without_record(self, lost: Exception | None, seconds: float) -> Exception | None:
        """Return the error with which a batch ends that found no record; ``None`` to send it with a new one.

        Args:
            lost: the error with which a reply to it was lost; without one no copy of it was applied.
            seconds: how long ago it was first sent.
        """
        where = f'Redis at {self._connection.address()}'
        gone = 'was evicted or removed, or is not on the server that took over'
        if lost is not None:
            return WriteUnclear(
                f'{where}: the reply to a write was lost ({lost}), and the idempotency record that would tell whether '
                f'it was applied {gone}. {_UNCLEAR}'
            )
        if self._retry_timeout is not None and seconds > self._retry_timeout:
            return StoreUnavailable(
                f'{where} removes idempotency records as soon as they are written. Nothing was written. '
                'Raise its maxmemory, or set its maxmemory-policy to noeviction.',
                retry=True,
            )
        return None

    def _given_up(self) -> WriteUnclear:
        return WriteUnclear(
            f'Redis at {self._connection.address()}: the store was closed, or its event loop ended, during a write. '
            f'{_UNCLEAR}'
        )
