"""``/debug/kvs/{store}``: what a list shows of values, and the search for a text inside them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import answering, views
from learning_observer_kvs.debug.keys import census
from learning_observer_kvs.debug.keys import listing as key_list
from learning_observer_kvs.debug.keys import pages as key_pages
from learning_observer_kvs.debug.keys import rows as key_rows
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app
from tests.support.key_pages import STORES, Client, client, links, page, page_of, readable, shown_in

__all__ = ['client', 'readable']


async def test_a_row_shows_the_beginning_of_its_value_masked_and_bounded(client: Client) -> None:
    await KVS['archive'].multiset(
        {
            'a': {'text': 'x' * 5000, 'token': 'secret'},
            'b': {'token': 'secret', 'n': 1},
            'google_stored_auth:c': {'n': 'secret'},
            'd': 'y' * (key_rows.PREVIEWED_BYTES + 1),
        }
    )
    rows = {row['key']: row for row in (await page(client, 'archive'))['keys']}
    assert rows['a']['preview'].startswith('{"text":"xxx')
    assert len(rows['a']['preview']) < 250
    assert rows['b']['preview'] == '{"token":"(hidden)","n":1}'
    assert rows['google_stored_auth:c']['preview'] == '"(hidden)"'
    assert [rows[key]['masked'] for key in rows] == [True, True, False, True]
    assert (rows['d']['preview'], rows['d']['note']) == (None, 'too long for a list')
    assert rows['d']['bytes'] == key_rows.PREVIEWED_BYTES + 3
    assert rows['a']['written'] > 0
    assert 'secret' not in await page_of(client, '/debug/kvs/archive')


async def test_the_values_of_a_page_are_bounded_together(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_rows, 'PREVIEWED_IN_ALL', 1000)
    await KVS().multiset({f'k{number:02}': 'x' * 98 for number in range(30)})
    rows = (await page(client))['keys']
    assert [row['preview'] is not None for row in rows] == [True] * 10 + [False] * 20


@pytest.mark.parametrize('query', [{}, {'sort': 'bytes'}, {'sort': 'written'}, {'text': 'word', 'inside': 'values'}])
async def test_each_key_of_a_list_is_described_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    await KVS['archive'].multiset({f'k{number:02}': 'a word' for number in range(30)})
    await page(client, 'archive')  # its keys are counted
    described: list[str] = []
    store = KVS['archive']
    describe_all = store.describe_all

    async def noted(keys: Iterable[str]) -> Any:
        described.extend(wanted := [*keys])
        return await describe_all(wanted)

    monkeypatch.setattr(store, 'describe_all', noted)
    monkeypatch.setattr(census, 'SHOWN_FOR', 1e6)
    assert len((await page(client, 'archive', **query))['keys']) == 30
    assert sorted(described) == [f'k{number:02}' for number in range(30)]


async def test_a_value_that_one_may_not_read_is_not_in_the_list(client: Client, readable: set[str]) -> None:
    readable.clear()
    readable.add('open')
    await KVS().multiset({'open': 'shown', 'shut': 'a secret'})
    rows = {row['key']: row for row in (await page(client))['keys']}
    assert (rows['open']['preview'], rows['shut']['preview'], rows['shut']['note']) == (
        '"shown"',
        None,
        'may not be read',
    )
    found = await page(client, text='s', inside='values')
    assert [row['key'] for row in found['keys']] == ['open', 'shut']  # the one by its key
    assert 'secret' not in str(found)
    assert [row['key'] for row in (await page(client, text='secret', inside='values'))['keys']] == []
    for text in ('secret', 'a s', 'nothing'):  # or one could guess a value by what is counted
        assert (await page(client, text=text, inside='values'))['values_not_read'] == 1


async def test_a_list_does_not_wait_for_an_authorize_that_hangs(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, 'AUTHORIZE_SECONDS', 0.5)
    asked: list[str | None] = []

    async def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
        asked.append(key)
        if key == 'b':
            await asyncio.Event().wait()
        return True

    client: Client = await aiohttp_client(make_app({'kvs': {'default': {'type': 'stub'}}}, authorize))
    await KVS().multiset({'a': 'one', 'b': 'two', 'c': 'three'})
    rows = (await page(client))['keys']
    assert [(row['preview'], row['note']) for row in rows] == [
        ('"one"', None),
        (None, 'may not be read'),
        (None, 'may not be read'),
    ]
    found = await page(client, text='o', inside='values')
    assert ([row['key'] for row in found['keys']], found['values_not_read']) == (['a'], 2)
    assert (asked.count('b'), asked.count('c')) == (2, 0)
    assert 'authorize did not answer within 0.5 s' in caplog.text


async def test_what_is_not_json_is_listed_and_says_so(client: Client, redis: RedisConnection) -> None:
    await redis.ask(['SET', 'broken', '{"a'], ['RPUSH', 'list', '1'], ['SET', 'good', '1'])
    rows = {row['key']: row for row in (await page(client, 'redis'))['keys']}
    assert {key: (row['bytes'], row['preview'], row['note']) for key, row in rows.items()} == {
        'broken': (3, None, 'is not JSON'),
        'list': (None, None, 'is not text'),
        'good': (1, '1', None),
    }
    await page_of(client, '/debug/kvs/redis')
    assert (await page(client, 'redis', sort='bytes'))['keys'][0]['key'] == 'broken'
    assert [row['key'] for row in (await page(client, 'redis', text='1', inside='values'))['keys']] == ['good']
    counts = await (await client.get('/debug/kvs')).json()
    [card] = [store for store in counts['stores'] if store['name'] == 'redis']
    assert (card['keys'], card['error']) == (3, None)


# Inside values


@pytest.mark.parametrize('store', STORES)
@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('SIGHT', {'a', 'b'}),
        ('said "hi"', {'b'}),
        ('wörd', {'c'}),
        ('WÖRD', {'c'}),
        ('two\nlines', {'d'}),
        ('secret', set()),
        ('a', {'a', 'b', 'c', 'd', 'auth'}),  # each has it in its key or in its value
    ],
)
async def test_a_text_is_found_inside_values_as_the_pages_show_them(
    client: Client, store: str, text: str, expected: set[str]
) -> None:
    await KVS[store].multiset(
        {
            'a': {'essay': 'A long time in sight.' + ' ' * 1000},
            'b': {'essay': ' ' * 1000 + 'Insight: she said "hi" at night.'},
            'c': ['ein Wörd', 'a'],
            'd': {'two\nlines': 'a', 'token': 'secret'},
            'auth': 'secret',
        }
    )
    found = await page(client, store, text=text, inside='values')
    rows = {row['key']: row for row in found['keys']}
    assert rows.keys() == expected
    if text == 'SIGHT':
        assert 'sight' in rows['a']['preview']
        assert 'Insight' in rows['b']['preview']
        assert len(rows['b']['preview']) < 250
        marked = await page_of(client, f'/debug/kvs/{store}', text=text, inside='values')
        assert marked.count('<mark>sight</mark>') == 2


async def test_values_that_are_too_long_are_not_looked_into_and_counted(client: Client) -> None:
    await KVS().multiset({'long': 'x' * (1 << 20) + 'needle', 'short': 'needle'})
    found = await page(client, text='needle', inside='values')
    assert ([row['key'] for row in found['keys']], found['values_not_read']) == (['short'], 1)
    assert '1 value was not looked into' in await page_of(client, '/debug/kvs/default', text='needle', inside='values')


@pytest.mark.parametrize('store', STORES)
async def test_a_search_that_takes_long_ends_and_goes_on_where_it_was(
    client: Client, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_pages, 'STEP_SECONDS', 1e-9)
    monkeypatch.setattr(key_list, 'READ_AT_ONCE', 7)
    values = {f'k{number:03}': 'needle' if number % 50 == 17 else 'hay' for number in range(400)}
    await KVS[store].multiset(values)
    query = {'text': 'needle', 'inside': 'values'}
    found, seen, step = [], 0, '[0,null,100]'
    cursor: str | None = None
    for asked in range(200):  # noqa: B007
        some = await page(client, store, **query, step=step, **({} if cursor is None else {'cursor': cursor}))
        found += [row['key'] for row in some['keys']]
        seen += some['keys_seen']
        cursor = some['next_cursor']
        if cursor is None:
            break
    assert sorted(found) == sorted(key for key, value in values.items() if value == 'needle')
    assert seen == 400
    assert asked > 20


async def test_a_script_that_asks_for_the_rest_of_a_page_gets_the_links_of_the_page(client: Client) -> None:
    await KVS().multiset({f'n{number:03}': number for number in range(250)})
    text = await page_of(client, '/debug/kvs/default', text='n')
    following = links(text)['Next']
    text = await page_of(client, '/debug/kvs/default', text='n', limit='40', step='[0,null,100]')
    cursor = (await page(client, text='n', limit='40'))['next_cursor']
    rest = await page_of(
        client, '/debug/kvs/default', text='n', limit='60', at='40', cursor=cursor, step='[0,null,100]'
    )
    assert shown_in(text) + shown_in(rest) == [f'n{number:03}' for number in range(100)]
    assert links(rest)['Next'] == following


async def test_a_search_ends_when_its_reader_has_gone(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await KVS().multiset({f'k{number}': 'hay' for number in range(5000)})
    monkeypatch.setattr(key_rows.Viewer, 'has_gone', property(lambda self: lambda: True))
    found = await page(client, text='needle', inside='values')
    assert found['next_cursor'] is not None
    assert found['keys_seen'] < 5000


async def test_many_who_look_inside_values_take_their_turns(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await KVS().multiset({f'k{number}': 'hay' for number in range(2000)})
    monkeypatch.setattr(key_list, 'READ_AT_ONCE', 100)
    reading = most = 0
    read = views.texts_of

    async def noted(store: Any, keys: Any) -> Any:
        nonlocal reading, most
        if not keys:  # the beginnings of values that a page shows
            return await read(store, keys)
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0)
        try:
            return await read(store, keys)
        finally:
            reading -= 1

    monkeypatch.setattr(views, 'texts_of', noted)
    found = await asyncio.gather(*(page(client, text='needle', inside='values') for _ in range(4)))
    assert {each['keys_seen'] for each in found} == {2000}
    assert most == 1
