"""``/debug/kvs`` under siege: a value of 200 MB, ten thousand streams, two hundred viewers at once."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS, PersistentRedisKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app
from tests.support.loops import Turns, least_hold, turns
from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']

MB = 1 << 20

LONGEST = 0.010
"""For how many seconds the loop may be held."""

LARGE, SMALL = 'Internal,siege.words,STUDENT:large', 'Internal,siege.words,STUDENT:ann'

Client = TestClient[web.Request, web.Application]

SIEGE = """
import asyncio, collections, json, resource, sys

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
port, count, path, at_once = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

async def ask(number, capacity):
    async with capacity:
        address = f'127.0.{number % 20 + 1}.{number // 20 % 200 + 1}'
        reader, writer = await asyncio.open_connection('127.0.0.1', port, local_addr=(address, 0))
        writer.write(f'GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'.encode())
        return (await reader.readline()).split()[1].decode(), writer

async def main():
    capacity = asyncio.Semaphore(at_once)
    answers = await asyncio.gather(*(ask(number, capacity) for number in range(count)))
    print(json.dumps(collections.Counter(status for status, _ in answers)), flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""
"""Sends requests of many clients of this machine, keeps their connections, and says how they were answered."""


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    stores = {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}, 'memory': {'type': 'stub'}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    await KVS.memory().set('k', 1)
    return client


def memory() -> int:
    """The most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many open files as the system allows: each connection is one, here and in the process of the clients."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most > 10_200, 'Raise the hard limit of open files (ulimit -Hn).'
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


async def besieged(client: Client, count: int, path: str, at_once: int) -> tuple[dict[str, int], Turns]:
    """How many clients were answered with which status, while another one was served; and the turns of the loop."""
    arguments = (str(client.port), str(count), path, str(at_once))
    siege = await asyncio.create_subprocess_exec(
        sys.executable, '-c', SIEGE, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert siege.stdin is not None
    assert siege.stdout is not None
    try:
        async with turns() as seen, asyncio.timeout(120):
            answered = asyncio.create_task(siege.stdout.readline())
            while not answered.done():
                async with client.get('/debug/kvs/memory/key', params={'key': 'k'}) as answer:
                    assert answer.status in (200, 503)
                await asyncio.sleep(0.1)
        async with client.get('/debug/kvs/memory/key', params={'key': 'k'}) as answer:
            assert answer.status == 200
        return json.loads(answered.result()), seen
    finally:
        siege.stdin.write(b'\n')
        await siege.communicate()


@pytest.fixture
async def large(client: Client, redis: RedisConnection) -> Client:
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    text = b'"' + b'x' * 200_000_000 + b'"'
    for name in ('default', 'redis'):
        await KVS[name].commit_bytes({SMALL: b'{"n": 1}', LARGE: text}, {})
    return client


@pytest.mark.long
async def test_a_value_of_200_mb_holds_neither_the_loop_nor_the_memory(large: Client) -> None:
    await (await large.get('/debug/kvs/default', headers={'Accept': 'text/html'})).read()  # imports and templates
    before = memory()
    value = {'key': LARGE, 'text': 'x'}
    for store in ('default', 'redis'):
        for path, query, status in (
            ('/key', value, 200),
            ('/part', value, 409),
            ('/raw', value, 409),
            ('/matches', value, 409),
            ('/class', {'reducers': 'siege.words', 'state': 'internal'}, 200),
            ('/reducer', {'reducer': 'siege.words'}, 200),
            ('', {}, 200),
            ('', {'text': 'x', 'inside': 'values'}, 200),
            ('', {'sort': 'bytes'}, 200),
        ):
            for accept in ('application/json', 'text/html'):

                async def ask(url: str = f'/debug/kvs/{store}{path}', accept: str = accept) -> tuple[int, bytes]:
                    answer = await large.get(url, params=query, headers={'Accept': accept})  # noqa: B023
                    return answer.status, await answer.read()

                longest, (answered, body) = await least_hold(ask, LONGEST)
                assert (path, answered) == (path, status)
                assert len(body) < MB
                assert longest < LONGEST
    assert memory() - before < 50 * MB


@pytest.mark.long
async def test_an_export_among_values_of_200_mb_does_not_hold_the_loop_and_names_what_is_too_large(
    large: Client,
) -> None:
    for student in ('ann', 'large'):

        async def ask(student: str = student) -> Any:
            answer = await large.get('/debug/kvs/stores/export', params={'student': student})
            return await answer.json()

        longest, found = await least_hold(ask, LONGEST)
        assert len(found['states']) == (2 if student == 'ann' else 0)
        why = 'too many to be searched' if student == 'ann' else 'is too large'
        assert sum(why in text and '200,000,002 bytes' in text for text in found['not_reached']) == 2
        assert longest < LONGEST


@pytest.mark.long
@pytest.mark.usefixtures('descriptors')
async def test_of_ten_thousand_streams_few_are_opened_and_others_are_served(client: Client) -> None:
    before = memory()
    answered, _ = await besieged(client, 10_000, '/debug/kvs/memory/changes?key=k', 300)
    assert answered == {'200': 200, '503': 9800}
    assert memory() - before < 200 * MB


@pytest.mark.long
@pytest.mark.parametrize('path', ['memory/key?key=k', 'default', 'stores/find?text=k', 'default/class?reducers=m.r'])
async def test_two_hundred_viewers_at_once_are_served(client: Client, path: str) -> None:
    await KVS().commit_bytes({f'External,m.r,STUDENT:{number}': b'1' for number in range(300)}, {})
    answered, seen = await besieged(client, 200, f'/debug/kvs/{path}', 200)
    assert answered == {'200': 200}
    assert seen.longest < 0.25
