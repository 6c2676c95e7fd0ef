"""Nothing that one request carries can fail another's: each ends as if it were the only one.

hypothesis draws requests, good and bad, which reach a store in one tick of the event loop, and so travel together. What
each comes to is compared with what it comes to alone, on a store in memory.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, example, given, seed, settings
from hypothesis import strategies as st

from learning_observer_kvs import KVSError, KVSRouter
from learning_observer_kvs.json_codec import MAX_DEPTH
from learning_observer_kvs.reducers import attach, worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from learning_observer_kvs.testing.keys import INVALID_KEYS
from learning_observer_kvs.testing.values import nested


class Request(NamedTuple):
    """What is asked of a store: a key or value that may be bad, and a number that keeps keys of requests apart."""

    call: str
    text: Any
    value: Any
    number: int = 0

    @property
    def key(self) -> Any:
        """A key that no other request has, if it is text."""
        return self.prefix if self.text != '' else ''

    @property
    def prefix(self) -> Any:
        """A prefix that the keys of no other request begin with, if it is text."""
        return f'{self.number}:{self.text}' if isinstance(self.text, str) else self.text


class Unreadable:
    """Raises when its text is asked for."""

    def __str__(self) -> str:
        raise LookupError('unreadable')


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def reducer(event: Any, state: Any) -> Any:
    if event == 'raise':
        raise LookupError(event)
    return event, event


async def _process(store: Store, key: Any, value: Any) -> Any:
    """Process an event whose keys are made elsewhere, by a worker."""

    async def step(state: Any) -> Any:
        return value, value

    return await worker_of(store).process(f'Internal,{key}', f'External,{key}', step)


async def _event(store: Store, request: Request) -> Any:
    process = await reducer({'auth': {'safe_user_id': f's{request.number}'}}, router=KVSRouter(default=store))
    # Made first, awaited later, as a handler does that gathers the events of several students.
    processing = process(request.value, {'doc_id': request.text})
    return await processing


def _raise(state: Any) -> Any:
    raise LookupError


CALLS: dict[str, Callable[[Store, Request], Coroutine[Any, Any, Any]]] = {
    'get': lambda store, request: store[request.key],
    'multiget': lambda store, request: store.multiget([request.key, 'ordinary']),
    'describe': lambda store, request: store.describe(request.key),
    'set': lambda store, request: store.set(request.key, request.value),
    'multiset': lambda store, request: store.multiset({request.key: request.value}),
    'remove': lambda store, request: store.remove(request.key),
    'update': lambda store, request: store.update(request.key, lambda _: request.value),
    'update that raises': lambda store, request: store.update(request.key, _raise),
    'compare_and_set': lambda store, request: store.compare_and_set(request.key, request.value, 1),
    'commit': lambda store, request: store.commit({}, {request.key: request.value}),
    'keys': lambda store, request: store.keys(request.prefix),
    'scan': lambda store, request: store.scan(request.prefix),
    'cursor': lambda store, request: _cursor(store, request),
    'dump': lambda store, request: store.dump(prefix=request.prefix),
    'event': _event,
    'event of a worker': lambda store, request: _process(store, request.key, request.value),
}


async def _cursor(store: Store, request: Request) -> None:
    """Scan from a cursor that the store did not give; whether it finds something is not said."""
    await store.scan('no key begins so', f'\udc00{request.number}')


ordinary = st.sampled_from(['a', 'a/b', 'é', '*', '\x00', '😀', '{x}', 'x' * 300])
bad_texts = st.sampled_from([*INVALID_KEYS.values(), '\ud800', 'a\udfffb'])
ordinary_values = st.sampled_from([None, 1, 'a', [1, {'b': 2.5}], '\ud83d', False])
bad_values = st.sampled_from([math.nan, {1, 2}, object(), nested(MAX_DEPTH + 1), {'a': {'b': -math.inf}}, 'raise'])
requests = st.builds(
    Request,
    call=st.sampled_from(sorted(CALLS)),
    text=ordinary | ordinary | bad_texts,
    value=ordinary_values | ordinary_values | bad_values,
)

OPENED: dict[str, Callable[[str, RedisConnection], Store]] = {
    'stub': lambda folder, connection: InMemoryKVS(),
    'filesystem': lambda folder, connection: FilesystemKVS(f'{folder}/files'),
    'sqlite': lambda folder, connection: SQLiteKVS(f'{folder}/a.sqlite3'),
    'redis': lambda folder, connection: PersistentRedisKVS(connection=connection),
    'redis with a prefix': lambda folder, connection: PersistentRedisKVS(prefix='lo*:', connection=connection),
    'redis_ephemeral': lambda folder, connection: EphemeralRedisKVS(600, connection=connection),
    'stub, write-behind': lambda folder, connection: InMemoryKVS(flush_interval=3600),
    'sqlite, write-behind': lambda folder, connection: SQLiteKVS(f'{folder}/a.sqlite3', flush_interval=3600),
    'redis, write-behind': lambda folder, connection: PersistentRedisKVS(connection=connection, flush_interval=3600),
}


async def outcome_of(store: Store, request: Request) -> Any:
    """What a request comes to: its result, or the type of its error, which must be one that callers know."""
    try:
        result = await CALLS[request.call](store, request)
    except (KVSError, LookupError) as error:
        return type(error)
    return sorted(result) if request.call == 'keys' else result


async def outcomes_together(store: Store, drawn: list[Request]) -> list[Any]:
    attach(store)
    async with store:
        return await asyncio.gather(*(outcome_of(store, request) for request in drawn))


async def outcomes_alone(drawn: list[Request]) -> list[Any]:
    return [(await outcomes_together(InMemoryKVS(), [request]))[0] for request in drawn]


@pytest.mark.parametrize('backend', OPENED)
def test_each_request_ends_as_if_it_were_the_only_one(
    backend: str, seed_of_run: int, request: pytest.FixtureRequest
) -> None:
    port = request.getfixturevalue('redis_server').port if 'redis' in backend else None

    async def compare(drawn: list[Request]) -> None:
        connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': port} if port else {})
        if port:
            await connection.client().flushall()
        with tempfile.TemporaryDirectory() as folder:
            together = await outcomes_together(OPENED[backend](folder, connection), drawn)
        await connection.close()
        assert list(zip(drawn, together, strict=True)) == list(zip(drawn, await outcomes_alone(drawn), strict=True))

    @seed(seed_of_run)
    @settings(
        max_examples=500 if request.config.getoption('--long') else 25,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # with keys of a megabyte, shrinking takes minutes
        print_blob=True,
    )
    @given(st.lists(requests, min_size=2, max_size=12))
    @example([Request('event', '\ud800', 1), *(Request('event', 'doc', n) for n in range(40))])
    @example([Request('event', [{}], 1), Request('event', {'a': '\ud800'}, 2)])
    @example([Request('event of a worker', '\ud800', 1), Request('event of a worker', 'a', 2), Request('get', 'a', 0)])
    def together_as_alone(drawn: list[Request]) -> None:
        asyncio.run(compare([each._replace(number=number) for number, each in enumerate(drawn)]))

    together_as_alone()


@pytest.fixture
def seed_of_run(seed: int) -> int:
    return seed


async def test_an_event_whose_field_has_no_text_fails_where_it_is_awaited() -> None:
    async with KVSRouter(default=InMemoryKVS()) as router:
        process = await reducer(router=router)
        good, bad = process(1, {'doc_id': 'a'}), process(2, {'doc_id': Unreadable()})
        outcomes = await asyncio.gather(good, bad, return_exceptions=True)
        assert outcomes[0] == 1
        assert isinstance(outcomes[1], LookupError)
