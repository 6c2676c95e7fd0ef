"""Connections while the master moves from one server to another, as a scripted Sentinel says."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_sentinels import SERVICE
from tests.support.redis_server import RedisServer, free_port, until
from tests.support.scripted_sentinel import ScriptedSentinel


class Moving(NamedTuple):
    """A store on two servers, one of which its Sentinel names as the master; each holds its own port."""

    sentinel: ScriptedSentinel
    first: RedisServer
    second: RedisServer
    connection: RedisConnection
    store: PersistentRedisKVS

    async def move(self) -> None:
        """Make the second server the master, and wait until that is known."""
        pool = self.connection.client().connection_pool
        await self.sentinel.until(followers=1)
        self.sentinel.say(master=self.second.port, epoch=1)
        moved = functools.partial(pool.watch.is_master, ('127.0.0.1', self.second.port))
        await asyncio.to_thread(until, moved, 'the move')


@pytest.fixture
async def moving() -> AsyncIterator[Moving]:
    """The first one is the master."""
    with RedisServer() as first, RedisServer() as second:
        for server in (first, second):
            with server.client() as client:
                client.set('k', server.port)
        async with ScriptedSentinel(first.port) as sentinel:
            connection = RedisConnection(
                {
                    'redis_sentinels': [f'127.0.0.1:{sentinel.port}'],
                    'redis_service_name': SERVICE,
                    'redis_timeout': 60,
                }
            )
            store = PersistentRedisKVS(connection=connection, retry_timeout=60)
            yield Moving(sentinel, first, second, connection, store)
            await connection.close()


async def test_after_a_move_every_connection_is_to_the_new_master(moving: Moving) -> None:
    def read_by_several() -> Awaitable[list[Any]]:
        return asyncio.gather(*(moving.connection.ask(['GET', 'k']) for _ in range(10)))

    assert await read_by_several() == [[b'%d' % moving.first.port]] * 10
    await moving.store.set('written', 1)
    await moving.move()
    assert await read_by_several() == [[b'%d' % moving.second.port]] * 10
    await moving.store.set('written', 2)
    for server, expected in ((moving.first, b'1'), (moving.second, b'2')):
        with server.client() as client:
            assert client.get('written') == expected
    await moving.store.close()


async def test_a_write_under_way_when_the_master_moves_is_applied_by_the_new_one(moving: Moving) -> None:
    await moving.store.set('written', 1)
    with moving.first.client() as first, moving.second.client() as second:
        for key in first.scan_iter():  # as a replica has them, the idempotency record among them
            second.restore(key, 0, first.dump(key), replace=True)
    moving.first.pause()
    write = asyncio.create_task(moving.store.set('written', 2))
    await moving.move()
    async with asyncio.timeout(30):  # half of what a reply may take
        await write
    with moving.second.client() as client:
        assert client.get('written') == b'2'
    moving.first.resume()
    await moving.store.close()


async def test_a_connection_that_was_begun_to_an_old_master_goes_to_the_new_one(moving: Moving) -> None:
    assert await moving.connection.ask(['GET', 'k']) == [b'%d' % moving.first.port]
    pool = moving.connection.client().connection_pool
    await moving.move()
    connection = pool.make_connection()
    for old in (moving.first.port, free_port()):  # it still runs; it is gone
        await connection.connect_to(('127.0.0.1', old))
        assert connection.port == moving.second.port
        await connection.disconnect()


async def test_an_aborted_connection_is_opened_again_before_anything_is_sent_on_it(moving: Moving) -> None:
    pool = moving.connection.client().connection_pool
    connection = await pool.get_connection()
    await pool.release(connection)
    connection.abort()
    assert await pool.get_connection() is connection
    await connection.send_command('PING')
    assert await connection.read_response() == b'PONG'
    await pool.release(connection)


async def test_a_read_on_a_connection_to_the_master_ends_in_the_time_that_redis_py_gives_it(moving: Moving) -> None:
    pool = moving.connection.client().connection_pool
    connection = await pool.get_connection()
    async with asyncio.timeout(12):
        assert await connection.read_response(timeout=0.01) is None  # as a subscription polls
    await pool.release(connection)
