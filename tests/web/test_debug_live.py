"""``/debug/kvs`` live: a value page shows changes by any process; its streams are few, and end."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import Browser, Page, expect
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import live
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVS, InMemoryKVS
from tests.support.browser import chromium
from tests.support.debug_pages import make_app
from tests.support.programs import run

Client = TestClient[web.Request, web.Application]

KEY = 'External,m.words,STUDENT:ann'

STREAM = '/debug/kvs/default/changes'

SECOND_PROCESS = """
import asyncio, json, sys, time
from learning_observer_kvs.kvs import KVSRouter

async def main(settings, key, value):
    async with KVSRouter.from_settings(settings) as router:
        await router().set(key, {**value, 'at': time.time()})

asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
"""


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, settings: dict[str, Any], refused: set[str]) -> Client:
    client: Client = await aiohttp_client(make_app(settings, lambda request, action, *_: action not in refused))
    await KVS().set(KEY, {'words': 1})
    return client


async def next_event(response: aiohttp.ClientResponse) -> str:
    """The kind of the next event; ``''`` at the end of the stream."""
    async with asyncio.timeout(20):
        while line := await response.content.readline():
            if line.startswith(b'event: '):
                return line.decode().removeprefix('event: ').strip()
    return ''


def opened(client: Client, key: str = KEY) -> Any:
    return client.get(STREAM, params={'key': key})


# The stream


async def test_a_stream_says_when_its_key_changes_and_says_no_more(client: Client) -> None:
    async with opened(client) as response:
        assert (response.status, response.content_type) == (200, 'text/event-stream')
        assert response.headers['Cache-Control'] == 'no-store'
        assert await next_event(response) == 'opened'
        await KVS().set(KEY + 'a', {'words': 5})
        await KVS().set(KEY, {'words': 2})
        assert await next_event(response) == 'changed'
        assert await response.content.readline() == b'data:\n'
        await KVS().remove(KEY)
        assert await next_event(response) == 'changed'
        await KVS().close()
        assert await next_event(response) == ''


async def test_changes_of_other_keys_send_nothing(client: Client) -> None:
    async with opened(client) as response:
        assert await next_event(response) == 'opened'
        await KVS().set(KEY + 'a', {'words': 5})
        await KVS().set(KEY[:-1], {'words': 5})
        await KVS().close()
        assert await next_event(response) == ''


async def test_many_changes_are_few_events(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, 'PAUSE_SECONDS', 0.5)
    async with opened(client) as response:
        assert await next_event(response) == 'opened'
        began, events = time.monotonic(), 0

        async def count() -> None:
            nonlocal events
            while await next_event(response):
                events += 1

        counting = asyncio.create_task(count())
        for number in range(500):
            await KVS().set(KEY, {'words': number})
        seconds = time.monotonic() - began
        await KVS().close()
        await counting
        assert 1 <= events <= 2 + seconds / 0.5


async def test_a_commit_of_another_process_is_said_soon(client: Client, settings: dict[str, Any]) -> None:
    async with opened(client) as response:
        assert await next_event(response) == 'opened'
        running = asyncio.create_task(asyncio.to_thread(run, SECOND_PROCESS, json.dumps(settings), KEY, '{"words": 3}'))
        assert await next_event(response) == 'changed'
        now = time.time()
        value: Any = await KVS()[KEY]
        assert now - value['at'] < 10  # the disk may be slow
        await running


@pytest.mark.parametrize(
    ('path', 'query', 'status'),
    [
        (STREAM, {}, 400),
        ('/debug/kvs/missing/changes', {'key': KEY}, 404),
    ],
)
async def test_a_stream_that_cannot_be_is_an_error(
    client: Client, path: str, query: dict[str, str], status: int
) -> None:
    async with client.get(path, params=query) as answer:
        assert answer.status == status
        assert (await answer.json())['error']


async def test_who_may_not_read_a_value_gets_no_stream(client: Client, refused: set[str]) -> None:
    refused.add('read')
    async with opened(client) as answer:
        assert answer.status == 403
    for method in ('post', 'put', 'head'):
        assert (await client.request(method, STREAM, params={'key': KEY})).status == 405


# Bounds and ends


async def test_streams_are_few_and_a_reader_that_goes_makes_way(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, 'MAX_STREAMS_OF_ONE_CLIENT', 3)
    monkeypatch.setattr(live, 'LOOK_SECONDS', 0.05)
    async with AsyncExitStack() as streams:
        for _ in range(3):
            assert await next_event(await streams.enter_async_context(opened(client))) == 'opened'
        async with opened(client) as answer:
            assert answer.status == 503
            assert 'Too many pages' in (await answer.json())['error']
            assert answer.headers['Retry-After'] == '10'
    async with asyncio.timeout(20):
        while True:
            async with opened(client) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)
    monkeypatch.setattr(live, 'MAX_STREAMS', 0)
    async with opened(client) as answer:
        assert answer.status == 503


async def test_a_stream_ends_after_a_while(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, 'STREAM_SECONDS', 2.0)
    async with opened(client) as response:
        assert await next_event(response) == 'opened'
        assert await next_event(response) == ''


async def test_something_is_sent_while_nothing_changes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, 'LOOK_SECONDS', 0.02)
    monkeypatch.setattr(live, 'BEAT_SECONDS', 0.1)
    async with opened(client) as response:
        assert await next_event(response) == 'opened'
        assert [await response.content.readline() for _ in range(4)] == [b'data:\n', b'\n', b':\n', b'\n']


async def test_a_server_stops_at_once_with_ten_open_streams(
    aiohttp_client: AiohttpClient, settings: dict[str, Any]
) -> None:
    client: Client = await aiohttp_client(make_app(settings, lambda *_: True))
    async with AsyncExitStack() as streams:
        responses = [await streams.enter_async_context(opened(client)) for _ in range(10)]
        for response in responses:
            assert await next_event(response) == 'opened'
        began = time.monotonic()
        server = client.server
        assert isinstance(server, TestServer)
        assert server.runner is not None
        await server.runner.cleanup()
        assert time.monotonic() - began < 20
        assert [await next_event(response) for response in responses] == [''] * 10


async def test_a_stream_of_a_store_whose_changes_cannot_be_seen_is_an_error(client: Client) -> None:
    class Blind(InMemoryKVS):
        """A store that cannot say what changes."""

        def changes(self, prefix: Any = '') -> Any:
            raise StoreUnavailable('gone fishing.')

    KVS.add_item('blind', Blind())
    answer = await client.get('/debug/kvs/blind/changes', params={'key': 'k'})
    assert answer.status == 503
    assert 'gone fishing' in (await answer.json())['error']


# The page


@pytest.fixture
async def chrome() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def page(chrome: Browser, client: Client) -> Page:
    """A real browser that shows the value, live."""
    page = await (await chrome.new_context()).new_page()
    await page.goto(address(client))
    await expect(page.get_by_role('status')).to_have_text('Live')
    return page


def address(client: Client) -> str:
    return str(client.make_url('/debug/kvs/default/key').with_query({'key': KEY}))


async def test_an_open_page_shows_what_a_second_process_writes_and_lights_up_what_is_new(
    client: Client, page: Page, settings: dict[str, Any]
) -> None:
    await KVS().set(KEY, {'words': 1, 'list': [1, 2, 3], 'text': 'one three'})
    await expect(page.locator('#value')).to_contain_text('one three')
    value = '{"words": 1, "list": [1, 2, 3, 4], "text": "one two three", "name": "<b>"}'
    await asyncio.to_thread(run, SECOND_PROCESS, json.dumps(settings), KEY, value)
    await expect(page.locator('.lit')).to_have_count(4)
    lit = await page.locator('.lit').all_text_contents()
    assert [text.strip() for text in lit[:3]] == ['3 4', 'text one two three', 'name <b>']
    assert 'at' in lit[3]
    await expect(page.get_by_role('status')).to_contain_text('4 differences')
    description = await KVS().describe(KEY)
    assert description is not None
    await expect(page.locator('#facts')).to_contain_text(str(description.bytes))


async def test_the_page_shows_a_commit_of_another_process_within_a_second(
    client: Client, page: Page, settings: dict[str, Any]
) -> None:
    await page.evaluate("""() => { window.seen = new Promise((resolve) => {
      new MutationObserver(() => { if (document.querySelector('.lit')) resolve(Date.now() / 1000); })
        .observe(document.body, { childList: true, subtree: true }); }); }""")
    await asyncio.to_thread(run, SECOND_PROCESS, json.dumps(settings), KEY, '{"words": 3}')
    seen = await page.evaluate('window.seen')
    value: Any = await KVS()[KEY]
    assert seen - value['at'] < 1


async def test_the_versions_since_the_page_was_opened_are_kept_as_differences(client: Client, page: Page) -> None:
    versions = page.locator('#versions ol > li')
    await expect(page.locator('#versions')).to_be_hidden()
    for number, value in enumerate(
        [{'words': 2, 'text': 'Once'}, {'words': 2, 'text': 'Once upon'}, {'text': 'Once upon', 'deep': {'a': [None]}}],
        1,
    ):
        await KVS().set(KEY, value)
        await expect(versions).to_have_count(number)
    for version in await versions.all():
        if not await version.locator('.difference').is_visible():
            await version.locator('summary').click()
    texts = [' '.join((await each.locator('.difference').inner_text()).split()) for each in await versions.all()]
    assert texts == [
        '$.deep.a[0] null $.words 2',
        '$.text Once upon',
        '$.words 1 → 2 $.text Once',
    ]
    assert await versions.nth(1).locator('ins').all_text_contents() == [' upon']
    assert await versions.nth(0).locator('del').all_text_contents() == ['2']


async def test_the_versions_that_a_page_keeps_are_few_and_short(client: Client, page: Page) -> None:
    versions = page.locator('#versions ol > li')
    await page.evaluate(
        """async () => {
      const { Versions } = await import('/debug/kvs/static/versions.js');
      const versions = new Versions(document.querySelector('#versions'));
      const row = { path: '$.a', before: 'a', after: 'b' };
      for (let number = 0; number < 60; number++) versions.add([row], 'now', '1');
    }"""
    )
    await expect(versions).to_have_count(50)
    await page.evaluate(
        """async () => {
      const { Versions } = await import('/debug/kvs/static/versions.js');
      const section = document.querySelector('#versions');
      section.querySelector('ol').replaceChildren();
      const versions = new Versions(section);
      const row = { path: '$[1]', before: undefined, after: 'x'.repeat(9000) };
      const rows = new Array(500).fill(row);
      for (let number = 0; number < 10; number++) versions.add(rows, 'now', '500');
    }"""
    )
    await expect(versions).to_have_count(2)
    await expect(versions.first).to_contain_text('and 400 more')
    assert len(await page.locator('#versions').text_content() or '') < 1_000_000


async def test_what_is_collapsed_stays_so_and_what_was_opened_stays_open(client: Client, page: Page) -> None:
    await KVS().set(KEY, {'a': {'x': 1}, 'long': [[number] for number in range(300)]})
    collapsed = page.locator('li[data-step=\'"a"\'] > details')
    await collapsed.locator('summary').click()
    inner = page.locator("li[data-step='7'] > details")
    await inner.locator('summary').click()
    await KVS().set(KEY, {'a': {'x': 2}, 'long': [[number + 1] for number in range(300)]})
    await expect(inner.locator('.v')).to_have_text('8')
    await expect(collapsed).not_to_have_attribute('open', '')
    await expect(collapsed.locator('summary')).to_have_class(re.compile('lit'))


async def test_a_paused_page_stays_and_shows_the_change_when_it_goes_on(client: Client, page: Page) -> None:
    await page.get_by_role('button', name='Pause').click()
    await expect(page.get_by_role('status')).to_have_text('Paused')
    await KVS().set(KEY, {'words': 2})
    other = await page.context.new_page()
    await other.goto(address(client))
    await expect(other.get_by_role('status')).to_have_text('Live')
    await KVS().set(KEY, {'words': 3})
    await expect(other.locator('.lit .v')).to_have_text('3')
    await other.close()
    await expect(page.locator('#value .v')).to_have_text('1')
    await page.get_by_role('button', name='Go on').click()
    await expect(page.locator('.lit .v')).to_have_text('3')


async def test_a_key_that_is_removed_and_comes_back_is_seen(client: Client, page: Page) -> None:
    await KVS().remove(KEY)
    await expect(page.get_by_role('status')).to_contain_text('not there any more')
    await KVS().set(KEY, {'words': 1})
    await expect(page.get_by_role('status')).to_contain_text('Changed at')


async def test_a_change_stays_masked_and_is_in_the_audit(
    client: Client, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level('INFO', logger='learning_observer_kvs.audit'):
        await KVS().set(KEY, {'token': 'secret', 'words': '<img src=x>'})
        await expect(page.locator('#value')).to_contain_text('(hidden)')
    assert 'secret' not in await page.content()
    assert await page.locator('#value img').count() == 0
    assert any(json.loads(message)['key'] == KEY for message in caplog.messages)


async def test_a_page_says_when_it_is_not_live_any_more(client: Client, page: Page, refused: set[str]) -> None:
    refused.add('read')
    await KVS().set(KEY, {'words': 2})
    await expect(page.get_by_role('status')).to_contain_text('Not live: You may not read')
    await expect(page.locator('#value .v')).to_have_text('1')


async def test_without_scripts_the_page_shows_the_value_and_nothing_live(client: Client, chrome: Browser) -> None:
    context = await chrome.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(address(client))
    await expect(page.locator('#value .v')).to_have_text('1')
    await expect(page.get_by_role('button', name='Pause')).to_be_hidden()


async def test_the_page_of_a_key_that_is_too_long_for_a_stream_is_not_live(client: Client) -> None:
    long = 'é' * 2000
    await KVS().set(long, 1)
    answer = await client.post('/debug/kvs/default/key', data={'key': long}, headers={'Accept': 'text/html'})
    assert answer.status == 200
    text = await answer.text()
    assert 'id="live"' not in text
