"""``/debug/kvs`` in a real browser: found by name, followed by links, and never wider than the window."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from playwright.async_api import Page, expect
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from tests.support.browser import faultless_page
from tests.support.debug_pages import make_app

Client = TestClient[web.Request, web.Application]

STUDENT, DOCUMENT, REDUCER = '/debug/kvs/stores/student', '/debug/kvs/stores/document', '/debug/kvs/default/reducer'
FIND = '/debug/kvs/stores/find'

KEY = 'Internal,m.words,EventField.doc_id:D1,STUDENT:ann'

WORDS = {
    KEY: 1,
    KEY.replace('Internal', 'External'): 2,
    'Internal,looks.time,STUDENT:ann': 3,
    'Internal,looks.time,STUDENT:anna': 4,
}


@kvs_pipeline(null_state={}, module_override='looks', qualname_override='time')
async def spent(event: Any, state: Any) -> Any:
    """Count the seconds."""
    return state, state


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    stores = {'default': {'type': 'stub'}, 'archive': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    await KVS().multiset(WORDS)
    await KVS['archive'].set(KEY, {'words': [1, 2, 3]})
    return client


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with faultless_page() as page:
        yield page


async def test_one_finds_a_student_and_follows_links_to_a_reducer_and_back(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url('/debug/kvs')))
    await page.get_by_label('Find a student, document or key').fill('ann')
    await page.keyboard.press('Enter')
    await page.get_by_role('link', name='ann', exact=True).click()
    await expect(page.get_by_role('heading', level=1)).to_have_text('Student ann')
    await expect(page.locator('code').first).to_have_text('lo-kvs find-student ann')
    await page.get_by_role('link', name='looks.time').click()
    await expect(page.get_by_role('heading', level=1)).to_have_text('Reducer looks.time')
    await page.get_by_role('link', name='anna').click()
    await expect(page.get_by_role('heading', level=1)).to_have_text('Student anna')
    await page.go_back()
    await expect(page.get_by_role('heading', level=1)).to_have_text('Reducer looks.time')
