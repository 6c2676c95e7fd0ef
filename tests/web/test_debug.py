"""``/debug/kvs``: the pages, as JSON and as HTML, and who may read them."""

from __future__ import annotations

import html
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import ClientResponse, HttpVersion, HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import TestClient, make_mocked_request
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug.access import is_local
from learning_observer_kvs.debug.parameters import MAX_LIMIT
from learning_observer_kvs.kvs import KVS, EphemeralRedisKVS, SQLiteKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app

HTML = {'Accept': 'text/html,application/xhtml+xml'}

INTERNAL = 'Internal,writing.reconstruct,EventField.doc_id:1AbC,STUDENT:ann'
EXTERNAL = 'External,writing.reconstruct,EventField.doc_id:1AbC,STUDENT:ann'

HOSTILE = [
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    'External,<b>m</b>.r,STUDENT:<i>ann</i>',
    'javascript:alert(1)',
    '{{ 7 * 7 }}',
    '../../default/key?key=x&y#z',
    'new\nline \x00 \x1b[31m',
    'é 漢 \U0001f600 %2F %00 +',
]

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def serve(aiohttp_client: AiohttpClient, tmp_path: Path) -> Serve:
    """A server with a stub and an SQLite store, by default in dev mode."""

    async def start(authorize: Any = None, *, run_mode: str | None = 'dev', below: str | None = None) -> Client:
        config: dict[str, Any] = {
            'kvs': {
                'default': {'type': 'stub'},
                'archive': {'type': 'sqlite', 'path': str(tmp_path / 'archive.sqlite3')},
            }
        }
        if run_mode is not None:
            config['config'] = {'run_mode': run_mode}
        return await aiohttp_client(make_app(config, authorize, below))

    return start


async def body(client: Client, path: str, **query: str) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == 'application/json'
    return await answer.json()


async def page(client: Client, path: str, **query: str) -> str:
    answer = await client.get(path, params=query, headers=HTML)
    assert answer.status == 200, await answer.text()
    assert (answer.content_type, answer.charset) == ('text/html', 'utf-8')
    return await answer.text()


# Views


async def test_the_stores_are_listed_with_type_and_location(serve: Serve, tmp_path: Path) -> None:
    client = await serve()
    found = await body(client, '/debug/kvs')
    assert [(store['name'], store['type'], store['location']) for store in found['stores']] == [
        ('default', 'stub', 'memory of this process'),
        ('archive', 'sqlite', str(tmp_path / 'archive.sqlite3')),
    ]
    text = await page(client, '/debug/kvs')
    assert 'href="/debug/kvs/archive">archive</a>' in text


@pytest.mark.parametrize('store', ['default', 'archive'])
async def test_keys_are_listed_page_by_page_with_their_parts(serve: Serve, store: str) -> None:
    client = await serve()
    await KVS[store].multiset({INTERNAL: 1, EXTERNAL: 2, 'memo': 3} | {f'n{number:03}': 0 for number in range(150)})
    first = await body(client, f'/debug/kvs/{store}')
    assert (len(first['keys']), first['limit'], first['filter']['prefix']) == (100, 100, '')
    second = await body(client, f'/debug/kvs/{store}', cursor=first['next_cursor'])
    assert second['next_cursor'] is None
    assert len({row['key'] for row in first['keys'] + second['keys']}) == 153
    found = await body(client, f'/debug/kvs/{store}', prefix='Internal,writing', limit='5')
    fields = {'EventField.doc_id': '1AbC', 'STUDENT': 'ann'}
    parts = {'key': INTERNAL, 'state': 'Internal', 'reducer': 'writing.reconstruct', 'fields': fields}
    [row] = found['keys']
    assert {name: row[name] for name in parts} == parts
    [row] = (await body(client, f'/debug/kvs/{store}', prefix='memo'))['keys']
    assert {name: row[name] for name in parts} == {'key': 'memo', 'state': None, 'reducer': None, 'fields': {}}


async def test_the_page_of_keys_links_to_values_and_the_next_page(serve: Serve) -> None:
    client = await serve()
    assert 'This store is empty.' in await page(client, '/debug/kvs/default')
    await KVS().multiset({f'n{number:03}': number for number in range(150)})
    text = await page(client, '/debug/kvs/default', prefix='n', limit='120')
    assert 'href="/debug/kvs/default/key?key=n000">n000</a>' in text
    more = html.unescape(text.split('class="more" href="')[1].split('"')[0])
    assert 'n149' in await page(client, more)
    assert 'No key begins with this prefix.' in await page(client, '/debug/kvs/default', prefix='x')


async def test_a_value_is_shown_with_its_description_and_its_counterpart(serve: Serve) -> None:
    client = await serve()
    await KVS['archive'].multiset({INTERNAL: {'at': [1, None, 'é']}, EXTERNAL: 2})
    found = await body(client, '/debug/kvs/archive/key', key=INTERNAL)
    assert found['value'] == {'at': [1, None, 'é']}
    assert (found['counterpart'], found['state'], found['bytes'], found['expires_in']) == (
        EXTERNAL,
        'Internal',
        20,
        None,
    )
    assert found['written'] > 0
    text = await page(client, '/debug/kvs/archive/key', key=INTERNAL)
    assert '>External</a>' in text
    assert '<span class="v text" data-size="1">é</span>' in text
    await KVS['archive'].remove(EXTERNAL)
    assert (await body(client, '/debug/kvs/archive/key', key=INTERNAL))['counterpart'] is None


@pytest.mark.parametrize(
    'value',
    [None, False, 0, '', [], {}, 'text', 2**70, 1.0, 'half an emoji \ud83d', {'\ud83d': ['\udead']}, 'x' * 10**6],
)
async def test_any_value_is_shown(serve: Serve, value: Any) -> None:
    client = await serve()
    await KVS().set('k', value)
    found = await body(client, '/debug/kvs/default/key', key='k')
    assert found['value'] == value
    assert type(found['value']) is type(value)
    assert await page(client, '/debug/kvs/default/key', key='k')


async def test_a_value_with_a_ttl_shows_when_it_expires(serve: Serve, redis: RedisConnection) -> None:
    client = await serve()
    KVS.add_item('cache', EphemeralRedisKVS(30, connection=redis))
    await KVS['cache'].set('k', 1)
    found = await body(client, '/debug/kvs/cache/key', key='k')
    assert 25 < found['expires_in'] <= 30
    assert 'Expires in' in await page(client, '/debug/kvs/cache/key', key='k')


async def test_a_value_that_is_not_json_is_shown_as_its_stored_bytes(serve: Serve) -> None:
    client = await serve()
    KVS()._texts['k'] = b'{"a": <b>\xff'  # type: ignore[attr-defined]
    found = await body(client, '/debug/kvs/default/key', key='k')
    assert 'is not JSON' in found['error']
    assert (found['value'], found['raw']) == (None, '{"a": <b>\\xff')
    assert '{&#34;a&#34;: &lt;b&gt;\\xff' in await page(client, '/debug/kvs/default/key', key='k')


# Hostile keys and values


@pytest.mark.parametrize('text', HOSTILE)
async def test_hostile_keys_and_values_are_text_on_every_page(serve: Serve, text: str) -> None:
    client = await serve()
    await KVS().set(text, {text: [text]})
    pages = [
        await page(client, '/debug/kvs/default'),
        await page(client, '/debug/kvs/default', prefix=text),
        await page(client, '/debug/kvs/default/key', key=text),
    ]
    for text_of_page in pages:
        for danger in ('<script>', '<img', '<b>m', '<i>ann', "' onmouseover", 'href="javascript', '49'):
            assert danger not in text_of_page.replace('width: 49', '')
        assert html.escape(text).replace('&#x27;', '&#39;').replace('&quot;', '&#34;') in text_of_page
    found = await body(client, '/debug/kvs/default/key', key=text)
    assert (found['key'], found['value']) == (text, {text: [text]})
    link = html.unescape(pages[0].split('<a class="open" href="')[1].split('"')[0])
    assert (await body(client, link + '&format=json'))['key'] == text


# HTML and JSON


async def test_browsers_get_html_and_other_clients_json_unless_format_says_otherwise(serve: Serve) -> None:
    client = await serve()
    assert (await client.get('/debug/kvs')).content_type == 'application/json'
    assert (await client.get('/debug/kvs', headers=HTML)).content_type == 'text/html'
    assert (await client.get('/debug/kvs?format=json', headers=HTML)).content_type == 'application/json'
    assert (await client.get('/debug/kvs?format=html')).content_type == 'text/html'


MISTAKES = [
    ('/debug/kvs/nobody', 404, "no store 'nobody'. There are: default, archive"),
    ('/debug/kvs/names', 404, "no store 'names'"),
    ('/debug/kvs/default/key?key=nobody', 404, 'no such key'),
    ('/debug/kvs/default/key', 400, 'empty'),
    ('/debug/kvs/default?limit=0', 400, f'from 1 to {MAX_LIMIT}'),
    ('/debug/kvs/default?limit=many', 400, 'limit is'),
    ('/debug/kvs/default?limit=', 400, 'limit is'),
    (f'/debug/kvs/default?limit={MAX_LIMIT + 1}', 400, 'limit is'),
]


@pytest.mark.parametrize(('path', 'status', 'text'), MISTAKES)
async def test_a_mistake_in_the_url_is_an_error_as_json_or_html(
    serve: Serve, path: str, status: int, text: str
) -> None:
    client = await serve()
    answer = await client.get(path)
    assert answer.status == status
    assert text in (await answer.json())['error']
    answer = await client.get(path, headers=HTML)
    assert (answer.status, answer.content_type) == (status, 'text/html')
    assert text in html.unescape(await answer.text())


async def test_a_store_that_is_unavailable_is_an_error_503(serve: Serve, tmp_path: Path) -> None:
    client = await serve()
    (tmp_path / 'folder').mkdir()
    KVS.add_item('gone', SQLiteKVS(tmp_path / 'folder'))
    answer = await client.get('/debug/kvs/gone')
    assert answer.status == 503
    assert 'it is a folder' in (await answer.json())['error']
    assert (await client.get('/debug/kvs')).status == 200


async def test_every_response_has_the_protective_headers(serve: Serve) -> None:
    client = await serve()
    await KVS().set('k', 1)
    paths = ['/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k', '/debug/kvs/static/kvs.css']
    for path in [*paths, *(mistake[0] for mistake in MISTAKES)]:
        for headers in ({}, HTML, {'Host': 'evil.example'}, {'Origin': 'https://evil.example'}):
            answer = await client.get(path, headers=headers)
            assert answer.headers['Cache-Control'] == 'no-store'
            assert answer.headers['X-Content-Type-Options'] == 'nosniff'
            assert answer.headers['Referrer-Policy'] == 'no-referrer'
            assert answer.headers['Cross-Origin-Resource-Policy'] == 'same-origin'
            assert answer.headers['Content-Security-Policy'].split('; ') == [
                "default-src 'none'",
                "style-src 'self'",
                "script-src 'self'",
                "connect-src 'self'",
                "img-src 'self'",
                "base-uri 'none'",
                "form-action 'self'",
                "frame-ancestors 'none'",
            ]
            assert 'Access-Control-Allow-Origin' not in answer.headers


async def test_pages_contain_nothing_that_the_policy_forbids(serve: Serve) -> None:
    client = await serve()
    await KVS().set('k', 1)
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k'):
        text = await page(client, path)
        assert 'style=' not in text
        assert '<style' not in text
        assert all(part.startswith(' type="module" src="/debug/kvs/static/') for part in text.split('<script')[1:])
        assert '://' not in text
    answer = await client.get('/debug/kvs/static/kvs.css')
    assert answer.content_type == 'text/css'


@pytest.mark.parametrize('method', ['post', 'put', 'delete', 'patch', 'options'])
async def test_no_method_changes_data(serve: Serve, method: str) -> None:
    client = await serve()
    await KVS().set('k', 1)
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k'):
        shows = method == 'post' and path != '/debug/kvs'  # its parameters may be too long for a URL
        answer = await client.request(method, path)
        assert answer.status == (200 if shows else 405)
        assert answer.headers['X-Content-Type-Options'] == 'nosniff'
    assert await KVS().dump() == {'k': 1}


# Who may read


@pytest.mark.parametrize('host', ['localhost', 'localhost:8888', '127.0.0.1', '127.9.9.9:80', '[::1]', '[::1]:8888'])
async def test_this_machine_is_allowed_under_its_own_names(serve: Serve, host: str) -> None:
    assert (await (await serve()).get('/debug/kvs', headers={'Host': host})).status == 200


@pytest.mark.parametrize(
    'headers',
    [
        {'Host': 'evil.example'},
        {'Host': 'evil.example:8888'},
        {'Host': 'localhost.evil.example'},
        {'Host': '127.0.0.1.evil.example'},
        {'Host': 'localhost@evil.example'},
        {'Host': ''},
        {'Host': '[::1'},
        {'Host': '10.0.0.1'},
        {'Host': '0.0.0.0'},
        {'X-Forwarded-For': '127.0.0.1'},
        {'X-Forwarded-Host': 'localhost'},
        {'X-Real-IP': '127.0.0.1'},
        {'Forwarded': 'for=127.0.0.1'},
        {'Via': '1.1 proxy'},
    ],
    ids=str,
)
async def test_other_hosts_and_proxies_are_not_allowed(serve: Serve, headers: dict[str, str]) -> None:
    client = await serve()
    await KVS().set('k', 'secret of a student')
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k', '/debug/kvs/nobody'):
        answer = await client.get(path, headers=headers)
        assert answer.status == 403
        assert 'You may not read this page' in (await answer.json())['error']


@pytest.mark.parametrize('peer', [('10.0.0.1', 5), ('::ffff:10.0.0.1', 5, 0, 0), ('fe80::1%eth0', 5, 0, 0), None, ''])
def test_a_peer_on_another_machine_is_not_local(peer: Any) -> None:
    assert not is_local(request_from(peer))


def test_requests_over_a_unix_socket_or_http_1_0_are_from_proxies() -> None:
    assert not is_local(request_from('/run/kvs.sock'))
    assert not is_local(request_from(('127.0.0.1', 5), HttpVersion10))


@pytest.mark.parametrize('peer', [('127.0.0.1', 5), ('::1', 5, 0, 0), ('::ffff:127.0.0.1', 5, 0, 0)])
def test_a_peer_on_this_machine_is_local(peer: Any) -> None:
    assert is_local(request_from(peer))


def request_from(peer: Any, version: HttpVersion = HttpVersion11) -> web.Request:
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: peer if name == 'peername' else default
    headers = {'Host': 'localhost'}
    return make_mocked_request('GET', '/debug/kvs', headers=headers, version=version, transport=transport)


@pytest.mark.parametrize('run_mode', ['deploy', 'interactive', None])
async def test_outside_dev_mode_the_pages_need_an_authorize_function_and_a_warning_says_so(
    serve: Serve, run_mode: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        client = await serve(run_mode=run_mode)
    assert '/debug/kvs is not served' in caplog.text
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/static/kvs.css'):
        assert (await client.get(path)).status == 404
        assert (await client.post(path)).status == 404


async def test_authorize_decides_in_every_mode_and_for_every_request(serve: Serve) -> None:
    asked: list[tuple[str, str, str | None]] = []

    async def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
        asked.append((action, store, key))
        return request.headers.get('X-Teacher') == 'yes'

    client = await serve(authorize, run_mode='deploy')
    await KVS().set('k', 1)
    teacher = {'X-Teacher': 'yes', 'Host': 'school.example', 'X-Forwarded-For': '10.0.0.1'}
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k'):
        assert (await client.get(path, headers=teacher)).status == 200
        assert (await client.get(path)).status == 403
    of_each_store = [('list', 'default', None), ('list', 'archive', None)]  # once the list of stores is allowed
    keys, value = ('list', 'default', None), ('read', 'default', 'k')  # the list shows the beginning of values
    assert asked == [('list', '', None), *of_each_store, ('list', '', None), keys, value, keys, value, value]


async def test_a_key_that_may_not_be_read_is_not_revealed(serve: Serve) -> None:
    client = await serve(lambda request, action, store, key: action == 'list')
    await KVS().set('k', 1)
    answers = [await client.get('/debug/kvs/default/key', params={'key': key}) for key in ('k', 'nobody', '')]
    assert [answer.status for answer in answers] == [403, 403, 403]
    assert len({await answer.text() for answer in answers}) == 1


def broken(*arguments: object) -> bool:
    raise ZeroDivisionError


async def broken_later(*arguments: object) -> bool:
    raise ZeroDivisionError


async def no_boolean_later(*arguments: object) -> Any:
    return 'yes'


@pytest.mark.parametrize(
    'authorize',
    [
        broken,
        broken_later,
        no_boolean_later,
        lambda *arguments: 'yes',
        lambda *arguments: 1,
        lambda *arguments: None,
        lambda *arguments: web.Response(),
        lambda request: True,
    ],
)
async def test_an_authorize_that_fails_or_returns_no_boolean_allows_no_request(serve: Serve, authorize: Any) -> None:
    client = await serve(authorize)
    for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key?key=k'):
        answer = await client.get(path)
        assert answer.status == 403
        assert 'ZeroDivision' not in await answer.text()


async def test_authorize_may_redirect_to_a_page_of_the_application(serve: Serve) -> None:
    def authorize(*arguments: object) -> bool:
        raise web.HTTPFound('/login')

    answer = await (await serve(authorize)).get('/debug/kvs', allow_redirects=False)
    assert answer.status == 302


# Mounted below a path


async def test_below_a_path_every_link_stays_below_it(serve: Serve) -> None:
    client = await serve(below='/lo')
    await KVS().multiset({INTERNAL: 1, EXTERNAL: 2})
    addresses = ['/lo/debug/kvs', '/lo/debug/kvs/default', '/lo/debug/kvs/default/key?key=' + INTERNAL]
    for address in addresses:
        text = await page(client, address)
        links = [part.split('"')[0] for mark in ('href="', 'action="') for part in text.split(mark)[1:]]
        assert links
        for link in links:
            link = address.partition('?')[0] if link == '#facets' else link
            query = '?text=ann' if link.endswith('/find') else '&text=ann' if '/matches?' in link else ''
            answer: ClientResponse = await client.get(html.unescape(link) + query)
            assert not answer.history
            assert link.startswith('/lo/debug/kvs')
            assert answer.status == 200
    assert (await client.get('/debug/kvs')).status == 404


async def test_json_has_the_same_value_as_the_page(serve: Serve) -> None:
    client = await serve()
    await KVS().set(EXTERNAL, {'words': 12})
    text = await page(client, '/debug/kvs/default/key', key=EXTERNAL)
    assert (await body(client, '/debug/kvs/default/key', key=EXTERNAL))['value'] == {'words': 12}
    assert '<span class="name">words</span> <span class="v number">12</span>' in text
