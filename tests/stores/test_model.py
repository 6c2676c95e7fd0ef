"""Every store behaves like a dictionary with a clock, whatever is called in whatever order.

hypothesis draws the calls; two stores of the same data take turns, as two processes would, and are closed and opened
again in between. A normal run draws a few sequences, ``--long`` hundreds; the seeds are told at its end.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import fakeredis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import slot_of
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.types import MISSING
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer

T = TypeVar('T')

INTERNAL, EXTERNAL = 'Internal,m.r,STUDENT:bob', 'External,m.r,STUDENT:bob'
NULL_STATE = {'fresh': True}
NEVER = 3600.0
EXPIRY, AGED = 600, 60
"""Seconds: what an ephemeral store gives a key, and what is left of it when the clock has been turned on."""

KEYS = [INTERNAL, EXTERNAL, 'a', 'a/b', '_a', 'A', 'é', 'e\u0301', '*', '.', 'x' * 300, 'a\x00b', '\x00lo-kvs:key:a']
PREFIXES = ['', 'a', 'Internal,', '*', 'é', '\x00', 'none']

keys = st.sampled_from(KEYS)
scalars = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)
changes = values | st.just(MISSING)
sides = st.sampled_from([0, 1])
words = st.sampled_from(['both', 'internal', 'external', 'neither', 'raise', 'wait'])


def same(first: Any, second: Any) -> bool:
    """Whether two values are one JSON text: ``1`` is not ``1.0``, and keys count in their order."""
    return first is second or (MISSING not in (first, second) and json.dumps(first) == json.dumps(second))


@dataclass
class Walk:
    """A walk over the keys that is under way.

    Args:
        prefix, limit: what it was begun with.
        stays: the keys that were there from its first page on.
        ever: the keys that were there at any time since.
    """

    prefix: str
    limit: int
    stays: set[str]
    ever: set[str]
    side: int
    cursor: str | None = None
    seen: set[str] = field(default_factory=set)


class Model(RuleBasedStateMachine):
    """The stores, and the dictionary that they are compared with."""

    open_one: ClassVar[Callable[[str, RedisConnection], Store]]
    needs_redis: ClassVar[RedisServer | RedisNodes | str | None] = None
    alone: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix='kvs-model-')
        self.loop = asyncio.new_event_loop()
        self.held: dict[str, Any] = {}
        self.aged: set[str] = set()
        self.walks: list[Walk] = []
        self.connection = RedisConnection()
        self.run(self._begin())

    async def _begin(self) -> None:
        if isinstance(self.needs_redis, RedisServer):
            self.connection.configure({'redis_host': '127.0.0.1', 'redis_port': self.needs_redis.port})
        elif isinstance(self.needs_redis, RedisNodes):
            port = self.needs_redis.nodes[0].port
            self.connection.configure({'redis_host': '127.0.0.1', 'redis_port': port, 'redis_cluster': True})
            self.needs_redis.flush()
        elif self.needs_redis:
            self.connection.use(fakeredis.FakeAsyncRedis())
        if self.needs_redis and not self.connection.clustered:
            await self.connection.client().flushall()
        first = type(self).open_one(self.folder, self.connection)
        self.stores = [first, first if self.alone else self.another()]

    def another(self) -> Store:
        """A store of the same data."""
        return type(self).open_one(self.folder, self.connection)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        async def end() -> None:
            for store in self.stores:
                await store.close()
            if self.needs_redis == 'fake':
                await self.connection.client().aclose(close_connection_pool=True)
            await self.connection.close()

        self.run(end())
        self.loop.close()
        shutil.rmtree(self.folder)

    def at_once(self, keys: Iterable[str]) -> set[str]:
        """The keys that one write may have: all of them, in a cluster those in the slot of the first."""
        if not self.connection.clustered:
            return set(keys)
        store: Any = self.stores[0]
        slots = {key: slot_of(store.names.redis_key(key)) for key in keys}
        return {key for key in slots if slots[key] == next(iter(slots.values()))}

    def put(self, key: str, value: Any) -> None:
        """What a write does to the dictionary."""
        if value is MISSING:
            self.held.pop(key, None)
            for walk in self.walks:
                walk.stays.discard(key)
        else:
            self.held[key] = value
            for walk in self.walks:
                walk.ever.add(key)
        self.aged.discard(key)

    # Reading

    @rule(side=sides, wanted=st.lists(keys, max_size=4))
    def multiget(self, side: int, wanted: list[str]) -> None:
        found = self.run(self.stores[side].multiget(wanted))
        assert all(map(same, found, [self.held.get(key) for key in wanted])), (found, wanted)

    @rule(side=sides, prefix=st.sampled_from(PREFIXES))
    def keys_and_dump(self, side: int, prefix: str) -> None:
        held = {key: value for key, value in self.held.items() if key.startswith(prefix)}
        assert sorted(self.run(self.stores[side].keys(prefix))) == sorted(held)
        dumped = self.run(self.stores[side].dump(prefix=prefix))
        assert dumped.keys() == held.keys()
        assert all(same(dumped[key], held[key]) for key in held)

    @rule(side=sides, key=keys)
    def describe(self, side: int, key: str) -> None:
        store = self.stores[side]
        description = self.run(store.describe(key))
        assert (description is None) == (key not in self.held)
        if description is not None and isinstance(store, EphemeralRedisKVS):
            assert description.expires_in is not None
            left = AGED if key in self.aged else EXPIRY
            assert left - 50 < description.expires_in <= left
        elif description is not None:
            assert description.expires_in is None

    # Writing

    @rule(side=sides, key=keys, value=values)
    def set(self, side: int, key: str, value: Any) -> None:
        self.run(self.stores[side].set(key, value))
        self.put(key, value)

    @rule(side=sides, entries=st.dictionaries(keys, values, max_size=4))
    def multiset(self, side: int, entries: dict[str, Any]) -> None:
        entries = {key: entries[key] for key in self.at_once(entries)}
        self.run(self.stores[side].multiset(entries))
        for key, value in entries.items():
            self.put(key, value)

    @rule(side=sides, key=keys)
    def remove(self, side: int, key: str) -> None:
        assert self.run(self.stores[side].remove(key)) is (key in self.held)
        self.put(key, MISSING)

    @rule(side=sides, key=keys, value=changes, waits=st.booleans())
    def update(self, side: int, key: str, value: Any, waits: bool) -> None:
        seen: list[Any] = []

        def change(before: Any) -> Any:
            seen.append(before)
            return later() if waits else value

        async def later() -> Any:
            await asyncio.sleep(0)
            return value

        given = self.run(self.stores[side].update(key, change))
        assert same(given, value)
        assert len(seen) == 1
        assert same(seen[0], self.held.get(key))
        self.put(key, value)

    @rule(side=sides, key=keys, expected=changes, value=changes, guess=st.booleans())
    def compare_and_set(self, side: int, key: str, expected: Any, value: Any, guess: bool) -> None:
        before = self.held.get(key, MISSING)
        expected = before if guess else expected
        assert self.run(self.stores[side].compare_and_set(key, expected, value)) is same(expected, before)
        if same(expected, before):
            self.put(key, value)

    @rule(
        side=sides,
        writes=st.dictionaries(keys, changes, max_size=4),
        compared=st.lists(keys, max_size=3, unique=True),
        wrong=st.none() | st.tuples(keys, changes),
    )
    def commit(self, side: int, writes: dict[str, Any], compared: list[str], wrong: tuple[str, Any] | None) -> None:
        expected = {key: self.held.get(key, MISSING) for key in compared} | dict([wrong] if wrong else [])
        fitting = self.at_once([*writes, *expected])
        writes = {key: value for key, value in writes.items() if key in fitting}
        expected = {key: value for key, value in expected.items() if key in fitting}
        holds = all(same(value, self.held.get(key, MISSING)) for key, value in expected.items())
        assert self.run(self.stores[side].commit(writes, expected)) is holds
        if holds:
            for key, value in writes.items():
                self.put(key, value)

    @rule(side=sides)
    def clear(self, side: int) -> None:
        self.run(self.stores[side].clear())
        for key in list(self.held):
            self.put(key, MISSING)

    # Reducers

    @rule(side=sides, reactions=st.lists(words, min_size=1, max_size=5))
    def fold(self, side: int, reactions: list[str]) -> None:
        """Events that arrive together are as if they came one after the other."""

        async def together() -> list[Any]:
            folds = [
                worker_of(self.stores[side]).process(INTERNAL, EXTERNAL, _step(word), b'{"fresh":true}')
                for word in reactions
            ]
            return await asyncio.gather(*folds, return_exceptions=True)

        for word, told in zip(reactions, self.run(together()), strict=True):
            before = self.held.get(INTERNAL, NULL_STATE)
            if word == 'raise':
                assert isinstance(told, LookupError)
                continue
            internal, external = _reaction(word, before)
            assert same(told, external)
            if internal is not False:
                self.put(INTERNAL, internal)
            elif INTERNAL not in self.held:
                self.put(INTERNAL, NULL_STATE)
            if external is not False:
                self.put(EXTERNAL, external)
        assert self.stores[side].busy_keys() == 0

    # Walking while keys come and go

    @rule(side=sides, prefix=st.sampled_from(PREFIXES), limit=st.integers(1, 6))
    def begin_a_walk(self, side: int, prefix: str, limit: int) -> None:
        there = {key for key in self.held if key.startswith(prefix)}
        self.walks.append(Walk(prefix, limit, set(there), there, side))
        self.go_on(len(self.walks) - 1)

    @rule(which=st.integers(0, 100))
    def go_on(self, which: int) -> None:
        if not self.walks:  # no precondition: how many pages a walk has is up to the server, and differs between runs
            return
        walk = self.walks[which % len(self.walks)]
        page = self.run(self.stores[walk.side].scan(walk.prefix, walk.cursor, walk.limit))
        walk.seen.update(page.keys)
        walk.cursor = page.cursor
        assert walk.seen <= walk.ever
        if walk.cursor is None:
            assert walk.stays <= walk.seen
            self.walks.remove(walk)

    # Closing, and the clock

    @rule(side=sides, anew=st.booleans())
    def close(self, side: int, anew: bool) -> None:
        self.run(self.stores[side].close())
        if anew and not isinstance(self.stores[side], InMemoryKVS):
            self.stores[side] = self.another()
            if self.alone:
                self.stores[1 - side] = self.stores[side]

    @precondition(lambda self: self.needs_redis and self.held)
    @rule(which=st.integers(0, 100), goes=st.booleans())
    def time_goes_on(self, which: int, goes: bool) -> None:
        """A key expires, or nearly so: the clock of Redis cannot be turned on, but the key's time can be set."""
        key = sorted(self.held)[which % len(self.held)]
        store: Any = self.stores[0]
        if not isinstance(store, EphemeralRedisKVS):
            return
        self.run(self._expire(store.names.redis_key(key), goes))
        if goes:
            self.put(key, MISSING)
        else:
            self.aged.add(key)

    async def _expire(self, name: str, goes: bool) -> None:
        client = self.connection.client()
        await client.pexpire(name, 1 if goes else AGED * 1000)
        while goes and await client.exists(name):  # noqa: ASYNC110  (Redis tells nobody, and it takes a millisecond)
            await asyncio.sleep(0)

    @invariant()
    def nothing_is_left_under_way(self) -> None:
        assert [store.busy_keys() for store in self.stores] == [0, 0]


def _reaction(word: str, state: Any) -> tuple[Any, Any]:
    """What the reducer makes of a state: the internal one stays small."""
    text = json.dumps(state)
    internal = {'bytes': len(text), 'was': state if len(text) < 40 else None}
    return (
        internal if word in ('both', 'internal', 'wait') else False,
        [word, state] if word in ('both', 'external', 'wait') else False,
    )


def _step(word: str) -> Callable[[Any], Awaitable[Any]]:
    async def at_once(state: Any) -> Any:
        if word == 'raise':
            if isinstance(state, dict):
                state['spoilt'] = 1
            raise LookupError
        return _reaction(word, state)

    async def waits(state: Any) -> Any:
        await asyncio.sleep(0)
        return _reaction(word, state)

    return waits if word == 'wait' else at_once


OPENED: dict[str, Callable[[str, RedisConnection], Store]] = {
    'stub': lambda folder, connection: InMemoryKVS(),
    'filesystem': lambda folder, connection: FilesystemKVS(f'{folder}/files'),
    'filesystem with subdirs': lambda folder, connection: FilesystemKVS(f'{folder}/files', subdirs=True),
    'sqlite': lambda folder, connection: SQLiteKVS(f'{folder}/a.sqlite3'),
    'redis': lambda folder, connection: PersistentRedisKVS(connection=connection),
    'redis with a prefix': lambda folder, connection: PersistentRedisKVS(prefix='lo*:', connection=connection),
    'redis_ephemeral': lambda folder, connection: EphemeralRedisKVS(EXPIRY, connection=connection),
    'fakeredis': lambda folder, connection: PersistentRedisKVS(connection=connection),
    'fakeredis, ephemeral': lambda folder, connection: EphemeralRedisKVS(EXPIRY, connection=connection),
    'cluster': lambda folder, connection: PersistentRedisKVS(prefix='lo*:', connection=connection),
    'cluster, ephemeral': lambda folder, connection: EphemeralRedisKVS(EXPIRY, connection=connection),
    'stub, put off': lambda folder, connection: InMemoryKVS(flush_interval=NEVER),
    'filesystem, put off': lambda folder, connection: FilesystemKVS(f'{folder}/files', flush_interval=NEVER),
    'sqlite, put off': lambda folder, connection: SQLiteKVS(f'{folder}/a.sqlite3', flush_interval=NEVER),
    'redis, put off': lambda folder, connection: PersistentRedisKVS(connection=connection, flush_interval=NEVER),
}
"""What is put off is seen by the process that does so, and not by another: there is only one then."""


@pytest.mark.parametrize('backend', OPENED)
def test_a_store_is_a_dictionary_with_a_clock(backend: str, seed: int, request: pytest.FixtureRequest) -> None:
    redis: RedisServer | RedisNodes | str | None = None
    if 'cluster' in backend:
        redis = request.getfixturevalue('redis_nodes')
    elif 'redis' in backend:
        redis = 'fake' if 'fake' in backend else request.getfixturevalue('redis_server')
    alone = 'stub' in backend or 'put off' in backend
    about = {'open_one': staticmethod(OPENED[backend]), 'needs_redis': redis, 'alone': alone}
    model = type('Model', (Model,), about)
    long = request.config.getoption('--long')
    run_state_machine_as_test(
        seeded(seed)(model),
        settings=settings(
            max_examples=300 if long else 15,
            stateful_step_count=60 if long else 30,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
