"""The idempotency records of a writer, one in each slot that it writes to.

A record is laid down before the first batch, and the script applies a batch only where it finds the record of a batch
that came before. So no batch is applied twice, whatever becomes of a record: one that was evicted, removed or lost in
a fail-over is never written again. Its successor has another name, and copies that are still under way find nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.redis.errors import lost
from learning_observer_kvs.stores.redis.names import Names
from learning_observer_kvs.stores.redis.scripts import NEW_RECORD, RECORD_MS, Exchange

_DONE = (b'OK', True)
"""The reply to a ``SET``, as it is on the wire and as redis-py decodes it where it follows a redirection."""


@dataclass(slots=True)
class Record:
    """An idempotency record that has been laid down.

    Attributes:
        redis_key: its Redis key.
        sequence: that of the last batch that was sent.
        answered: that of the last batch that was answered. Those between the two were given up: whether the server has
            applied them is not known.
    """

    redis_key: str
    sequence: int = 0
    answered: int = 0


class Records(dict[int, Record]):
    """The records of a writer by slot; the slot of one that is lost is taken out."""

    async def lay_down(self, exchange: Exchange, names: Names, redis_keys: Mapping[int, str]) -> dict[int, Exception]:
        """Lay down new records, which are kept here where that succeeds.

        Args:
            exchange: sends commands and returns their replies in order, errors in their places.
            names: the Redis keys of the store.
            redis_keys: for each slot a Redis key in it.

        Returns:
            By slot the errors of those that could not be laid down. No batch refers to them.
        """
        new = {
            slot: names.record_key(uuid.uuid4().hex, redis_key)  # a late copy of this command must not reset another
            for slot, redis_key in redis_keys.items()
        }
        try:
            replies = await exchange([('SET', record_key, NEW_RECORD, 'PX', RECORD_MS) for record_key in new.values()])
        except KVSError as error:  # nothing was sent
            replies = [error] * len(new)
        failed: dict[int, Exception] = {}
        for (slot, record_key), reply in zip(new.items(), replies, strict=True):
            if reply in _DONE:
                self[slot] = Record(record_key)
            else:
                failed[slot] = reply if isinstance(reply, Exception) else lost('what came is not what Redis answers')
        return failed
