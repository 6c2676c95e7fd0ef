"""``/debug/kvs/{store}``: which keys a filter finds, page after page, and what is said of each."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import key_list, key_pages, prefixes
from learning_observer_kvs.kvs import KVS, PersistentRedisKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app

Client = TestClient[web.Request, web.Application]

HTML = {'Accept': 'text/html'}

STORES = ['default', 'archive', 'files', 'redis']

REDUCERS = ('m.words', 'm.time', 'other.words')

KEYS = {
    f'{state},{reducer}{document},STUDENT:{student}': {'n': number}
    for state in ('Internal', 'External')
    for reducer in REDUCERS
    for document in ('', ',EventField.doc_id:D1')
    for number, student in enumerate(('ann', 'bob', r'o\2cneil'))
} | {f'user:{number % 3}:{number}': number for number in range(30)}


@pytest.fixture
def readable() -> set[str]:
    """What the values' keys that may be read begin with."""
    return {''}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path, redis: RedisConnection, readable: set[str]) -> Client:
    async def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
        if action == 'read' and key is not None and not key.startswith(tuple(readable)):
            raise web.HTTPFound('/log-in')
        return True

    stores = {
        'default': {'type': 'stub'},
        'archive': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')},
        'files': {'type': 'filesystem', 'path': str(tmp_path / 'files')},
    }
    client: Client = await aiohttp_client(make_app({'kvs': stores}, authorize))
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    return client


async def page(client: Client, store: str = 'default', **query: str) -> Any:
    answer = await client.get(f'/debug/kvs/{store}', params=query)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def page_of(client: Client, path: str, **query: str) -> str:
    answer = await client.get(path, params=query, headers=HTML)
    assert answer.status == 200, await answer.text()
    return await answer.text()


async def whole(client: Client, store: str, **query: str) -> list[str]:
    """The keys of all pages."""
    found = []
    for _ in range(200):
        some = await page(client, store, **query)
        assert len(some['keys']) <= some['limit']
        found += [row['key'] for row in some['keys']]
        if some['next_cursor'] is None:
            return found
        query['cursor'] = some['next_cursor']
    raise AssertionError(found)


# Filters


@pytest.mark.parametrize('store', STORES)
@pytest.mark.parametrize('limit', ['3', '100'])
@pytest.mark.parametrize(
    ('query', 'expected'),
    [
        ({}, lambda key: True),
        ({'state': 'Internal'}, lambda key: key.startswith('Internal,')),
        ({'state': 'Other'}, lambda key: key.startswith('user:')),
        ({'reducer': 'm.words'}, lambda key: ',m.words,' in key),
        ({'reducer': 'm.words', 'state': 'External'}, lambda key: key.startswith('External,m.words,')),
        ({'reducer': 'm.w'}, lambda key: False),
        ({'field': 'EventField.doc_id'}, lambda key: 'doc_id' in key),
        ({'text': 'M.TIME'}, lambda key: 'm.time' in key),
        ({'text': 'o,neil'}, lambda key: 'neil' in key),
        ({'text': 'ann', 'reducer': 'm.time'}, lambda key: 'm.time' in key and 'ann' in key),
        ({'prefix': 'user:1:'}, lambda key: key.startswith('user:1:')),
        ({'prefix': 'Int', 'reducer': 'm.time'}, lambda key: key.startswith('Internal,m.time')),
        ({'prefix': 'Internal,m.time,E', 'reducer': 'm.time'}, lambda key: key.startswith('Internal,m.time,E')),
        ({'prefix': 'user', 'state': 'Internal'}, lambda key: False),
    ],
)
async def test_a_filter_finds_its_keys_page_by_page_each_once(
    client: Client, store: str, limit: str, query: dict[str, str], expected: Any
) -> None:
    await KVS[store].multiset(KEYS)
    found = await whole(client, store, limit=limit, **query)
    assert sorted(found) == sorted(filter(expected, KEYS))


@pytest.mark.parametrize('store', STORES)
async def test_a_page_that_ends_within_a_call_of_the_store_goes_on_there_also_where_keys_have_gone(
    client: Client, store: str
) -> None:
    await KVS[store].multiset(KEYS)
    first = await page(client, store, text='user', limit='4')
    shown = [row['key'] for row in first['keys']]
    assert len(shown) == 4
    await KVS[store].remove(shown[-1])
    rest = await whole(client, store, text='user', limit='4', cursor=first['next_cursor'])
    assert {*shown, *rest} == {key for key in KEYS if key.startswith('user')}


@pytest.mark.parametrize(
    ('query', 'message'),
    [
        ({'state': 'Inner'}, 'state is'),
        ({'inside': 'x'}, 'inside is'),
        ({'sort': '<b>'}, 'sort is'),
        ({'sort': 'bytes', 'inside': 'values', 'text': 'a'}, 'Sort by key'),
        ({'at': '-1'}, 'at is'),
        ({'at': '٣'}, 'at is'),
        ({'back': '{}'}, 'back cannot'),
        ({'back': '[[0,1]]'}, 'back cannot'),
        ({'back': '[' * 300}, 'back cannot'),
        ({'back': str([[0, 'x']] * 11).replace("'", '"')}, 'back cannot'),
        ({'step': '[1]'}, 'step cannot'),
        ({'step': '1'}, 'step cannot'),
        ({'cursor': '[]'}, 'cursor is not'),
        ({'cursor': '["archive",0,null,null]'}, 'cursor is not'),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_status_400(
    client: Client, query: dict[str, str], message: str
) -> None:
    for headers in ({}, HTML):
        answer = await client.get('/debug/kvs/default', params=query, headers=headers)
        text = await answer.text()
        assert (answer.status, message in html.unescape(text)) == (400, True), text
        assert '<b>' not in text or not headers


# Pages


def links(text: str) -> dict[str, str]:
    pager = text.split('<nav class="pager"')[1].split('</nav>')[0]
    found = re.findall(r'href="([^"]*)"[^>]*>([^<]*)</a>', pager)
    return {name.strip(' ‹›'): html.unescape(link) for link, name in found}


def shown_in(text: str) -> list[str]:
    return [re.sub('<[^>]*>', '', found) for found in re.findall(r'<a class="open"[^>]*>(.*?)</a>', text)]


def status_in(text: str) -> str:
    inner = text.split('id="status"')[1].split('>', 1)[1].split('</p>')[0]
    return ' '.join(re.sub('<[^>]*>', '', inner).split())


@pytest.mark.parametrize('query', [{}, {'text': 'n'}])
async def test_pages_are_links_there_and_back_and_say_which_keys_they_show(
    client: Client, query: dict[str, str]
) -> None:
    await KVS().multiset({f'n{number:04}': number for number in range(1234)})
    path, seen = '/debug/kvs/default', []
    text = await page_of(client, path, **query)
    assert 'Previous' not in links(text)
    for start in range(0, 1234, 100):
        end = min(start + 100, 1234)
        assert shown_in(text) == [f'n{number:04}' for number in range(start, end)]
        assert status_in(text).startswith(f'{start + 1:,}–{end:,}')
        seen.append(text)
        if 'Next' not in links(text):
            break
        text = await page_of(client, links(text)['Next'])
    assert len(seen) == 13
    assert ' of 1,234' in status_in(text)
    for before in reversed(seen[2:-1]):  # ten pages back
        text = await page_of(client, links(text)['Previous'])
        assert shown_in(text) == shown_in(before)
    text = await page_of(client, links(text)['First'])
    assert shown_in(text) == shown_in(seen[0])


@pytest.mark.parametrize(
    ('query', 'total'),
    [
        ({}, (66, 'exactly')),
        ({'state': 'Internal'}, (18, 'exactly')),
        ({'reducer': 'm.words', 'limit': '5'}, (12, 'exactly')),
        ({'state': 'Other', 'limit': '1'}, (30, 'exactly')),
        ({'text': 'ann', 'limit': '5'}, (None, None)),
        ({'text': 'ann'}, (12, 'exactly')),
    ],
)
async def test_a_page_says_of_how_many_where_that_is_known(
    client: Client, query: dict[str, str], total: tuple[int | None, str | None]
) -> None:
    await KVS['archive'].multiset(KEYS)
    found = await page(client, 'archive', **query)
    assert (found['total'], found['counted']) == total


@pytest.mark.parametrize('store', STORES)
async def test_the_facets_have_the_counts_of_the_whole_store(client: Client, store: str) -> None:
    await KVS[store].multiset(KEYS)
    found = (await page(client, store, text='nothing has this'))['facets']
    assert found['reducers'] == [{'name': name, 'internal': 6, 'external': 6} for name in sorted(REDUCERS)]
    assert (found['keys'], found['other_keys']) == (66, 30)
    assert found['fields'] == {'EventField.doc_id': 18, 'STUDENT': 36}


# Prefixes


@pytest.mark.parametrize('store', STORES)
async def test_prefixes_are_a_tree_whose_delimiter_one_chooses(client: Client, store: str) -> None:
    await KVS[store].multiset(KEYS | {'a/b:c': 1, 'a/d': 2})

    async def tree(**query: str) -> tuple[dict[str, int], int]:
        found = (await page(client, store, **query))['prefixes']
        assert found['counted'] == 'exactly'
        return {branch['prefix']: branch['keys'] for branch in found['branches']}, found['here']

    assert await tree() == ({'a/b:': 1, 'user:': 30}, 1)
    assert await tree(prefix='user:') == ({'user:0:': 10, 'user:1:': 10, 'user:2:': 10}, 0)
    assert await tree(prefix='user:0:') == ({}, 10)
    assert await tree(delimiter='/') == ({'a/': 2}, 30)
    text = await page_of(client, f'/debug/kvs/{store}', prefix='user:0:')
    assert 'href="/debug/kvs/' + store + '?prefix=user%3A">user:</a>' in text


@pytest.mark.parametrize('store', ['default', 'archive'])
async def test_in_a_large_store_every_prefix_is_listed_although_not_every_key_is_looked_at(
    client: Client, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, 'TREE_KEYS', 10)
    monkeypatch.setattr(prefixes, 'TREE_SECONDS', 60.0)
    many = {f'Internal,m.words,STUDENT:{number}': 0 for number in range(500)}
    await KVS[store].multiset(many | {f'{name}:{number}': 0 for name in 'abc' for number in range(500)} | {'z:1': 1})
    found = (await page(client, store))['prefixes']
    assert [branch['prefix'] for branch in found['branches']] == ['a:', 'b:', 'c:', 'z:']
    assert {branch['counted'] for branch in found['branches'][:3]} == {'at least'}
    assert found['branches'][3] == {'prefix': 'z:', 'keys': 1, 'counted': 'exactly'}
    assert sum(branch['keys'] for branch in found['branches']) < 200


# Values


async def test_a_row_shows_the_beginning_of_its_value_masked_and_bounded(client: Client) -> None:
    await KVS['archive'].multiset(
        {
            'a': {'text': 'x' * 5000, 'token': 'secret'},
            'b': {'token': 'secret', 'n': 1},
            'google_stored_auth:c': {'n': 'secret'},
            'd': 'y' * (key_list.PREVIEWED_BYTES + 1),
        }
    )
    rows = {row['key']: row for row in (await page(client, 'archive'))['keys']}
    assert rows['a']['preview'].startswith('{"text":"xxx')
    assert len(rows['a']['preview']) < 250
    assert rows['b']['preview'] == '{"token":"(hidden)","n":1}'
    assert rows['google_stored_auth:c']['preview'] == '"(hidden)"'
    assert [rows[key]['masked'] for key in rows] == [True, True, False, True]
    assert (rows['d']['preview'], rows['d']['note']) == (None, 'too long for a list')
    assert rows['d']['bytes'] == key_list.PREVIEWED_BYTES + 3
    assert rows['a']['written'] > 0
    assert 'secret' not in await page_of(client, '/debug/kvs/archive')


async def test_the_values_of_a_page_are_bounded_together(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_list, 'PREVIEWED_IN_ALL', 1000)
    await KVS().multiset({f'k{number:02}': 'x' * 98 for number in range(30)})
    rows = (await page(client))['keys']
    assert [row['preview'] is not None for row in rows] == [True] * 10 + [False] * 20


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
    assert (await page(client, text='secret', inside='values'))['values_not_read'] == 1


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
    monkeypatch.setattr(key_list.Viewer, 'has_gone', property(lambda self: lambda: True))
    found = await page(client, text='needle', inside='values')
    assert found['next_cursor'] is not None
    assert found['keys_seen'] < 5000


# Sorting


@pytest.mark.parametrize('store', STORES)
async def test_the_largest_keys_come_first(client: Client, store: str) -> None:
    await KVS[store].multiset({f'k{number}': 'x' * number for number in range(2500)})
    found = await page(client, store, sort='bytes', limit='3')
    assert [row['key'] for row in found['keys']] == ['k2499', 'k2498', 'k2497']
    assert (found['sorted'], found['next_cursor']) == ('the largest first', None)


async def test_a_sort_that_did_not_see_all_keys_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await KVS().multiset({f'k{number:04}': 'x' * number for number in range(2500)})
    monkeypatch.setattr(key_pages, 'STEP_SECONDS', 1e-9)
    found = await page(client, sort='bytes', limit='3', step='[0,null,100]')
    assert found['sorted'] == 'the largest first, of those that were looked at'


async def test_the_latest_keys_come_first_where_the_store_knows_when_they_were_written(client: Client) -> None:
    for key in ('b', 'a', 'c'):
        await KVS['archive'].set(key, 1)
        await KVS['redis'].set(key, 1)
    found = await page(client, 'archive', sort='written')
    assert [row['key'] for row in found['keys']] == ['c', 'a', 'b']
    assert (await page(client, 'redis', sort='written'))['keys'] == []
    assert 'does not know when a key was written' in await page_of(client, '/debug/kvs/redis', sort='written')


@pytest.mark.parametrize(
    ('store', 'words'), [('default', 'by key'), ('archive', 'by key'), ('redis', 'as the store gives them')]
)
async def test_the_page_says_how_keys_are_sorted(client: Client, store: str, words: str) -> None:
    await KVS[store].set('k', 1)
    assert (await page(client, store))['sorted'] == words
    assert words in status_in(await page_of(client, f'/debug/kvs/{store}'))


# Hostile


@pytest.mark.parametrize('name', ['prefix', 'reducer', 'field', 'text', 'delimiter'])
async def test_what_a_link_asks_for_is_text_on_the_page(client: Client, name: str) -> None:
    await KVS().multiset(KEYS)
    hostile = '"><script>alert(1)</script>'
    text = await page_of(client, '/debug/kvs/default', **{name: hostile})
    assert '<script>alert' not in text
    assert html.escape(hostile[: prefixes.MAX_DELIMITER if name == 'delimiter' else None])[:20] in text.replace(
        '&#34;', '&quot;'
    )
