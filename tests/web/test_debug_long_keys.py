"""``/debug/kvs``: keys, prefixes and cursors that are too long for a URL are sent in the body of a POST."""

from __future__ import annotations

import html
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from playwright.async_api import ConsoleMessage, Page, expect
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from learning_observer_kvs.debug import parameters, views
from learning_observer_kvs.kvs import KVS
from tests.support.browser import chromium

HTML = {'Accept': 'text/html'}

ESSAY = 'Q: what & why?\r\nA + B = "C" <b>\n\n\ttabs, \r alone, é 漢 😀 100%25 &amp; ' + 'words and words. ' * 600
"""Over 8 KB, with all that a URL, a form or a page could change."""

LONGEST = '漢' * ((1 << 20) // 3)
"""The longest key, with the longest percent-encoding."""

INTERNAL = f'Internal,writing.memo,EventField.doc_id:{"1AbC" * 3000},STUDENT:ann'
EXTERNAL = f'External,writing.memo,EventField.doc_id:{"1AbC" * 3000},STUDENT:ann'

Client = TestClient[web.Request, web.Application]


@pytest.fixture(params=['stub', 'sqlite', 'filesystem'])
async def client(request: pytest.FixtureRequest, aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    path = {} if request.param == 'stub' else {'path': str(tmp_path / 'data')}
    app = web.Application()
    config = {'kvs': {'default': {'type': request.param, **path}}, 'config': {'run_mode': 'dev'}}
    learning_observer_kvs.setup(app, config)
    return await aiohttp_client(app)


async def posted(client: Client, path: str, **fields: str) -> Any:
    answer = await client.post(path, data=io.BytesIO(urlencode(fields).encode()))
    assert answer.status == 200, await answer.text()
    return await answer.json()


@pytest.mark.parametrize('key', [ESSAY, LONGEST, '\n' * 9000, '%' * 9000, '+&=' * 3000], ids=len)
async def test_a_long_key_is_shown_by_a_post(client: Client, key: str) -> None:
    await KVS().set(key, {'n': 1})
    found = await posted(client, '/debug/kvs/default/key', key=key)
    assert (found['key'], found['value']) == (key, {'n': 1})
    answer = await client.post(
        '/debug/kvs/default/key', data=io.BytesIO(urlencode({'key': key}).encode()), headers=HTML
    )
    assert (answer.status, answer.content_type) == (200, 'text/html')


async def test_a_store_of_long_keys_is_listed_page_by_page(client: Client) -> None:
    keys = {f'{number:03}{ESSAY}' for number in range(40)}
    await KVS().multiset(dict.fromkeys(keys, 0))
    seen: list[str] = []
    page = await posted(client, '/debug/kvs/default', limit='15', prefix='0')
    seen += [row['key'] for row in page['keys']]
    while page['next_cursor'] is not None:
        page = await posted(client, '/debug/kvs/default', limit='15', prefix='0', cursor=page['next_cursor'])
        seen += [row['key'] for row in page['keys']]
    assert (len(seen), set(seen)) == (40, keys)
    found = await posted(client, '/debug/kvs/default', prefix='007' + ESSAY)
    assert [row['key'] for row in found['keys']] == ['007' + ESSAY]


async def test_a_page_of_very_long_keys_is_bounded_and_none_is_left_out(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, 'KEY_CHARACTERS', 50_000)
    keys = {f'{number:03}{"x" * 9_000}' for number in range(30)} | {f'{number:03}{"x" * 60_000}' for number in (40, 41)}
    await KVS().multiset(dict.fromkeys(keys, 0))
    seen: list[str] = []
    cursor = ''
    while cursor is not None:
        page = await posted(client, '/debug/kvs/default', limit='1000', cursor=cursor)
        found = [row['key'] for row in page['keys']]
        assert sum(map(len, found)) <= 50_000 or len(found) == 1
        seen += found
        cursor = page['next_cursor']
    assert (len(seen), set(seen)) == (32, keys)


async def test_the_page_of_a_short_query_has_a_url_also_if_it_was_posted(client: Client) -> None:
    answer = await client.post('/debug/kvs/default', data={'prefix': 'ü &', 'limit': '5'}, headers=HTML)
    assert (answer.status, answer.method, str(answer.url.relative())) == (
        200,
        'GET',
        '/debug/kvs/default?prefix=%C3%BC+%26&limit=5',
    )


async def test_a_body_is_bounded_and_utf_8(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, 'MAX_BODY', 100_000)
    for headers in ({}, HTML):
        answer = await client.post('/debug/kvs/default/key', data=b'key=' + b'x' * 100_000, headers=headers)
        assert answer.status == 413
        answer = await client.post('/debug/kvs/default/key', data=b'key=%FF', headers=headers)
        assert answer.status == 400
        answer = await client.post('/debug/kvs/default/key', data=b'key=\xff', headers=headers)
        assert answer.status == 400
        assert answer.headers['X-Content-Type-Options'] == 'nosniff'


async def test_a_long_key_is_cut_in_the_list_and_whole_on_its_own_page(client: Client) -> None:
    await KVS().set(ESSAY, 1)
    text = await (await client.get('/debug/kvs/default', headers=HTML)).text()
    assert f'… ({len(ESSAY):,} characters)' in text
    assert len(text) < 3 * len(ESSAY)
    text = await (await client.post('/debug/kvs/default/key', data={'key': ESSAY}, headers=HTML)).text()
    assert ESSAY in html.unescape(text)


@pytest.fixture
async def page(client: Client) -> AsyncIterator[Page]:
    """A real browser that shows the store; nothing but its own search for an icon may fail in it."""
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == 'error' and not message.location['url'].endswith('/favicon.ico'):
            errors.append(message.text)

    async with chromium() as browser:
        page = await browser.new_page()
        page.on('console', note)
        yield page
        assert errors == []


@pytest.mark.parametrize('client', ['sqlite'], indirect=True)
async def test_a_browser_follows_long_keys_cursors_and_counterparts(client: Client, page: Page) -> None:
    keys = {INTERNAL: 'inside', EXTERNAL: 'outside'} | {f'z{number}{ESSAY}': number for number in range(4)}
    await KVS().multiset(keys)
    await page.goto(str(client.make_url('/debug/kvs')))
    async with page.expect_navigation():
        await page.get_by_role('link', name='default').click()
    await page.get_by_label('Keys a page').fill('2')
    async with page.expect_navigation():
        await page.get_by_role('button', name='Set').click()
    assert page.url.endswith('?delimiter=%3A&prefix=&limit=2')
    async with page.expect_navigation():
        await page.locator('.key').get_by_role('button').first.click()
    await expect(page.locator('.v')).to_have_text(['outside', 'inside'])
    async with page.expect_navigation():
        await page.get_by_role('button', name='Internal').click()
    await expect(page.locator('.v')).to_have_text(['inside', 'outside'])
    assert await page.locator('details pre').text_content() == INTERNAL
    async with page.expect_navigation():
        await page.get_by_role('link', name='default').click()
    await page.get_by_label('Keys a page').fill('2')
    async with page.expect_navigation():
        await page.get_by_role('button', name='Set').click()
    for _ in range(2):
        async with page.expect_navigation():
            await page.locator('.more').click()
    async with page.expect_navigation():
        await page.locator('.key').get_by_role('button').last.click()
    await expect(page.locator('.v')).to_have_text('3')


@pytest.mark.parametrize('client', ['stub'], indirect=True)
async def test_a_browser_reaches_the_whole_of_a_large_value_of_a_long_key(client: Client, page: Page) -> None:
    value = {'text': 'x' * 150_000, 'list': list(range(250))}
    await KVS().set(ESSAY, value)
    await page.goto(str(client.make_url('/debug/kvs/default')))
    await page.locator('.key').get_by_role('button').click()
    await expect(page.get_by_role('button', name='Expand')).to_be_visible()  # the script runs
    has = "length => document.querySelector('.v.text').textContent.length === length"
    await page.wait_for_function(has, arg=4000)
    for characters in (4000 + (1 << 16), 4000 + (2 << 16), 150_000):
        await page.get_by_role('button', name='more characters').click()
        await page.wait_for_function(has, arg=characters)
    for count in (200, 250):
        await page.get_by_role('button', name='more items').click()
        await expect(page.locator('.v.number')).to_have_count(count)
    await page.get_by_label('Find in this value').fill('249')
    await page.locator('#found').get_by_role('button', name='$.list[249]').click()
    await expect(page.locator('.row.current')).to_have_text('249 249')
    await page.get_by_role('button', name='Raw').click()
    await page.wait_for_function('document.contentType === "application/json"')
    assert json.loads(await page.locator('pre').inner_text()) == value
