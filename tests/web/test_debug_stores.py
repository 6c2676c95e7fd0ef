"""``/debug/kvs``: the first page says of each store whether it answers and how many keys it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs import __version__
from learning_observer_kvs.debug.keys import census
from learning_observer_kvs.kvs import KVS, EphemeralRedisKVS, SQLiteKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app

HTML = {'Accept': 'text/html'}

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(
    aiohttp_client: AiohttpClient, tmp_path: Path, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> Client:
    monkeypatch.setattr(census, 'COUNT_SECONDS', 60.0)  # however busy the machine is
    stores = {'default': {'type': 'stub'}, 'archive': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    app = make_app({'kvs': stores, 'config': {'run_mode': 'deploy'}}, lambda *asked: asked[2] not in refused)
    client: Client = await aiohttp_client(app)
    for name in ('default', 'archive'):
        await KVS[name].multiset({f'k{number}': number for number in range(1234)})
    return client


async def counts(client: Client) -> dict[str, tuple[Any, Any, Any]]:
    found = await (await client.get('/debug/kvs')).json()
    return {store['name']: (store['keys'], store['counted'], store['error']) for store in found['stores']}


async def page_of(client: Client, path: str = '/debug/kvs') -> str:
    return await (await client.get(path, headers=HTML)).text()


async def test_keys_are_counted(client: Client) -> None:
    assert await counts(client) == {'default': (1234, 'exactly', None), 'archive': (1234, 'exactly', None)}
    assert (await page_of(client)).count('<dd>1,234</dd>') == 2


async def test_a_count_that_takes_long_says_how_many_keys_there_are_at_least(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, 'COUNT_SECONDS', 1e-9)
    for name in ('default', 'archive'):
        await KVS[name].multiset({f'more{number}': number for number in range(5000)})
    found = await counts(client)
    assert {kind for _, kind, _ in found.values()} == {'at least'}
    assert '<dt>Keys <small>at least</small></dt>' in await page_of(client)


async def test_on_redis_a_count_is_about_right(client: Client, redis: RedisConnection) -> None:
    KVS.add_item('cache', EphemeralRedisKVS(30, connection=redis))
    await KVS['cache'].multiset({'a': 1, 'b': 2})
    assert (await counts(client))['cache'] == (2, 'about', None)
    assert '<dt>Keys <small>about</small></dt><dd>2</dd>' in await page_of(client)


async def test_a_store_that_cannot_be_used_says_why_and_the_others_are_counted(client: Client, tmp_path: Path) -> None:
    (tmp_path / '<b>').mkdir()
    KVS.add_item('gone', SQLiteKVS(tmp_path / '<b>'))
    found = await counts(client)
    assert found['gone'][:2] == (None, None)
    assert 'it is a folder' in found['gone'][2]
    assert found['default'] == (1234, 'exactly', None)
    text = await page_of(client)
    assert '<span class="health bad">' in text
    assert '<b>' not in text


async def test_stores_whose_keys_one_may_not_list_are_not_counted(client: Client, refused: set[str]) -> None:
    refused.add('archive')
    assert (await counts(client))['archive'] == (None, None, 'You may not list its keys.')
    refused.add('')
    assert (await client.get('/debug/kvs')).status == 403


async def test_every_page_says_which_process_serves_it_and_an_error_does_not(client: Client, refused: set[str]) -> None:
    found = await (await client.get('/debug/kvs')).json()
    server = found['server']
    assert (server['product'], server['version'], server['run_mode'], server['process']) == (
        'learning_observer_kvs',
        __version__,
        'deploy',
        os.getpid(),
    )
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k1', '/debug/kvs/stores/find?text=k1'):
        assert f'process {os.getpid()} on ' in await page_of(client, path)
    refused |= {'', 'default'}
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/missing'):
        text = await page_of(client, path)
        assert str(os.getpid()) not in text
        assert __version__ not in text
