"""``/debug/kvs``: however long and many names, filters and bodies are, a page is bounded and the server goes on."""

from __future__ import annotations

import asyncio
import http.client
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug.keys import groups
from learning_observer_kvs.kvs import KVS
from tests.support.debug_pages import make_app
from tests.support.loops import turns

MB = 1 << 20

JSON, PAGE = 'application/json', 'text/html'

Client = TestClient[web.Request, web.Application]


@pytest.fixture(params=['stub', 'sqlite'])
async def client(request: pytest.FixtureRequest, aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    path = {} if request.param == 'stub' else {'path': str(tmp_path / 'a.sqlite3')}
    stores = {'default': {'type': request.param, **path}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    return client


async def asked(client: Client, path: str, body: bytes | None = None, accept: str = JSON) -> tuple[int, bytes]:
    """The status and the body, read in another thread, so that the loop has nothing to do but to serve."""

    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection('127.0.0.1', client.port, timeout=60)
        try:
            connection.request('GET' if body is None else 'POST', path, body, {'Accept': accept})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize('accept', [JSON, PAGE])
async def test_a_page_is_bounded_however_many_and_long_the_names_of_reducers_and_fields_are(
    client: Client, accept: str
) -> None:
    reducers = [f'Internal,{number:03}{chr(1) * 20_000},STUDENT:s' for number in range(600)]
    fields = [f'Internal,m.r,F{number:05}{"f" * 300}:x,STUDENT:s' for number in range(3000)]
    long = [f'External,m.long,STUDENT:{number:02}{"k" * 300_000}' for number in range(40)]
    await KVS().commit_bytes(dict.fromkeys([*reducers, *fields, *long], b'1'), {})
    for path in (
        '/debug/kvs',
        '/debug/kvs/default?prefix=External',
        '/debug/kvs/default/reducers',
        '/debug/kvs/default/reducer?reducer=m.long',
        '/debug/kvs/default/class?reducers=m.long,m.r,m.other',
    ):
        status, body = await asked(client, path, accept=accept)
        assert (path, status) == (path, 200)
        assert len(body) < 16 * MB, path


async def test_keys_of_reducers_without_a_count_of_their_own_are_counted_together(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, 'MAX_GROUPS', 2)
    states = ('Internal', 'External')
    keys = [f'{state},m.r{n},STUDENT:{who}' for n in range(4) for who in 'ab' for state in states]
    await KVS().commit_bytes(dict.fromkeys([*keys, 'other'], b'1'), {})
    [card] = (await (await client.get('/debug/kvs')).json())['stores']
    assert (card['keys'], card['other_keys'], len(card['reducers'])) == (17, 1, 2)
    assert (card['further_reducers'], card['bytes']) == ({'internal': 4, 'external': 4}, 17)
    assert '8 keys of further reducers' in await (await client.get('/debug/kvs', headers={'Accept': PAGE})).text()

    async def total(**query: str) -> Any:
        found = await (await client.get('/debug/kvs/default', params={'limit': '1', **query})).json()
        return found['total'], found['counted']

    counted = {reducer['name'] for reducer in card['reducers']}
    for name in ('m.r0', 'm.r1', 'm.r2', 'm.r3'):
        assert await total(reducer=name) == ((4, 'exactly') if name in counted else (None, None))
    assert await total(state='Internal') == (8, 'exactly')
    assert await total(state='Other') == (1, 'exactly')


async def test_a_filter_as_long_as_a_key_is_in_few_links(client: Client) -> None:
    keys = [f'Internal,m.r{number},STUDENT:s' for number in range(400)]
    branches = [f'{"x" * 300_000}{number}:1' for number in range(50)]
    await KVS().commit_bytes(dict.fromkeys([*keys, *branches], b'1'), {})
    for query in ({'text': '%' * 300_000}, {'prefix': 'x' * 300_000}):
        for accept in (JSON, PAGE):
            form = '?format=' + ('json' if accept == JSON else 'html')
            status, body = await asked(client, '/debug/kvs/default' + form, urlencode(query).encode(), accept)
            assert status == 200
            assert len(body) < 16 * MB


@pytest.mark.parametrize(
    ('path', 'body'),
    [
        ('key', b'key=' + b'%41' * 2_600_000),
        ('key', b'key=' + b'%41' * 1_000_000),
        ('', b'text=' + b'%E6%BC%A2' * 340_000),
        ('', b'cursor=[' + b'0,' * 4_000_000 + b'null]'),
        ('', b'back=[[' + b'0,' * 4_000_000 + b'null]]'),
        ('part', b'key=k&path=[' + b'0,' * 4_000_000 + b'0]'),
    ],
    ids=['longer than a key', 'a key', 'a text', 'cursor', 'back', 'path'],
)
@pytest.mark.parametrize('client', ['stub'], indirect=True)
async def test_a_long_body_does_not_hold_the_loop(client: Client, path: str, body: bytes) -> None:
    await KVS().set('k', [1])
    url = f'/debug/kvs/default/{path}'.rstrip('/')
    await asked(client, '/debug/kvs/default', accept=PAGE)  # imports and templates
    for accept in (JSON, PAGE):
        async with turns() as seen:
            status, _ = await asked(client, url, body, accept)
        assert status in (200, 303, 400, 404)
        assert seen.longest < 0.1


@pytest.mark.parametrize(
    ('path', 'query'),
    [
        ('', {'cursor': '[NaN,null]'}),
        ('', {'cursor': '["default",0,NaN,null]'}),
        ('', {'cursor': '["default",0,null,null,null]'}),
        ('', {'cursor': '["default",0,"\\ud800",null]'}),
        ('', {'cursor': '["default",0.0,null,null]'}),
        ('', {'back': '[' + '0,' * 100_000 + '0]'}),
        ('', {'text': 'x' * (MB + 1)}),
        ('', {'text': 'x' * MB, 'prefix': 'y'}),
        ('/part', {'key': 'k', 'path': '[' + '0,' * 100_000 + '0]'}),
        ('/matches', {'key': 'k', 'text': 'x' * (MB + 1)}),
        ('/class', {'reducers': 'm.r,' + 'x' * 2000}),
        ('/class', {'reducers': 'm.r', 'fields': 'x' * 2001}),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.parametrize('client', ['stub'], indirect=True)
async def test_a_parameter_that_no_page_gives_is_status_400(client: Client, path: str, query: dict[str, str]) -> None:
    status, body = await asked(client, f'/debug/kvs/default{path}', urlencode(query).encode())
    assert (status, b'error' in body) == (400, True)
