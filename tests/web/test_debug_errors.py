"""``/debug/kvs``: whatever goes wrong is a page with the protective headers, and a mistake in the URL is status 400."""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug.answers import HEADERS
from learning_observer_kvs.errors import (
    Conflict,
    CrossSlot,
    KVSError,
    KVSNotConfigured,
    Overloaded,
    StoreUnavailable,
    WriteUnclear,
)
from learning_observer_kvs.kvs import KVS, InMemoryKVS, PersistentRedisKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app

HTML = {'Accept': 'text/html'}

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]


@pytest.fixture
def start(aiohttp_client: AiohttpClient, tmp_path: Path) -> Start:
    async def start(authorize: Any = None, below: str | None = None) -> Client:
        stores = {
            'default': {'type': 'stub'},
            'sqlite': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')},
            'files': {'type': 'filesystem', 'path': str(tmp_path / 'files')},
        }
        return await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}, authorize, below))

    return start


class Failing(InMemoryKVS):
    """A store of someone else's, whose every read fails."""

    error: Exception

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> Any:
        raise self.error

    async def _describe(self, keys: Any) -> Any:
        raise self.error


async def assert_error(client: Client, path: str, status: int, text: str, **options: Any) -> None:
    """As JSON and as HTML, with GET and HEAD, it is this error, and nothing of a traceback."""
    for method, headers in (('GET', {}), ('GET', HTML), ('HEAD', {}), ('HEAD', HTML)):
        answer = await client.request(method, path, headers=headers, allow_redirects=False, **options)
        body = html.unescape(await answer.text())
        assert answer.status == status, body
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert answer.content_type == ('text/html' if headers else 'application/json')
        assert text in body or method == 'HEAD'
        assert 'Traceback' not in body


@pytest.mark.parametrize(
    ('error', 'status', 'text'),
    [
        (StoreUnavailable('it is away'), 503, 'it is away'),
        (Overloaded('a queue is full'), 503, 'a queue is full'),
        (WriteUnclear('no reply came'), 503, 'no reply came'),
        (Conflict('others kept writing'), 409, 'others kept writing'),
        (CrossSlot('several slots'), 503, 'several slots'),
        (KVSNotConfigured('no such store'), 404, 'no such store'),
        (KVSError('something else'), 503, 'something else'),
        (ZeroDivisionError('a secret of a student'), 500, 'An unexpected error occurred'),
        (OSError('a secret of a student'), 500, 'An unexpected error occurred'),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_every_error_of_a_store_is_an_error_page(start: Start, error: Exception, status: int, text: str) -> None:
    client = await start()
    store = Failing()
    store.error = error
    KVS.add_item('failing', store)
    await assert_error(client, '/debug/kvs/failing', status, text)
    await assert_error(client, '/debug/kvs/failing/key?key=k', status, text)
    answer = await client.get('/debug/kvs/failing')
    assert 'a secret' not in await answer.text()
    assert ('Retry-After' in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    'command',
    [
        ['HSET', 'k', 'field', '1'],
        ['RPUSH', 'k', '1'],
        ['SADD', 'k', '1'],
        ['ZADD', 'k', '1', 'one'],
        ['XADD', 'k', '*', 'field', '1'],
    ],
    ids=lambda command: command[0],
)
async def test_a_redis_key_of_another_type_is_an_error_page(
    start: Start, redis: RedisConnection, command: list[str | bytes | int]
) -> None:
    client = await start()
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    await redis.ask(command)
    await assert_error(client, '/debug/kvs/redis/key?key=k', 409, 'not a string')
    assert [row['key'] for row in (await (await client.get('/debug/kvs/redis')).json())['keys']] == ['k']


@pytest.mark.parametrize('cursor', ['-1', 'x', '18446744073709551616', '9' * 21, '٣', '../..', '%00', '0x1'])
async def test_a_bad_cursor_of_redis_is_status_400(start: Start, redis: RedisConnection, cursor: str) -> None:
    client = await start()
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    await assert_error(client, f'/debug/kvs/redis?cursor={cursor}', 400, 'is not one of this list')
    inner = json.dumps(['redis', 0, cursor, None])
    await assert_error(client, f'/debug/kvs/redis?cursor={quote(inner)}', 400, 'is not the cursor of a page')
    inner = json.dumps(['redis', 0, '18446744073709551615', None])
    assert (await client.get(f'/debug/kvs/redis?cursor={quote(inner)}')).status == 200


@pytest.mark.parametrize('store', ['default', 'sqlite'])
async def test_a_cursor_of_another_prefix_is_status_400(start: Start, store: str) -> None:
    client = await start()
    await KVS[store].multiset({'a1': 1, 'a2': 2, 'b': 3})
    of_b, of_a1 = (quote(json.dumps([store, 0, key, None])) for key in ('b', 'a1'))
    await assert_error(client, f'/debug/kvs/{store}?prefix=a&cursor={of_b}', 400, 'is not the cursor of a page')
    following = await (await client.get(f'/debug/kvs/{store}?prefix=a&cursor={of_a1}')).json()
    assert [row['key'] for row in following['keys']] == ['a2']


@pytest.mark.parametrize('query', ['key=%FF', 'key=%ED%A0%80', 'key=a&other=%C3', '&'.join(['x=1'] * 101)])
async def test_a_query_that_is_not_utf_8_or_endless_is_status_400(start: Start, query: str) -> None:
    client = await start()
    await assert_error(client, f'/debug/kvs/default/key?{query}', 400, 'The URL')


@pytest.mark.parametrize('limit', ['1_0', '%2B5', '%205', '5%20', '٣', '0x5', '1' * 4000, '-1', '1e2', 'NaN'])
async def test_a_limit_is_digits_and_nothing_else(start: Start, limit: str) -> None:
    client = await start()
    answer = await client.get(f'/debug/kvs/default?limit={limit}')
    assert answer.status == 400
    assert len(await answer.text()) < 300


@pytest.mark.parametrize(
    'name', ['a b', 'é', 'a%2Fb', '%41', 'a?b#c', '<b>', 'static', 'stores', 'find', 'key', 'a&b=c', '+']
)
async def test_a_store_of_any_name_can_be_browsed(start: Start, name: str) -> None:
    client = await start()
    KVS.add_item(name, InMemoryKVS())
    await KVS[name].set('k', 1)
    text = await (await client.get('/debug/kvs', headers=HTML)).text()
    [link] = [
        html.unescape(part.split('"')[0]) for part in text.split('href="')[1:] if '">' + html.escape(name) + '<' in part
    ]
    text = await (await client.get(link, headers=HTML)).text()
    link = html.unescape(text.split('<a class="open" href="')[1].split('"')[0])
    answer = await client.get(link)
    assert (answer.status, (await answer.json())['value']) == (200, 1)


@pytest.mark.parametrize('below', ['', '/lo'])
async def test_a_slash_at_the_end_is_redirected_with_the_query(start: Start, below: str) -> None:
    client = await start(below=below or None)
    await KVS().set('a b', 1)
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=a%20b'):
        there, _, query = (below + path).partition('?')
        for method in ('GET', 'HEAD', 'POST'):
            asked = f'{there}/?{query}' if query else f'{there}/'
            answer = await client.request(method, asked, allow_redirects=False)
            assert (answer.status, answer.headers['Location']) == (308, below + path)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert (await client.get(asked)).status == 200


async def test_a_redirect_of_authorize_is_not_kept_by_the_browser(start: Start) -> None:
    def authorize(*arguments: object) -> bool:
        raise web.HTTPFound('/login', headers={'Cache-Control': 'private'})

    answer = await (await start(authorize)).get('/debug/kvs', allow_redirects=False)
    assert (answer.status, answer.headers['Location'], answer.headers['Cache-Control']) == (302, '/login', 'private')
    assert answer.headers['Referrer-Policy'] == 'no-referrer'


async def test_head_has_the_headers_of_get_and_no_body(start: Start) -> None:
    client = await start()
    await KVS().set('k', 'x' * 200_000)
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k', '/debug/kvs/static/kvs.css'):
        for headers in ({}, HTML):
            got, head = await client.get(path, headers=headers), await client.head(path, headers=headers)
            assert (head.status, head.headers['Content-Length']) == (200, got.headers['Content-Length'])
            assert {**head.headers, 'Date': ''} == {**got.headers, 'Date': ''}
            assert await head.read() == b''


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'https://evil.example'},
        {'Origin': 'null'},
        {'Origin': 'http://localhost:1'},
        {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors'},
        {'Sec-Fetch-Site': 'same-site', 'Sec-Fetch-Mode': 'cors'},
    ],
    ids=str,
)
async def test_a_page_of_another_site_gets_nothing(start: Start, headers: dict[str, str]) -> None:
    client = await start()
    await KVS().set('k', 1)
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k'):
        assert (await client.get(path, headers=headers)).status == 403
    assert (await client.post('/debug/kvs/default/key', data={'key': 'k'}, headers=headers)).status == 403


@pytest.mark.parametrize('mode', ['no-cors', 'cors', 'navigate'])
@pytest.mark.parametrize('site', ['cross-site', 'same-site'])
async def test_it_gets_nothing_either_where_authorize_knows_the_visitor(start: Start, site: str, mode: str) -> None:
    client = await start(lambda *arguments: True)
    await KVS().set('k', 1)
    headers = {'Sec-Fetch-Site': site, 'Sec-Fetch-Mode': mode}
    for path in ('', '/default', '/default/key?key=k', '/stores/find?text=k', '/stores/export?student=k'):
        answer = await client.get(f'/debug/kvs{path}', headers=headers)
        assert answer.status == (200 if mode == 'navigate' else 403)
        assert (await client.post(f'/debug/kvs{path}' if path else '/debug/kvs/default', headers=headers)).status == 403
    if mode != 'navigate':
        assert (await client.get('/debug/kvs/default/changes?key=k', headers=headers)).status == 403
    assert (await client.get('/debug/kvs', headers={'Sec-Fetch-Site': 'same-origin'})).status == 200


async def test_a_link_on_another_site_can_be_followed(start: Start) -> None:
    followed = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate'}
    client = await start()
    assert (await client.get('/debug/kvs', headers=followed)).status == 200
    assert (await client.post('/debug/kvs/default', headers=followed)).status == 403
