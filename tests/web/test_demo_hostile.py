"""The demo server: pages of other sites, events that JSON cannot hold, and pages that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSServerHandshakeError, web
from aiohttp.test_utils import TestServer
from playwright.async_api import expect
from pytest_aiohttp.plugin import AiohttpServer

from devdata import class_page
from devdata.reducers import REDUCERS
from devdata.server import make_app
from learning_observer_kvs import failed_events
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stream_analytics.helpers import KeyField, KeyStateType, make_key, student_event_reducer
from tests.support.browser import chromium
from tests.support.demo import END, address, event, sent, settings, typed


@student_event_reducer(null_state=[])
async def keep_all(event: Any, internal_state: Any) -> Any:
    """Keep every event whole, whatever is in it."""
    internal_state.append(event['client'])
    return internal_state, len(internal_state)


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path) -> TestServer:
    return await aiohttp_server(make_app(settings(tmp_path), reducers=[*REDUCERS, keep_all]))


async def kept(student: str = 'bob') -> Any:
    return await KVS()[make_key(keep_all, {KeyField.STUDENT: student}, KeyStateType.EXTERNAL)]


# Pages of other sites


def origins(server: TestServer) -> list[str]:
    own = address(server)
    return [
        'https://evil.example',
        'null',
        own.replace('127.0.0.1', 'localhost'),
        own.replace('http', 'https'),
        own + '1',
        own + '.evil.example',
        'http://127.0.0.1',
        '',
    ]


async def test_a_page_of_another_site_can_neither_send_nor_follow_events(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    for origin in origins(server):
        with pytest.raises(WSServerHandshakeError) as refusal:
            await browser.ws_connect(f'{address(server)}/wsapi/in/', headers={'Origin': origin})
        assert refusal.value.status == 403
        for path in ('/class', '/class/changes', '/debug/kvs'):
            async with browser.get(f'{address(server)}{path}', headers={'Origin': origin}) as answer:
                assert answer.status == 403, (path, origin)
    async with browser.ws_connect(f'{address(server)}/wsapi/in/', headers={'Origin': address(server)}) as socket:
        await socket.send_json(event())
        await socket.send_json(END)
        await socket.receive()
    assert await kept() == 1


EVIL = """<!doctype html><title>evil</title><p id="log"></p><script>
const log = (text) => { document.getElementById('log').textContent += text + ' '; };
const socket = new WebSocket('ws://TARGET/wsapi/in/');
socket.onopen = () => { socket.send('{"event": "x", "auth": {"safe_user_id": "bob"}}'); log('socket-open'); };
socket.onerror = () => log('socket-refused');
const source = new EventSource('http://TARGET/class/changes');
source.onmessage = source.onopen = () => log('stream-open');
source.onerror = () => { source.close(); log('stream-refused'); };
</script>"""


async def test_a_hostile_page_in_a_real_browser_is_refused(server: TestServer, aiohttp_server: AiohttpServer) -> None:
    async def page_of_another_site(request: web.Request) -> web.Response:
        target = f'127.0.0.1:{server.port}'
        return web.Response(text=EVIL.replace('TARGET', target), content_type='text/html')

    app = web.Application()
    app.router.add_get('/', page_of_another_site)
    other = await aiohttp_server(app)
    async with chromium() as program:
        page = await program.new_page()
        await page.goto(address(other))
        await expect(page.locator('#log')).to_contain_text('socket-refused')
        await expect(page.locator('#log')).to_contain_text('stream-refused')
        assert 'open' not in await page.locator('#log').inner_text()
    assert await KVS().keys() == []


# Events that JSON cannot hold, or no store


def deep(levels: int, inside: str = '1') -> str:
    return '[' * levels + inside + ']' * levels


@pytest.mark.parametrize(
    'field',
    ['NaN', '-Infinity', '1e999', deep(300), deep(900), '{"a":' * 900 + 'NaN' + '}' * 900],
    ids=['NaN', 'Infinity', '1e999', '300 levels', '900 levels', '900 objects'],
)
@pytest.mark.parametrize('name', ['timestamp', 'title', 'auth'])
async def test_an_event_that_a_store_cannot_hold_is_kept_and_the_next_ones_are_processed(
    server: TestServer, browser: aiohttp.ClientSession, tmp_path: Path, field: str, name: str
) -> None:
    odd = typed('abc', title='ODD') | {'timestamp': 1, 'odd': 1}
    if name == 'auth':
        odd['auth'] = {'safe_user_id': 'bob', 'more': 'ODD'}
    text = (
        json.dumps(odd)
        .replace(
            '"ODD"' if name != 'timestamp' else '"timestamp": 1',
            '"timestamp": FIELD' if name == 'timestamp' else 'FIELD',
        )
        .replace('FIELD', field)
    )
    ended = await sent(server, browser, event(), text, event(), END)
    assert (ended.type, ended.data) == (aiohttp.WSMsgType.CLOSE, WSCloseCode.OK)
    assert await kept() == 2
    [path] = failed_events.find(tmp_path / 'failed')
    assert any('not_json' in json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    'message', [deep(100_000), '{"event": ' + deep(100_000) + '}', '{"event": "x", "n": ' + '1' * 5000 + '}']
)
async def test_a_message_that_cannot_be_parsed_ends_the_connection_with_a_reason(
    server: TestServer, browser: aiohttp.ClientSession, message: str
) -> None:
    ended = await sent(server, browser, event(), message)
    assert ended.data == WSCloseCode.INVALID_TEXT
    assert 'not JSON' in str(ended.extra)


@pytest.mark.parametrize(
    'student', ['\ud83d', 'x' * (2 << 20), 'a,STUDENT:b', '\x00', '[guests]', '..'], ids=lambda text: ascii(text[:20])
)
async def test_any_text_may_be_a_student(server: TestServer, browser: aiohttp.ClientSession, student: str) -> None:
    await sent(server, browser, event(student=student), event(student='bob'), END)
    assert (await kept(student), await kept()) == (1, 1)


async def test_events_without_a_student_or_a_document_are_left_out(
    server: TestServer, browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await sent(server, browser, event(student=None), event(student=''), event(), END)
    keys = await KVS().keys()
    assert all('STUDENT:bob' in key for key in keys)
    assert not any('reconstruct' in key for key in keys)
    assert not (tmp_path / 'failed').exists()


# Pages that do not read


async def test_a_page_that_does_not_read_is_disconnected_and_another_one_is_served(
    server: TestServer, browser: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_page, 'SEND_SECONDS', 3.0)
    monkeypatch.setattr(class_page, 'MAX_PAGES', 1)
    await sent(server, browser, *(typed('x' * 500_000, f'D{number}') for number in range(40)), END)
    loop = asyncio.get_running_loop()
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(('127.0.0.1', server.port))
        silent.setblocking(False)
        request = f'GET /class/changes HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n'
        await loop.sock_sendall(silent, request.encode())
        assert (await loop.sock_recv(silent, 100)).startswith(b'HTTP/1.1 200')
        statuses = []
        async with asyncio.timeout(100):
            while 200 not in statuses:
                async with browser.get(f'{address(server)}/class/changes') as response:
                    statuses.append(response.status)
        assert statuses[0] == 503
        received = 0
        while part := await loop.sock_recv(silent, 1 << 20):
            received += len(part)
        assert received < 20_000_000


async def test_open_pages_are_bounded(
    server: TestServer, browser: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_page, 'MAX_PAGES', 2)
    url = f'{address(server)}/class/changes'
    async with browser.get(url) as first, browser.get(url) as second, browser.get(url) as third:
        assert [first.status, second.status, third.status] == [200, 200, 503]
    async with browser.head(url) as head:
        assert head.status == 405
