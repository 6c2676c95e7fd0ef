"""What people write without a library: one command at a time, ``deepcopy``, one file a key."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client

from learning_observer_kvs.json_codec import JSON
from tests.benchmarks.contender import ByEvent, Promise, loads
from tests.benchmarks.load import Apply, State, write

CONNECTIONS = 100
"""The most that redis-py's default pool opens. Where more commands wait, that pool fails; a blocking one makes them
wait, which is kinder."""


def client(port: int, **options: Any) -> Client:
    """A redis-py client with a pool that makes bursts wait."""
    pool = BlockingConnectionPool(host='127.0.0.1', port=port, max_connections=CONNECTIONS, timeout=None, **options)
    return Client.from_pool(pool)


class OneByOne(ByEvent):
    """GET, run, SET, SET: what the runtime does today."""

    name = 'one command at a time (redis-py, `json`)'
    promise = Promise(False, 'none', 'in Redis')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.prefix = self.place.fresh() + ':'
        self.client = client(self.place.port)

    async def socket(self, name: str, reducer: int = 0) -> Apply:
        redis, state = self.client, self.state
        internal_key, external_key = (self.prefix + key for key in state.keys(name, reducer))

        async def apply(event: Any) -> JSON:
            internal, external = write(event, loads(await redis.get(internal_key), state))
            await redis.set(internal_key, json.dumps(internal))
            await redis.set(external_key, json.dumps(external))
            return external

        return apply

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        texts = await self.client.mget([self.prefix + key for key in keys])
        return [None if text is None else json.loads(text) for text in texts]

    async def close(self) -> None:
        await self.client.aclose()


class Deepcopy(ByEvent):
    """A dictionary of objects that hands out copies, because callers change what they get."""

    name = 'dictionary with `copy.deepcopy`'
    promise = Promise(True, 'process', 'in memory')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.values: dict[str, JSON] = {}

    async def socket(self, name: str, reducer: int = 0) -> Apply:
        values, state = self.values, self.state
        internal_key, external_key = state.keys(name, reducer)

        async def apply(event: Any) -> JSON:
            found = values.get(internal_key)
            internal, external = write(event, state.null_state() if found is None else copy.deepcopy(found))
            values[internal_key] = copy.deepcopy(internal)
            values[external_key] = copy.deepcopy(external)
            return external

        return apply

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return [copy.deepcopy(self.values.get(key)) for key in keys]


class FilePerKey(ByEvent):
    """A JSON file for each key, written beside and renamed; on the event loop, as today's store does."""

    name = 'a file a key, renamed (`json`)'
    promise = Promise(False, 'none', 'with the kernel')
    fsync = False

    async def open(self, state: State) -> None:
        await super().open(state)
        self.folder = self.place.folder / self.place.fresh()
        self.folder.mkdir()

    async def socket(self, name: str, reducer: int = 0) -> Apply:
        state = self.state
        internal_path, external_path = (str(self.folder / key) for key in state.keys(name, reducer))

        async def apply(event: Any) -> JSON:
            internal, external = write(event, loads(self._text(internal_path), state))
            self._replace(internal_path, json.dumps(internal))
            self._replace(external_path, json.dumps(external))
            return external

        return apply

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        texts = [self._text(str(self.folder / key)) for key in keys]
        return [None if text is None else json.loads(text) for text in texts]

    async def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _text(self, path: str) -> str | None:
        try:
            with open(path, encoding='utf-8') as handle:
                return handle.read()
        except FileNotFoundError:
            return None

    def _replace(self, path: str, text: str) -> None:
        with open(path + '.new', 'w', encoding='utf-8') as handle:
            handle.write(text)
            if self.fsync:
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(path + '.new', path)


class FilePerKeyDurable(FilePerKey):
    name = 'a file a key, renamed, `fsync` (`json`)'
    promise = Promise(False, 'none', 'on disk')
    fsync = True
