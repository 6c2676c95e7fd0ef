"""Real Sentinels: their passwords, mistakes in the settings, Sentinels that are gone, what a connection leaves."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.redis import failover
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_guarded import PASSWORD
from tests.support.redis_sentinels import SERVICE, Sentinels
from tests.support.redis_server import RedisServer, free_port, until
from tests.support.scripted_sentinel import ScriptedSentinel


def settings_of(sentinels: Sentinels, **more: Any) -> dict[str, Any]:
    return {'redis_sentinels': sentinels.addresses(), 'redis_service_name': SERVICE} | more


async def write_and_read(settings: dict[str, Any]) -> None:
    """Use a store, and close it with its connection."""
    connection = RedisConnection(settings)
    try:
        async with PersistentRedisKVS(connection=connection) as store:
            await store.set('k', 'v')
            assert await store['k'] == 'v'
    finally:
        await connection.close()


async def failure(settings: dict[str, Any]) -> StoreUnavailable:
    """The error of a store that cannot be used."""
    with pytest.raises(StoreUnavailable) as raised:
        await write_and_read(settings)
    text = str(raised.value)
    assert '\n' not in text
    assert len(text) < 400
    assert 'object at' not in text
    return raised.value


# Mistakes


async def test_sentinels_that_cannot_be_reached_are_one_short_line_and_may_come_back() -> None:
    addresses = [f'127.0.0.1:{free_port()}' for _ in range(3)]
    error = await failure({'redis_sentinels': addresses, 'redis_service_name': SERVICE})
    assert str(error).startswith(
        f'Redis at class (Sentinels {", ".join(addresses)}) cannot be used: no Sentinel answers'
    )
    assert 'Are they running there? See redis_connection.redis_sentinels.' in str(error)
    assert len(str(error)) < 300
    assert '\n' not in str(error)
    assert error.retry


async def test_a_service_that_the_sentinels_do_not_know_is_an_error_with_a_hint(sentinels: Sentinels) -> None:
    error = await failure(settings_of(sentinels, redis_service_name='unknown'))
    assert 'its Sentinels know no service of that name. See redis_connection.redis_service_name.' in str(error)
    assert not error.retry


async def test_a_redis_named_as_a_sentinel_is_an_error_with_a_hint(redis_server: RedisServer) -> None:
    address = f'127.0.0.1:{redis_server.port}'
    error = await failure({'redis_sentinels': [address], 'redis_service_name': SERVICE})
    assert 'what answers there is not a Sentinel. Name the ports of the Sentinels' in str(error)


# Passwords


SENTINEL_RULES = 'allchannels -@all +ping +psubscribe +sentinel|master +sentinel|get-master-addr-by-name'
"""What the documentation says of a user for the Sentinels."""


@pytest.fixture(scope='module')
def guarded_sentinels() -> Any:
    """Servers and Sentinels with different passwords."""
    servers = ('--requirepass', 'for servers', '--masterauth', 'for servers')
    lines = (
        f'requirepass "{PASSWORD}"',
        f'sentinel sentinel-pass "{PASSWORD}"',
        f'sentinel auth-pass {SERVICE} "for servers"',
        f'user limited on >less {SENTINEL_RULES}',
        'user powerless on >none -@all',
    )
    with Sentinels(*servers, lines=lines, password=PASSWORD, server_password='for servers') as sentinels:
        yield sentinels


async def test_servers_and_sentinels_may_have_different_passwords(guarded_sentinels: Sentinels) -> None:
    passwords = {'redis_password': 'for servers', 'redis_sentinel_password': PASSWORD}
    await write_and_read(settings_of(guarded_sentinels, **passwords))
    await write_and_read(settings_of(guarded_sentinels, redis_sentinel_username='default', **passwords))


async def test_a_user_with_the_rights_that_the_documentation_names_may_follow_the_sentinels(
    guarded_sentinels: Sentinels, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, 'QUIET', 1.0)
    user = {'redis_sentinel_username': 'limited', 'redis_sentinel_password': 'less', 'redis_password': 'for servers'}
    connection = RedisConnection(settings_of(guarded_sentinels, **user))
    async with PersistentRedisKVS(connection=connection) as store:
        await store.set('k', 1)
        for port in guarded_sentinels.ports:
            with guarded_sentinels.client(port) as client:
                await asyncio.to_thread(until, functools.partial(pinged, client), 'the question whether it is there')
    await connection.close()
    assert caplog.records == []


def test_the_documentation_names_these_rights() -> None:
    assert f'`{SENTINEL_RULES}`' in Path('docs/how-to/redis-for-production.md').read_text()


def pinged(sentinel: Redis) -> bool:
    """Whether a user of a Sentinel who follows its events has asked whether it is there."""
    return any(entry['user'] == 'limited' and entry['cmd'] == 'ping' for entry in sentinel.client_list())


async def test_a_missing_or_wrong_password_of_the_sentinels_is_an_error_that_names_its_option(
    guarded_sentinels: Sentinels, sentinels: Sentinels
) -> None:
    for wrong in ({}, {'redis_sentinel_password': 'hunter2'}):
        error = await failure(settings_of(guarded_sentinels, redis_password='for servers', **wrong))
        assert 'Set redis_connection.redis_sentinel_password (and redis_sentinel_username)' in str(error)
        assert 'hunter' not in str(error)
        assert 'for servers' not in str(error)
        assert not error.retry
    await write_and_read(settings_of(sentinels))


async def test_a_user_whom_the_sentinels_allow_nothing_is_an_error_that_says_what_to_allow(
    guarded_sentinels: Sentinels,
) -> None:
    user = {'redis_sentinel_username': 'powerless', 'redis_sentinel_password': 'none', 'redis_password': 'for servers'}
    error = await failure(settings_of(guarded_sentinels, **user))
    assert 'its Sentinels refuse what their user asks. Allow it: allchannels +ping' in str(error)
    assert not error.retry


async def test_a_wrong_password_of_the_servers_is_an_error_that_names_its_option(guarded_sentinels: Sentinels) -> None:
    error = await failure(settings_of(guarded_sentinels, redis_sentinel_password=PASSWORD, redis_password='hunter2'))
    assert 'Set redis_connection.redis_password' in str(error)


# A master that is not one


async def test_a_server_that_is_named_as_the_master_too_early_refuses_and_no_write_is_unclear(
    sentinels: Sentinels, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedSentinel(sentinels.replica.port) as early:
        connection = RedisConnection({'redis_sentinels': [f'127.0.0.1:{early.port}'], 'redis_service_name': SERVICE})
        async with PersistentRedisKVS(connection=connection) as store:
            with limited_to(0.2), pytest.raises(StoreUnavailable, match='read only replica'):
                await store.set('k', 'refused')
            await early.until(followers=1)
            early.say(master=sentinels.master.port, epoch=1)
            await asyncio.to_thread(until, lambda: 'The master of class is' in caplog.text, 'the new master')
            await store.set('k', 'accepted')
            assert await store['k'] == 'accepted'
        await connection.close()


# Without Sentinels


async def test_a_store_in_use_goes_on_while_the_sentinels_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    with Sentinels() as sentinels, caplog.at_level(logging.WARNING):
        connection = RedisConnection(settings_of(sentinels))
        async with PersistentRedisKVS(connection=connection) as store:
            await store.set('k', 1)
            await asyncio.to_thread(sentinels.stop_sentinels)
            await asyncio.to_thread(until, lambda: caplog.records != [], 'a line in the log')
            for number in range(100):
                await store.set('k', number)
                assert await store['k'] == number
        await connection.close()
    [record] = caplog.records
    assert 'No Sentinel of class can be reached' in record.getMessage()
    assert record.exc_info is None


# What is left


def connections_to(sentinels: Sentinels) -> int:
    """How many connections the Sentinels have, but for those of each other and of this test."""
    total = 0
    for port in sentinels.ports:
        with sentinels.client(port) as client:
            total += sum('sentinel-' not in entry['name'] for entry in client.client_list()) - 1
    return total


async def test_a_closed_connection_leaves_no_task_and_no_connection(sentinels: Sentinels) -> None:
    before, tasks = connections_to(sentinels), asyncio.all_tasks()
    for _ in range(3):
        await write_and_read(settings_of(sentinels))
    assert asyncio.all_tasks() == tasks
    await asyncio.to_thread(until, lambda: connections_to(sentinels) == before, 'the connections to end')


async def keep_open(settings: dict[str, Any], seen: Callable[[], None]) -> None:
    """Use a store, and close nothing."""
    store = PersistentRedisKVS(connection=RedisConnection(settings))
    await store.set('k', 1)
    seen()


def test_loops_that_end_without_closing_leave_no_connection(sentinels: Sentinels) -> None:
    before = connections_to(sentinels)
    seen: list[int] = []

    def run() -> None:
        for _ in range(3):
            asyncio.run(keep_open(settings_of(sentinels), lambda: seen.append(connections_to(sentinels))))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 9
    assert min(seen) > before
    until(lambda: connections_to(sentinels) == before, 'the connections to end')


def test_one_connection_in_several_loops_follows_the_sentinels_in_each(sentinels: Sentinels) -> None:
    connection = RedisConnection(settings_of(sentinels))
    store = PersistentRedisKVS(connection=connection)

    async def use(number: int) -> None:
        await store.set('k', number)
        assert await store['k'] == number

    for number in range(3):
        asyncio.run(use(number))
