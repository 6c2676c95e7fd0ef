"""``/debug/kvs``: a class as a table, by link; masked, authorized cell by cell, bounded, and as it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from playwright.async_api import Page, expect
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import class_table, class_view
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from tests.support.browser import faultless_page
from tests.support.debug_pages import make_app
from tests.support.programs import run

Client = TestClient[web.Request, web.Application]

CLASS = '/debug/kvs/default/class'

SECOND_PROCESS = """
import asyncio, json, sys
from learning_observer_kvs.kvs import KVSRouter

async def main(settings, key, value):
    async with KVSRouter.from_settings(settings) as router:
        await router().set(key, value)

asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))
"""


@kvs_pipeline(null_state={}, module_override='table', qualname_override='time')
async def spent(event: Any, state: Any) -> Any:
    return state, state


@kvs_pipeline(
    null_state={},
    module_override='table',
    qualname_override='text',
    scope=Scope([KeyField.STUDENT, EventField('doc_id')]),
)
async def text_of(event: Any, state: Any) -> Any:
    return state, state


def time_key(student: str) -> str:
    return f'External,table.time,STUDENT:{student}'


def text_key(student: str, document: str) -> str:
    return f'External,table.text,EventField.doc_id:{document},STUDENT:{student}'


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, settings: dict[str, Any], refused: set[str]) -> Client:
    client: Client = await aiohttp_client(make_app(settings, lambda request, action, store, key: key not in refused))
    await KVS().multiset(
        {
            time_key('ann'): {'seconds': 5, 'auth': {'token': 's3cret'}},
            time_key('bob'): {'seconds': 7, 'visits': [1, 2]},
            time_key('bob').replace('External', 'Internal'): {'seconds': 8},
            text_key('ann', 'D1'): {'text': 'First <b>line</b>', 'words': 2},
            text_key('ann', 'D2'): {'text': 'x' * 5000, 'words': 1},
            'Internal,table.other,STUDENT:ann': 'no row',
            'External,table.timeless,STUDENT:cleo': 'no row',
        }
    )
    return client


async def got(client: Client, **query: str) -> Any:
    answer = await client.get(CLASS, params=query)
    assert answer.status == 200, await answer.text()
    return await answer.json()


def shown(found: Any) -> list[Any]:
    """What the cells of each row have."""
    return [
        [row['student'], row['document']]
        + [{path: node['value'] for path, node in cell['values'].items()} for cell in row['cells']]
        for row in found['rows']
    ]


async def test_a_row_is_a_student_of_the_first_reducer_and_fields_are_chosen(client: Client) -> None:
    found = await got(client, reducers='table.time, table.text', fields='seconds,words,visits.1')
    assert shown(found) == [['ann', None, {'seconds': 5}, {}], ['bob', None, {'seconds': 7, 'visits.1': 2}, {}]]
    assert found['next_cursor'] is None
    found = await got(client, reducers='table.text,table.time', fields='seconds,words')
    assert shown(found) == [['ann', 'D1', {'words': 2}, {'seconds': 5}], ['ann', 'D2', {'words': 1}, {'seconds': 5}]]
    found = await got(client, reducers='table.time', fields='seconds', state='internal')
    assert shown(found) == [['bob', None, {'seconds': 8}]]
    assert shown(await got(client)) == []
    assert {'table.text', 'table.time'} <= set((await got(client))['known'])


async def test_a_reducer_that_the_process_does_not_have_has_a_table_too(client: Client) -> None:
    await KVS().multiset({time_key('ann').replace('time', 'gone'): 1, time_key('bob').replace('time', 'gone'): 2})
    found = await got(client, reducers='table.gone,table.time', fields='')
    assert [row[2] for row in shown(found)] == [{'': 1}, {'': 2}]


async def test_cells_are_masked_and_short(client: Client) -> None:
    for query in (
        {'reducers': 'table.time'},
        {'reducers': 'table.time', 'fields': 'auth'},
        {'reducers': 'table.time', 'fields': 'auth.token'},
    ):
        for headers in ({}, {'Accept': 'text/html'}):
            text = await (await client.get(CLASS, params=query, headers=headers)).text()
            assert 's3cret' not in text
    assert shown(await got(client, reducers='table.time', fields='auth.token'))[0][2] == {'auth.token': '(hidden)'}
    cell = (await got(client, reducers='table.text', fields='text'))['rows'][1]['cells'][0]['values']['text']
    assert (cell['size'], len(cell['value'])) == (5000, class_view.SHOWN_CHARACTERS)


async def test_each_cell_is_authorized_and_noted(
    client: Client, refused: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    refused.add(time_key('ann'))
    with caplog.at_level('INFO', logger='learning_observer_kvs.audit'):
        found = await got(client, reducers='table.time', fields='seconds')
    assert [row['cells'][0]['error'] for row in found['rows']] == [class_table.REFUSED, None]
    assert shown(found)[0] == ['ann', None, {}]
    [line] = map(json.loads, caplog.messages)
    assert (line['page'], line['reducers'], line['keys']) == ('class', ['table.time'], [time_key('bob')])


async def test_a_page_reads_so_many_bytes_and_rows_and_goes_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await KVS().multiset({time_key(f's{number:03}'): {'seconds': number} for number in range(250)})
    chosen = {'reducers': 'table.time', 'fields': 'seconds', 'limit': '1000'}
    seen, cursor = [], ''
    while cursor is not None:
        found = await got(client, **chosen, cursor=cursor)
        assert len(found['rows']) <= class_table.MAX_ROWS
        seen += [row['student'] for row in found['rows']]
        cursor = found['next_cursor']
    assert (len(seen), len(set(seen))) == (252, 252)
    monkeypatch.setattr(class_table, 'TABLE_BYTES', 300)
    found = await got(client, reducers='table.text,table.time', fields='words')
    assert [row['cells'][0]['error'] for row in found['rows']] == [None, class_table.TOO_LARGE]


@pytest.mark.parametrize(
    ('query', 'status'),
    [
        ({'state': 'both'}, 400),
        ({'reducers': ','.join(f'r{number}' for number in range(13))}, 400),
        ({'fields': ','.join(f'f{number}' for number in range(13))}, 400),
        ({'limit': '0'}, 400),
        ({'reducers': 'table.time', 'cursor': 'x'}, 400),
    ],
)
async def test_a_table_that_cannot_be_is_an_error(client: Client, query: dict[str, str], status: int) -> None:
    assert (await client.get(CLASS, params=query)).status == status
    assert (await client.get('/debug/kvs/missing/class')).status == 404
    assert (await client.get(CLASS + '/changes')).status == 400
    assert (await client.get(CLASS, params={'reducers': 'no.such, <b>x</b>'})).status == 200


async def test_what_other_programs_store_is_an_error_in_its_cell_alone(client: Client) -> None:
    await KVS().commit_bytes({time_key('ann'): b'{"a":'}, {})
    found = await got(client, reducers='table.time', fields='seconds')
    assert [row['cells'][0]['error'] for row in found['rows']] == ['not JSON', None]


# The page


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with faultless_page() as page:
        yield page


async def test_the_page_shows_what_a_second_process_writes(
    client: Client, page: Page, settings: dict[str, Any]
) -> None:
    query = {'reducers': 'table.time', 'fields': 'seconds'}
    await page.goto(str(client.make_url(CLASS).with_query(query)))
    await expect(page.get_by_role('status')).to_have_text('Live')
    await asyncio.to_thread(run, SECOND_PROCESS, json.dumps(settings), time_key('ann'), '{"seconds": 6}')
    await expect(page.locator('td.lit')).to_have_text('6')
    await expect(page.get_by_role('status')).to_contain_text('1 cell')
    await asyncio.to_thread(run, SECOND_PROCESS, json.dumps(settings), time_key('cleo'), '{"seconds": 1}')
    await expect(page.get_by_role('row')).to_have_count(4)


async def test_one_chooses_reducers_and_fields_and_goes_to_a_state(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url(CLASS)))
    await page.get_by_role('link', name='table.text').click()
    await page.get_by_role('link', name='table.time').click()
    await page.get_by_label('Fields').fill('words, seconds')
    async with page.expect_navigation():
        await page.get_by_role('button', name='Show').click()
    heads = [' '.join(head.split()) for head in await page.locator('thead th').all_inner_texts()]
    assert heads == ['Student', 'Document', 'table.text words', 'table.time seconds']
    await page.go_back()
    await expect(page.locator('thead th')).to_have_count(4)
    assert await page.locator('td b').count() == 0
    for width in (390, 1280, 1600):
        await page.set_viewport_size({'width': width, 'height': 800})
        assert await page.evaluate('document.documentElement.scrollWidth') <= width
    await page.locator('td .cell').first.click()
    await expect(page.get_by_role('heading', level=1)).to_have_text(text_key('ann', 'D1'))
