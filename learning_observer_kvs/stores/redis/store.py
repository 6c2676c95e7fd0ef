"""``type: redis`` and ``type: redis_ephemeral``: in a Redis server or cluster, without or with a TTL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, Unpack

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.errors import ForeignKeys, WriteUnclear
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.change_feed import ChangeFeed, ChangeSource
from learning_observer_kvs.stores.deadline import deadline_after, longest_try
from learning_observer_kvs.stores.queued import QueuedStore
from learning_observer_kvs.stores.redis import health
from learning_observer_kvs.stores.redis.connection import RedisConnection, shared
from learning_observer_kvs.stores.redis.errors import ReplyLost, is_wrong_type, lost, wrong_type
from learning_observer_kvs.stores.redis.foreign import find_foreign_key
from learning_observer_kvs.stores.redis.names import ClusterNames, Names
from learning_observer_kvs.stores.redis.node_queues import NodeQueues
from learning_observer_kvs.stores.redis.node_readers import NodeReaders
from learning_observer_kvs.stores.redis.options import OPTIONS, location_of
from learning_observer_kvs.stores.redis.reader import RedisReader
from learning_observer_kvs.stores.redis.scripts import HIDDEN, run
from learning_observer_kvs.stores.redis.tracker import TrackedChanges
from learning_observer_kvs.stores.redis.writer import RedisWriter
from learning_observer_kvs.stores.types import CommonOptions, Described, Description
from learning_observer_kvs.stores.write_queue import OnBatchDone, RequestQueue
from learning_observer_kvs.stores.write_request import WriteBatch


class RedisKVS(QueuedStore):
    """What both Redis stores share.

    Args:
        expiry: the TTL of a key in seconds, from its last write; ``None`` for none.
        prefix: put before every key in Redis; the store sees only keys that have it.
        connection: the connection to the server; the program's shared one, if not given.
        common: see :class:`~learning_observer_kvs.stores.base.Store`.
    """

    MAX_REQUESTS = 128  # other clients of the server wait while the script works them off
    MAX_BYTES = 1 << 20

    MAX_REQUESTS_BESIDE_READS = 32
    """How many requests a batch has at most while a caller waits for a read, which comes after that batch."""

    def __init__(
        self,
        expiry: float | None,
        prefix: str,
        connection: RedisConnection | None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**common)
        self.expiry = expiry
        self.has_ttl = expiry is not None
        self.prefix = prefix
        self._connection = connection
        self._writers = PerLoop(self._make_writer)
        self._readers: PerLoop[RedisReader | NodeReaders] = PerLoop(self._make_reader)
        self._names: Names | None = None

    def _make_writer(self) -> RedisWriter:
        return RedisWriter(
            self.connection,
            self.names,
            lambda key: wrong_type(self._at(key), writing=True),
            expiry_ms=0 if self.expiry is None else max(1, round(self.expiry * 1000)),
            timeout=self._first_timeout(),
        )

    def _make_reader(self) -> RedisReader | NodeReaders:
        timeout = self._first_timeout()
        return (NodeReaders if self.connection.clustered else RedisReader)(self.connection, timeout)

    def _make_request_queue(self) -> RequestQueue:
        if not self.connection.clustered:
            return super()._make_request_queue()
        return NodeQueues(self._make_write_queue, lambda: self.connection, lambda: self.names, self.location)

    def _first_timeout(self) -> float | None:
        """Seconds for the first try of a call, where that is not to last as long as the connection's settings allow."""
        if self.retry_timeout and self.retry_timeout < self.connection.timeout:
            return longest_try(self.connection.timeout, self.retry_timeout)
        return None

    @property
    def names(self) -> Names:
        """How its keys are called in Redis; decided at the first use, for the connection may be configured later."""
        if self._names is None:
            self._names = (ClusterNames if self.connection.clustered else Names)(self.prefix)
        return self._names

    @property
    def connection(self) -> RedisConnection:
        """The connection to the server or cluster."""
        return self._connection or shared

    def location(self) -> str:
        """Return the address of the server and the prefix, for messages."""
        return f'Redis at {self.connection.address()}' + (
            f', prefix {display_value("prefix", self.prefix)}' if self.prefix else ''
        )

    async def health_check(self) -> list[Problem]:
        """Return what is wrong with the server or cluster.

        Raises:
            StoreUnavailable, Overloaded: it does not answer, or refuses a write.
        """
        return await health.health_check(
            self.connection, self.names, self._other_prefixes(), permanent=self.expiry is None
        )

    async def is_loading(self) -> bool:
        """Find out whether the server, or a node of the cluster, is still loading its data.

        Raises:
            StoreUnavailable, Overloaded: no answer.
        """
        servers = await self.connection.info()
        return any(fields.get('loading') == '1' for fields in servers.values())

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of keys, in order; ``None`` where a key is missing.

        Args:
            keys: the keys.

        Raises:
            CorruptValue: a Redis key does not hold a string.
            StoreUnavailable, Overloaded: no answer, or the server refuses.
        """
        found: list[bytes | None] = []
        redis_keys = [self.names.redis_key(key) for key in keys]
        for key, text in zip(keys, await self._readers.here().read(redis_keys), strict=True):
            if isinstance(text, Exception):
                raise wrong_type(self._at(key)) if is_wrong_type(text) else self.connection.unavailable(text)
            found.append(text)
        return found

    def _hidden_key(self, name: str) -> str:
        return self.names.hidden_key(name, self.names.redis_key(name))

    async def _read_hidden(self, name: str) -> bytes | None:
        """From a Redis key that does not expire."""
        [text] = await self.connection.ask(['GET', self._hidden_key(name)])
        if text is not None and not isinstance(text, bytes):
            raise wrong_type(f'The Redis key {self._hidden_key(name)!r}')
        return text

    async def _commit_hidden(self, name: str, text: bytes | None, expected: bytes | None) -> bool:
        key = self._hidden_key(name)
        try:
            [reply] = await run(self.connection.exchange, HIDDEN, [[1, key, expected or b'', text or b'']])
        except ReplyLost as error:
            raise WriteUnclear(
                f'{self.location()}: the reply to a write was lost ({error}); it may or may not have been applied.'
            ) from None
        if isinstance(reply, Exception):
            raise self.connection.unavailable(reply)
        return bool(reply == 1)

    def _max_requests(self) -> int:
        overlay = self.overlays.peek()
        is_read = overlay is not None and overlay.urgent_reads
        return self.MAX_REQUESTS_BESIDE_READS if is_read else self.MAX_REQUESTS

    def _call_soon(self) -> Callable[[Callable[[], None]], object]:
        return lambda call: self._writers.here().ask_soon(call)

    def _write_batch(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self._writers.here().write_batch(batch, on_batch_done)

    def _open_source(self, feed: ChangeFeed) -> ChangeSource:
        return TrackedChanges(feed, self.connection.tracker(), self.names, self._retried)

    def _note_written(self, keys: Collection[str]) -> None:
        """Do nothing: the server announces it."""

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        redis_keys, next_cursor = await self.connection.scan(cursor, limit, self.names.scan_pattern(prefix))
        keys = [key for found in redis_keys if (key := self.names.key(found)) is not None and key.startswith(prefix)]
        return keys, next_cursor

    async def _load_entries(self, entries: Mapping[str, JSON]) -> None:
        if self.connection.clustered:
            await asyncio.gather(*(self.set(key, value) for key, value in entries.items()))
        else:
            await super()._load_entries(entries)

    async def _describe(self, keys: Sequence[str]) -> list[Described]:
        commands = [[name, self.names.redis_key(key)] for key in keys for name in ('STRLEN', 'PTTL')]
        replies = await self.connection.ask(*commands)
        found: list[Described] = []
        for key, size, expires_ms in zip(keys, replies[::2], replies[1::2], strict=True):
            if isinstance(size, Exception):
                found.append(wrong_type(self._at(key)))
                continue
            if not isinstance(size, int) or not isinstance(expires_ms, int):
                raise self.connection.unavailable(lost('what came in reply is not what Redis answers'))
            left = None if expires_ms < 0 else expires_ms / 1000
            found.append(None if expires_ms == -2 else Description(size, left))
        return found

    def _other_prefixes(self) -> set[str]:
        """The prefixes of the other stores that the router has in this database."""
        here = location_of(self.connection.settings)
        others = [other for other in self.siblings() if isinstance(other, RedisKVS) and other is not self]
        return {other.prefix for other in others if location_of(other.connection.settings) == here}

    async def _check_clear(self) -> None:
        if self.connection.clustered:  # there a key tells by its digest which prefix it was written with
            return
        others = self._other_prefixes()
        found = await self._retried(lambda: find_foreign_key(self.connection, self.names, others))
        if found is not None:
            raise ForeignKeys(
                f'Store {self.name!r} ({self.location()}) was not cleared, because its database holds {found}. '
                'Give the store a prefix of its own, or call clear(force=True), which removes every key that it lists.'
            )

    async def _clear(self) -> None:
        async for keys in self._scan_pages(''):
            size = self.names.max_keys_per_write
            chunks = [keys[start : start + size] for start in range(0, len(keys), size)]
            deadline = deadline_after(self.retry_timeout)
            await asyncio.gather(*(self._outcome(dict.fromkeys(chunk), {}, deadline) for chunk in chunks))

    async def _close_within(self, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        await self._drain(timeout)
        self._names = None  # the connection may be configured anew meanwhile
        writer, reader = self._writers.pop(), self._readers.pop()  # in one step: what comes from now on gets new ones
        if writer is not None:
            await writer.close()
        if reader is not None:
            await reader.close(max(0, deadline - asyncio.get_running_loop().time()))


_PREFIX = Option('prefix', 'text', default='', doc='put before every key, so that stores share no keys.')


class PersistentRedisKVS(RedisKVS):
    """A store in Redis without a TTL; what survives a restart of Redis is a matter of its own settings.

    Args:
        prefix: put before every key in Redis; the store sees only keys that have it.
        connection: the connection to the server; the program's shared one, if not given.
        common: see :class:`~learning_observer_kvs.stores.base.Store`.
    """

    TYPE: ClassVar[str] = 'redis'
    OPTIONS: ClassVar[tuple[Option, ...]] = (*Store.COMMON, _PREFIX, *OPTIONS)

    def __init__(
        self, *, prefix: str = '', connection: RedisConnection | None = None, **common: Unpack[CommonOptions]
    ) -> None:
        super().__init__(None, prefix, connection, **common)


class EphemeralRedisKVS(RedisKVS):
    """A store in Redis whose keys have a TTL.

    Args:
        expiry: the TTL of a key in seconds, from its last write.
        prefix: put before every key in Redis; the store sees only keys that have it.
        connection: the connection to the server; the program's shared one, if not given.
        common: see :class:`~learning_observer_kvs.stores.base.Store`.
    """

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
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(expiry, prefix, connection, **common)
