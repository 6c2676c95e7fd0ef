"""The demo server: what students send arrives whole, what fails can be replayed, and the class page shows it live."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from playwright.async_api import Page, expect
from pytest_aiohttp.plugin import AiohttpServer

from devdata import class_page, students
from devdata.demo import listen
from devdata.failures import file_name
from devdata.reducers import REDUCERS, event_count, reconstruct
from devdata.server import make_app
from devdata.sessions import units
from learning_observer_kvs import study_log
from learning_observer_kvs.cli.main import main as lo_kvs
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    KeyStateType,
    make_key,
    student_event_reducer,
)
from tests.browser import chromium
from tests.sessions import FOLDER, expected, texts

Client = dict[str, Any]
BROKEN: list[str] = []
"""Kinds of events that :func:`notes` fails on just now."""


@student_event_reducer(null_state=[])
async def notes(event: Any, internal_state: Any) -> Any:
    """Notes every event; broken for some."""
    kind = event['client']['event']
    if kind in BROKEN:
        raise KeyError(f'a fault in the reducer, at {kind}')
    internal_state.append([kind, event['client'].get('source'), event['client'].get('n')])
    return internal_state, internal_state


def settings(folder: Path) -> dict[str, Any]:
    return {
        'config': {'run_mode': 'dev'},
        'kvs': {'default': {'type': 'sqlite', 'path': str(folder / 'state.sqlite3')}},
    }


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path) -> TestServer:
    app = make_app(settings(tmp_path), reducers=[*REDUCERS, notes], failed=tmp_path / 'failed')
    return await aiohttp_server(app)


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def address(server: TestServer) -> str:
    return str(server.make_url('')).rstrip('/')


async def sent(
    server: TestServer, browser: aiohttp.ClientSession, *messages: Mapping[str, Any] | str | bytes
) -> aiohttp.WSMessage:
    """Send messages over one connection; how the server ended it."""
    async with browser.ws_connect(f'{address(server)}/wsapi/in/') as socket:
        for message in messages:
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_str(message if isinstance(message, str) else json.dumps(message))
        return await socket.receive()


def event(kind: str = 'keystroke', student: str | None = 'bob', **parts: Any) -> Client:
    auth = {} if student is None else {'auth': {'safe_user_id': student}}
    return {'event': kind, 'timestamp': 1_700_000_000_000, **auth, **parts}


def typed(text: str, doc_id: str = 'D', at: int = 1, title: str = 'Essay', **parts: Any) -> Client:
    """What a browser sends when a text was put in at a place, counted from 1."""
    bundles = [{'commands': [{'ty': 'is', 'ibi': at, 's': text}]}]
    return event('google_docs_save', doc_id=doc_id, object={'title': title}, bundles=bundles, **parts)


END = {'event': 'terminate'}


async def noted(student: str = 'bob') -> Any:
    return await KVS()[make_key(notes, {KeyField.STUDENT: student}, KeyStateType.EXTERNAL)]


# The main job


@pytest.mark.timeout(600)
async def test_thirty_students_at_once_end_in_the_expected_texts(
    aiohttp_server: AiohttpServer, browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = await aiohttp_server(make_app(settings(tmp_path), failed=tmp_path / 'failed'))
    names = sorted(expected())[:30]

    async def messages(name: str) -> AsyncIterator[Client]:
        for _, line in study_log.read(FOLDER / name):
            yield line['client']

    await asyncio.gather(*(students.send(address(server), messages(name), client=browser) for name in names))

    async with browser.get(f'{address(server)}/class') as response:
        page = {row['student']: row['documents'] for row in await response.json()}
    for name in names:
        student = expected()[name]['student']
        for doc_id, text in texts(expected()[name]).items():
            fields: dict[Any, str] = {KeyField.STUDENT: student, EventField('doc_id'): doc_id}
            stored = await KVS()[make_key(reconstruct, fields, KeyStateType.EXTERNAL)]
            assert stored['text'] == text, name
            assert page[student][doc_id]['text'] == text, name
            assert page[student][doc_id]['words'] == len(text.split()), name
    counts = {
        student: await KVS()[make_key(event_count, {KeyField.STUDENT: student}, KeyStateType.EXTERNAL)]
        for student in page
    }
    assert sum(count['total'] for count in counts.values()) == sum(expected()[name]['events'] for name in names)
    assert not (tmp_path / 'failed').exists()


# The protocol


async def test_locked_fields_stand_in_every_later_event(server: TestServer, browser: aiohttp.ClientSession) -> None:
    lock = {'event': 'lock_fields', 'fields': {'source': 'lab', 'auth': {'safe_user_id': 'ann'}, 'event': 'x'}}
    await sent(server, browser, event(), lock, event(student=None, source='other'), event('mouseclick'), END)
    assert await noted('bob') == [['keystroke', None, None]]
    assert await noted('ann') == [['keystroke', 'lab', None], ['mouseclick', 'lab', None]]


async def test_what_is_locked_cannot_be_locked_otherwise(server: TestServer, browser: aiohttp.ClientSession) -> None:
    locks = [{'event': 'lock_fields', 'fields': {'source': source}} for source in ('first', 'second')]
    await sent(server, browser, *locks, event(), END)
    assert await noted() == [['keystroke', 'first', None]]


async def test_terminate_ends_the_connection_after_what_came_before_it(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    ended = await sent(server, browser, *(event(n=n) for n in range(50)), END, event(n='too late'))
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, WSCloseCode.OK)
    assert [n for _, _, n in await noted()] == list(range(50))


async def test_an_event_without_auth_is_a_guests(server: TestServer, browser: aiohttp.ClientSession) -> None:
    await sent(server, browser, event(student=None), END)
    assert await noted('[guest]') == [['keystroke', None, None]]


async def test_each_event_is_its_own_students(server: TestServer, browser: aiohttp.ClientSession) -> None:
    await sent(server, browser, *(event(student=name, n=n) for n, name in enumerate(['ann', 'bob', 'ann'])), END)
    assert [n for _, _, n in await noted('ann')] == [0, 2]
    assert [n for _, _, n in await noted('bob')] == [1]


@pytest.mark.parametrize(
    ('message', 'fault'),
    [
        ('{"event": ', 'not JSON'),
        ('[1]', '"event"'),
        ({'timestamp': 1}, '"event"'),
        ({'event': 3}, '"event"'),
        ({'event': 'lock_fields', 'fields': 'source'}, '"fields"'),
        (event() | {'auth': {'user_id': 'bob'}}, '"safe_user_id"'),
        (event() | {'auth': 'bob'}, '"safe_user_id"'),
        (b'{"event": "keystroke"}', 'as text'),
    ],
)
async def test_what_is_no_message_ends_the_connection_and_says_why(
    server: TestServer, browser: aiohttp.ClientSession, message: Any, fault: str
) -> None:
    ended = await sent(server, browser, event(), message, event())
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, WSCloseCode.INVALID_TEXT)
    assert fault in str(ended.extra)
    assert len(await noted()) == 1


async def test_strangers_are_not_let_in(server: TestServer, browser: aiohttp.ClientSession) -> None:
    for path in ('/', '/class', '/class/changes', '/wsapi/in/', '/debug/kvs'):
        for header in ({'Host': 'evil.example'}, {'X-Forwarded-For': '10.0.0.1'}):
            async with browser.get(f'{address(server)}{path}', headers=header) as response:
                assert response.status == 403, path


# Failing reducers


@pytest.fixture
def broken() -> Iterable[list[str]]:
    yield BROKEN
    BROKEN.clear()


async def test_an_event_that_a_reducer_fails_on_is_kept_and_a_replay_repairs_the_state(
    server: TestServer,
    browser: aiohttp.ClientSession,
    broken: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken.append('mouseclick')
    await sent(server, browser, event(n=1), event('mouseclick', n=2), typed('abc', n=3), END)
    assert [n for _, _, n in await noted()] == [1, 3]
    [kept] = (tmp_path / 'failed').rglob('*.study.log')
    assert kept.parent.name == 'tests.test_demo.notes'
    assert str(kept) in caplog.text
    assert 'lo-kvs replay' in caplog.text

    async with browser.get(f'{address(server)}/class') as response:
        [row] = await response.json()
    assert row['documents']['D']['text'] == 'abc', 'the other reducers went on'

    broken.clear()
    creds = tmp_path / 'creds.yaml'
    creds.write_text(json.dumps(settings(tmp_path)))
    arguments = ['replay', str(kept.parent), '--reducer', 'tests.test_demo:notes', '--config', str(creds)]
    result = await asyncio.to_thread(CliRunner().invoke, lo_kvs, arguments)
    assert result.exit_code == 0, result.output
    assert [n for _, _, n in await noted()] == [1, 3, 2]


async def test_failures_of_many_students_are_kept_apart(
    server: TestServer, browser: aiohttp.ClientSession, broken: list[str], tmp_path: Path
) -> None:
    broken.append('keystroke')
    names = ['Bob', 'bob', '../up', 'x' * 300, 'ü/\\']
    await sent(server, browser, *(event(student=name, n=n) for n, name in enumerate(names)), END)
    folder = tmp_path / 'failed' / 'tests.test_demo.notes'
    assert {path.name.lower() for path in folder.iterdir()} == {file_name(name).lower() for name in names}
    for n, name in enumerate(names):
        [line] = study_log.read(folder / file_name(name))
        assert (line.event['client']['n'], line.event['metadata']['auth']['safe_user_id']) == (n, name)


# The class page


async def next_message(stream: aiohttp.StreamReader) -> tuple[str, list[dict[str, Any]]]:
    """The kind and the rows of the next server-sent event."""
    while not (line := await stream.readline()).startswith(b'event: '):
        assert line, 'the stream ended'
    kind = line.decode().strip().removeprefix('event: ')
    rows = json.loads((await stream.readline()).decode().removeprefix('data: '))
    assert await stream.readline() == b'\n'
    return kind, rows


async def test_the_stream_tells_everything_once_and_then_only_what_changed(
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
        kind, [row] = await next_message(response.content)
        assert (kind, row['student'], row['current']) == ('changed', 'bob', 'A')
        assert row['documents'] == {'A': {'title': 'Essay', 'text': 'one two!', 'words': 2}}


async def test_a_server_that_stops_does_not_wait_for_open_pages(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    async with (
        browser.get(f'{address(server)}/class/changes') as response,
        browser.ws_connect(f'{address(server)}/wsapi/in/') as socket,
    ):
        await next_message(response.content)
        async with asyncio.timeout(5):
            _, message = await asyncio.gather(server.close(), socket.receive())
        assert message.data == WSCloseCode.GOING_AWAY


@pytest.fixture
async def page(server: TestServer) -> AsyncIterator[Page]:
    """The class page in a real browser; nothing may go wrong in it."""
    errors: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on('console', lambda message: errors.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('dialog', lambda dialog: errors.append(f'a script of a student ran: {dialog.message}'))
        await page.goto(address(server))
        yield page
        assert errors == []


async def test_the_page_shows_the_text_growing_while_a_student_writes(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await expect(page.get_by_text('Nobody has written yet')).to_be_visible()
    async with browser.ws_connect(f'{address(server)}/wsapi/in/') as socket:
        written = ''
        for piece in ['My text ', 'grows while ', 'I write 😀', '.']:
            await socket.send_json(
                typed(piece, at=units(written) + 1, timestamp=1_700_000_000_000 + len(written) * 1000)
            )
            written += piece
            await expect(page.locator('.card .text')).to_have_text(written)
    await expect(page.get_by_role('button', name='bob')).to_be_visible()
    await expect(page.locator('.card .title')).to_have_text('Essay')
    await expect(page.locator('.card .words')).to_have_text('7')
    await expect(page.locator('.card .time')).to_have_text('0:29')
    await expect(page.locator('#sum-students')).to_have_text('1')


async def test_the_page_tells_who_writes_who_pauses_and_who_is_away(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await page.clock.set_fixed_time(now)
    await sent(server, browser, typed('a'), END)
    for seconds, state, writing in [(0, 'writing', 1), (5, 'pausing', 0), (61, 'away', 0)]:
        await page.clock.set_fixed_time(now + timedelta(seconds=seconds))
        await expect(page.locator('.card .state')).to_have_text(state)
        await expect(page.locator('#sum-writing')).to_have_text(str(writing))


async def test_the_page_sorts_by_what_is_chosen(server: TestServer, browser: aiohttp.ClientSession, page: Page) -> None:
    await sent(server, browser, typed('a b'), typed('a b c', student='cleo'), typed('a', student='ann'), END)
    names = page.locator('.card .open')
    await expect(names).to_have_text(['ann', 'bob', 'cleo'])
    await page.get_by_label('Sort by').select_option('words')
    await expect(names).to_have_text(['cleo', 'bob', 'ann'])


HOSTILE = '<img src=x onerror=alert(1)><script>alert(2)</script>\u2028</textarea>"\'`${alert(3)}'


async def test_hostile_text_stays_text_wherever_it_comes_from(
    server: TestServer, browser: aiohttp.ClientSession, page: Page
) -> None:
    await sent(server, browser, typed(HOSTILE, student=HOSTILE, title=HOSTILE), END)
    await expect(page.locator('.card .text')).to_have_text(HOSTILE)
    await expect(page.locator('.card .title')).to_have_text(HOSTILE)
    await page.get_by_role('button', name=HOSTILE).click()
    await expect(page.get_by_role('dialog')).to_contain_text(HOSTILE)
    assert await page.locator('main img, dialog img, main script, dialog script').count() == 0
    response = await browser.get(address(server))
    assert "default-src 'none'" in response.headers['Content-Security-Policy']
    assert 'unsafe' not in response.headers['Content-Security-Policy']


async def test_a_text_can_be_read_whole_while_it_grows(
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


async def test_the_page_comes_back_when_the_server_does(
    aiohttp_server: AiohttpServer, browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    config = settings(tmp_path)
    first = await aiohttp_server(make_app(config))
    port = first.port
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


# The command


class Demo:
    """``sh devdata/demo.sh``, started from a folder that is not the checkout's."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options

    async def __aenter__(self) -> Demo:
        script = Path(__file__).parent.parent / 'devdata' / 'demo.sh'
        self._process = await asyncio.create_subprocess_exec(
            *('sh', str(script), 'kept', *self._options),
            cwd=self._folder,
            start_new_session=True,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.said = ''
        assert self._process.stdout is not None
        while 'Ctrl-C' not in self.said:
            line = await self._process.stdout.readline()
            assert line, await self._end()
            self.said += line.decode()
        self.url = re.findall(r'Class page +(http://\S+)/', self.said)[0]
        return self

    async def interrupt(self) -> int:
        """Ctrl-C, as a terminal sends it: to every process of the group."""
        os.killpg(self._process.pid, signal.SIGINT)
        return await self._end()

    async def _end(self) -> int:
        out, self.errors = (part.decode() for part in await self._process.communicate())
        self.said += out
        assert self._process.returncode is not None
        return self._process.returncode

    async def __aexit__(self, *error: object) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.communicate()


@pytest.mark.timeout(300)
async def test_the_command_shows_a_class_stops_with_ctrl_c_and_shows_its_state_again(
    browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with Demo(tmp_path, '--students', '5', '--speed', '20') as demo:
        assert str(tmp_path / 'kept' / '.lo_kvs') in demo.said
        async with browser.get(f'{demo.url}/debug/kvs') as response:
            assert response.status == 200
        async with browser.get(f'{demo.url}/class/changes') as stream:
            words: dict[str, int] = {}
            while len(words) < 5 or min(words.values()) < 5:
                for row in (await next_message(stream.content))[1]:
                    words[row['student']] = sum(document['words'] for document in row['documents'].values())
            assert await demo.interrupt() == 0
    assert demo.errors == ''
    assert 'Stopped' in demo.said
    assert os.listdir(tmp_path) == ['kept']

    kept = {'kvs': {'default': {'type': 'sqlite', 'path': str(tmp_path / 'kept' / '.lo_kvs' / 'state.sqlite3')}}}
    async with KVSRouter.from_settings(kept) as router:
        state = await class_page.rows(router(), await class_page.students(router()))
    async with Demo(tmp_path, '--students', '1', '--speed', '0.001') as demo:
        async with browser.get(f'{demo.url}/class') as response:
            again = await response.json()
        assert [row['student'] for row in again] == [row['student'] for row in state] == sorted(words)
        for before, after in zip(state, again, strict=True):
            assert after['documents'].items() >= before['documents'].items()
            assert after['seconds'] >= before['seconds']
        assert await demo.interrupt() == 0
    assert demo.errors == ''


async def test_the_command_takes_the_next_port_where_one_is_taken() -> None:
    with listen(20_000) as first, listen(first.getsockname()[1]) as second:
        assert second.getsockname()[1] > first.getsockname()[1]
        assert second.getsockname()[0] == '127.0.0.1'
