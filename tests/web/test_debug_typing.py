"""The keys of a store in a real browser: filtered as one types, by keyboard alone, and without JavaScript."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from playwright.async_api import Page, expect
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug.keys import listing as key_list
from learning_observer_kvs.debug.keys import pages as key_pages
from learning_observer_kvs.kvs import KVS
from tests.support.browser import chromium, faultless_page, press_and_load
from tests.support.debug_pages import make_app

Client = TestClient[web.Request, web.Application]

KEYS = {f'Internal,m.words,STUDENT:s{number:03}': {'n': number} for number in range(250)} | {
    'Internal,m.words,STUDENT:ann': {'essay': 'The zebra sleeps.'},
    'External,m.time,STUDENT:ann': 7,
}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    stores = {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    await KVS().multiset(KEYS)
    return client


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with faultless_page() as page:
        yield page


def box(page: Page) -> Any:
    return page.get_by_label('Filter /')


async def test_keys_are_filtered_as_one_types_and_the_filter_is_a_link(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url('/debug/kvs')))
    await page.goto(str(client.make_url('/debug/kvs/default?limit=50')))
    await page.keyboard.press('/')
    await page.keyboard.type('AnN')
    await expect(page.locator('tbody tr')).to_have_count(2)
    await expect(page.get_by_role('status')).to_have_text('1–2 of 2 · by key · 252 keys looked at')
    await expect(page.locator('tbody mark')).to_have_text(['ann', 'ann'])
    assert page.url.endswith('?text=AnN&limit=50')
    await page.reload()
    await expect(page.locator('tbody tr')).to_have_count(2)
    assert await box(page).input_value() == 'AnN'
    await page.get_by_role('navigation', name='Filters').get_by_role('link', name='External').click()
    await expect(page.locator('tbody tr')).to_have_count(1)
    async with page.expect_navigation():
        await page.get_by_role('link', name='state External ×').click()
    await expect(page.locator('tbody tr')).to_have_count(2)
    await box(page).fill('')
    await expect(page.locator('tbody tr')).to_have_count(50)


async def test_a_search_inside_values_says_how_far_it_is_and_goes_on_until_the_end(
    client: Client, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_pages, 'STEP_SECONDS', 1e-9)
    monkeypatch.setattr(key_list, 'READ_AT_ONCE', 20)
    await page.goto(str(client.make_url('/debug/kvs/default')))
    said: list[str] = []
    await page.expose_function('note', lambda text: said.append(text))
    await page.evaluate(
        "new MutationObserver(() => note(document.getElementById('status').textContent))"
        ".observe(document.getElementById('status'), { childList: true })"
    )
    await page.get_by_label('inside values, too').check()
    await box(page).fill('ZEBRA')
    await expect(page.get_by_role('status')).to_have_text('1–1 · 252 keys looked at')
    await expect(page.locator('tbody tr')).to_have_count(1)
    await expect(page.locator('tbody mark')).to_have_text(['zebra'])
    assert any('looked at, searching on' in text for text in said)
    await expect(page.locator('progress')).to_be_hidden()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)


async def test_what_was_asked_for_before_is_given_up_when_one_types_on(
    client: Client, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, gone = asyncio.Event(), asyncio.Event()
    read = key_pages.read

    async def slow(*arguments: Any) -> Any:
        *_, query, viewer = arguments
        if query.get('text') == 'slow':
            waiting.set()
            try:
                await until(viewer.has_gone)
            finally:  # or the server cancels the handler
                gone.set()
        return await read(*arguments)

    monkeypatch.setattr(key_pages, 'read', slow)
    await page.goto(str(client.make_url('/debug/kvs/default')))
    await box(page).fill('slow')
    await asyncio.wait_for(waiting.wait(), 20)
    await box(page).fill('ann')
    await expect(page.locator('tbody tr')).to_have_count(2)
    await asyncio.wait_for(gone.wait(), 20)


async def test_a_page_that_was_filled_in_steps_has_the_links_to_the_pages_around_it(
    client: Client, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_pages, 'STEP_SECONDS', 1e-9)
    monkeypatch.setattr(key_list, 'READ_AT_ONCE', 7)
    await page.goto(str(client.make_url('/debug/kvs/default')))
    await page.get_by_label('inside values, too').check()
    await box(page).fill('STUDENT:s')
    await expect(page.get_by_role('status')).to_contain_text('1–100 · ')
    await expect(page.locator('#results')).not_to_have_attribute('aria-busy', 'true')
    first = await page.locator('tbody tr').all_inner_texts()
    await page.keyboard.press('Escape')
    await press_and_load(page, 'n')
    await expect(page.get_by_role('status')).to_contain_text('101–200')
    await press_and_load(page, 'p')
    await expect(page.get_by_role('status')).to_contain_text('1–100')
    assert await page.locator('tbody tr').all_inner_texts() == first


async def test_an_error_is_said_and_the_keys_stay(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url('/debug/kvs/default')))
    error = '<p class="error" role="alert">The store does not answer.</p>'
    await page.route('**/*step=*', lambda route: route.fulfill(body=error, content_type='text/html'))
    await box(page).fill('x')
    await expect(page.get_by_role('status')).to_have_text('The store does not answer.')
    await expect(page.locator('tbody tr')).to_have_count(100)


async def test_everything_is_reached_by_the_keyboard(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url('/debug/kvs')))
    await page.keyboard.press('ArrowDown')
    await press_and_load(page, 'Enter')
    await expect(page.get_by_role('heading', level=1)).to_have_text('Keys of default')
    await page.keyboard.press('/')
    await page.keyboard.type('ann')
    await expect(page.locator('tbody mark')).to_have_text(['ann', 'ann'])  # not yet of 'an', whose rows are replaced
    await expect(page.locator('tbody tr')).to_have_count(2)
    await page.keyboard.press('ArrowDown')
    await page.keyboard.press('ArrowDown')
    await page.keyboard.press('ArrowDown')  # there is no further row
    await expect(page.locator('tbody tr').nth(1).locator('a.open')).to_be_focused()
    await page.keyboard.press('ArrowUp')
    await page.keyboard.press('ArrowUp')
    await expect(box(page)).to_be_focused()
    await page.keyboard.press('ArrowDown')
    await press_and_load(page, 'Enter')
    await expect(page.get_by_role('heading', level=1)).to_have_text('External,m.time,STUDENT:ann')
    await page.go_back()
    await expect(page.locator('tbody tr')).to_have_count(2)
    await page.goto(str(client.make_url('/debug/kvs/stores/find?text=ann')))
    await page.keyboard.press('ArrowDown')
    await press_and_load(page, 'Enter')
    await expect(page.get_by_role('heading', level=1)).to_have_text('Student ann')
    await page.keyboard.press('?')
    await expect(page.get_by_role('dialog', name='Keyboard')).to_be_visible()
    await page.keyboard.press('Escape')
    await expect(page.get_by_role('dialog', name='Keyboard')).to_be_hidden()


async def test_a_row_is_a_link_everywhere_but_where_it_has_another(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url('/debug/kvs/default?text=ann&state=External')))
    row = page.locator('tbody tr')
    await row.get_by_role('link', name='ann').click()
    await expect(page.get_by_role('heading', level=1)).to_have_text('Student ann')
    await page.go_back()
    cell = await row.locator('td.value').bounding_box()
    assert cell is not None
    await page.mouse.click(cell['x'] + 3, cell['y'] + 3)
    await expect(page.get_by_role('heading', level=1)).to_have_text('External,m.time,STUDENT:ann')


async def test_screen_readers_find_landmarks_names_and_what_is_chosen(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url('/debug/kvs/default?state=Internal')))
    for role, name in (('search', ''), ('navigation', 'Filters'), ('navigation', 'Pages'), ('region', 'Keys')):
        await expect(page.get_by_role(role, name=name)).to_have_count(1)  # type: ignore[arg-type]
    await expect(page.get_by_role('table', name='Keys of default')).to_have_count(1)
    await expect(page.locator('[aria-current=true]')).to_have_text(['Internal'])
    await expect(page.locator('[aria-current=page]')).to_have_text(['default'])
    await expect(page.locator('[aria-sort=ascending]')).to_have_text(['Reducer or key'])
    await expect(page.get_by_role('status')).to_have_attribute('aria-live', 'polite')


async def test_without_javascript_the_filter_is_a_form_and_pages_are_links(client: Client) -> None:
    async with chromium() as browser:
        page = await (await browser.new_context(java_script_enabled=False)).new_page()
        await page.goto(str(client.make_url('/debug/kvs/default')))
        await page.get_by_label('Filter').first.fill('zebra')
        await page.get_by_label('inside values, too').check()
        await page.get_by_role('button', name='Filter').click()
        await expect(page.locator('tbody tr')).to_have_count(1)
        await page.goto(str(client.make_url('/debug/kvs/default')))
        await page.get_by_role('link', name='Next ›').click()
        await expect(page.get_by_role('status')).to_contain_text('101–200 of 252')
        await page.get_by_role('link', name='‹ Previous').click()
        await expect(page.get_by_role('status')).to_contain_text('1–100 of 252')
