"""``/debug/kvs``: a text is found in one value, with what stands around it."""

from __future__ import annotations

import re

import pytest

from learning_observer_kvs.debug.values import search as value_search
from learning_observer_kvs.kvs import KVS
from tests.support.debug_value import KEY, Client, client, got

__all__ = ['client']

MATCHES = '/debug/kvs/default/matches'

HTML = {'Accept': 'text/html'}


async def test_a_text_is_found_in_names_and_values_in_small_and_capital_letters(client: Client) -> None:
    found = await got(client, MATCHES, text='LINE')
    assert found['matches'] == [
        {
            'path': ['text'],
            'before': 'First ',
            'text': 'line',
            'after': '\nSecond <b>line</b>',
            'times': 2,
            'in_name': False,
        }
    ]
    assert found['is_complete']
    [match] = (await got(client, MATCHES, text='wor'))['matches'][:1]
    assert (match['path'], match['in_name']) == (['words'], True)
    assert [match['path'] for match in (await got(client, MATCHES, text='249'))['matches']] == [
        ['items', 249, 'number']
    ]
    assert (await client.get(MATCHES, params={'key': KEY})).status == 400


async def test_what_stands_around_a_match_begins_and_ends_with_a_word(client: Client) -> None:
    words = ' '.join(f'word{number:03}' for number in range(50))
    await KVS().multiset({KEY: {'essay': words, 'one': f'{"x" * 100}025{"y" * 100}'}})
    essay, one = (await got(client, MATCHES, text='025'))['matches']
    assert (essay['before'], essay['after']) == (
        '…word021 word022 word023 word024 word',
        ' word026 word027 word028 word029 word030…',
    )
    assert (one['before'], one['after']) == ('…' + 'x' * 40, 'y' * 40 + '…')
    rows = (await got(client, '/debug/kvs/default', text='word025', inside='values'))['keys']
    assert rows[0]['preview'].startswith('…word023 word024 word025 word026')
    assert re.search(r' word[0-9]{3}…$', rows[0]['preview'])


async def test_a_search_of_a_value_is_bounded_and_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await got(client, MATCHES, text='number')
    assert (len(found['matches']), found['is_complete']) == (value_search.MAX_MATCHES, False)
    monkeypatch.setattr(value_search, 'SEARCH_SECONDS', 0.0)
    assert not (await got(client, MATCHES, text='zzz'))['is_complete']
    text = await (await client.get(MATCHES, params={'key': KEY, 'text': 'zzz'}, headers=HTML)).text()
    assert 'not all of the value was searched' in text
