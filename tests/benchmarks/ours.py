"""This package, through its public door: pipelines with a router made from settings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any, ClassVar

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter
from tests.benchmarks.contender import ByEvent, Promise
from tests.benchmarks.load import Apply, State

FLUSH_INTERVAL = 1.0
"""Seconds, where a case writes behind. The last flush is part of the time that is measured."""


class Ours(ByEvent):
    """A store of this package."""

    type: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    queues = True

    def settings(self) -> dict[str, Any]:
        """What would stand in ``creds.yaml``."""
        options: dict[str, Any] = {'type': self.type, **self.options}
        name = self.place.fresh()
        if self.type == 'sqlite':
            options['path'] = str(self.place.folder / name / 'state.sqlite3')
        elif self.type == 'filesystem':
            options['path'] = str(self.place.folder / name)
        elif self.type == 'redis':
            options['prefix'] = f'{name}:'
        self._folder = self.place.folder / name
        return {
            'kvs': {'default': options},
            'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': self.place.port},
        }

    async def open(self, state: State) -> None:
        await super().open(state)
        self.router = KVSRouter.from_settings(self.settings())
        self.store = self.router()

    async def socket(self, name: str, reducer: int = 0) -> Apply:
        process = await self.state.reducers[reducer]({'auth': {'safe_user_id': name}}, router=self.router)
        return process

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return await self.store.multiget(keys)

    async def settle(self) -> None:
        if 'flush_interval' in self.options:
            await self.store.flush()

    async def close(self) -> None:
        await self.router.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Stub(Ours):
    name = '**stub**'
    type = 'stub'
    promise = Promise(True, 'process', 'in memory')


class SQLite(Ours):
    name = '**sqlite**'
    type = 'sqlite'
    promise = Promise(True, 'processes', 'on disk')


class Filesystem(Ours):
    name = '**filesystem**'
    type = 'filesystem'
    promise = Promise(True, 'processes', 'with the kernel')


class Redis(Ours):
    name = '**redis**'
    type = 'redis'
    promise = Promise(True, 'processes', 'in Redis')


class SQLiteBehind(SQLite):
    name = '**sqlite**, `flush_interval`'
    options = {'flush_interval': FLUSH_INTERVAL}
    longer = 8
    promise = Promise(True, 'processes', 'in memory, flushed')


class FilesystemBehind(Filesystem):
    name = '**filesystem**, `flush_interval`'
    options = {'flush_interval': FLUSH_INTERVAL}
    longer = 8
    promise = Promise(True, 'processes', 'in memory, flushed')


class RedisBehind(Redis):
    name = '**redis**, `flush_interval`'
    options = {'flush_interval': FLUSH_INTERVAL}
    longer = 8
    promise = Promise(True, 'processes', 'in memory, flushed')


def known(contender: type[Ours]) -> bool:
    """Whether its store type takes the options it needs."""
    return set(contender.options) <= {option.name for option in KVS_MAP[contender.type].OPTIONS}
