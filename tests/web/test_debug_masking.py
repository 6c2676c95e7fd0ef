"""``/debug/kvs`` hides values whose names say that they let others in; everything else has them whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.kvs import KVS


async def test_values_that_let_others_in_are_masked_in_pages_and_json_and_whole_everywhere_else(
    aiohttp_client: AiohttpClient, tmp_path: Path
) -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}})
    client = await aiohttp_client(app)
    stored = {
        'google_stored_auth:ann': {'Authorization': 'Bearer hunter2'},
        'plain': {'author': 'ann', 'accessToken': 'hunter2', 'headers': '{"Cookie": "hunter2"}'},
    }
    await KVS().multiset(stored)
    for key in stored:
        texts = []
        for accept in ('application/json', 'text/html'):
            answer = await client.get('/debug/kvs/default/key', params={'key': key}, headers={'Accept': accept})
            assert answer.status == 200
            texts.append(await answer.text())
        assert 'hunter2' not in ''.join(texts)
        assert json.loads(texts[0])['masked'] is True
        assert 'kvs_debug.masked' in texts[1]
    assert json.loads(texts[0])['value']['author'] == 'ann'
    assert await KVS().dump() == stored
    await KVS().dump(tmp_path / 'dump.json')
    assert json.loads((tmp_path / 'dump.json').read_text()) == stored


async def test_the_words_of_the_settings_are_those_that_are_masked(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    settings = {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}, 'kvs_debug': {'masked': ['pin']}}
    learning_observer_kvs.setup(app, settings)
    client = await aiohttp_client(app)
    await KVS().set('k', {'token': 1, 'pin': 2})
    answer = await client.get('/debug/kvs/default/key', params={'key': 'k'})
    assert (await answer.json())['value'] == {'token': 1, 'pin': '(hidden)'}


@pytest.mark.parametrize(
    'text',
    [
        '{"access_token": "hunter2"}',
        ' \r\n\t{"access_token": "hunter2"}\n',
        '\ufeff[{"access_token": "hunter2"}]',
        json.dumps('{"access_token": "hunter2"}'),
        json.dumps(' ' + json.dumps({'inner': '\n{"access_token": "hunter2"}'})),
        '{"access_token": "hunter2", "refr',
        json.dumps('{"access_token": "hunter2", "refr')[:-1],
        '{"n": 1}\n{"access_token": "hunter2"}\n',
        "{'access_token': 'hunter2'}",
        "{access_token: 'hunter2'}",
        '{"half of an emoji": "\ud83d", "access_token": "hunter2"}',
    ],
)
@pytest.mark.parametrize('wrapped', [lambda text: text, lambda text: {'chars': ['a', text]}], ids=['alone', 'inside'])
def test_json_in_a_text_is_masked_however_it_was_written(text: str, wrapped: Any) -> None:
    shown = Mask().applied_to({'key': 'k', 'value': wrapped(text)})
    assert shown['masked'] is True
    assert 'hunter2' not in json.dumps(shown)


@pytest.mark.parametrize(
    'text', ['[Draft] The secret token', '"Token," she said.', '{', '"', '[', ' {"author": "ann"}', 'a {"token": 1}']
)
def test_what_students_write_is_shown(text: str) -> None:
    assert Mask().applied_to({'key': 'k', 'value': {'text': text}})['value'] == {'text': text}
