"""A trial of what a Redis store does, on hidden keys of its own: does the server allow it all?

A server may refuse commands, by an access control list or by ``rename-command``, and keys. What the store runs is tried
as it runs it, in its scripts; then each command alone, to learn which of them is refused.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import may_recover
from learning_observer_kvs.stores.redis.names import Names
from learning_observer_kvs.stores.redis.scripts import (
    ABSENT,
    ANYTHING,
    APPLIED,
    COMMIT,
    DELETE,
    EQUAL_TEXT,
    NEW_RECORD,
    READ,
    REFRESH_TTL,
    SET,
    Exchange,
    run,
)

TRIAL_MS = 10_000
"""The TTL of the keys of a trial, in milliseconds, should they not be removed."""

_KEY = object()

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    'EVALSHA': ('0' * 40, 1, _KEY),
    'EVAL': ('return 1', 1, _KEY),
    'GET': (_KEY,),
    'SET': (_KEY, '1', 'PX', TRIAL_MS),
    'PEXPIRE': (_KEY, TRIAL_MS),
    'UNLINK': (_KEY,),
    'SCAN': ('0', 'COUNT', 1),
    'STRLEN': (_KEY,),
    'PTTL': (_KEY,),
    'TYPE': (_KEY,),
}
"""Of each command that the stores use, arguments for a trial."""

_TRIED_KEYS = 200
"""Of how many random keys in a cluster one for each master is taken."""


class Trial:
    """What came of a trial.

    Attributes:
        refused: the commands that the server refuses to this user.
        unknown: the commands that the server does not have, because they were renamed.
        keys_refused: whether it refuses keys that begin with the prefix of the store.
        error: why what the store does fails; ``None`` if it works.
    """

    def __init__(self) -> None:
        self.refused: dict[str, None] = {}
        self.unknown: dict[str, None] = {}
        self.keys_refused = False
        self.error: Exception | None = None

    def add(self, replies: Mapping[str, Any]) -> None:
        """Add what came of single commands.

        Args:
            replies: their replies by command.
        """
        for command, reply in replies.items():
            text = str(reply) if isinstance(reply, Exception) else ''
            if 'unknown command' in text:
                self.unknown[command] = None
            elif 'no permissions to run' in text:
                self.refused[command] = None
            elif 'ermissions to access' in text:
                self.keys_refused = True


async def try_store(connection: RedisConnection, names: Names) -> Trial:
    """Try what a store does, in a cluster on each of its masters; nothing of it stays.

    Args:
        connection: the connection to the server or cluster.
        names: the Redis keys of the store.

    Raises:
        StoreUnavailable, Overloaded, ReplyLost: no answer.
    """
    trial = Trial()
    redis_keys = [names.redis_key(uuid.uuid4().hex) for _ in range(_TRIED_KEYS if connection.clustered else 1)]
    if connection.clustered:
        redis_keys = await connection.cluster_client().one_for_each_node(redis_keys)
    await asyncio.gather(*(_try_here(connection, names, redis_key, trial) for redis_key in redis_keys))
    return trial


async def _try_here(connection: RedisConnection, names: Names, redis_key: str, trial: Trial) -> None:
    """Try it in the slot of a Redis key."""
    identity = uuid.uuid4().hex
    record, a, b = (names.hidden_key(f'trial:{identity}:{part}', redis_key) for part in ('record', 'a', 'b'))
    [laid] = await connection.exchange([('SET', record, NEW_RECORD, 'PX', TRIAL_MS)])
    if isinstance(laid, Exception) and may_recover(laid):
        trial.error = laid  # it loads, or refuses every write for now: what it allows can be found out later
        return
    error = laid if isinstance(laid, Exception) else await _try_scripts(connection.exchange, record, a, b)
    trial.error = trial.error or error
    commands = [(name, *(a if part is _KEY else part for part in arguments)) for name, arguments in _ARGUMENTS.items()]
    trial.add(dict(zip(_ARGUMENTS, await connection.exchange(commands), strict=True)))
    await connection.exchange([('PEXPIRE', record, TRIAL_MS), ('UNLINK', record, a, b)])


async def _try_scripts(exchange: Exchange, record: str, a: str, b: str) -> Exception | None:
    """Write a pair on a condition and with a TTL, refresh the TTL of one half, read both, and remove them."""

    def call(sequence: int, actions: bytes, codes: bytes, *texts: str) -> list[Any]:
        return [3, record, a, b, sequence, sequence - 1, TRIAL_MS, actions, codes, *texts]

    first = call(1, b'', ABSENT + SET + ANYTHING + SET, '1', '1')
    second = call(2, REFRESH_TTL, EQUAL_TEXT + SET + ANYTHING + REFRESH_TTL, '1', '2')
    third = call(3, DELETE, EQUAL_TEXT + DELETE + ANYTHING + DELETE, '2')
    replies = await run(exchange, COMMIT, [first, second])
    replies += await run(exchange, READ, [[2, a, b]])
    replies += await run(exchange, COMMIT, [third])
    applied = bytes([APPLIED])
    for reply, expected in zip(replies, [applied, applied, [b'2', b'1'], applied], strict=True):
        if isinstance(reply, Exception):
            return reply
        if reply != expected:
            return redis_py.exceptions.ResponseError(
                f'a trial of the scripts of the store was answered by {reply!r}, not {expected!r}'
            )
    return None
