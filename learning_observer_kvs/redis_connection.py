"""The Redis connection of the program, under the names of the runtime.

It is the one that ``redis_connection`` in the settings describes; what a connection does is in
:mod:`learning_observer_kvs.stores.redis.connection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from learning_observer_kvs.arguments import several
from learning_observer_kvs.errors import InvalidKey, InvalidValue, WriteUnclear
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import shared
from learning_observer_kvs.stores.redis.errors import ReplyLost, wrong_type
from learning_observer_kvs.stores.redis.names import decode

__all__ = ['connect', 'connection', 'delete', 'get', 'keys', 'mget', 'set', 'shared']


async def connect() -> None:
    """Make sure that the server answers.

    Raises:
        StoreUnavailable, Overloaded: no answer, or the server refuses; with its address, the reason and a hint.
    """
    await shared.scan(None, 1)


async def connection() -> Any:
    """Return redis-py's client of the running event loop, once the server has answered.

    Raises:
        StoreUnavailable, Overloaded: no answer, or the server refuses.
    """
    await connect()
    return shared.client()


async def get(key: str) -> bytes | None:
    """Return the bytes of a key.

    Args:
        key: the Redis key.

    Returns:
        The bytes; ``None`` if there is no such key.

    Raises:
        InvalidKey: the key is not valid Unicode.
        CorruptValue: the key does not hold a string.
        StoreUnavailable, Overloaded: no answer, or the server refuses.
    """
    [reply] = await shared.ask(['GET', _checked(key)])
    if isinstance(reply, Exception):
        raise wrong_type(repr(key))
    found: bytes | None = reply
    return found


async def mget(keys: Sequence[str]) -> list[bytes | None]:
    """Return the bytes of several keys.

    Args:
        keys: the Redis keys.

    Returns:
        The bytes of each, in order; ``None`` if there is no such key or it does not hold a string.

    Raises:
        InvalidKey: a key is not valid Unicode.
        ValueError: the keys are a text.
        StoreUnavailable, Overloaded: no answer, or the server refuses.
    """
    commands = [['GET', _checked(key)] for key in several(keys, 'keys')]
    replies = await shared.ask(*commands) if commands else []
    return [None if isinstance(reply, Exception) else reply for reply in replies]


async def set(key: str, value: str | bytes, expiry: float | None = None) -> bool:
    """Set a key.

    Args:
        key: the Redis key.
        value: what it is to hold; text as UTF-8.
        expiry: its TTL in seconds; ``None`` for none.

    Returns:
        True.

    Raises:
        InvalidKey, InvalidValue: key or value is not valid Unicode; nothing was written.
        WriteUnclear: the reply was lost.
        StoreUnavailable, Overloaded: nothing was written: no connection, or the server refuses.
    """
    command: list[str | bytes | int] = ['SET', _checked(key), value]
    if isinstance(value, str) and (error := _encoding_error(value)):
        raise InvalidValue(f'The value for {display_key(key)} is not valid Unicode at character {error.start}.')
    if expiry is not None:
        command += ['PX', round(expiry * 1000)]
    return bool(await _write(command))


async def delete(key: str) -> int:
    """Remove a key.

    Args:
        key: the Redis key.

    Returns:
        How many keys were removed: 0 or 1.

    Raises:
        InvalidKey: the key is not valid Unicode.
        WriteUnclear: the reply was lost.
        StoreUnavailable, Overloaded: nothing was written: no connection, or the server refuses.
    """
    return int(await _write(['UNLINK', _checked(key)]))


async def keys() -> list[str]:
    """Return all keys that are UTF-8, by ``SCAN``, which does not block the server.

    Raises:
        StoreUnavailable, Overloaded: no answer, or the server refuses.
    """
    found: dict[str, None] = {}
    async for page in shared.pages(1000):
        found.update(dict.fromkeys(text for key in page if (text := decode(key)) is not None))
    return list(found)


def _checked(key: str) -> str:
    if error := _encoding_error(key):
        raise InvalidKey(f'{display_key(key)} is not valid Unicode at character {error.start}.')
    return key


def _encoding_error(text: str) -> UnicodeEncodeError | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error
    return None


async def _write(command: Command) -> Any:
    try:
        [reply] = await shared.exchange([command])
    except ReplyLost as lost:
        raise WriteUnclear(
            f'Redis at {shared.address()}: the reply to {command[0]!r} was lost ({lost}). '
            'The write may or may not have been applied; read the key to find out.'
        ) from None
    if isinstance(reply, Exception):
        raise shared.unavailable(reply)
    return reply
