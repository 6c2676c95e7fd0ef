"""Libraries that people would use instead, each with its own idiom; installed by the extra ``benchmark``.

Where one has a way to lose no update, it is there twice: as its first page shows it, and with that way.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import shutil
import warnings
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from redis.asyncio import BlockingConnectionPool

from tests.benchmarks.contender import ByEvent, Contender, Promise
from tests.benchmarks.load import JSON, ProcessEvent, State
from tests.benchmarks.today import CONNECTIONS, client

Get = Callable[[str], Awaitable[Any]]
Put = Callable[[JSON, JSON], Awaitable[Any]]


class Peer(ByEvent):
    """A library that may not be there."""

    package: ClassVar[str]
    """What is imported."""

    def load(self, module: str) -> Any:
        """Import a module of it."""
        return importlib.import_module(module)

    def process(self, internal_key: str, get: Get, put: Put) -> ProcessEvent:
        """Return what gets the internal state, runs the reducer, and puts both states, as all of them do."""
        state, reduce = self.state, self.state.reduce

        async def process(event: Any) -> JSON:
            found = await get(internal_key)
            internal, external = reduce(event, state.null_state() if found is None else found)
            await put(internal, external)
            return external

        return process


def installed(contender: type[Contender]) -> bool:
    """Return whether what a contender needs is installed."""
    return not issubclass(contender, Peer) or importlib.util.find_spec(contender.package) is not None


async def closed(cache: Any) -> None:
    """Close a cache that closes its client by a name that redis-py warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        await cache.close()


class Aiocache(Peer):
    """``multi_set`` of both states; JSON."""

    package = 'aiocache'
    name = 'aiocache'
    promise = Promise(True, 'none', 'in Redis')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.cache = self.load('aiocache').RedisCache(
            serializer=self.load('aiocache.serializers').JsonSerializer(),
            endpoint='127.0.0.1',
            port=self.location.port,
            namespace=self.location.fresh(),
            timeout=None,
            pool_max_size=CONNECTIONS,
            connection_pool_class=BlockingConnectionPool,
            connection_pool_kwargs={'timeout': None},
        )

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        cache = self.cache
        internal_key, external_key = self.state.keys(name, reducer)
        return self.process(
            internal_key,
            cache.get,
            lambda internal, external: cache.multi_set([(internal_key, internal), (external_key, external)]),
        )

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        found: list[JSON] = await self.cache.multi_get(list(keys))
        return found

    async def close(self) -> None:
        await closed(self.cache)


class AiocacheOptimistic(Aiocache):
    """``OptimisticLock`` compares and sets the internal state; the external one follows."""

    name = 'aiocache, `OptimisticLock`'
    promise = Promise(False, 'processes', 'in Redis')

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        cache, state = self.cache, self.state
        internal_key, external_key = state.keys(name, reducer)
        lock_module = self.load('aiocache.lock')

        async def process(event: Any) -> JSON:
            while True:
                try:
                    async with lock_module.OptimisticLock(cache, internal_key) as lock:
                        found = await cache.get(internal_key)
                        internal, external = state.reduce(event, state.null_state() if found is None else found)
                        if found is None:
                            await cache.add(internal_key, internal)
                        else:
                            await lock.cas(internal)
                except lock_module.OptimisticLockError:
                    continue
                await cache.set(external_key, external)
                return external

        return process


class AiocacheMemory(Aiocache):
    """In memory with its JSON serializer: without one it returns the stored object itself."""

    name = 'aiocache, memory'
    promise = Promise(True, 'none', 'in memory')

    async def open(self, state: State) -> None:
        await ByEvent.open(self, state)
        self.cache = self.load('aiocache').SimpleMemoryCache(
            serializer=self.load('aiocache.serializers').JsonSerializer(), namespace=self.location.fresh(), timeout=None
        )

    async def close(self) -> None:
        await self.cache.clear(namespace=self.cache.namespace)


class Cashews(Peer):
    """``set_many`` of both states; JSON."""

    package = 'cashews'
    name = 'cashews'
    promise = Promise(True, 'none', 'in Redis')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.prefix = self.location.fresh() + ':'
        self.cache = self.load('cashews').Cache()
        self.cache.setup(
            f'redis://127.0.0.1:{self.location.port}',
            pickle_type='json',
            suppress=False,
            socket_timeout=60,
            wait_for_connection_timeout=600,
            max_connections=CONNECTIONS,
        )
        await self.cache.init()

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        cache = self.cache
        internal_key, external_key = (self.prefix + key for key in self.state.keys(name, reducer))
        return self.process(
            internal_key,
            cache.get,
            lambda internal, external: cache.set_many({internal_key: internal, external_key: external}),
        )

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return list(await self.cache.get_many(*(self.prefix + key for key in keys)))

    async def close(self) -> None:
        await closed(self.cache)


class CashewsLock(Cashews):
    """The same under its lock, which other processes respect for as long as its lease lasts."""

    name = 'cashews, `lock`'
    promise = Promise(True, 'processes', 'in Redis')

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        cache, plain = self.cache, await super().process_event(name, reducer)
        lock_key = f'{self.prefix}lock:{name}:{reducer}'

        async def process(event: Any) -> JSON:
            async with cache.lock(lock_key, expire=60):
                return await plain(event)

        return process


class PyKeyValue(Peer):
    """``put_many`` of both states; JSON with its times in an envelope."""

    package = 'key_value'
    name = 'py-key-value-aio'
    promise = Promise(True, 'none', 'in Redis')

    async def open(self, state: State) -> None:
        await super().open(state)
        self.prefix = self.location.fresh() + ':'
        self.client = client(self.location.port, decode_responses=True)
        self.store = self.load('key_value.aio.stores.redis').RedisStore(client=self.client)

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        store = self.store
        keys = [self.prefix + key for key in self.state.keys(name, reducer)]
        return self.process(keys[0], store.get, lambda internal, external: store.put_many(keys, [internal, external]))

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        found: list[JSON] = await self.store.get_many([self.prefix + key for key in keys])
        return found

    async def close(self) -> None:
        await self.client.aclose()


class PyKeyValueMemory(PyKeyValue):
    name = 'py-key-value-aio, memory'
    promise = Promise(False, 'none', 'in memory')

    async def open(self, state: State) -> None:
        await ByEvent.open(self, state)
        self.prefix = ''
        self.store = self.load('key_value.aio.stores.memory').MemoryStore()

    async def close(self) -> None:
        await ByEvent.close(self)


class PyKeyValueDisk(PyKeyValue):
    name = 'py-key-value-aio, disk'
    promise = Promise(False, 'none', 'with the kernel')

    async def open(self, state: State) -> None:
        await ByEvent.open(self, state)
        self.prefix = ''
        self._directory = self.location.directory / self.location.fresh()
        self.store = self.load('key_value.aio.stores.disk').DiskStore(directory=self._directory)

    async def close(self) -> None:
        await self.store.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class Diskcache(Peer):
    """A transaction around reading and writing, durable, in a thread so that the loop goes on."""

    package = 'diskcache'
    name = 'diskcache, `transact`'
    promise = Promise(True, 'processes', 'on disk')

    async def open(self, state: State) -> None:
        await super().open(state)
        self._directory = self.location.directory / self.location.fresh()
        self.cache = self.load('diskcache').Cache(
            str(self._directory), eviction_policy='none', size_limit=1 << 40, sqlite_synchronous=2
        )
        self._thread = ThreadPoolExecutor(1)  # more of them would spin for the same lock

    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        cache, state, loop = self.cache, self.state, asyncio.get_running_loop()
        internal_key, external_key = state.keys(name, reducer)

        def transaction(event: Any) -> JSON:
            with cache.transact(retry=True):
                found = cache.get(internal_key)
                internal, external = state.reduce(event, state.null_state() if found is None else found)
                cache.set(internal_key, internal)
                cache.set(external_key, external)
                return external

        async def process(event: Any) -> JSON:
            return await loop.run_in_executor(self._thread, transaction, event)

        return process

    async def read(self, keys: Sequence[str]) -> list[JSON]:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: [self.cache.get(key) for key in keys]
        )

    async def close(self) -> None:
        self._thread.shutdown()
        self.cache.close()
        shutil.rmtree(self._directory, ignore_errors=True)
