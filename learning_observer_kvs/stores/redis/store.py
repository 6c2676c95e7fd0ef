"""``type: redis`` and ``type: redis_ephemeral``: in a Redis server, for ever or for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, Unpack

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.base import Common, Description, Store
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis import health
from learning_observer_kvs.stores.redis.cluster import ClusterReading, ClusterWriting, unmapped
from learning_observer_kvs.stores.redis.connection import RedisConnection, shared
from learning_observer_kvs.stores.redis.errors import wrong_type
from learning_observer_kvs.stores.redis.names import HIDDEN, ClusterNames, Names
from learning_observer_kvs.stores.redis.options import OPTIONS
from learning_observer_kvs.stores.redis.reader import Reading
from learning_observer_kvs.stores.redis.writer import PATIENCE, Writing
from learning_observer_kvs.stores.write_queue import OnBatchDone, QueuedStore, WriteBatch


class RedisKVS(QueuedStore):
    """What both Redis stores share.

    Args:
        expiry: seconds that a key lives after its last write; ``None`` for ever.
        prefix: put before every key in Redis; the store sees only keys that have it.
        connection: the way to the server; the program's shared one, if not given.
    """

    MAX_REQUESTS = 128  # other clients of the server wait that long
    MAX_BYTES = 1 << 20

    def __init__(
        self,
        expiry: float | None,
        prefix: str,
        connection: RedisConnection | None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(**common)
        self.expiry = expiry
        self.has_ttl = expiry is not None
        self.prefix = prefix
        self._connection = connection
        self._writings = PerLoop(self._make_writing)
        self._readings = PerLoop(self._make_reading)
        self._names: Names | None = None
        self._start_write_queues()

    def _make_writing(self) -> Writing:
        expiry_ms = 0 if self.expiry is None else max(1, round(self.expiry * 1000))
        # What is put off has nobody to be told that it is unclear.
        patience = PATIENCE if self.flush_interval is None else None
        kind = ClusterWriting if self.connection.clustered else Writing
        return kind(
            self.connection, self.names.name, lambda key: wrong_type(self._at(key)), expiry_ms, patience=patience
        )

    def _make_reading(self) -> Reading:
        return (ClusterReading if self.connection.clustered else Reading)(self.connection)

    @property
    def names(self) -> Names:
        """How its keys are called; decided when it is first used, for its connection may be configured after it."""
        if self._names is None:
            self._names = (ClusterNames if self.connection.clustered else Names)(self.prefix)
        return self._names

    @property
    def connection(self) -> RedisConnection:
        """The way to the server."""
        return self._connection or shared

    def location(self) -> str:
        return f'Redis at {self.connection.address()}' + (f', prefix {self.prefix!r}' if self.prefix else '')

    async def health_check(self) -> list[Problem]:
        found = await health.health_check(self.connection, HIDDEN, permanent=self.expiry is None)
        if self.connection.clustered and (name := await unmapped(self.connection, self.prefix)) is not None:
            message = f'is in the cluster at {self.connection.address()}, where {display_key(name)} was written without a cluster'
            found.append(
                Problem('KVS.E021', '', 'type', message, 'Copy such keys in with lo-kvs copy, and remove them there.')
            )
        return found

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        names = [self.names.name(key) for key in keys]
        for key, text in zip(keys, await self._readings.here().read(names), strict=True):
            if isinstance(text, Exception):
                raise wrong_type(self._at(key))
            found.append(text)
        return found

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._writings.here().write_batch(batch, on_batch_done)

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        found, following = await self.connection.scan(cursor, limit, self.names.pattern(prefix))
        keys = [key for name in found if (key := self.names.key(name)) is not None and key.startswith(prefix)]
        return keys, following

    async def _take_in(self, entries: Mapping[str, JSON]) -> None:
        if self.connection.clustered:
            await asyncio.gather(*(self.set(key, value) for key, value in entries.items()))
        else:
            await super()._take_in(entries)

    async def _describe(self, key: str) -> Description | None:
        name = self.names.name(key)
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
            step = self.names.together
            portions = [keys[start : start + step] for start in range(0, len(keys), step)]
            await asyncio.gather(*(self._outcome(dict.fromkeys(portion), {}) for portion in portions))
            if cursor is None:
                return

    async def _close(self) -> None:
        await self._drain()
        writing, reading = self._writings.pop(), self._readings.pop()  # at once: what comes now gets others
        if writing is not None:
            await writing.close()
        if reading is not None:
            await reading.drain()


_PREFIX = Option('prefix', 'text', default='', doc='put before every key, so that stores share no keys.')


class PersistentRedisKVS(RedisKVS):
    """In Redis, without an expiry; what survives a restart of Redis is a matter of its own settings."""

    TYPE: ClassVar[str] = 'redis'
    OPTIONS: ClassVar[tuple[Option, ...]] = (*Store.COMMON, _PREFIX, *OPTIONS)

    def __init__(
        self, *, prefix: str = '', connection: RedisConnection | None = None, **common: Unpack[Common]
    ) -> None:
        super().__init__(None, prefix, connection, **common)


class EphemeralRedisKVS(RedisKVS):
    """In Redis, each key for ``expiry`` seconds after its last write."""

    TYPE: ClassVar[str] = 'redis_ephemeral'
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *Store.COMMON,
        Option('expiry', 'seconds', required=True, doc='seconds that a key lives after its last write.'),
        _PREFIX,
        *OPTIONS,
    )

    def __init__(
        self,
        expiry: float = 30,
        *,
        prefix: str = '',
        connection: RedisConnection | None = None,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(expiry, prefix, connection, **common)
