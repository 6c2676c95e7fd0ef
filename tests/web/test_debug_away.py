"""``/debug/kvs``: what a store that hangs or is away keeps from being shown, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import answers, search
from learning_observer_kvs.kvs import KVS, InMemoryKVS
from tests.support.debug_pages import make_app
from tests.support.redis_server import RedisServer

Client = TestClient[web.Request, web.Application]

KEY = 'Internal,m.words,EventField.doc_id:ann,STUDENT:ann'

STREAM = '/debug/kvs/red/changes'

SEARCHES = {'find': 'text', 'student': 'student', 'document': 'document'}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, server: RedisServer) -> AsyncIterator[Client]:
    stores = {'red': {'type': 'redis'}, 'default': {'type': 'stub'}}
    settings = {'kvs': stores, 'redis_connection': {'redis_port': server.port}, 'config': {'run_mode': 'dev'}}
    client: Client = await aiohttp_client(make_app(settings))
    await KVS.red().set(KEY, 1)
    await KVS().multiset({KEY: 1, 'ann': 2})
    yield client
    server.resume()


async def searched(client: Client, page: str, **query: str) -> Any:
    """What a search for ``ann`` finds, all pages of it."""
    async with client.get(f'/debug/kvs/stores/{page}', params={SEARCHES[page]: 'ann', **query}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


@pytest.mark.parametrize('page', SEARCHES)
async def test_a_server_that_hangs_is_named_and_others_are_searched(
    client: Client, server: RedisServer, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    assert (await searched(client, page))['not_searched'] == []
    monkeypatch.setattr(search, 'SEARCH_SECONDS', 1.0)
    server.pause()
    found = await searched(client, page)
    assert found['not_searched'] == [{'store': 'red', 'error': 'It did not answer within 1 s.'}]
    if page != 'find' and found['next_cursor']:
        found = await searched(client, page, cursor=found['next_cursor'])
    assert found['keys_seen'] == 2
    if page == 'find':
        assert (found['exact'], found['next_cursor']) == (['default'], None)
        assert found['students'] == [{'name': 'ann', 'keys': 1}]


async def test_a_key_of_another_type_is_found_and_its_store_is_searched(client: Client, server: RedisServer) -> None:
    with server.client() as redis:
        redis.rpush('ann', '1')
    found = await searched(client, 'find')
    assert (found['exact'], found['not_searched'], found['keys_seen']) == (['red', 'default'], [], 4)


class Hanging(InMemoryKVS):
    """A store that lists its keys and does not describe them."""

    scans = 0

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> Any:
        self.scans += 1
        keys, _ = await super()._scan(prefix, None, limit)
        return keys, 'more'

    async def _describe(self, keys: Any) -> Any:
        return await asyncio.Event().wait()


@pytest.mark.parametrize('page', SEARCHES)
async def test_a_store_that_hangs_once_is_left_out_of_the_search(
    client: Client, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setattr(search, 'SEARCH_SECONDS', 1.0)
    store = Hanging()
    KVS.add_item('hanging', store)
    await store.set(KEY, 1)
    found = await searched(client, page)
    assert found['not_searched'] == [{'store': 'hanging', 'error': 'It did not answer within 1 s.'}]
    assert (found['keys_seen'], found['next_cursor']) == (3 if page == 'find' else 4, None)
    assert store.scans <= 1


@pytest.mark.parametrize(('state', 'text'), [('hangs', 'did not answer within 0.5 s'), ('is down', 'cannot be used')])
async def test_a_stream_waits_for_its_beginning_no_longer_than_a_page(
    client: Client, server: RedisServer, monkeypatch: pytest.MonkeyPatch, state: str, text: str
) -> None:
    monkeypatch.setattr(answers, 'RETRY_SECONDS', 0.2)
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 0.5)
    if state == 'hangs':
        server.pause()
    else:
        server.stop()
    began = time.monotonic()
    async with client.get(STREAM, params={'key': KEY}) as answer:
        assert answer.status == 503
        assert text in (await answer.json())['error']
    assert time.monotonic() - began < 30
    if state == 'hangs':
        server.resume()
    else:
        server.start()
    monkeypatch.setattr(answers, 'RETRY_SECONDS', 3.0)
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 3.0)
    async with client.get(STREAM, params={'key': KEY}) as answer:
        assert answer.status == 200
        for number in range(18):  # one is sent every 0.2 s: the stream lasts longer than it may take to begin
            await KVS.red().set(KEY, number)
            await asyncio.wait_for(answer.content.readuntil(b'event: changed\n'), 20)


@pytest.mark.parametrize(
    'path',
    ['key', 'part', 'raw', 'matches', 'class', 'reducers', 'reducer', '', 'changes'],
)
async def test_a_page_of_a_store_that_hangs_says_so_and_other_pages_are_served(
    client: Client, server: RedisServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(answers, 'RETRY_SECONDS', 0.2)
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 0.5)
    monkeypatch.setattr(search, 'SEARCH_SECONDS', 0.3)
    server.pause()
    query = {'key': KEY, 'text': '' if path == '' else 't', 'reducer': 'm.words', 'reducers': 'm.words'}
    asked = [client.get(f'/debug/kvs/red/{path}'.rstrip('/'), params=query) for _ in range(3)]
    hanging = asyncio.gather(*asked)
    async with client.get('/debug/kvs/default/key', params={'key': KEY}) as answer:
        assert answer.status in (200, 404)
    for answer in await hanging:
        assert (answer.status, 'did not answer within' in await answer.text()) == (503, True)
