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
import functools
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from hiredis import pack_command

from learning_observer_kvs.errors import CrossSlot, KVSError, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.deadline import longest_try, pause_after
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.commit_call import a_key_of, commit_call
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost, is_loss, lost, may_recover, one_line
from learning_observer_kvs.stores.redis.names import Names, slot_of
from learning_observer_kvs.stores.redis.records import Records
from learning_observer_kvs.stores.redis.scripts import (
    APPLIED,
    COMMIT,
    NO_RECORD,
    REFUSED,
    WRONG_TYPE,
    Exchange,
    run,
)
from learning_observer_kvs.stores.write_queue import OnBatchDone
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest

_UNCLEAR = 'The write may or may not have been applied; read the key to find out.'


class RedisWriter:
    """The writes of a store in one event loop.

    Args:
        connection: the connection to the server or cluster.
        names: the Redis keys of the store.
        wrong_type: returns the error for a key that does not hold a string.
        expiry_ms: the TTL of what is written, in milliseconds; 0 for none.
        timeout: seconds for the reply to a batch that is sent for the first time; by default as the settings of the
            connection have it.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        connection: RedisConnection,
        names: Names,
        wrong_type: Callable[[str], Exception],
        expiry_ms: int,
        timeout: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._clustered = connection.clustered
        self._names = names
        self._wrong_type = wrong_type
        self._expiry_ms = expiry_ms
        self._timeout = timeout
        self._now = now
        self._records = Records()
        self._pinned = PinnedConnection(connection)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_asking = False
        self._given: tuple[WriteBatch, OnBatchDone] | None = None

    def write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        """Begin to write a batch; only one at a time, or in a cluster one for each slot.

        Args:
            batch: the requests; each gets a result or an error.
            on_batch_done: called with the batch when they all have.
        """
        if self._is_asking and self._given is None:
            self._given = batch, on_batch_done
        else:
            self._spawn(self._write_given((batch, on_batch_done)))

    def ask_soon(self, ask: Callable[[], None]) -> None:
        """Call something in the next tick, in the task that then writes the batch which that may give.

        A task of its own for the batch would begin a tick later.

        Args:
            ask: calls :meth:`write_batch`, or does not.
        """
        to_ask = [ask]
        self._spawn(self._write_asked(to_ask), to_ask)

    async def close(self) -> None:
        """Give the connection back. What is still under way is given up: its requests are unclear."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._pinned.close()

    def _spawn(self, work: Coroutine[Any, Any, None], to_ask: list[Callable[[], None]] | None = None) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._ended, to_ask))

    def _ended(self, to_ask: list[Callable[[], None]] | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if to_ask:  # the task was cancelled before its first step
            to_ask.pop()()

    async def _write_asked(self, to_ask: list[Callable[[], None]]) -> None:
        await self._write_given(self._asked(to_ask.pop()))

    async def _write_given(self, given: tuple[WriteBatch, OnBatchDone] | None) -> None:
        """Write a batch, then the one that its end gives, and so on."""
        while given is not None:
            batch, on_batch_done = given
            try:
                await self._write(batch)
            except BaseException:
                on_batch_done(batch)
                raise
            given = self._asked(functools.partial(on_batch_done, batch))

    def _asked(self, ask: Callable[[], None]) -> tuple[WriteBatch, OnBatchDone] | None:
        """Call something, and return the batch that it gives."""
        self._is_asking = True
        try:
            ask()
        finally:
            given, self._given, self._is_asking = self._given, None, False
        return given

    async def _write(self, batch: WriteBatch) -> None:
        waiting: dict[int, list[WriteRequest]] = {0: list(batch)}
        try:
            if self._clustered:
                waiting = self._by_slot(batch)
            await self._until_answered(waiting)
        except Exception as error:
            for part in waiting.values():
                self._settle(part, error)
        except BaseException:
            for part in waiting.values():
                self._settle(part, self._given_up())
            raise

    def _by_slot(self, batch: WriteBatch) -> dict[int, list[WriteRequest]]:
        """Return the requests of each slot; those that have none, or more than one, get their outcome here."""
        by_slot: dict[int, list[WriteRequest]] = {}
        for request in batch:
            keys = list(dict.fromkeys((*request.writes, *request.expected, *request.refresh)))
            try:
                slots = {slot_of(self._names.redis_key(key)) for key in keys}
            except (TypeError, ValueError) as error:
                request.error = error
                continue
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
                    redis_py.exceptions.NoPermissionError(f'it refuses the command {command}; nothing was written')
                )

    # What is sent

    def _call(self, slot: int, batch: WriteBatch) -> list[Any]:
        return commit_call(batch, self._records[slot], self._names.redis_key, self._expiry_ms)

    async def _send(
        self,
        waiting: Mapping[int, WriteBatch],
        calls: dict[int, list[Any]],
        losses: Mapping[int, Exception],
        timeout: float | None,
    ) -> dict[int, Any]:
        """Send the batch of each slot, and return the replies by slot.

        Args:
            waiting: the batches.
            calls: the calls that were sent before; new ones are added.
            losses: the losses of earlier replies; a batch without one may be sent with a new record.
            timeout: seconds for the replies.
        """
        exchange = self._exchange_within(timeout)
        replies = await self._exchange_batches(exchange, waiting, calls)
        if NO_RECORD in replies.values() and (
            without_record := [slot for slot, reply in replies.items() if reply == NO_RECORD and slot not in losses]
        ):
            for slot in without_record:
                del self._records[slot], calls[slot]
            again: dict[int, list[Any]] = {}
            replies |= await self._exchange_batches(exchange, {slot: waiting[slot] for slot in without_record}, again)
            calls |= again
        return replies

    async def _exchange_batches(
        self, exchange: Exchange, waiting: Mapping[int, WriteBatch], calls: dict[int, list[Any]]
    ) -> dict[int, Any]:
        """Lay down the records that are missing, add the calls that are missing, and send them all."""
        replies: dict[int, Any] = {}
        if missing := waiting.keys() - calls.keys() - self._records.keys():
            keys = {slot: self._names.redis_key(a_key_of(waiting[slot])) for slot in missing}
            failed = await self._records.lay_down(exchange, self._names, keys)
            replies = {slot: self._connection.unavailable(error) for slot, error in failed.items()}
        for slot, batch in waiting.items():
            if slot not in calls and slot not in replies:
                calls[slot] = self._call(slot, batch)
        if calls:
            try:
                answers = await run(exchange, COMMIT, list(calls.values()))
            except KVSError as error:  # nothing was sent
                answers = [error] * len(calls)
            replies.update(zip(calls, answers, strict=True))
        return replies

    # What comes back

    async def _until_answered(self, waiting: dict[int, list[WriteRequest]]) -> None:
        """Send the batch of each slot until it is settled; then it is taken out of those that wait.

        A batch whose reply is lost is sent again, until all of its requests are past their deadlines: the script knows
        it by its sequence. A refused batch, or one that was not sent, is settled: it is for the caller to try again.
        """
        calls: dict[int, list[Any]] = {}
        losses: dict[int, Exception] = {}
        timeout, lost_since, tries = self._timeout, 0.0, 0
        while waiting:
            try:
                replies = await self._send(waiting, calls, losses, timeout)
            except (TypeError, UnicodeError):  # what a request carries cannot be sent, so nothing was
                self._leave_out_what_cannot_be_sent(waiting, calls)
                continue
            tries += 1
            for slot, reply in replies.items():
                outcome = self._settled(slot, reply, waiting[slot], losses.get(slot))
                if isinstance(outcome, ReplyLost):
                    losses[slot] = outcome
                elif outcome is not None:
                    self._settle(waiting.pop(slot), outcome)
                    calls.pop(slot, None)
            if waiting:
                now = self._now()
                lost_since = lost_since or now
                if tries > 1:  # one broken connection is not a reason to give up
                    self._give_up_late(waiting, calls, losses, now)
                    if not waiting:
                        return
                left = max(request.resend_until for batch in waiting.values() for request in batch) - now
                timeout = longest_try(self._connection.timeout, left)
                await asyncio.sleep(0 if tries == 1 else pause_after(now - lost_since))

    def _leave_out_what_cannot_be_sent(
        self, waiting: dict[int, list[WriteRequest]], calls: dict[int, list[Any]]
    ) -> None:
        """Give the requests whose keys or texts cannot be sent their error; make the calls of the others again.

        To be called while what they could not be sent with is handled; it is raised again if none of them is the cause.
        """
        found = False
        for slot, batch in list(waiting.items()):
            if slot not in self._records:
                continue  # its record could not be laid down, so it is not the cause
            for request in batch:
                try:
                    pack_command(tuple(self._call(slot, [request])))
                except (TypeError, UnicodeError) as error:
                    request.error = error
                    found = True
            if rest := [request for request in batch if request.error is None]:
                waiting[slot], calls[slot] = rest, self._call(slot, rest)
            else:
                del waiting[slot]
                calls.pop(slot, None)
        if not found:
            raise

    def _settled(self, slot: int, reply: Any, batch: WriteBatch, loss: Exception | None) -> bytes | Exception | None:
        """Return what became of a batch.

        Args:
            slot: its slot.
            reply: its reply, or the error in its place; a ``KVSError`` says that it was not sent.
            batch: the batch.
            loss: the loss of an earlier reply to it; without one no copy of it was applied.

        Returns:
            A letter for each request, or the error of all of them; a ``ReplyLost`` or ``None`` if it is to be sent
            again.
        """
        if reply == NO_RECORD:
            del self._records[slot]
            return self._without_record(loss)
        if not isinstance(reply, Exception):
            if isinstance(reply, bytes) and len(reply) == len(batch):
                record = self._records[slot]
                record.answered = record.sequence
                return reply
            reply = lost('what came in reply to a write is not what Redis answers')
        if is_loss(reply):
            return lost(reply)
        if loss is None:
            return self._connection.unavailable(reply)
        if isinstance(reply, KVSError) or may_recover(reply):
            return None
        return self._unclear(loss, f'the server refused the same write when it was sent again: {one_line(reply)}')

    def _give_up_late(
        self,
        waiting: dict[int, list[WriteRequest]],
        calls: dict[int, list[Any]],
        losses: dict[int, Exception],
        now: float,
    ) -> None:
        """Answer the requests that are past their deadlines; a batch without any other is settled."""
        for slot, batch in list(waiting.items()):
            late = [request for request in batch if request.resend_until <= now]
            unclear = self._unclear(losses[slot], 'no reply came until the deadline')
            if len(late) == len(batch):
                self._settle(batch, unclear)
                del waiting[slot], calls[slot]
                continue
            for request in late:
                if not request.is_answered():
                    request.answer_early(unclear)

    def _without_record(self, loss: Exception | None) -> KVSError:
        if loss is not None:
            return self._unclear(
                loss,
                'the idempotency record that would tell whether it was applied was evicted or removed, or is not on '
                'the server that took over',
            )
        return StoreUnavailable(
            f'Redis at {self._connection.address()} removes idempotency records as soon as they are written. Nothing '
            'was written. Raise its maxmemory, or set its maxmemory-policy to noeviction.',
            retry=True,
        )

    def _unclear(self, loss: Exception, why: str) -> WriteUnclear:
        return WriteUnclear(
            f'Redis at {self._connection.address()}: the reply to a write was lost ({loss}), and {why}. {_UNCLEAR}'
        )

    def _exchange_within(self, timeout: float | None) -> Exchange:
        connection = self._connection.cluster_client() if self._clustered else self._pinned
        return functools.partial(connection.exchange, timeout=timeout)

    def _given_up(self) -> WriteUnclear:
        return WriteUnclear(
            f'Redis at {self._connection.address()}: the store was closed, or its event loop ended, during a write. '
            f'{_UNCLEAR}'
        )
