"""``type: redis`` and ``type: redis_ephemeral``: in a Redis server, for ever or for a while."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

from learning_observer_kvs import redis_connection
from learning_observer_kvs.redis_connection import RedisConnection, as_text, wrong_type
from learning_observer_kvs.stores.base import Description, Store
from learning_observer_kvs.stores.options import Option
from learning_observer_kvs.stores.redis_batches import HIDDEN, Batches

_ESCAPED = HIDDEN + 'key:'
"""A key of a user's that begins like our records gets this before it."""

_GLOB = re.compile(r'[*?\[\]\\^-]')

_UNLINK_AT_ONCE = 500


class RedisKVS(Store):
    """What both Redis stores share.

    Args:
        expiry: seconds that a key lives after its last write; ``None`` for ever.
        prefix: put before every key in Redis; the store sees only keys that have it.
        connection: the way to the server; the program's shared one, if not given.
    """

    def __init__(
        self, expiry: float | None, prefix: str, connection: RedisConnection | None, *, name: str | None
    ) -> None:
        super().__init__(name=name)
        self.expiry = expiry
        self.prefix = prefix
        self._connection = connection
        self._roads: WeakKeyDictionary[asyncio.AbstractEventLoop, Batches] = WeakKeyDictionary()

    @property
    def connection(self) -> RedisConnection:
        """The way to the server."""
        return self._connection or redis_connection.shared

    def place(self) -> str:
        return f'Redis at {self.connection.address()}' + (f', prefix {self.prefix!r}' if self.prefix else '')

    def _road(self) -> Batches:
        loop = asyncio.get_running_loop()
        road = self._roads.get(loop)
        if road is None:
            expiry_ms = 0 if self.expiry is None else max(1, round(self.expiry * 1000))
            road = self._roads[loop] = Batches(self.connection, expiry_ms)
        return road

    def _physical(self, key: str) -> str:
        name = self.prefix + key
        return _ESCAPED + name if name.startswith(HIDDEN) else name

    def _logical(self, name: bytes) -> str | None:
        """The key of a name in Redis; ``None`` if it is none of this store's."""
        text = as_text(name)
        if text is not None and text.startswith(HIDDEN):
            text = text.removeprefix(_ESCAPED) if text.startswith(_ESCAPED) else None
        if text is None or not text.startswith(self.prefix) or len(text) == len(self.prefix):
            return None
        return text[len(self.prefix) :]

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for key, text in zip(keys, await self._road().read([self._physical(key) for key in keys]), strict=True):
            if isinstance(text, Exception):
                raise wrong_type(self._at(key))
            found.append(text)
        return found

    async def _commit(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        return await asyncio.shield(self._begin_commit(writes, expected))

    def _begin_commit(
        self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]
    ) -> asyncio.Future[bool]:
        letter = self._begin(writes, expected)
        outcome: asyncio.Future[bool] = letter.get_loop().create_future()

        def answer(letter: asyncio.Future[str]) -> None:
            if outcome.done():
                return
            if letter.cancelled():
                outcome.cancel()
            elif error := letter.exception():
                outcome.set_exception(error)
            elif letter.result() == 'T':
                outcome.set_exception(wrong_type(self._at(next(iter(expected)))))
            else:
                outcome.set_result(letter.result() != '0')

        letter.add_done_callback(answer)
        return outcome

    def _begin(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> asyncio.Future[str]:
        return self._road().commit(
            {self._physical(key): text for key, text in writes.items()},
            {self._physical(key): text for key, text in expected.items()},
        )

    async def _remove(self, key: str) -> bool:
        return await asyncio.shield(self._begin({key: None}, {})) == '1'

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        pattern = _GLOB.sub(r'\\\g<0>', self._physical(prefix)) + '*'
        command: list[str | bytes | int] = ['SCAN', cursor or '0', 'MATCH', pattern, 'COUNT', limit]
        [(following, names)] = await self.connection.ask(command)
        keys = [key for name in names if (key := self._logical(name)) is not None and key.startswith(prefix)]
        return keys, None if following == b'0' else following.decode()

    async def _describe(self, key: str) -> Description | None:
        name = self._physical(key)
        size, expires_ms = await self.connection.ask(['STRLEN', name], ['PTTL', name])
        if isinstance(size, Exception):
            raise wrong_type(self._at(key))
        if expires_ms == -2:
            return None
        return Description(size, None if expires_ms < 0 else expires_ms / 1000)

    async def _clear(self) -> None:
        cursor: str | None = None
        while True:
            keys, cursor = await self._scan('', cursor, 1000)
            for start in range(0, len(keys), _UNLINK_AT_ONCE):
                await asyncio.shield(self._begin(dict.fromkeys(keys[start : start + _UNLINK_AT_ONCE]), {}))
            if cursor is None:
                return

    async def _close(self) -> None:
        road = self._roads.pop(asyncio.get_running_loop(), None)
        if road is not None:
            await road.drain()


_PREFIX = Option('prefix', 'text', default='', doc='put before every key, so that stores share no keys.')


class PersistentRedisKVS(RedisKVS):
    """In Redis, without an expiry; what survives a restart of Redis is a matter of its own settings."""

    TYPE: ClassVar[str] = 'redis'
    OPTIONS: ClassVar[tuple[Option, ...]] = (_PREFIX,)

    def __init__(self, *, prefix: str = '', connection: RedisConnection | None = None, name: str | None = None) -> None:
        super().__init__(None, prefix, connection, name=name)


class EphemeralRedisKVS(RedisKVS):
    """In Redis, each key for ``expiry`` seconds after its last write."""

    TYPE: ClassVar[str] = 'redis_ephemeral'
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        Option('expiry', 'seconds', required=True, doc='seconds that a key lives after its last write.'),
        _PREFIX,
    )

    def __init__(
        self,
        expiry: float = 30,
        *,
        prefix: str = '',
        connection: RedisConnection | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(expiry, prefix, connection, name=name)
