"""The class page: its stream has only changes, its texts are never markup, and a real browser follows it live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, expect
from pytest_aiohttp.plugin import AiohttpServer

from devdata.server import make_app
from devdata.sessions import units
from tests.support.browser import chromium
from tests.support.demo import END, address, event, next_message, sent, settings, typed
from tests.support.programs import run
from tests.support.redis_server import free_port


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path) -> TestServer:
    return await aiohttp_server(make_app(settings(tmp_path)))


async def test_the_stream_sends_everything_once_and_then_only_changes(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    await sent(server, browser, typed('one two', 'A'), typed('three', 'B'), event(student='ann'), END)
    async with browser.get(f'{address(server)}/class/changes') as response:
        assert response.content_type == 'text/event-stream'
        kind, rows = await next_message(response.content)
        assert (kind, [row['student'] for row in rows]) == ('everything', ['ann', 'bob'])
        assert rows[1]['documents']['A'] == {'title': 'Essay', 'text': 'one two', 'words': 2}
        assert rows[1]['current'] == 'B'

        await sent(server, browser, typed('!', 'A', at=8), END)
        current, documents = 'B', dict[str, Any]()
        while current != 'A' or not documents:  # they are states of two reducers, and may come one after the other
            kind, [row] = await next_message(response.content)
            assert (kind, row['student']) == ('changed', 'bob')
            current, documents = row['current'], documents | row['documents']
        assert documents == {'A': {'title': 'Essay', 'text': 'one two!', 'words': 2}}


SECOND_PROCESS = """
import asyncio, json, sys
from devdata.reducers import REDUCERS
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.event_pipeline import event_pipeline

async def main(settings, event):
    async with KVSRouter.from_settings(settings) as router:
        pipeline = await event_pipeline(REDUCERS, event['metadata'], router=router)
        assert all(outcome.error is None for outcome in await pipeline.outcomes(event))

asyncio.run(main(*map(json.loads, sys.argv[1:])))
"""


async def test_an_open_page_shows_what_a_second_process_writes(
    server: TestServer, browser: aiohttp.ClientSession, tmp_path: Path, page: Page
) -> None:
    await sent(server, browser, typed('here'), END)
    await expect(page.locator('.card .text')).to_have_text('here')
    client = typed(' and there', at=5)
    metadata = {'source': 'org.mitros.writing_analytics', 'auth': {'user_id': 'bob', 'safe_user_id': 'bob'}}
    event = {'client': client, 'server': {'time': 1_700_000_000.0}, 'metadata': metadata}
    await asyncio.to_thread(run, SECOND_PROCESS, json.dumps(settings(tmp_path)), json.dumps(event))
    await expect(page.locator('.card .text')).to_have_text('here and there')


async def test_a_server_stops_without_waiting_for_open_pages(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    async with (
        browser.get(f'{address(server)}/class/changes') as response,
        browser.ws_connect(f'{address(server)}/wsapi/in/') as socket,
    ):
        await next_message(response.content)
        async with asyncio.timeout(30):
            _, message = await asyncio.gather(server.close(), socket.receive())
        assert message.data == WSCloseCode.GOING_AWAY


@pytest.fixture
async def page(server: TestServer) -> AsyncIterator[Page]:
    """The class page in a real browser; no error may occur in it."""
    errors: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on('console', lambda message: errors.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('dialog', lambda dialog: errors.append(f'a script from a student was run: {dialog.message}'))
        await page.goto(address(server))
        await expect(page.locator('#link')).to_have_text('live')
        yield page
        assert errors == []


async def test_the_page_shows_the_text_growing_while_a_student_writes(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await expect(page.get_by_text('No student has written yet')).to_be_visible()
    async with browser.ws_connect(f'{address(server)}/wsapi/in/') as socket:
        written = ''
        for part in ['My text ', 'grows while ', 'I write 😀', '.']:
            await socket.send_json(
                typed(part, at=units(written) + 1, timestamp=1_700_000_000_000 + len(written) * 1000)
            )
            written += part
            await expect(page.locator('.card .text')).to_have_text(written)
    await expect(page.get_by_role('button', name='bob')).to_be_visible()
    await expect(page.locator('.card .title')).to_have_text('Essay')
    await expect(page.locator('.card .words')).to_have_text('7')
    await expect(page.locator('.card .time')).to_have_text('0:29')
    await expect(page.locator('#sum-students')).to_have_text('1')


async def test_the_page_shows_who_is_writing_pausing_and_away(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await page.clock.set_fixed_time(now)
    await sent(server, browser, typed('a'), END)
    for seconds, state, writing in [(0, 'writing', 1), (5, 'pausing', 0), (61, 'away', 0)]:
        await page.clock.set_fixed_time(now + timedelta(seconds=seconds))
        await expect(page.locator('.card .state')).to_have_text(state)
        await expect(page.locator('#sum-writing')).to_have_text(str(writing))


async def test_the_page_sorts_by_the_chosen_order(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await sent(server, browser, typed('a b'), typed('a b c', student='cleo'), typed('a', student='ann'), END)
    names = page.locator('.card .open')
    await expect(names).to_have_text(['ann', 'bob', 'cleo'])
    await page.get_by_label('Sort by').select_option('words')
    await expect(names).to_have_text(['cleo', 'bob', 'ann'])


HOSTILE = '<img src=x onerror=alert(1)><script>alert(2)</script>\u2028</textarea>"\'`${alert(3)}'


async def test_hostile_text_is_shown_as_text(server: TestServer, browser: aiohttp.ClientSession, page: Page) -> None:
    await sent(server, browser, typed(HOSTILE, student=HOSTILE, title=HOSTILE), END)
    await expect(page.locator('.card .text')).to_have_text(HOSTILE)
    await expect(page.locator('.card .title')).to_have_text(HOSTILE)
    await page.get_by_role('button', name=HOSTILE).click()
    await expect(page.get_by_role('dialog')).to_contain_text(HOSTILE)
    assert await page.locator('main img, dialog img, main script, dialog script').count() == 0
    response = await browser.get(address(server))
    assert "default-src 'none'" in response.headers['Content-Security-Policy']
    assert 'unsafe' not in response.headers['Content-Security-Policy']


async def test_the_whole_text_can_be_read_while_it_grows(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await sent(server, browser, typed('first', 'A'), typed('second', 'B', title='Notes'), END)
    await page.get_by_role('button', name='bob').press('Enter')
    dialog = page.get_by_role('dialog')
    text = dialog.get_by_role('region', name='Text')
    await expect(text).to_have_text('second')
    await dialog.get_by_role('button', name='Essay').click()
    await expect(text).to_have_text('first')
    await sent(server, browser, typed(' of all', 'A', at=6), END)
    await expect(text).to_have_text('first of all')
    await page.keyboard.press('Escape')
    await expect(dialog).to_be_hidden()


async def test_the_page_reconnects_when_the_server_is_back(
    aiohttp_server: AiohttpServer, browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    config = settings(tmp_path)
    port = free_port()  # which no other process is given meanwhile
    first = await aiohttp_server(make_app(config), port=port)
    await sent(first, browser, typed('kept'), END)
    async with chromium() as program:
        page = await program.new_page()
        await page.goto(address(first))
        await expect(page.locator('#link')).to_have_text('live')
        await first.close()
        await expect(page.locator('#link')).to_have_text('reconnecting')
        again = TestServer(make_app(config), port=port)
        async with again:
            await sent(again, browser, typed(' and more', at=5), END)
            await expect(page.locator('#link')).to_have_text('live')
            await expect(page.locator('.card .text')).to_have_text('kept and more')


async def test_a_click_anywhere_on_a_card_opens_the_text_of_its_student(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await sent(server, browser, typed('first words of it'), END)
    await expect(page.locator('.card .text')).to_have_text('first words of it')
    for place in ('.card .text', '.card .words', '.card .title', '.card .face'):
        box = await page.locator(place).bounding_box()
        assert box is not None
        await page.mouse.click(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
        await expect(page.get_by_role('dialog')).to_contain_text('first words of it')
        await page.keyboard.press('Escape')
        await expect(page.get_by_role('dialog')).to_be_hidden()


CONTRASTS = """() => {
  const card = document.querySelector('.card'), face = card.querySelector('.face');
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const luminance = (color) => {
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return Array.from({ length: 360 }, (_, hue) => {
    card.style.setProperty('--hue', hue);
    const style = getComputedStyle(face);
    const [dark, light] = [luminance(style.color), luminance(style.backgroundColor)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  });
}"""


async def test_the_initials_of_every_student_can_be_read(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await sent(server, browser, typed('a'), END)
    await expect(page.locator('.card')).to_be_visible()
    for scheme in ('light', 'dark'):
        await page.emulate_media(color_scheme=scheme)
        assert min(await page.evaluate(CONTRASTS)) >= 4.5


async def test_a_card_and_a_text_are_read_on_a_phone(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    title = 'A title that is longer than a phone is wide, and then some'
    await sent(server, browser, typed('word ' * 300, title=title), typed('brief', student='ann'), END)
    await page.set_viewport_size({'width': 390, 'height': 800})
    await expect(page.locator('.card')).to_have_count(2)
    assert await page.evaluate('document.documentElement.scrollWidth') <= 390
    for card in await page.locator('.card').all():
        assert await card.locator('.title').evaluate('title => title.scrollWidth <= title.clientWidth')
        size = await card.locator('.text').evaluate('text => parseFloat(getComputedStyle(text).fontSize)')
        assert size >= 16
    await page.get_by_role('button', name='bob').click()
    box = await page.get_by_role('dialog').bounding_box()
    assert box is not None
    assert (box['x'], box['width']) == (0, 390)
    await sent(server, browser, *(typed('more', f'D{number}', title='Many documents') for number in range(40)), END)
    await expect(page.locator('.documents button')).to_have_count(41)
    text = await page.get_by_role('dialog').locator('.text').bounding_box()
    assert text is not None
    assert text['height'] > 400
    assert await page.evaluate('document.documentElement.scrollWidth') <= 390
