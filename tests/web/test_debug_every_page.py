"""Every page of the demo server in a real browser can be read: by eye, by ear and without a mouse, at every size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from playwright import async_api as browser
from playwright.async_api import expect
from pytest_aiohttp.plugin import AiohttpServer

from learning_observer_kvs import KVS_KEY
from learning_observer_kvs.kvs import PersistentRedisKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.browser import faultless_page, press_and_load
from tests.support.debug_value import KEY, OTHER, VALUE
from tests.support.readable import COLOURS, faults_of, hidden_focus, hidden_in_whole, hidden_in_window, violations
from tests.support.school import STUDENT, Page, fill, make_school, pages

WIDTHS = (390, 1280, 1600)

DEFAULT = '/debug/kvs/default'

LONG_MODULE = 'a_long_module.' * 6 + 'reducer'
LONG = f'Internal,{LONG_MODULE},EventField.doc_id:{"1AbCdEf" * 8},STUDENT:{"x" * 60}'
ENDLESS = 'prefix_without_an_end' * 9 + ':'

DIFFICULT: dict[str, Any] = {
    KEY: VALUE,
    OTHER: {**VALUE, 'words': 8, 'last': 'x' * 300},
    LONG: {'x' * 300: 'y' * 3000},
    'z' * 900: 'z' * 900,
    ENDLESS + '1': 1,
}

DIFFICULT_PAGES = [
    Page('two states that differ', f'{DEFAULT}/key', {'key': KEY}),
    Page('part of a list', f'{DEFAULT}/part', {'key': KEY, 'path': '["items"]'}),
    Page('fields of a class', f'{DEFAULT}/class', {'reducers': 'values.count', 'fields': 'text,words,auth,items,none'}),
    Page('value without a blank', f'{DEFAULT}/key', {'key': LONG}),
    Page('reducer without a blank', f'{DEFAULT}/reducer', {'reducer': LONG_MODULE}),
    Page('student without a blank', '/debug/kvs/stores/student', {'student': 'x' * 60}),
    Page('prefix without an end', DEFAULT, {'prefix': ENDLESS}),
    Page('keys by size', DEFAULT, {'sort': 'bytes', 'limit': '5'}),
]


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path) -> TestServer:
    app = make_school(tmp_path)
    server = await aiohttp_server(app)
    router = app[KVS_KEY]
    await fill(router, students=2)
    await router().multiset(DIFFICULT)
    away = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': 1})
    router.add_item('away', PersistentRedisKVS(connection=away))
    return server


@pytest.fixture
async def page() -> AsyncIterator[browser.Page]:
    async with faultless_page() as page:
        yield page


@pytest.mark.timeout(300)
@pytest.mark.parametrize('half', [0, 1])
async def test_axe_finds_nothing_and_no_text_is_cut_or_covered(
    server: TestServer, page: browser.Page, half: int
) -> None:
    for shown in [*await pages(server.app[KVS_KEY]), *DIFFICULT_PAGES][half::2]:
        await page.emulate_media(color_scheme='light', reduced_motion='reduce')
        await page.set_viewport_size({'width': WIDTHS[0], 'height': 900})
        await page.goto(shown.url(server.make_url('/')))
        await expect(page.get_by_role('heading', level=1)).to_be_visible()
        for width in WIDTHS:
            await page.set_viewport_size({'width': width, 'height': 900})
            assert await hidden_in_window(page) == [], (shown.name, width)
            if width != WIDTHS[1]:  # the narrowest and the widest differ from each other more than from what is between
                assert await violations(page) == [], (shown.name, width)
        assert await hidden_focus(page, presses=12) == [], shown.name
        await page.emulate_media(color_scheme='dark', reduced_motion='reduce')
        assert await violations(page, *COLOURS) == [], (shown.name, 'dark')


@pytest.mark.timeout(300)
async def test_no_text_is_cut_or_covered_in_a_picture_of_the_page_or_on_paper(
    server: TestServer, page: browser.Page
) -> None:
    await page.emulate_media(reduced_motion='reduce')
    for shown in [*await pages(server.app[KVS_KEY]), *DIFFICULT_PAGES]:
        await page.set_viewport_size({'width': 1000, 'height': 600})
        await page.goto(shown.url(server.make_url('/')))
        await expect(page.get_by_role('heading', level=1)).to_be_visible()
        if shown.name == 'two states that differ':
            await page.get_by_label('Find in this value').fill('number')
            await expect(page.locator('#found li').first).to_be_visible()
            await page.locator('.row').first.hover()
        for on_paper in (False, True):
            assert await hidden_in_whole(page, on_paper=on_paper) == [], (shown.name, on_paper)
        await page.emulate_media(media='screen')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
async def test_what_is_new_or_was_chosen_can_be_read(server: TestServer, page: browser.Page, scheme: Any) -> None:
    await page.emulate_media(color_scheme=scheme, reduced_motion='reduce')
    await page.goto(DIFFICULT_PAGES[0].url(server.make_url('/')))
    await expect(page.get_by_role('status')).to_have_text('Live')
    await server.app[KVS_KEY]().set(KEY, {**VALUE, 'words': 9, 'text': 'Other text', 'added': None, 'flag': True})
    await expect(page.locator('.lit').first).to_be_visible()
    await page.locator('.lit').first.click()
    await page.get_by_label('Find in this value').fill('text')
    await expect(page.locator('#found li').first).to_be_visible()
    await expect(page.locator('#versions .difference').first).to_be_visible()
    assert await faults_of(page) == []


async def test_a_value_of_a_student_is_reached_by_keys_and_links_lead_there_and_back(
    server: TestServer, page: browser.Page
) -> None:
    heading = page.get_by_role('heading', level=1)
    focused = page.locator(':focus')
    await page.goto(str(server.make_url('/debug/kvs')))
    await page.keyboard.press('/')
    await page.keyboard.type(STUDENT)
    await press_and_load(page, 'Enter')
    await expect(heading).to_have_text('Find')
    await page.keyboard.press('ArrowDown')
    await expect(focused).to_have_text(STUDENT)
    await press_and_load(page, 'Enter')
    await expect(heading).to_have_text(f'Student {STUDENT}')
    student = page.url
    while await focused.count() == 0 or await focused.inner_text() != 'External':
        await page.keyboard.press('Tab')
    await press_and_load(page, 'Enter')
    await expect(heading).to_contain_text('External,devdata.reducers.')
    value = page.url
    text = await page.locator('#value').inner_text()
    await page.go_back()
    await expect(heading).to_have_text(f'Student {STUDENT}')
    assert page.url == student
    await page.goto(value)
    assert await page.locator('#value').inner_text() == text
