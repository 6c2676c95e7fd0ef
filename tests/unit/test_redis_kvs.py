"""The Redis stores over a connection whose answers a test writes down: what they are made of, ask for and write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from redis import exceptions

from learning_observer_kvs.errors import CorruptValue, ForeignKeys, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis import health
from learning_observer_kvs.stores.redis import store as module
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.names import ClusterNames, Names
from learning_observer_kvs.stores.redis.scripts import HIDDEN
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS, RedisKVS
from learning_observer_kvs.stores.types import Description

WRONG_TYPE = exceptions.ResponseError('WRONGTYPE Operation against a key holding the wrong kind of value')
NO_RIGHTS = exceptions.NoPermissionError('NOPERM this user has no permissions')


class Scripted(RedisConnection):
    """Answers as a test says.

    Attributes:
        replies: to the commands, or an error to raise.
        commands: what was sent.
        asked: what pages were asked for.
        page: the next one.
        infos: what INFO says, by address.
    """

    def __init__(self, replies: Any = (), **settings: Any) -> None:
        super().__init__({'redis_host': 'h', 'redis_port': 1} | settings)
        self.replies = replies
        self.commands: list[Any] = []
        self.asked: list[Any] = []
        self.page: tuple[list[bytes], str | None] = ([], None)
        self.infos: dict[str, dict[str, str]] = {}

    async def exchange(self, commands: Any, timeout: float | None = None) -> list[Any]:
        self.commands += commands
        if isinstance(self.replies, Exception):
            raise self.replies
        return list(self.replies)

    async def ask(self, *commands: Any) -> list[Any]:
        return await self.exchange(commands)

    async def scan(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        return self.page

    async def info(self) -> dict[str, dict[str, str]]:
        return self.infos


def store_over(connection: Scripted, prefix: str = 'p:', **options: Any) -> PersistentRedisKVS:
    return PersistentRedisKVS(prefix=prefix, connection=connection, **options)


# What they are made of


class Parts:
    """What a store has made, and with what, instead of making it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.closed: list[Any] = []
        for name in ('RedisWriter', 'RedisReader', 'NodeReaders', 'NodeQueues'):
            monkeypatch.setattr(module, name, self._part(name))

    def _part(self, name: str) -> type:
        parts = self

        class Part:
            def __init__(self, *arguments: Any, **options: Any) -> None:
                parts.made[name] = arguments, options

            async def read(self, redis_keys: list[str]) -> list[Any]:
                return [redis_key.encode() for redis_key in redis_keys]

            def write_batch(self, batch: Any, on_batch_done: Any) -> None:
                on_batch_done(batch)

            async def close(self, *arguments: Any) -> None:
                parts.closed.append((name, *arguments))

        return Part


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


@pytest.mark.parametrize(('expiry', 'expiry_ms'), [(None, 0), (0.0001, 1), (1.5, 1500), (0.0026, 3)])
async def test_the_writer_has_the_connection_the_names_and_the_ttl_in_milliseconds(
    expiry: float | None, expiry_ms: int, parts: Parts
) -> None:
    connection = Scripted()
    store = (
        store_over(connection)
        if expiry is None
        else EphemeralRedisKVS(expiry, prefix='p:', connection=connection, name='s')
    )
    store._write_batch([], lambda batch: None)
    (of, names, wrong_type), options = parts.made['RedisWriter']
    assert (of, names) == (connection, store.names)
    assert options == {'expiry_ms': expiry_ms, 'timeout': None}
    assert store.has_ttl is (expiry is not None)
    error = wrong_type('k')
    assert isinstance(error, CorruptValue)
    assert f"'k' in store {store.name!r} (Redis at h:1, prefix 'p:')" in str(error)
    assert 'Nothing was written.' in str(error)


@pytest.mark.parametrize(('retry_timeout', 'first'), [(0, None), (0.25, 1.0), (3, 3.0), (5, None), (60, None)])
async def test_the_first_try_lasts_no_longer_than_the_call_may(
    retry_timeout: float, first: float | None, parts: Parts
) -> None:
    store = store_over(Scripted(redis_timeout=5), retry_timeout=retry_timeout)
    store._write_batch([], lambda batch: None)
    await store.read_bytes([])
    assert parts.made['RedisWriter'][1]['timeout'] == first
    assert parts.made['RedisReader'][0] == (store.connection, first)


async def test_in_a_cluster_each_node_is_written_to_and_read_apart(parts: Parts) -> None:
    store = store_over(Scripted(redis_cluster=True))
    await store.read_bytes([])
    assert parts.made['NodeReaders'][0] == (store.connection, None)
    store._make_request_queue()
    make_queue, connection, names, location = parts.made['NodeQueues'][0]
    assert make_queue == store._make_write_queue
    assert (connection(), names(), location()) == (store.connection, store.names, store.location())
    assert 'RedisReader' not in parts.made
    single = store_over(Scripted())
    parts.made.clear()
    assert single._make_request_queue() is not None
    assert parts.made == {}


def test_keys_are_called_as_a_server_or_a_cluster_needs_it() -> None:
    assert type(store_over(Scripted()).names) is Names
    names = store_over(Scripted(redis_cluster=True)).names
    assert (type(names), names.prefix) == (ClusterNames, 'p:')


def test_the_location_is_the_address_and_the_prefix() -> None:
    assert store_over(Scripted()).location() == "Redis at h:1, prefix 'p:'"
    assert store_over(Scripted(), '').location() == 'Redis at h:1'


def test_a_key_has_a_ttl_of_thirty_seconds_where_nothing_else_is_said() -> None:
    assert EphemeralRedisKVS(connection=Scripted()).expiry == 30
    assert PersistentRedisKVS().prefix == EphemeralRedisKVS().prefix == ''


async def test_batches_are_large_as_long_as_nothing_reads() -> None:
    assert store_over(Scripted())._max_requests() == RedisKVS.MAX_REQUESTS


def test_changes_come_from_what_follows_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'TrackedChanges', lambda *arguments: arguments)
    connection = Scripted()
    monkeypatch.setattr(connection, 'tracker', lambda: 'tracker')
    store, feed = store_over(connection), object()
    assert store._open_source(feed) == (feed, 'tracker', store.names, store._retried)  # type: ignore[arg-type, comparison-overlap]


# What they read


async def test_bytes_are_read_in_order_and_an_error_in_their_place_is_raised(parts: Parts) -> None:
    store = store_over(Scripted())
    assert await store.read_bytes(['a', 'b']) == [b'p:a', b'p:b']


@pytest.mark.parametrize(
    ('error', 'kind', 'words'),
    [
        (WRONG_TYPE, CorruptValue, "'b' in store 'redis' (Redis at h:1, prefix 'p:'): the Redis key holds a list"),
        (NO_RIGHTS, StoreUnavailable, 'Redis at h:1 cannot be used: NOPERM'),
    ],
)
async def test_a_key_that_cannot_be_read_is_named(
    error: Exception, kind: Any, words: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_over(Scripted())
    reader: Any = store._readers.here()

    async def read(redis_keys: list[str]) -> list[Any]:
        return [b'1', error]

    monkeypatch.setattr(reader, 'read', read)
    with pytest.raises(kind) as raised:
        await store.read_bytes(['a', 'b'])
    assert words in str(raised.value)
    assert 'Nothing was written' not in str(raised.value)


async def test_a_store_is_loading_while_one_of_its_servers_is() -> None:
    connection = Scripted()
    store = store_over(connection)
    for infos, is_loading in (
        ({}, False),
        ({'a:1': {}, 'b:2': {'loading': '0'}}, False),
        ({'a:1': {'loading': '0'}, 'b:2': {'loading': '1'}}, True),
    ):
        connection.infos = infos
        assert await store.is_loading() is is_loading


async def test_a_page_has_the_keys_of_the_store_with_the_prefix_and_no_others() -> None:
    connection = Scripted()
    store = store_over(connection)
    hidden = store.names.hidden_key('writer:w', 'p:ab').encode()
    connection.page = [b'p:ab', b'p:a', b'q:ab', b'p:b', b'\xff', hidden], '7'
    assert await store._scan('a', '5', 10) == (['ab', 'a'], '7')
    assert connection.asked == [('5', 10, 'p:a*')]


async def test_keys_are_described_by_their_size_and_by_the_seconds_that_they_have_left() -> None:
    connection = Scripted([5, 2500, 0, -2, 7, -1, WRONG_TYPE, -1, 3, 0])
    store = store_over(connection)
    one, missing, lasting, foreign, ending = await store._describe(list('abcde'))
    assert (one, missing, lasting, ending) == (Description(5, 2.5), None, Description(7, None), Description(3, 0.0))
    assert isinstance(foreign, CorruptValue)
    assert "'d' in store" in str(foreign)
    assert connection.commands == [[name, f'p:{key}'] for key in 'abcde' for name in ('STRLEN', 'PTTL')]


@pytest.mark.parametrize('replies', [[b'5', 1], [5, b'1'], [None, 1]])
async def test_a_size_that_is_not_a_number_is_an_error(replies: list[Any]) -> None:
    with pytest.raises(StoreUnavailable, match='what came in reply is not what Redis answers'):
        await store_over(Scripted(replies))._describe(['a'])


# Hidden records


async def test_a_hidden_record_is_a_text_or_nothing() -> None:
    connection = Scripted([b'text'])
    store = store_over(connection)
    assert await store._read_hidden('record') == b'text'
    assert connection.commands == [['GET', store.names.hidden_key('record', 'p:record')]]
    connection.replies = [None]
    assert await store._read_hidden('record') is None
    connection.replies = [WRONG_TYPE]
    with pytest.raises(CorruptValue, match='The Redis key'):
        await store._read_hidden('record')


async def test_in_a_cluster_a_hidden_record_is_in_the_slot_of_its_name() -> None:
    store = store_over(Scripted([None], redis_cluster=True))
    await store._read_hidden('record')
    names = ClusterNames('p:')
    assert store._hidden_key('record') == names.hidden_key('record', names.redis_key('record'))


@pytest.mark.parametrize(('text', 'expected', 'sent'), [(b'new', b'old', (b'old', b'new')), (None, None, (b'', b''))])
async def test_a_hidden_record_is_written_if_it_is_as_expected(
    text: bytes | None, expected: bytes | None, sent: tuple[bytes, bytes]
) -> None:
    connection = Scripted([1])
    store = store_over(connection)
    assert await store._commit_hidden('record', text, expected) is True
    assert connection.commands == [('EVALSHA', HIDDEN.digest, 1, store._hidden_key('record'), *sent)]
    connection.replies = [0]
    assert await store._commit_hidden('record', text, expected) is False
    connection.replies = [NO_RIGHTS]
    with pytest.raises(StoreUnavailable, match='Redis at h:1 cannot be used: NOPERM'):
        await store._commit_hidden('record', text, expected)
    connection.replies = ReplyLost('Connection reset')
    with pytest.raises(WriteUnclear, match=r"^Redis at h:1, prefix 'p:': .*lost \(Connection reset\)") as raised:
        await store._commit_hidden('record', text, expected)
    assert raised.value.__suppress_context__


# What they write


@pytest.mark.parametrize('clustered', [False, True])
async def test_entries_of_a_file_are_written_at_once_in_a_cluster_each_alone(
    clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_over(Scripted(redis_cluster=clustered))
    written: list[Any] = []

    async def set_one(key: str, value: Any) -> None:
        written.append((key, value))

    async def set_all(values: Mapping[str, Any]) -> None:
        written.append(dict(values))

    monkeypatch.setattr(store, 'set', set_one)
    monkeypatch.setattr(store, 'multiset', set_all)
    await store._load_entries({'a': 1, 'b': 2})
    assert written == ([('a', 1), ('b', 2)] if clustered else [{'a': 1, 'b': 2}])


@pytest.mark.parametrize(('clustered', 'sizes'), [(False, [2, 2, 1]), (True, [1] * 5)])
async def test_a_store_is_cleared_in_parts_that_one_write_may_remove(
    clustered: bool, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Names, 'max_keys_per_write', 2)
    connection = Scripted(redis_cluster=clustered)
    store = store_over(connection, retry_timeout=0)
    connection.page = [store.names.redis_key(key).encode() for key in 'abcde'], None
    removed: list[dict[str, Any]] = []

    async def outcome(writes: Any, expected: Any, deadline: float) -> bool:
        assert (expected, deadline) == ({}, ONE_TRY)
        removed.append(dict(writes))
        return True

    monkeypatch.setattr(store, '_outcome', outcome)
    await store._clear()
    assert [len(part) for part in removed] == sizes
    assert {key: text for part in removed for key, text in part.items()} == dict.fromkeys('abcde')


async def test_a_store_among_keys_of_others_is_not_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    found: list[str | None] = ["'k', a key of another program", None, None]

    async def find_foreign_key(*arguments: Any) -> str | None:
        asked.append(arguments)
        return found.pop(0)

    monkeypatch.setattr(module, 'find_foreign_key', find_foreign_key)
    store = store_over(Scripted())
    other = store_over(Scripted(), 'q:')
    store.siblings = lambda: [store, other]
    with pytest.raises(ForeignKeys) as raised:
        await store._check_clear()
    assert str(raised.value).startswith(
        "Store 'redis' (Redis at h:1, prefix 'p:') was not cleared, because its database holds 'k', a key of another"
    )
    assert asked == [(store.connection, store.names, {'q:'})]
    await store._check_clear()
    await store_over(Scripted(redis_cluster=True))._check_clear()
    assert len(asked) == 2


async def test_other_stores_are_those_of_the_same_database() -> None:
    store = store_over(Scripted())
    others: list[Any] = [
        store_over(Scripted(), 'same:'),
        EphemeralRedisKVS(5, prefix='ttl:', connection=Scripted()),
        store_over(Scripted(redis_db=3), 'other database:'),
        store_over(Scripted(redis_port=2), 'other server:'),
        InMemoryKVS(),
    ]
    store.siblings = lambda: [store, *others]
    assert store._other_prefixes() == {'same:', 'ttl:'}


@pytest.mark.parametrize('permanent', [True, False])
async def test_the_health_check_is_of_this_store(permanent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    async def health_check(*arguments: Any, **options: Any) -> list[Any]:
        given.append((arguments, options))
        return []

    monkeypatch.setattr(health, 'health_check', health_check)
    connection = Scripted()
    store: RedisKVS = store_over(connection) if permanent else EphemeralRedisKVS(5, connection=connection)
    store.siblings = lambda: [store, store_over(Scripted(), 'q:')]
    assert await store.health_check() == []
    assert given == [((connection, store.names, {'q:'}), {'permanent': permanent})]


# The end


async def test_closing_closes_the_writer_and_then_the_reader_in_the_time_that_is_left(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Scripted()
    store = store_over(connection)
    names, now = store.names, asyncio.get_running_loop().time()
    store._write_batch([], lambda batch: None)
    await store.read_bytes([])
    monkeypatch.setattr(asyncio.get_running_loop(), 'time', lambda: now)
    drained: list[float] = []

    async def drain(timeout: float) -> None:
        nonlocal now
        now += 3
        drained.append(timeout)

    monkeypatch.setattr(store, '_drain', drain)
    await store._close_within(10)
    assert drained == [10]
    assert parts.closed == [('RedisWriter',), ('RedisReader', pytest.approx(7))]
    connection.configure({'redis_host': 'h', 'redis_cluster': True})
    assert type(store.names) is not type(names)
    parts.closed.clear()
    await store._close_within(2)
    assert parts.closed == []
    await store.read_bytes([])
    await store._close_within(2)
    assert parts.closed == [('NodeReaders', 0)]
