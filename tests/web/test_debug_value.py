"""``/debug/kvs``: a value by its parts, each masked, authorized and noted; beside its counterpart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.values import nodes
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from tests.support.debug_pages import make_app
from tests.support.debug_value import KEY, OTHER, VALUE, Client, got

PART, MATCHES, RAW, VALUE_PAGE = (f'/debug/kvs/default/{name}' for name in ('part', 'matches', 'raw', 'key'))

HTML = {'Accept': 'text/html'}


@kvs_pipeline(null_state={}, module_override='values', qualname_override='count')
async def count(event: Any, state: Any) -> Any:
    """Count what is typed.

    In a second paragraph.
    """
    return {'words': state.get('words', 0) + 1}, {'words': state.get('words', 0) + 1}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path, refused: set[str]) -> Client:
    stores = {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    settings = {'kvs': stores, 'config': {'run_mode': 'dev'}}
    client: Client = await aiohttp_client(make_app(settings, lambda request, action, store, key: key not in refused))
    await KVS().set(KEY, VALUE)
    return client


def at(*steps: str | int) -> str:
    return json.dumps(list(steps))


# Parts


async def test_the_parts_of_a_value_come_some_at_a_time(client: Client) -> None:
    first = (await got(client, PART, path=at('items')))['node']
    assert (first['kind'], first['size'], first['start'], first['next_start']) == ('list', 250, 0, 100)
    assert [child['name'] for child in first['children']] == list(range(100))
    last = (await got(client, PART, path=at('items'), start=200))['node']
    assert (len(last['children']), last['next_start']) == (50, None)
    assert last['children'][0]['children'][0] == {
        'name': 'number',
        'name_is_cut': False,
        'kind': 'number',
        'size': None,
        'bytes': 3,
        'value': 200,
        'masked': False,
        'start': 0,
        'next_start': None,
        'children': None,
    }
    assert (await got(client, PART, path=at('items', 249, 'number')))['node']['value'] == 249


async def test_a_long_text_comes_by_pieces(client: Client) -> None:
    text = 'é漢😀\n' * 30_000
    await KVS().set(KEY, {'text': text, 'next': 1})
    whole = (await got(client, PART))['node']
    assert whole['children'][0]['value'] == text[: nodes.TEXT_CHARACTERS]
    seen, start = '', 0
    while start is not None:
        node = (await got(client, PART, path=at('text'), start=start))['node']
        assert (node['start'], node['size'], len(node['value']) <= nodes.PIECE_CHARACTERS) == (start, 120_000, True)
        seen, start = seen + node['value'], node['next_start']
    assert seen == text


async def test_one_answer_has_few_nodes_however_the_value_is_built(client: Client) -> None:
    def nested(depth: int) -> Any:
        return [nested(depth - 1) for _ in range(9)] if depth else 'x' * 900

    def count_of(node: Any) -> int:
        return 1 + sum(map(count_of, node['children'] or []))

    for value in (
        nested(4),
        {f'n{number}': ['x' * 5000] * 100 for number in range(30)},
        [[[[1] * 200] * 200] * 5] * 5,
    ):
        await KVS().set(KEY, value)
        answer = await client.get(PART, params={'key': KEY})
        assert count_of((await answer.json())['node']) <= nodes.ROWS + nodes.CHILDREN
        assert len(await answer.read()) < 1 << 20
        page = await client.get(VALUE_PAGE, params={'key': KEY}, headers=HTML)
        assert len(await page.read()) < 1 << 20


@pytest.mark.parametrize(
    ('query', 'status'),
    [
        ({'path': at('missing')}, 404),
        ({'path': at('items', 250)}, 404),
        ({'path': at('items', 'x')}, 404),
        ({'path': at('words', 0)}, 404),
        ({'path': 'items'}, 400),
        ({'path': '{}'}, 400),
        ({'path': '[-1]'}, 400),
        ({'path': '[true]'}, 400),
        ({'path': '[null]'}, 400),
        ({'path': json.dumps([1] * 1500, separators=(',', ':'))}, 400),
        ({'start': '-1'}, 400),
        ({'start': 'x'}, 400),
        ({'start': '9' * 30}, 400),
        ({'key': 'missing'}, 404),
    ],
)
@pytest.mark.parametrize('headers', [{}, HTML], ids=['JSON', 'HTML'])
async def test_a_part_that_is_not_there_is_an_error_that_says_so(
    client: Client, query: dict[str, str], status: int, headers: dict[str, str]
) -> None:
    answer = await client.get(PART, params={'key': KEY, **query}, headers=headers)
    assert answer.status == status
    assert 'error' in await answer.text()


async def test_a_start_behind_the_end_has_nothing(client: Client) -> None:
    assert (await got(client, PART, path=at('items'), start=1000))['node']['children'] == []
    assert (await got(client, PART, path=at('text'), start=1000))['node']['value'] == ''


@pytest.mark.parametrize('text', [b'nul', b'{"a":', b'[1,]', b'{"a":{"b":nul}}', b'\xff', b'[' * 5000 + b']' * 5000])
async def test_what_is_not_json_is_an_error_in_every_answer(client: Client, text: bytes) -> None:
    await KVS().commit_bytes({KEY: text}, {})
    for address in (PART, RAW, MATCHES):
        answer = await client.get(address, params={'key': KEY, 'text': 'a'})
        assert answer.status == 409, address
        assert 'JSON' in (await answer.json())['error'] or 'deep' in (await answer.json())['error']
    page = await client.get(VALUE_PAGE, params={'key': KEY}, headers=HTML)
    assert page.status == 200
    assert 'role="alert"' in await page.text()


@pytest.mark.parametrize('text', [b'[NaN, 1e999, -0.0]', b'{"a":"\\ud800"}', b' {"a" : 1, "a" : 2} '])
async def test_what_only_other_programs_write_has_parts_too(client: Client, text: bytes) -> None:
    await KVS().commit_bytes({KEY: text}, {})
    for address in (PART, MATCHES):
        answer = await client.get(address, params={'key': KEY, 'text': 'a'})
        assert answer.status == 200, await answer.text()
    assert (await client.get(VALUE_PAGE, params={'key': KEY}, headers=HTML)).status == 200


# Masks


async def test_what_is_masked_is_not_in_any_part_match_or_raw_text(client: Client) -> None:
    for address, query in (
        (PART, {}),
        (PART, {'path': at('items')}),
        (PART, {'path': at('items', 3)}),
        (PART, {'path': at('items', 3, 'password')}),
        (PART, {'path': at('auth')}),
        (PART, {'path': at('as text')}),
        (RAW, {}),
        (RAW, {'path': at('items')}),
        (RAW, {'path': at('items', 3, 'password')}),
        (RAW, {'path': at('auth')}),
        (RAW, {'path': at('as text')}),
        (VALUE_PAGE, {}),
    ):
        for headers in ({}, HTML):
            answer = await client.get(address, params={'key': KEY, **query}, headers=headers)
            assert answer.status == 200
            text = await answer.text()
            assert 's3cret' not in text
            assert '(hidden)' in text
    for wanted in ('s3cret', 'inner', 'deep'):
        assert (await got(client, MATCHES, text=wanted))['matches'] == []


async def test_what_is_inside_of_a_masked_part_is_not_there(client: Client) -> None:
    for address in (PART, RAW):
        for path in (at('auth', 'inner'), at('auth', 'inner', 'deep'), at('auth', 'nothing')):
            answer = await client.get(address, params={'key': KEY, 'path': path})
            assert answer.status == 404
            assert await answer.json() == {'error': 'What is inside of a masked part is not shown.'}


@pytest.mark.parametrize(
    'text',
    [
        '{"token": "s3cret"}'.encode('utf-16'),
        '{"token": "s3cret"}'.encode('utf-16-le'),
        b'{"a": {"token": "s3cret"}, "a": 1}',
        b'{"t\\u006fken": "s3cret"}',
    ],
    ids=['UTF-16', 'UTF-16 without a mark', 'twice', 'escaped'],
)
async def test_a_text_that_only_python_reads_is_masked_too(client: Client, text: bytes) -> None:
    await KVS().commit_bytes({KEY: text}, {})
    for address in (PART, RAW, MATCHES, VALUE_PAGE):
        for headers in ({}, HTML):
            answer = await client.get(address, params={'key': KEY, 'text': 's3c'}, headers=headers)
            assert answer.status == 200
            assert b's3cret' not in (await answer.read()).replace(b'\0', b'').replace(b'\xef\xbf\xbd', b'')


async def test_a_value_whose_key_is_masked_has_no_parts(client: Client) -> None:
    await KVS().set('google_auth', {'a': ['s3cret']})
    for address, query in ((PART, {}), (RAW, {}), (MATCHES, {'text': 's3cret'}), (VALUE_PAGE, {})):
        for headers in ({}, HTML):
            answer = await client.get(address, params={'key': 'google_auth', **query}, headers=headers)
            assert answer.status == 200
            assert '["s3cret"]' not in await answer.text()
    assert (await client.get(PART, params={'key': 'google_auth', 'path': at('a')})).status == 404


def test_a_part_is_masked_as_it_is_in_the_whole_value() -> None:
    mask = Mask()
    text = json.dumps(VALUE).encode()
    whole = mask.applied_to({'key': 'k', 'value': json.loads(text)})['value']

    def walk(value: Any, path: tuple[str | int, ...]) -> None:
        node = nodes.node_at(nodes.root_of('k', text, mask), path, mask)
        if isinstance(value, (dict, list)):
            assert not node.is_hidden
            for step, item in value.items() if isinstance(value, dict) else enumerate(value):
                walk(item, (*path, step))
        else:
            assert node.value == value

    walk(whole, ())


# The whole, raw or saved


async def test_raw_is_the_value_and_a_download_is_a_file(client: Client) -> None:
    await KVS().set(KEY, {'a': [1, {'b': 'é'}]})
    for headers in ({}, HTML):
        answer = await client.get(RAW, params={'key': KEY}, headers=headers)
        assert (answer.content_type, await answer.json()) == ('application/json', {'a': [1, {'b': 'é'}]})
        assert 'Content-Disposition' not in answer.headers
        assert answer.headers['X-Content-Type-Options'] == 'nosniff'
    assert await got(client, RAW, path=at('a', 1, 'b')) == 'é'
    answer = await client.get(RAW, params={'key': KEY, 'download': '1'})
    saved = 'Internal_values.count_STUDENT_ann.json'
    assert answer.headers['Content-Disposition'] == f'attachment; filename="{saved}"'


async def test_the_name_of_a_file_has_nothing_of_a_key_that_means_something(client: Client) -> None:
    key = '../a"; filename="x.html\r\nSet-Cookie: a=b\x00é' + 'x' * 500
    await KVS().set(key, 1)
    answer = await client.post(RAW, data={'key': key, 'download': '1'})
    name = answer.headers['Content-Disposition'].removeprefix('attachment; filename="').removesuffix('"')
    assert len(name) <= 100
    assert not set(name) & set('"/\\\r\n; ')


async def test_a_value_over_the_bound_is_not_read_by_any_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.debug.views.MAX_VALUE_BYTES', 100)
    for address in (PART, RAW, MATCHES):
        answer = await client.get(address, params={'key': KEY, 'text': 'a'})
        assert answer.status == 409
        assert 'lo-kvs get' in (await answer.json())['error']
    text = await (await client.get(VALUE_PAGE, params={'key': KEY}, headers=HTML)).text()
    assert 'lo-kvs get' in text
    assert 'class="tree"' not in text


# Both states


async def test_the_two_states_are_beside_each_other_with_what_differs(client: Client) -> None:
    await KVS().multiset({KEY: {'a': 1, 'b': {'x': 1, 'y': 2}, 'c': 3}, OTHER: {'a': 1, 'b': {'x': 1, 'y': 3}, 'd': 4}})
    text = await (await client.get(VALUE_PAGE, params={'key': KEY}, headers=HTML)).text()
    marks = [
        (line.split('&#34;')[1], line.split('class="')[1].split('"')[0] if 'class=' in line else '')
        for line in text.splitlines()
        if line.startswith('<li data-step')
    ]
    assert marks == [
        ('a', ''),
        ('b', ''),
        ('x', ''),
        ('y', 'changed'),
        ('c', 'only'),
        ('a', ''),
        ('b', ''),
        ('x', ''),
        ('y', 'changed'),
        ('d', 'only'),
    ]
    await KVS().set(OTHER, 7)
    text = await (await client.get(VALUE_PAGE, params={'key': KEY}, headers=HTML)).text()
    assert 'have different forms' in text
    assert 'class="only"' not in text


async def test_a_part_is_compared_with_the_same_part_of_the_other_state(client: Client) -> None:
    await KVS().multiset({KEY: {'a': [*range(300)]}, OTHER: {'a': [*range(250), -1, *range(251, 300)]}})
    query = {'key': KEY, 'path': at('a'), 'start': '200', 'beside': '1'}
    text = await (await client.get(PART, params=query, headers=HTML)).text()
    assert [line for line in text.splitlines() if 'class="changed"' in line] == ['<li data-step="250" class="changed">']


async def test_who_may_read_one_state_only_sees_that_one(
    client: Client, refused: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    await KVS().multiset({KEY: {'a': 'one'}, OTHER: {'a': 'two'}})
    refused.add(OTHER)
    for address in (VALUE_PAGE, PART):
        with caplog.at_level('INFO', logger='learning_observer_kvs.audit'):
            answer = await client.get(address, params={'key': KEY, 'beside': '1'}, headers=HTML)
        assert answer.status == 200
        assert 'two' not in await answer.text()
    assert {json.loads(line)['key'] for line in caplog.messages} == {KEY}
    assert (await (await client.get(VALUE_PAGE, params={'key': KEY})).json())['counterpart'] is None
    for address in (VALUE_PAGE, PART, RAW, MATCHES):
        answer = await client.get(address, params={'key': OTHER, 'text': 'two'}, headers=HTML)
        assert answer.status == 403


@pytest.mark.parametrize(
    ('address', 'accept', 'query', 'described'),
    [
        (VALUE_PAGE, HTML, {}, [KEY, OTHER]),
        (VALUE_PAGE, {}, {}, [KEY, OTHER]),
        (PART, HTML, {'beside': '1'}, [KEY, OTHER]),
        (PART, HTML, {}, [KEY]),
        (MATCHES, HTML, {'text': 'a'}, [KEY]),
        (RAW, {}, {}, [KEY]),
    ],
)
async def test_a_page_asks_once_what_the_store_knows_of_the_states_that_it_is_about(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    accept: dict[str, str],
    query: dict[str, str],
    described: list[str],
) -> None:
    await KVS().multiset({KEY: {'a': 'one'}, OTHER: {'a': 'two'}})
    asked: list[list[str]] = []
    store = KVS()
    describe_all = store.describe_all

    async def noted(keys: Iterable[str]) -> Any:
        asked.append([*keys])
        return await describe_all(asked[-1])

    monkeypatch.setattr(store, 'describe_all', noted)
    answer = await client.get(address, params={'key': KEY, **query}, headers=accept)
    assert answer.status == 200
    assert asked == [described]


async def test_every_value_and_part_that_is_shown_is_a_line_of_the_audit(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await KVS().set(OTHER, 1)

    async def lines(address: str, **query: str) -> list[dict[str, Any]]:
        caplog.clear()
        with caplog.at_level('INFO', logger='learning_observer_kvs.audit'):
            assert (await client.get(address, params={'key': KEY, **query}, headers=HTML)).status == 200
        return [
            {name: line[name] for name in ('page', 'key', 'path', 'text') if name in line}
            for line in map(json.loads, caplog.messages)
        ]

    assert await lines(VALUE_PAGE) == [{'page': 'value', 'key': KEY}, {'page': 'value', 'key': OTHER}]
    assert await lines(PART, path=at('items', 3)) == [{'page': 'value', 'key': KEY, 'path': '$.items[3]'}]
    assert await lines(RAW) == [{'page': 'value', 'key': KEY, 'path': '$'}]
    assert await lines(MATCHES, text='a') == [{'page': 'value', 'key': KEY, 'text': 'a'}]


# The reducer


async def test_a_value_says_what_its_reducer_is_and_costs(client: Client) -> None:
    found = await got(client, VALUE_PAGE)
    assert (found['registered'], found['module'], found['costs']) == (True, __name__, None)
    process = await count({'auth': {'safe_user_id': 'ann', 'user_id': 'ann'}, 'source': 's'})
    for _ in range(20):
        await process({'client': {'event': 'x'}})
    for address, query in ((VALUE_PAGE, {}), ('/debug/kvs/default/reducer', {'reducer': 'values.count'})):
        found = await got(client, address, **query)
        costs = found['costs']
        assert (costs['events'], costs['failed'], costs['conflicts']) == (20, 0, 0)
        assert 0 < costs['commits'] <= 20
        assert costs['seconds'] is None or 0 < costs['seconds'] < 1
        assert found['doc'].startswith('Count what is typed.\n')
        text = await (await client.get(address, params={'key': KEY, **query}, headers=HTML)).text()
        assert 'Count what is typed.' in text
        assert 'A call takes' in text
