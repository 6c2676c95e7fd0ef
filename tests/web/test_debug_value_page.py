"""The page of a value in a real browser: read without a mouse, copied, found, and without scripts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from learning_observer_kvs.kvs import SQLiteKVS
from learning_observer_kvs.stores.types import Description
from tests.support.browser import chromium, faultless_page
from tests.support.debug_value import KEY, VALUE, Client, client

__all__ = ['client']

VALUE_PAGE = '/debug/kvs/default/key'


@pytest.fixture
async def page(client: Client) -> AsyncIterator[Page]:
    """A real browser that shows the value."""
    async with faultless_page() as page:
        await page.context.grant_permissions(['clipboard-read', 'clipboard-write'])
        await page.goto(str(client.make_url(VALUE_PAGE).with_query({'key': KEY})))
        await expect(page.get_by_role('status')).to_have_text('Live')
        yield page


async def test_one_reads_a_value_without_a_mouse(page: Page) -> None:
    await page.keyboard.press('/')
    await page.keyboard.type('237')
    await expect(page.locator('#found li')).to_have_count(1)  # not yet those of '23'
    await page.locator('#found').get_by_role('link', name='$.items[237].number').press('Enter')
    await expect(page.locator('.row:focus')).to_have_text('number 237')
    await expect(page.locator('.path .at')).to_have_text('$.items[237].number')
    await page.keyboard.press('ArrowLeft')
    await expect(page.locator('.path .at')).to_have_text('$.items[237]')
    await page.keyboard.press('ArrowLeft')
    await expect(page.get_by_text('number 237', exact=True)).to_be_hidden()
    await page.keyboard.press('ArrowUp')
    await expect(page.locator('.path .at')).to_have_text('$.items[236]')
    await page.keyboard.press('ArrowRight')
    await page.keyboard.press('ArrowRight')
    await expect(page.locator('.path .at')).to_have_text('$.items[236].number')


async def test_the_path_the_key_and_the_value_of_a_node_are_copied(page: Page) -> None:
    async def copied(button: str) -> Any:
        await page.get_by_role('button', name=button).click()
        await expect(page.get_by_role('button', name='Copied')).to_be_visible()
        await expect(page.get_by_role('button', name=button)).to_be_visible()
        return await page.evaluate('navigator.clipboard.readText()')

    assert await copied('Copy key') == KEY
    await page.get_by_text('First line').hover()
    await expect(page.locator('.path .at')).to_have_text('$.text')
    await page.get_by_text('First line').click()
    assert await copied('Copy path') == '$.text'
    assert await copied('Copy value') == VALUE['text']
    await page.locator("li[data-step='1'] > details > summary").click()
    assert await copied('Copy path') == '$.items[1]'
    assert json.loads(await copied('Copy value')) == {'number': 1, 'password': '(hidden)'}


async def test_a_text_keeps_its_line_breaks_and_is_never_markup(page: Page) -> None:
    assert await page.locator('.v.lines').inner_text() == VALUE['text']
    assert await page.locator('#value b').count() == 0


async def test_everything_is_collapsed_and_expanded_at_once(page: Page) -> None:
    row = page.locator('.row', has_text='number').first
    await page.get_by_role('button', name='Collapse').click()
    await expect(row).to_be_hidden()
    await page.get_by_role('button', name='Expand').click()
    await expect(row).to_be_visible()


async def test_the_time_to_live_counts_down(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    async def describe_all(store: Any, keys: list[str]) -> list[Description]:
        return [Description(100, expires_in=500.0) for _ in keys]

    monkeypatch.setattr(SQLiteKVS, 'describe_all', describe_all)
    await page.reload()
    left = page.locator('[data-expires-in]')
    begin = float((await left.inner_text()).removesuffix(' s'))
    await page.wait_for_function(
        "begin => parseFloat(document.querySelector('[data-expires-in]').textContent) < begin - 0.5", arg=begin
    )


async def test_without_scripts_a_part_is_behind_a_link(client: Client) -> None:
    async with chromium() as browser:
        page = await (await browser.new_context(java_script_enabled=False)).new_page()
        await page.goto(str(client.make_url(VALUE_PAGE).with_query({'key': KEY})))
        await page.get_by_role('link', name='150 more items').click()
        await expect(page.get_by_role('heading', level=1)).to_have_text('$.items')
        await page.get_by_role('link', name='50 more items').click()
        await expect(page.locator('li[data-step]', has_text='249').first).to_be_visible()
        await page.get_by_role('link', name='value', exact=True).click()
        await page.get_by_label('Find in this value').fill('second')
        await page.get_by_role('button', name='Find').click()
        await page.get_by_role('link', name='$.text').click()
        await expect(page.locator('.tree')).to_contain_text('Second <b>line</b>')
