"""The demo server: no event is lost, and an event that a reducer failed on can be replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from pytest_aiohttp.plugin import AiohttpServer

from devdata import students
from devdata.demo import listen
from devdata.reducers import REDUCERS, event_count, reconstruct
from devdata.server import make_app
from learning_observer_kvs import failed_events
from learning_observer_kvs.cli.main import main as lo_kvs
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.replay import failures, study_log
from learning_observer_kvs.replay.retry import retry
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    KeyStateType,
    make_key,
    student_event_reducer,
)
from tests.support.demo import END, Client, address, event, sent, settings, typed
from tests.support.sessions import FOLDER, expected, texts

INTERNAL = KeyStateType.INTERNAL
BROKEN: list[str] = []
"""Kinds of events that :func:`notes` fails on at the moment."""


@student_event_reducer(null_state=[])
async def notes(event: Any, internal_state: Any) -> Any:
    """Note every event; fail on some kinds."""
    kind = event['client']['event']
    if kind in BROKEN:
        raise KeyError(f'a bug in the reducer, at {kind}')
    internal_state.append([kind, event['client'].get('source'), event['client'].get('n')])
    return internal_state, internal_state


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path) -> TestServer:
    app = make_app(settings(tmp_path), reducers=[*REDUCERS, notes])
    return await aiohttp_server(app)


async def noted(student: str = 'bob') -> Any:
    return await KVS()[make_key(notes, {KeyField.STUDENT: student}, KeyStateType.EXTERNAL)]


# The main job


@pytest.mark.timeout(600)
async def test_thirty_students_at_once_end_in_the_expected_texts(
    aiohttp_server: AiohttpServer, browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = await aiohttp_server(make_app(settings(tmp_path)))
    names = sorted(expected(), key=lambda name: expected()[name]['events'])[:30]  # the others are replayed elsewhere

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


async def test_locked_fields_are_added_to_every_later_event(server: TestServer, browser: aiohttp.ClientSession) -> None:
    lock = {'event': 'lock_fields', 'fields': {'source': 'lab', 'auth': {'safe_user_id': 'ann'}, 'event': 'x'}}
    await sent(server, browser, event(), lock, event(student=None, source='other'), event('mouseclick'), END)
    assert await noted('bob') == [['keystroke', None, None]]
    assert await noted('ann') == [['keystroke', 'lab', None], ['mouseclick', 'lab', None]]


async def test_a_locked_field_keeps_its_first_value(server: TestServer, browser: aiohttp.ClientSession) -> None:
    locks = [{'event': 'lock_fields', 'fields': {'source': source}} for source in ('first', 'second')]
    await sent(server, browser, *locks, event(), END)
    assert await noted() == [['keystroke', 'first', None]]


async def test_terminate_ends_the_connection_after_the_events_before_it(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    ended = await sent(server, browser, *(event(n=n) for n in range(50)), END, event(n='too late'))
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, WSCloseCode.OK)
    assert [n for _, _, n in await noted()] == list(range(50))


async def test_an_event_without_auth_is_left_out(server: TestServer, browser: aiohttp.ClientSession) -> None:
    await sent(server, browser, event(student=None), event(), END)
    assert await noted('[guest]') is None
    assert await noted() == [['keystroke', None, None]]


async def test_each_event_belongs_to_the_student_of_its_auth(
    server: TestServer, browser: aiohttp.ClientSession
) -> None:
    await sent(server, browser, *(event(student=name, n=n) for n, name in enumerate(['ann', 'bob', 'ann'])), END)
    assert [n for _, _, n in await noted('ann')] == [0, 2]
    assert [n for _, _, n in await noted('bob')] == [1]


@pytest.mark.parametrize(
    ('message', 'reason'),
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
async def test_an_invalid_message_ends_the_connection_with_a_reason(
    server: TestServer, browser: aiohttp.ClientSession, message: Any, reason: str
) -> None:
    ended = await sent(server, browser, event(), message, event())
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, WSCloseCode.INVALID_TEXT)
    assert reason in str(ended.extra)
    assert len(await noted()) == 1


async def test_other_machines_are_rejected(server: TestServer, browser: aiohttp.ClientSession) -> None:
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
    [kept] = failed_events.find(tmp_path / 'failed')
    assert str(kept) in caplog.text
    assert 'lo-kvs replay' in caplog.text

    async with browser.get(f'{address(server)}/class') as response:
        [row] = await response.json()
    assert row['documents']['D']['text'] == 'abc', 'the other reducers processed it'

    broken.clear()
    creds = tmp_path / 'creds.yaml'
    creds.write_text(json.dumps(settings(tmp_path)))
    arguments = ['replay', str(kept.parent), '--reducer', 'tests.system.test_demo:notes', '--config', str(creds)]
    for _ in range(2):
        result = await asyncio.to_thread(CliRunner().invoke, lo_kvs, arguments)
        assert result.exit_code == 0, result.output
        assert [n for _, _, n in await noted()] == [1, 3, 2], 'once, however often it is replayed'


async def test_an_event_is_replayed_to_the_student_whose_it_is(
    server: TestServer, browser: aiohttp.ClientSession, broken: list[str], tmp_path: Path
) -> None:
    broken.append('keystroke')
    names = ['Bob', 'bob', '../up', 'x' * 300, 'ü/\\', 'a,STUDENT:bob']
    await sent(server, browser, *(event(student=name, n=n) for n, name in enumerate(names)), END)
    broken.clear()
    async with KVSRouter.from_settings(settings(tmp_path)) as router:
        kept = failures.read(failed_events.find(tmp_path / 'failed'))
        report = await retry(kept, [notes], router=router)
        assert (report.replayed, report.failures) == (len(names), [])
        for n, name in enumerate(names):
            [[_, _, noted_n]] = await router()[make_key(notes, {KeyField.STUDENT: name}, INTERNAL)]
            assert noted_n == n


async def test_an_event_that_no_reducer_has_processed_is_kept_for_those_alone_that_it_reaches(
    server: TestServer, browser: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await sent(server, browser, event(n=1), END)
    await worker_of(KVS()).close(1.0)
    await sent(server, browser, event(n=2), event(student=None, n=3), event(n=4, doc_id='D'), END)
    kept = [each for path in failed_events.find(tmp_path / 'failed') for each in failed_events.read(path)]
    assert all(isinstance(each, failed_events.FailedEvent) for each in kept)
    names = [
        (each.event['client']['n'], each.reducer.rpartition('.')[2]) for each in kept if not isinstance(each, Exception)
    ]
    student = ['time_on_task', 'event_count', 'document_list', 'notes']
    assert names == [(2, name) for name in student] + [(4, name) for name in ['reconstruct', *student]]


async def test_an_event_that_can_be_neither_processed_nor_kept_ends_the_connection(
    server: TestServer, browser: aiohttp.ClientSession, broken: list[str], tmp_path: Path
) -> None:
    broken.append('keystroke')
    (tmp_path / 'failed').write_text('a file where the directory should be')
    ended = await sent(server, browser, event('mouseclick'), event(), event('mouseclick'))
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, WSCloseCode.INTERNAL_ERROR)
    assert len(await noted()) == 1


async def test_students_report_a_server_that_cannot_be_reached() -> None:
    with listen(20_000) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(students.ServerGone, match=f'127.0.0.1:{port}'):
        await students.write(f'http://127.0.0.1:{port}', 2)
