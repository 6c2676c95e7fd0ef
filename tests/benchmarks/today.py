"""What the runtime does without this package: one command at a time, ``deepcopy``, one file a key."""

from __future__ import annotations

import copy
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client

from tests.benchmarks.contender import ByEvent, Promise
from tests.benchmarks.load import JSON, ProcessEvent, State

CONNECTIONS = 100
"""The most that redis-py's default pool opens. Where more commands wait, that pool fails; a blocking one makes them
wait, which is kinder."""


def client(port: int, **options: Any) -> Client:
    """Return a redis-py client with a pool that makes bursts wait."""
    pool = BlockingConnectionPool(host='127.0.0.1', port=port, max_connections=CONNECTIONS, timeout=None, **options)
    return Client.from_pool(pool)


class Today(ByEvent):
    """Get the internal state, run the reducer, set one state, set the other."""

    @abstractmethod
    async def get(self, key: str) -> JSON:
        """Return the value of a key, the caller's to change; ``None`` where there is none."""

    @abstractmethod
    async def set(self, key: str, value: JSON) -> None:
        """Set the value of a key."""

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        get, set_value, state, reduce = self.get, self.set, self.state, self.state.reduce
        internal_key, external_key = state.keys(name, reducer)

        async def process(event: Any) -> JSON:
            found = await get(internal_key)
            internal, external = reduce(event, state.null_state() if found is None else found)
            await set_value(internal_key, internal)
            await set_value(external_key, external)
            return external

        return process

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return [await self.get(key) for key in keys]


class OneByOne(Today):
    """Redis, one command at a time."""

    name = 'one command at a time (redis-py, `json`)'
    promise = Promise(False, 'none', 'in Redis')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.prefix = self.location.fresh() + ':'
        self.client = client(self.location.port)

    async def get(self, key: str) -> JSON:
        return _value(await self.client.get(self.prefix + key))

    async def set(self, key: str, value: JSON) -> None:
        await self.client.set(self.prefix + key, json.dumps(value))

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return [_value(text) for text in await self.client.mget([self.prefix + key for key in keys])]

    async def close(self) -> None:
        await self.client.aclose()


class Deepcopy(Today):
    """A dictionary of objects that returns copies, because callers change what they get."""

    name = 'dictionary with `copy.deepcopy`'
    promise = Promise(True, 'process', 'in memory')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.values: dict[str, JSON] = {}

    async def get(self, key: str) -> JSON:
        return copy.deepcopy(self.values.get(key))

    async def set(self, key: str, value: JSON) -> None:
        self.values[key] = copy.deepcopy(value)


class FilePerKey(Today):
    """A JSON file for each key, written beside and renamed; on the event loop, as the runtime's store does."""

    name = 'a file a key, renamed (`json`)'
    promise = Promise(False, 'none', 'with the kernel')
    fsync = False

    async def open(self, state: State) -> None:
        await super().open(state)
        self.directory = self.location.directory / self.location.fresh()
        self.directory.mkdir()
        self._prefix = str(self.directory) + os.sep

    async def get(self, key: str) -> JSON:
        return _value(_read(self._prefix + key))

    async def set(self, key: str, value: JSON) -> None:
        _replace(self._prefix + key, json.dumps(value), fsync=self.fsync)

    async def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class FilePerKeyDurable(FilePerKey):
    name = 'a file a key, renamed, `fsync` (`json`)'
    promise = Promise(False, 'none', 'on disk')
    fsync = True


def _read(path: str) -> str | None:
    try:
        with open(path, encoding='utf-8') as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def _replace(path: str, text: str, *, fsync: bool) -> None:
    with open(path + '.new', 'w', encoding='utf-8') as handle:
        handle.write(text)
        if fsync:
            handle.flush()
            os.fsync(handle.fileno())
    os.replace(path + '.new', path)


def _value(text: str | bytes | None) -> JSON:
    return None if text is None else json.loads(text)
