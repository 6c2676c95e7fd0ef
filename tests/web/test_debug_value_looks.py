"""The pages of a value and of a class at both schemes and three widths: every text can be read, and nothing is cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from playwright.async_api import Browser, expect
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS
from tests.support.browser import chromium
from tests.support.debug_pages import make_app
from tests.support.debug_value import KEY, OTHER, VALUE

Client = TestClient[web.Request, web.Application]

STORE = '/debug/kvs/default'

LONG = 'Internal,' + 'a_long_module.' * 6 + f'reducer,EventField.doc_id:{"1AbCdEf" * 8},STUDENT:{"x" * 60}'

PAGES: list[tuple[str, dict[str, str]]] = [
    (f'{STORE}/key', {'key': KEY}),
    (f'{STORE}/key', {'key': LONG}),
    (f'{STORE}/part', {'key': KEY, 'path': '["items"]'}),
    (f'{STORE}/matches', {'key': KEY, 'text': 'number'}),
    (f'{STORE}/class', {'reducers': 'values.count'}),
    (f'{STORE}/class', {'reducers': 'values.count', 'fields': 'text,words,auth,items,none', 'state': 'internal'}),
    ('/debug/kvs/stores/student', {'student': 'ann'}),
    (f'{STORE}/reducer', {'reducer': 'values.count'}),
]

DIFFICULT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parts = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(parts(getComputedStyle(each).backgroundColor));
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    const below = behind(element);
    const [dark, light] = [luminance(over(parts(getComputedStyle(element).color), below)), luminance(below)]
      .sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${texts.currentNode.data.trim().slice(0, 40)}`);
  }
  return found;
}"""

CUT = """() => [...document.querySelectorAll('.row, .names li, .class td, .class th, dd, dt, .bar > *, .panel header')]
  .filter((each) => each.checkVisibility() && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0)
  .map((each) => each.textContent.trim().slice(0, 60))"""

OVERLAPPING = """() => {
  const boxes = [...document.querySelectorAll('.row, .bar > *, dd, dt, .class td')]
    .filter((each) => each.checkVisibility())
    .map((each) => [each, each.getBoundingClientRect()]).filter(([, box]) => box.width && box.height);
  const found = [];
  boxes.forEach(([one, a], at) => boxes.slice(at + 1).forEach(([other, b]) => {
    if (one.contains(other) || other.contains(one)) return;
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    if (width > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) {
      found.push(`${one.textContent.trim().slice(0, 30)} | ${other.textContent.trim().slice(0, 30)}`);
    }
  }));
  return found;
}"""


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    stores = {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    await KVS().multiset({KEY: VALUE, OTHER: {**VALUE, 'words': 8, 'last': 'x' * 300}, LONG: {'x' * 300: 'y' * 3000}})
    return client


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280, 1600])
async def test_every_text_can_be_read_and_nothing_is_cut_or_covered(
    client: Client, browser: Browser, width: int, scheme: Any
) -> None:
    page = await browser.new_page(
        viewport={'width': width, 'height': 900}, color_scheme=scheme, reduced_motion='reduce'
    )
    for path, query in PAGES:
        address = str(client.make_url(path).with_query(query))
        await page.goto(address)
        assert await page.evaluate('document.documentElement.scrollWidth') <= width, address
        assert await page.evaluate(DIFFICULT) == [], address
        assert await page.evaluate(CUT) == [], address
        assert await page.evaluate(OVERLAPPING) == [], address


@pytest.mark.parametrize('scheme', ['light', 'dark'])
async def test_what_is_new_or_was_chosen_can_be_read(client: Client, browser: Browser, scheme: Any) -> None:
    page = await browser.new_page(color_scheme=scheme, reduced_motion='reduce')
    await page.goto(str(client.make_url(f'{STORE}/key').with_query({'key': KEY})))
    await expect(page.get_by_role('status')).to_have_text('Live')
    await KVS().set(KEY, {**VALUE, 'words': 9, 'text': 'Other text', 'added': None, 'flag': True})
    await expect(page.locator('.lit').first).to_be_visible()
    await page.locator('.lit').first.click()
    await page.get_by_label('Find in this value').fill('text')
    await expect(page.locator('#found li').first).to_be_visible()
    await expect(page.locator('#versions .difference').first).to_be_visible()
    assert await page.evaluate(DIFFICULT) == []
