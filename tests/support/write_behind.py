"""Stores with ``flush_interval``, one whose backend can be away, and events for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from learning_observer_kvs.errors import WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

NEVER = 3600.0
"""Longer than a test: what is written is written because somebody asked for it."""

INTERNAL, EXTERNAL = 'Internal,m.r,STUDENT:bob', 'External,m.r,STUDENT:bob'


def store_of(kind: str, folder: Path, redis: RedisConnection, interval: float | None) -> Store:
    match kind:
        case 'stub':
            return InMemoryKVS(flush_interval=interval)
        case 'filesystem':
            return FilesystemKVS(folder / 'files', flush_interval=interval)
        case 'sqlite':
            return SQLiteKVS(folder / 'state.sqlite3', name='k', flush_interval=interval)
    return PersistentRedisKVS(connection=redis, flush_interval=interval)


Pair = tuple[Store, Store]


def event(number: int, store: Store, seen: list[int] | None = None) -> Any:
    async def step(state: Any) -> Any:
        if seen is not None:
            seen.append(number)
        state['seen'].append(number)
        return state, {'count': len(state['seen'])}

    return worker_of(store).process(INTERNAL, EXTERNAL, step, b'{"seen":[]}')


async def first_only(state: Any) -> Any:
    """A reducer that takes an event of a fresh key only."""
    if state['seen']:
        raise LookupError('too late')
    return {'seen': ['first']}, None


class Away(InMemoryKVS):
    """A store whose backend can be away."""

    IS_IMMEDIATE: ClassVar[bool] = False

    away: Exception | Literal[False] | None = None
    """What every write comes to; ``None`` while it is there."""

    def submit(
        self,
        writes: Any,
        expected: Any,
        on_done: Any,
        refresh: Any = (),
        deadline: Any = None,
        resend_until: Any = None,
    ) -> None:
        if self.away is None:
            super().submit(writes, expected, on_done)
        elif isinstance(self.away, WriteUnclear):
            super().submit(writes, expected, lambda outcome: on_done(self.away))
        else:
            on_done(self.away)
