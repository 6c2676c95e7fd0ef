"""``/debug/kvs``: everything of a student, a document or a reducer, and the box that finds them."""

from __future__ import annotations

import asyncio
import html
import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from click.testing import CliRunner
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.cli.main import main
from learning_observer_kvs.debug import search, states
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVS, EphemeralRedisKVS, InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from learning_observer_kvs.stream_analytics.keys import make_key
from tests.support.debug_pages import make_app
from tests.support.key_pages import page_of
from tests.support.loops import turns

HTML = {'Accept': 'text/html'}

Client = TestClient[web.Request, web.Application]

STUDENT, DOCUMENT, REDUCER = '/debug/kvs/stores/student', '/debug/kvs/stores/document', '/debug/kvs/default/reducer'
FIND = '/debug/kvs/stores/find'

WORDS = {
    'default': {
        'Internal,m.words,EventField.doc_id:D1,STUDENT:ann': 1,
        'External,m.words,EventField.doc_id:D1,STUDENT:ann': 2,
        'External,m.words,EventField.doc_id:D2,STUDENT:ann': 3,
        'Internal,m.time,STUDENT:ann': 4,
        'Internal,m.time,STUDENT:anna': 5,
        'External,m.words,EventField.doc_id:D1,STUDENT:bob': 6,
        'memo of ann': 7,
    },
    'archive': {'Internal,m.words,EventField.doc_id:D1,STUDENT:ann': 8},
}


@kvs_pipeline(null_state={}, module_override='m', qualname_override='time')
async def spent(event: Any, state: Any) -> Any:
    """Count the seconds.

    Between <two> events.
    """
    return state, state


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path, refused: set[str]) -> Client:
    stores = {'default': {'type': 'stub'}, 'archive': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    app = make_app({'kvs': stores}, lambda request, action, store, key: action == 'list' and store not in refused)
    client: Client = await aiohttp_client(app)
    for name, values in WORDS.items():
        await KVS[name].multiset(values)
    return client


async def body(client: Client, path: str, **query: str) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def whole(client: Client, path: str, **query: str) -> tuple[list[Any], int]:
    """The states of all pages, and how many keys were looked at."""
    found, seen = [], 0
    while True:
        some = await body(client, path, **query)
        found += some['states']
        seen += some['keys_seen']
        if some['next_cursor'] is None:
            return found, seen
        query['cursor'] = some['next_cursor']


def places(states: list[Any]) -> list[tuple[str, str, str, list[str]]]:
    return [
        (
            state['store'],
            state['fields'].get('EventField.doc_id', ''),
            state['reducer'],
            [k['state'] for k in state['keys']],
        )
        for state in states
    ]


ANN = [
    ('default', '', 'm.time', ['Internal']),
    ('archive', 'D1', 'm.words', ['Internal']),
    ('default', 'D1', 'm.words', ['Internal', 'External']),
    ('default', 'D2', 'm.words', ['External']),
]


# A student and a document


async def test_a_student_has_the_states_of_all_stores_by_document_and_reducer(client: Client) -> None:
    found = await body(client, STUDENT, student='ann')
    assert places(found['states']) == ANN
    assert (found['student'], found['keys_seen'], found['not_searched'], found['next_cursor']) == ('ann', 8, [], None)
    key = found['states'][1]['keys'][0]
    assert (key['key'], key['bytes']) == (next(iter(WORDS['archive'])), 1)
    assert key['written'] > 0
    text = await page_of(client, STUDENT, student='ann')
    assert text.index('Without a document') < text.index('>D1</a>') < text.index('>D2</a>')
    assert 'anna' not in text


async def test_a_document_has_the_states_of_all_its_students(client: Client) -> None:
    found = await body(client, DOCUMENT, document='D1')
    assert {(state['store'], state['fields']['STUDENT']) for state in found['states']} == {
        ('default', 'ann'),
        ('default', 'bob'),
        ('archive', 'ann'),
    }
    assert found['commands'] == {}
    assert '/debug/kvs/stores/student?student=bob' in await page_of(client, DOCUMENT, document='D1')


async def test_a_search_goes_on_where_the_page_before_ended_and_gives_each_state_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {f'{state},m.r{number},STUDENT:zoe': 0 for number in range(30) for state in ('Internal', 'External')}
    for name in ('default', 'archive'):
        await KVS[name].multiset(values | {f'other {number}': 0 for number in range(50)})
    monkeypatch.setattr(search, 'SCAN_KEYS', 7)
    monkeypatch.setattr(search.Search.__init__, '__defaults__', (7, 7))
    found, seen = await whole(client, STUDENT, student='zoe', limit='5')
    assert sorted(places(found)) == sorted(
        (store, '', f'm.r{number}', ['Internal', 'External'])
        for store in ('default', 'archive')
        for number in range(30)
    )
    assert seen == 8 + 2 * 110
    found, _ = await whole(client, REDUCER, reducer='m.r7', limit='1')
    assert places(found) == [('default', '', 'm.r7', ['Internal', 'External'])]


async def test_a_search_that_takes_long_ends_and_says_that_there_is_more(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await KVS().multiset({f'k{number}': 0 for number in range(5000)})
    pages = search.Search.pages
    monkeypatch.setattr(search.Search, 'pages', lambda self, matches: pages(self, matches, 1e-9))
    for path, name in ((STUDENT, 'student'), (FIND, 'text')):
        found = await body(client, path, **{name: 'ann'})
        assert found['keys_seen'] == search.FIRST_KEYS  # at least one call of a store, or the next page would be alike
        assert found['next_cursor']
        assert 'so far; the search is not complete' in await page_of(client, path, **{name: 'zoe'})
    monkeypatch.undo()
    found, seen = await whole(client, STUDENT, student='ann')
    assert (len(found), seen) == (4, 5008)


async def test_a_search_of_many_keys_does_not_hold_the_loop(client: Client) -> None:
    KVS.add_item('large', InMemoryKVS())
    values = {f'Internal,m.words,STUDENT:s{number}': 0 for number in range(300_000)}
    for start in range(0, 300_000, 10_000):
        await KVS['large'].multiset(dict(list(values.items())[start : start + 10_000]))
    async with turns() as watched:
        found, seen = await whole(client, STUDENT, student='s299999')
    assert (len(found), seen) == (1, 300_008)
    assert watched.longest < 0.1


# What cannot be seen


class Away(InMemoryKVS):
    """A store that does not answer."""

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> Any:
        if prefix or self.hangs:
            await asyncio.Event().wait()
        raise StoreUnavailable('gone fishing.', retry=False)

    hangs = False


@pytest.mark.parametrize('hangs', [False, True])
async def test_a_store_that_does_not_answer_is_named_and_the_others_are_searched(
    client: Client, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    if hangs:
        monkeypatch.setattr(search, 'SEARCH_SECONDS', 1.0)
    away = Away()
    away.hangs = hangs
    KVS.add_item('away', away)
    for path, name in ((STUDENT, 'student'), (DOCUMENT, 'document'), (FIND, 'text')):
        found = await body(client, path, **{name: 'ann'})
        assert found['keys_seen'] == 8
        [missing] = found['not_searched']
        assert missing['store'] == 'away'
        assert ('did not answer within 1 s' if hangs else 'gone fishing') in missing['error']
        assert 'Store away was not searched' in await page_of(client, path, **{name: 'zoe'})
    monkeypatch.setattr('learning_observer_kvs.debug.answers.PAGE_SECONDS', 0.6)
    answer = await client.get('/debug/kvs/away/reducer?reducer=m.words')
    assert answer.status == 503


async def test_stores_whose_keys_one_may_not_list_are_named_and_not_searched(client: Client, refused: set[str]) -> None:
    refused.add('archive')
    for path, name in ((STUDENT, 'student'), (DOCUMENT, 'document'), (FIND, 'text')):
        found = await body(client, path, **{name: 'D1' if name == 'document' else 'ann'})
        assert found['not_searched'] == [{'store': 'archive', 'error': 'You may not list its keys.'}]
        assert found['keys_seen'] == 7
        assert 'archive' not in json.dumps({**found, 'not_searched': []})
    assert (await client.get('/debug/kvs/archive/reducer?reducer=m.words')).status == 403
    refused.add('')
    for path in (STUDENT, DOCUMENT, FIND):
        answer = await client.get(path, params={'student': 'ann', 'document': 'D1', 'text': 'ann'})
        assert answer.status == 403


@pytest.mark.parametrize(
    ('path', 'query', 'text'),
    [
        (STUDENT, {}, 'student is empty'),
        (DOCUMENT, {'document': ''}, 'document is empty'),
        (REDUCER, {}, 'reducer is empty'),
        (FIND, {}, 'text is empty'),
        (STUDENT, {'student': 'a', 'limit': '0'}, 'limit is'),
        *(
            (STUDENT, {'student': 'a', 'cursor': cursor}, 'not one of this search')
            for cursor in ('x', '[]', '["no",0,null]', '["default",1,null]', '["default",0,5]', '[' * 1000)
        ),
    ],
)
async def test_a_mistake_in_a_search_is_an_error(client: Client, path: str, query: dict[str, str], text: str) -> None:
    answer = await client.get(path, params=query)
    assert answer.status == 400
    assert text in (await answer.json())['error']


# A reducer


async def test_a_reducer_has_its_states_of_one_store_its_module_and_its_docstring(client: Client) -> None:
    found = await body(client, REDUCER, reducer='m.time')
    assert [state['fields'] for state in found['states']] == [{'STUDENT': 'ann'}, {'STUDENT': 'anna'}]
    assert (found['registered'], found['module'], found['scope']) == (True, __name__, ['STUDENT'])
    assert found['doc'].endswith('Between <two> events.')
    assert 'Between &lt;two&gt; events.' in await page_of(client, REDUCER, reducer='m.time')
    found = await body(client, REDUCER, reducer='m.words')
    assert (found['registered'], found['module'], found['doc'], found['scope']) == (False, None, None, None)
    assert len(found['states']) == 3
    assert 'does not have this reducer' in await page_of(client, REDUCER, reducer='m.words')


async def test_the_reducers_of_a_store_are_listed_with_the_counts_of_their_states(client: Client) -> None:
    found = await body(client, '/debug/kvs/default/reducers')
    assert found['reducers'] == [
        {'name': 'm.time', 'internal': 2, 'external': 0},
        {'name': 'm.words', 'internal': 1, 'external': 3},
    ]
    assert (found['other_keys'], found['keys_seen'], found['next_cursor']) == (1, 7, None)
    text = await page_of(client, '/debug/kvs/default/reducers')
    assert '/debug/kvs/default/reducer?reducer=m.words' in text
    assert '1 key that is not' in text
    assert '/debug/kvs/default/reducers' in await page_of(client, '/debug/kvs/default')


async def test_counts_go_on_where_the_page_before_ended(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {f'Internal,m.<b>{number},STUDENT:zoe': 0 for number in range(3000)}
    await KVS['archive'].multiset(values)
    names: set[str] = set()
    query: dict[str, str] = {}
    seen = 0
    while True:
        found = await body(client, '/debug/kvs/archive/reducers', **query)
        assert '<b>' not in await page_of(client, '/debug/kvs/archive/reducers', **query)
        names |= {reducer['name'] for reducer in found['reducers']}
        seen += found['keys_seen']
        if found['next_cursor'] is None:
            break
        query = {'cursor': found['next_cursor']}
    assert (len(names), seen) == (3001, 3001)


async def test_a_store_whose_reducers_cannot_be_counted_is_an_error(client: Client, refused: set[str]) -> None:
    KVS.add_item('away', Away())
    assert (await client.get('/debug/kvs/away/reducers')).status == 503
    assert (await client.get('/debug/kvs/missing/reducers')).status == 404
    refused.add('default')
    assert (await client.get('/debug/kvs/default/reducers')).status == 403


# Commands


def test_the_commands_of_the_pages_are_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}, other: {type: sqlite, path: t}}')
    for name in ('ann', "o'neil; rm -rf $HOME", '-x', '漢 ,'):
        key = make_key('m.words', {KeyField.STUDENT: name}, KeyStateType.INTERNAL)
        result = CliRunner().invoke(main, ['set', '--', key, '1'])
        assert result.exit_code == 0, result.output
        nothing = states.States([], search.Search(KVS, [], [''], None), 100)
        for action, line in states.student_view(name, nothing, ())['commands'].items():
            program, *words = shlex.split(line)
            assert program == 'lo-kvs'
            result = CliRunner().invoke(main, words)
            assert result.exit_code == 0, (action, line, result.output)
        Path('student-data.json').unlink()
        Path('student-data.html').unlink()
    assert CliRunner().invoke(main, ['set', 'Internal,m.words,STUDENT:x', '1', '--store', 'other']).exit_code == 0
    for line in states.reducer_view('other', 'm.words', {}, nothing)['commands'].values():
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output)
    assert states.student_view('a\x1b[2J\n', nothing, ())['commands'] == {}


# The box


async def test_any_part_of_a_name_finds_students_documents_reducers_and_keys(client: Client) -> None:
    found = await body(client, FIND, text='ANN')
    assert found['students'] == [{'name': 'ann', 'keys': 5}, {'name': 'anna', 'keys': 1}]
    assert [key['key'] for key in found['keys']] == ['memo of ann']
    assert (found['exact'], found['documents'], found['reducers'], found['next_cursor']) == ([], [], [], None)
    found = await body(client, FIND, text='d1')
    assert found['documents'] == [{'name': 'D1', 'keys': 4}]
    found = await body(client, FIND, text='m.wo')
    assert found['reducers'] == [
        {'store': 'archive', 'name': 'm.words', 'keys': 1},
        {'store': 'default', 'name': 'm.words', 'keys': 4},
    ]
    found = await body(client, FIND, text='Internal,m.words,EventField.doc_id:D1,STUDENT:ann')
    assert found['exact'] == ['default', 'archive']
    assert 'No key has this in its name.' in await page_of(client, FIND, text='zoe')


async def test_a_find_of_many_names_is_given_in_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await KVS().multiset({f'Internal,m.x,STUDENT:many{number}': 0 for number in range(3000)})
    names: list[str] = []
    query, pages = {'text': 'many'}, 0
    while True:
        found = await body(client, FIND, **query)
        names += [each['name'] for each in found['students']]
        pages += 1
        if found['next_cursor'] is None:
            break
        query['cursor'] = found['next_cursor']
    assert len(names) == len(set(names)) == 3000
    assert pages > 2


# Hostile names


@pytest.mark.parametrize(
    'text',
    ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onmouseover='a", '{{ 7 * 7 }}', 'é\n,\\ %&='],
)
async def test_hostile_names_are_text_on_every_page(client: Client, text: str) -> None:
    key = make_key(
        f'm.{text}',
        {KeyField.STUDENT: text, EventField('doc_id'): text},
        KeyStateType.INTERNAL,
    )
    await KVS().set(key, 1)
    escaped = html.escape(text).replace('&#x27;', '&#39;').replace('&quot;', '&#34;')
    for path, query in (
        (STUDENT, {'student': text}),
        (DOCUMENT, {'document': text}),
        (REDUCER, {'reducer': f'm.{text}'}),
        (FIND, {'text': text}),
    ):
        shown = await page_of(client, path, **query)
        for danger in ('<script>', '<img', "' onmouseover", '>49<'):
            assert danger not in shown
        assert escaped in shown
        found = await body(client, path, **query)
        assert found.get('states') or found['students']


async def test_a_long_name_is_searched_by_a_post(client: Client) -> None:
    long = '漢' * 5000
    await KVS().set(f'Internal,m.words,STUDENT:{long}', 1)
    answer = await client.post(STUDENT, data=urlencode({'student': long}).encode())
    assert len((await answer.json())['states']) == 1
    answer = await client.post(
        STUDENT, data=urlencode({'student': 'ann'}).encode(), headers=HTML, allow_redirects=False
    )
    assert (answer.status, answer.headers['Location']) == (303, f'{STUDENT}?student=ann')


async def test_who_saw_which_student_document_and_reducer_is_in_the_audit(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level('INFO', logger='learning_observer_kvs.audit'):
        for path, name, value in (
            (STUDENT, 'student', 'ann'),
            (DOCUMENT, 'document', 'D1'),
            (REDUCER, 'reducer', 'm.time'),
            (FIND, 'text', 'memo'),
        ):
            await body(client, path, **{name: value})
    lines = [json.loads(message) for message in caplog.messages]
    assert [(line['page'], line['keys']) for line in lines] == [
        ('student', 5),
        ('document', 4),
        ('reducer', 2),
        ('find', 1),
    ]
    assert [line.get(name) for line, name in zip(lines, ('student', 'document', 'reducer', 'text'), strict=True)] == [
        'ann',
        'D1',
        'm.time',
        'memo',
    ]


async def test_redis_is_searched_too(client: Client, redis: RedisConnection) -> None:
    KVS.add_item('cache', EphemeralRedisKVS(30, connection=redis))
    await KVS['cache'].multiset(WORDS['default'])
    found, _ = await whole(client, STUDENT, student='ann')
    assert len(found) == 7
