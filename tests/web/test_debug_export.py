"""``/debug/kvs``: everything about a student is saved as a file: authorized as such, masked, noted, and bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from playwright.async_api import expect
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs import failed_events
from learning_observer_kvs.debug import student_export
from learning_observer_kvs.debug.access import VIEWER_KEY
from learning_observer_kvs.kvs import KVS
from tests.support.browser import chromium
from tests.support.debug_pages import make_app

Client = TestClient[web.Request, web.Application]

EXPORT = '/debug/kvs/stores/export'

KEY = 'Internal,export.words,STUDENT:ann'


@pytest.fixture
def refused() -> set[tuple[str, str]]:
    """The actions on stores that are refused."""
    return set()


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path, refused: set[tuple[str, str]]) -> Client:
    def authorize(request: Any, action: str, store: str, key: str | None) -> bool:
        request[VIEWER_KEY] = 'ms-lee'
        return (action, store) not in refused

    stores = {
        'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3'), 'failed_events': str(tmp_path / 'failed')},
        'archive': {'type': 'filesystem', 'path': str(tmp_path / 'archive')},
    }
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}, authorize))
    await KVS().multiset(
        {
            KEY: {'text': 'my <b>text</b>', 'token': 's3cret'},
            KEY.replace('ann', 'bob'): {'text': 'not mine'},
            'roster': {'ann': {'password': 's3cret', 'seat': 4}, 'bob': {'seat': 5}},
        }
    )
    await KVS['archive'].set(KEY.replace('Internal', 'External'), 7)
    return client


async def test_everything_of_a_student_is_one_document_and_nothing_of_others(client: Client) -> None:
    answer = await client.get(EXPORT, params={'student': 'ann'})
    assert answer.status == 200
    assert answer.headers['Content-Disposition'] == 'attachment; filename="student-data-ann.json"'
    found = await answer.json()
    assert [(state['store'], state['state'], state['value']) for state in found['states']] == [
        ('archive', 'external', 7),
        ('default', 'internal', {'text': 'my <b>text</b>', 'token': '(hidden)'}),
    ]
    assert found['not_reached'] == [student_export.STUDY_LOGS]
    text = await answer.text()
    assert 'not mine' not in text
    assert 's3cret' not in text
    answer = await client.get(EXPORT, params={'student': 'ann'}, headers={'Accept': 'text/html'})
    assert answer.headers['Content-Disposition'] == 'attachment; filename="student-data-ann.html"'
    text = await answer.text()
    assert 'my &lt;b&gt;text&lt;/b&gt;' in text
    assert 's3cret' not in text
    assert 'not mine' not in text


async def test_an_export_has_what_is_not_written_yet_and_failed_events(client: Client, tmp_path: Path) -> None:
    event = {'client': {'event': 'x', 'token': 's3cret'}, 'server': {'time': 1.0}, 'metadata': {'auth': {}}}
    event['metadata']['auth']['safe_user_id'] = 'ann'  # type: ignore[index]
    failed_events.record(event, ValueError('no'), reducer='export.words', keys=(KEY,), folder=tmp_path / 'failed')
    found = await (await client.get(EXPORT, params={'student': 'ann'})).json()
    [events] = found['events'].values()
    assert len(events) == 1
    assert 's3cret' not in json.dumps(events)


async def test_an_export_is_an_action_of_its_own(client: Client, refused: set[tuple[str, str]]) -> None:
    refused.add(('export', 'archive'))
    found = await (await client.get(EXPORT, params={'student': 'ann'})).json()
    assert [state['store'] for state in found['states']] == ['default']
    assert found['not_reached'][0] == 'Store archive: you may not export from it.'
    refused.add(('export', 'default'))
    assert (await client.get(EXPORT, params={'student': 'ann'})).status == 403
    refused -= {('export', 'archive'), ('export', 'default')}
    refused.add(('export', ''))
    assert (await client.get(EXPORT, params={'student': 'ann'})).status == 403
    assert (await client.get('/debug/kvs/stores/student', params={'student': 'ann'})).status == 200


async def test_an_export_is_a_line_of_the_audit(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level('INFO', logger='learning_observer_kvs.audit'):
        await client.get(EXPORT, params={'student': 'ann'})
    [line] = map(json.loads, caplog.messages)
    assert {name: line[name] for name in ('action', 'viewer', 'student', 'states', 'entries', 'stores')} == {
        'action': 'exported',
        'viewer': 'ms-lee',
        'student': 'ann',
        'states': 2,
        'entries': 1,
        'stores': ['default', 'archive'],
    }


async def test_an_export_hides_what_the_pages_hide_by_its_key(client: Client) -> None:
    key = 'Internal,export.words,EventField.access_token:x,STUDENT:ann'
    await KVS().set(key, 'hunter2')
    shown = await (await client.get('/debug/kvs/default/key', params={'key': key})).json()
    assert shown['value'] == '(hidden)'
    assert 'hunter2' not in await (await client.get(EXPORT, params={'student': 'ann'})).text()


async def test_an_export_reads_no_value_that_is_too_large_and_says_which_were_not_searched(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student_export, 'MAX_VALUE_BYTES', 1000)
    large = {KEY.replace('words', 'long'): 'x' * 1000, 'other': 'ann' * 1000}
    await KVS().multiset(large)
    read: list[str] = []
    read_until = KVS().read_until

    async def noted(deadline: float, keys: Sequence[str]) -> list[bytes | None]:
        read.extend(keys)
        return await read_until(deadline, keys)

    monkeypatch.setattr(KVS(), 'read_until', noted)
    found = await (await client.get(EXPORT, params={'student': 'ann'})).json()
    assert [(state['store'], state['reducer']) for state in found['states']] == [
        ('archive', 'export.words'),
        ('default', 'export.words'),
    ]
    assert set(found['not_reached']) == {
        student_export.STUDY_LOGS,
        f"Store default: '{KEY.replace('words', 'long')}', whose value of 1,002 bytes is too large.",
        "Store default: the value of 'other' has 3,002 bytes, too many to be searched.",
    }
    assert KEY in read
    assert not large.keys() & set(read)
    await KVS().clear()
    await KVS().set('other', 'ann' * 1000)
    found = await (await client.get(EXPORT, params={'student': 'ann'})).json()
    assert [state['store'] for state in found['states']] == ['archive']


@pytest.mark.parametrize('student', ['', '   '])
async def test_an_export_of_nobody_is_refused(client: Client, student: str) -> None:
    assert (await client.get(EXPORT, params={'student': student})).status == 400


async def test_one_export_is_made_at_a_time_and_none_for_ever(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    began = asyncio.Event()

    async def made(*_: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(student_export, 'made', made)
    monkeypatch.setattr(student_export, 'EXPORT_SECONDS', 4.0)
    first = asyncio.ensure_future(client.get(EXPORT, params={'student': 'ann'}))
    await began.wait()
    answer = await client.get(EXPORT, params={'student': 'bob'})
    assert (answer.status, 'Another export' in (await answer.json())['error']) == (503, True)
    answer = await first
    assert (answer.status, 'lo-kvs export-student' in (await answer.json())['error']) == (503, True)
    monkeypatch.undo()
    assert (await client.get(EXPORT, params={'student': 'ann'})).status == 200


async def test_one_saves_an_export_from_the_page_of_a_student_and_prints_that(client: Client) -> None:
    async with chromium() as browser:
        page = await browser.new_page(color_scheme='dark')
        await page.goto(str(client.make_url('/debug/kvs/stores/student').with_query({'student': 'ann'})))
        async with page.expect_download() as download:
            await page.get_by_role('link', name='as a page').click()
        saved = await (await download.value).path()
        assert 'my &lt;b&gt;text&lt;/b&gt;' in saved.read_text()
        await page.emulate_media(media='print')
        for hidden in ('as a page', 'lo-kvs export'):
            await expect(page.get_by_text(hidden)).to_be_hidden()
        await expect(page.get_by_role('heading', name='Student ann')).to_be_visible()
        colors = await page.evaluate("""() => { const style = getComputedStyle(document.body);
          return [style.color, style.backgroundColor]; }""")
        assert colors == ['rgb(0, 0, 0)', 'rgb(255, 255, 255)']
