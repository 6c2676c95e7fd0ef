"""The Redis connection of the program: the settings' one, and the calls that the runtime has.

What a connection does is said in :mod:`learning_observer_kvs.stores.redis.connection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from learning_observer_kvs.errors import WriteUnclear
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import as_text, shared
from learning_observer_kvs.stores.redis.errors import ReplyLost, wrong_type

__all__ = ['connect', 'connection', 'delete', 'get', 'keys', 'mget', 'set', 'shared']


async def connect() -> None:
    """Make sure that the server answers.

    Raises:
        StoreUnavailable: it does not, with its address, why, and what to do.
    """
    await shared.scan(None, 1)


async def connection() -> Any:
    """The client of the running event loop, once the server has answered."""
    await connect()
    return shared.client()


async def get(key: str) -> bytes | None:
    """The bytes of a key; ``None`` when missing."""
    [reply] = await shared.ask(['GET', key])
    if isinstance(reply, Exception):
        raise wrong_type(repr(key))
    found: bytes | None = reply
    return found


async def mget(keys: Sequence[str]) -> list[bytes | None]:
    """The bytes of several keys, in order."""
    replies = await shared.ask(*(['GET', key] for key in keys)) if keys else []
    return [None if isinstance(reply, Exception) else reply for reply in replies]


async def set(key: str, value: str | bytes, expiry: float | None = None) -> bool:
    """Set a key, to expire after so many seconds if given.

    Raises:
        WriteUnclear: the reply was lost.
    """
    command: list[str | bytes | int] = ['SET', key, value]
    if expiry is not None:
        command += ['PX', round(expiry * 1000)]
    return bool(await _change(command))


async def delete(key: str) -> int:
    """Remove a key; how many were there (0 or 1)."""
    return int(await _change(['UNLINK', key]))


async def keys() -> list[str]:
    """All keys that are text, by ``SCAN``: the server is never blocked."""
    found: dict[str, None] = {}
    cursor: str | None = None
    while True:
        page, cursor = await shared.scan(cursor, 1000)
        found.update(dict.fromkeys(text for key in page if (text := as_text(key)) is not None))
        if cursor is None:
            return list(found)


async def _change(command: Command) -> Any:
    try:
        [reply] = await shared.exchange([command])
    except ReplyLost as lost:
        raise WriteUnclear(
            f'Redis at {lost}: the reply to {command[0]!r} was lost; it was carried out or not.'
        ) from None
    if isinstance(reply, Exception):
        raise shared.unavailable(reply)
    return reply
