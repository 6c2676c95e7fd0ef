"""This package by its public calls: pipelines, and a router made from settings."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from typing import Any, ClassVar

from learning_observer_kvs.kvs import KVS_MAP, KVSRouter
from tests.benchmarks.contender import ByEvent, Location, Promise
from tests.benchmarks.load import JSON, ProcessEvent, State

FLUSH_INTERVAL = 1.0
"""Seconds, where a case writes behind. The last flush is part of the time that is measured."""

BUFFERED = Promise(True, 'processes', 'in memory, flushed')

EVENT_PIPELINE = 'learning_observer_kvs.stream_analytics.event_pipeline'
"""The module that an older checkout does not have."""


class Ours(ByEvent):
    """A store of this package.

    Args:
        location: where it may keep things.
        joined: whether an event goes through its reducers in one pass, by ``event_pipeline``.
    """

    type: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    queues = True

    def __init__(self, location: Location, *, joined: bool = False) -> None:
        super().__init__(location)
        self.joined = joined
        if joined:
            self.name = f'{self.name}, `event_pipeline`'

    def known(self) -> bool:
        """Return whether the package has the options and the calls that this needs."""
        if self.joined:
            try:
                importlib.import_module(EVENT_PIPELINE)
            except ModuleNotFoundError:
                return False
        return set(self.options) <= {option.name for option in KVS_MAP[self.type].OPTIONS}

    def settings(self) -> dict[str, Any]:
        """Return what would be in ``creds.yaml``."""
        options: dict[str, Any] = {'type': self.type, **self.options}
        name = self.location.fresh()
        if self.type == 'sqlite':
            options['path'] = str(self.location.directory / name / 'state.sqlite3')
        elif self.type == 'filesystem':
            options['path'] = str(self.location.directory / name)
        elif self.type == 'redis':
            options['prefix'] = f'{name}:'
        self._directory = self.location.directory / name
        return {
            'kvs': {'default': options},
            'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': self.location.port},
        }

    async def open(self, state: State) -> None:
        await super().open(state)
        self.router = KVSRouter.from_settings(self.settings())
        self.store = self.router()

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        process = await self.state.reducers[reducer]({'auth': {'safe_user_id': name}}, router=self.router)
        return process

    async def connection(self, name: str, reducers: int) -> ProcessEvent:
        if not self.joined:
            return await super().connection(name, reducers)
        event_pipeline = importlib.import_module(EVENT_PIPELINE).event_pipeline
        pipeline: ProcessEvent = await event_pipeline(
            self.state.reducers[:reducers], {'auth': {'safe_user_id': name}}, router=self.router
        )
        return pipeline

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return await self.store.multiget(keys)

    async def read_one(self, key: str) -> JSON:
        return await self.store[key]

    async def settle(self) -> None:
        if 'flush_interval' in self.options:
            await self.store.flush()

    async def close(self) -> None:
        await self.router.close()
        shutil.rmtree(self._directory, ignore_errors=True)


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
    promise = BUFFERED


class FilesystemBehind(Filesystem):
    name = '**filesystem**, `flush_interval`'
    options = {'flush_interval': FLUSH_INTERVAL}
    longer = 8
    promise = BUFFERED


class RedisBehind(Redis):
    name = '**redis**, `flush_interval`'
    options = {'flush_interval': FLUSH_INTERVAL}
    longer = 8
    promise = BUFFERED
