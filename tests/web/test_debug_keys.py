"""``/debug/kvs/{store}``: which keys a filter finds, page after page, and what is said of each."""

from __future__ import annotations

import html
from typing import Any

import pytest

from learning_observer_kvs.debug import search
from learning_observer_kvs.debug.keys import pages as key_pages
from learning_observer_kvs.debug.keys import prefixes
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stores.types import Description
from tests.support.key_pages import HTML, STORES, Client, client, links, page, page_of, readable, shown_in, status_in

__all__ = ['client', 'readable']

REDUCERS = ('m.words', 'm.time', 'other.words')

KEYS = {
    f'{state},{reducer}{document},STUDENT:{student}': {'n': number}
    for state in ('Internal', 'External')
    for reducer in REDUCERS
    for document in ('', ',EventField.doc_id:D1')
    for number, student in enumerate(('ann', 'bob', r'o\2cneil'))
} | {f'user:{number % 3}:{number}': number for number in range(30)}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may be slow to answer."""
    monkeypatch.setattr(search, 'SEARCH_SECONDS', 60.0)


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
    if store == 'redis':
        found = list(set(found))  # while its table grows, a scan may give a key twice
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


async def test_no_key_is_left_out_that_is_written_behind_while_pages_are_read(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, unwritten = (
        {f'a{number:03}' for number in range(0, 400, 2)},
        {f'a{number:03}' for number in range(1, 400, 2)},
    )
    await KVS().multiset(dict.fromkeys(stored, 0))
    store: Any = KVS()

    async def pending(prefix: str) -> list[str]:
        return sorted(unwritten, reverse=True)

    monkeypatch.setattr(store, '_unwritten_keys', pending)  # what flush_interval keeps is all in the first page

    async def described(keys: list[str]) -> list[Description]:
        return [Description(1) for _ in keys]

    monkeypatch.setattr(store, 'describe_all', described)
    first = await page(client, limit='50')
    monkeypatch.undo()
    await KVS().multiset(dict.fromkeys(unwritten, 0))
    shown = [row['key'] for row in first['keys']]
    assert len(shown) == 50
    rest = await whole(client, 'default', limit='50', cursor=first['next_cursor'])
    assert {*shown, *rest} == stored | unwritten


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


async def test_the_tree_is_found_anew_for_each_page_and_not_while_one_types(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    branches = prefixes.branches

    async def counted(router: Any, name: str, prefix: str, delimiter: str) -> prefixes.Branches:
        found.append(prefix)
        return await branches(router, name, prefix, delimiter)

    monkeypatch.setattr(prefixes, 'branches', counted)
    await KVS().multiset({'user:1': 1, 'user:2': 1})
    for text in ('', 'u', 'us', 'use'):
        shown = await page(client, text=text, **({'step': '[0,null,100]'} if text else {}))
        assert shown['prefixes']['branches'] == [{'prefix': 'user:', 'keys': 2, 'counted': 'exactly'}]
    assert found == ['']
    await KVS().set('user:3', 1)
    assert (await page(client))['prefixes']['branches'][0]['keys'] == 3
    await page(client, prefix='user:', step='[0,null,100]')
    assert found == ['', '', 'user:']
    for number in range(prefixes.MAX_KEPT):
        await page(client, prefix=f'{number}')
    await page(client, prefix='user:', step='[0,null,100]')
    assert found[-1] == 'user:'


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
