"""The road to a Redis Cluster: the writes of each slot are a batch of their own, the batches of a tick travel together.

A script may touch one slot only. So a writer keeps a record in each slot it writes, and numbers its batches there: a
batch that is sent again, to another node too if the slot has moved with its keys and the record, is applied once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from learning_observer_kvs.errors import CrossSlot, KVSError, WriteUnclear
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.connection import RedisConnection, as_text
from learning_observer_kvs.stores.redis.errors import ReplyLost, is_loss
from learning_observer_kvs.stores.redis.names import escaped, slot_of, tag_of
from learning_observer_kvs.stores.redis.reader import READ_KEYS, Reading
from learning_observer_kvs.stores.redis.scripts import COMMIT, READ, run
from learning_observer_kvs.stores.redis.writer import Writing, is_passing
from learning_observer_kvs.stores.write_queue import OnBatchDone, Request, WriteBatch

LOOKING = 1.0
"""Seconds to look for keys that are called otherwise; in a large cluster perhaps not all are looked at."""


async def unmapped(connection: RedisConnection, prefix: str, limit: float = LOOKING) -> str | None:
    """A reducer's key that lies in a cluster under the name it has on a single server; nobody would read it."""
    pattern, cursor = escaped(prefix) + '[IE][nx]ternal,*', None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            while True:
                names, cursor = await connection.scan(cursor, 1000, pattern)
                for name in names:
                    if (text := as_text(name)) is not None:
                        return text
                if cursor is None:
                    break
    return None


class ClusterWriting(Writing):
    """Where a store's writes leave one event loop for a cluster; arguments as for one server."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._of_slots: dict[int, tuple[str, int]] = {}

    async def _write(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        batches = self._by_slot(batch)
        calls = {slot: self._arguments(batch, *self._next(slot, batch)) for slot, batch in batches.items()}
        try:
            outcomes = await self._all_answered(calls)
        except Exception as error:
            outcomes = dict.fromkeys(calls, error)
        except BaseException:
            for batch in batches.values():
                self._settle(batch, self._given_up())
            on_batch_done(batch)
            raise
        for slot, batch in batches.items():
            self._settle(batch, outcomes[slot])
        on_batch_done(batch)

    def _by_slot(self, batch: WriteBatch) -> dict[int, list[Request]]:
        batches: dict[int, list[Request]] = {}
        for request in batch:
            keys = list(dict.fromkeys((*request.writes, *request.expected, *request.refresh)))
            slots = {slot_of(self._physical(key)) for key in keys}
            if not slots:
                request.result = True  # nothing is asked, so nothing is in its way
            elif len(slots) == 1:
                batches.setdefault(slots.pop(), []).append(request)
            else:
                listed = ', '.join(map(display_key, keys[:3])) + (', …' if len(keys) > 3 else '')
                request.error = CrossSlot(
                    f'{listed} are in {len(slots)} slots of the cluster at {self._connection.address()}, and cannot be '
                    'written at once; nothing was written. Write them one by one.'
                )
        return batches

    def _next(self, slot: int, batch: Sequence[Request]) -> tuple[str, int]:
        """The record of this writer in a slot, and the number of its next batch there."""
        request = batch[0]
        key = next(iter(request.writes or request.expected))
        record, number = self._of_slots.get(slot, (f'{self._record}:{{{tag_of(self._physical(key))}}}', 0))
        self._of_slots[slot] = record, number + 1
        return record, number + 1

    async def _all_answered(self, calls: dict[int, list[Any]]) -> dict[int, bytes | Exception]:
        """The same batches, again those without an answer: each is known by its number."""
        outcomes: dict[int, bytes | Exception] = {}
        lost: dict[int, Exception] = {}
        started, pause = self._now(), 0.0
        while waiting := {slot: call for slot, call in calls.items() if slot not in outcomes}:
            try:
                replies = await run(self._connection.nodes().each, COMMIT, list(waiting.values()))
            except KVSError as error:
                if not lost:
                    raise  # never sent
                replies = [error] * len(waiting)
            over = self._patience is not None and self._now() - started > self._patience
            for slot, reply in zip(waiting, replies, strict=True):
                if not isinstance(reply, Exception):
                    outcomes[slot] = reply
                    continue
                if is_loss(reply):
                    lost[slot] = reply
                if slot in lost and over:
                    outcomes[slot] = WriteUnclear(
                        f'Redis at {self._connection.address()}: the reply to a write was lost ({lost[slot]}), and no '
                        'answer came since. It was carried out or not; read the key again.'
                    )
                elif over or not (slot in lost or is_passing(reply)):
                    outcomes[slot] = self._connection.unavailable(reply)
            if len(outcomes) < len(calls):
                await asyncio.sleep(pause)
                pause = min(pause * 2 + 0.02, 1.0)
        return outcomes


class ClusterReading(Reading):
    """Where a store's reads leave one event loop for a cluster."""

    async def _texts(self, names: list[str]) -> list[Any]:
        by_slot: dict[int, list[str]] = {}
        for name in dict.fromkeys(names):
            by_slot.setdefault(slot_of(name), []).append(name)
        groups = [some[i : i + READ_KEYS] for some in by_slot.values() for i in range(0, len(some), READ_KEYS)]
        calls = [[len(group), *group] for group in groups]
        try:
            replies = await run(self._connection.exchange, READ, calls)
        except ReplyLost:
            replies = await run(self._connection.exchange, READ, calls)  # reading twice does no harm
        found: dict[str, Any] = {}
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, Exception):
                raise self._connection.unavailable(reply)
            found.update(zip(group, reply, strict=True))
        return [found[name] for name in names]
