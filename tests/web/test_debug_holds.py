"""``/debug/kvs``: whatever a viewer asks of a large value, on whatever store, the event loop is not held for 10 ms."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp.plugin import AiohttpServer

from learning_observer_kvs.json_codec import encode
from learning_observer_kvs.kvs import KVS, PersistentRedisKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app
from tests.support.loops import least_hold
from tests.support.other_viewer import Viewer, other_viewer
from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']

LONGEST = 0.010
"""Seconds."""

JSON, PAGE = 'application/json', 'text/html'

LONG = pytest.mark.long

SHORT = {('sqlite', JSON), ('redis', PAGE)}
"""What is computed of a value is the same for all stores; they differ in how it is read."""

STORES = [
    pytest.param(store, accept, marks=() if (store, accept) in SHORT else LONG)
    for store in ('stub', 'sqlite', 'files', 'redis')
    for accept in (JSON, PAGE)
]

INTERNAL, EXTERNAL = 'Internal,large.words,STUDENT:ann', 'External,large.words,STUDENT:ann'


@functools.cache
def texts() -> dict[str, bytes]:
    """Values as stores hold them: two of 10 MB, of many small parts and of a long one, and what a list looks into."""
    letters = [[number, 'letter "é"\n', number / 7, None] for number in range(225_000)]
    return {
        'state': encode({'chars': letters, 'auth': 's3cret'}),
        'text': encode({'text': 'a letter, ' * 1_000_000, 'chars': [1], 'auth': 's3cret'}),
        'shorter': encode({'chars': letters[:20_000], 'token': 's3cret'}),
    }


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path, redis: RedisConnection) -> TestServer:
    stores: dict[str, Any] = {
        'default': {'type': 'stub'},
        'stub': {'type': 'stub'},
        'sqlite': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')},
        'files': {'type': 'filesystem', 'path': str(tmp_path / 'files')},
    }
    app = make_app({'kvs': stores, 'config': {'run_mode': 'dev'}})
    server: TestServer = await aiohttp_server(app)
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    return server


@pytest.fixture
async def viewer(server: TestServer) -> AsyncIterator[Viewer]:
    async with other_viewer(server.port) as viewer:
        yield viewer


ANSWERS = {
    'value': ('key', {'key': INTERNAL}),
    'raw': ('raw', {'key': INTERNAL}),
    'raw, a long text': ('raw', {'key': EXTERNAL}),
    'download': ('raw', {'key': INTERNAL, 'download': '1'}),
    'a part, raw': ('raw', {'key': INTERNAL, 'path': '["chars"]'}),
    'part': ('part', {'key': INTERNAL, 'path': '["chars"]', 'start': '100000'}),
    'part of a text': ('part', {'key': EXTERNAL, 'path': '["text"]', 'start': '5000000'}),
    'part beside': ('part', {'key': INTERNAL, 'path': '["chars"]', 'beside': '1'}),
    'no such part': ('part', {'key': INTERNAL, 'path': '["nothing"]'}),
    'matches': ('matches', {'key': INTERNAL, 'text': '224999'}),
    'matches of a text': ('matches', {'key': EXTERNAL, 'text': 'LETTER'}),
    'class': ('class', {'reducers': 'large.words', 'state': 'internal'}),
    'class, fields': ('class', {'reducers': 'large.words', 'fields': 'chars,text', 'state': 'internal'}),
    'keys': ('', {}),
    'keys by size': ('', {'sort': 'bytes'}),
    'search inside': ('', {'text': 'zebra', 'inside': 'values'}),
    'find': ('../stores/find', {'text': 'ann'}),
    'student': ('../stores/student', {'student': 'ann'}),
    'reducer': ('reducer', {'reducer': 'large.words'}),
    'changes': ('changes', {'key': INTERNAL}),
}


@pytest.mark.parametrize(('store', 'accept'), STORES)
async def test_nothing_that_is_asked_of_values_of_10_mb_holds_the_loop(
    server: TestServer, viewer: Viewer, store: str, accept: str
) -> None:
    too_long = {}
    state, text, shorter = (texts()[name] for name in ('state', 'text', 'shorter'))
    await KVS[store].commit_bytes({INTERNAL: state, EXTERNAL: text}, {})
    await KVS[store].commit_bytes({f'Internal,large.others,STUDENT:{number}': shorter for number in range(8)}, {})
    await viewer.get(f'/debug/kvs/{store}/key?' + urlencode({'key': INTERNAL}), accept)  # imports, the helper process
    for answer, (path, query) in ANSWERS.items():
        if path in ('raw', 'changes') and accept == PAGE:
            continue  # it is one and the same
        url = f'/debug/kvs/{store}/{path}'.rstrip('/').replace(f'{store}/../', '') + '?' + urlencode(query)
        longest, (status, _) = await least_hold(functools.partial(viewer.get, url, accept), LONGEST)
        assert (answer, status) == (answer, 404 if answer == 'no such part' else 200)
        if longest >= LONGEST:
            too_long[answer] = f'{longest * 1000:.1f} ms'
    assert too_long == {}


NAME = 'n' * 1_000_000

FORMS: dict[str, Any] = {
    'many closed parts below a long name': {NAME: {f'k{number}': [[n] for n in range(150)] for number in range(120)}},
    'long names': {f'{number}{NAME[:150_000]}': [1] for number in range(100)},
    'one long name': {NAME * 15: 1},
    'many places below a long name': {NAME: ['find me'] * 300},
    'long texts': ['find me' * 100_000] * 20,
    'long numbers': [int('9' * 4000)] * 1000,
}


@pytest.mark.parametrize('form', FORMS)
async def test_whatever_form_a_value_has_its_pages_are_short_and_do_not_hold_the_loop(
    server: TestServer, viewer: Viewer, form: str
) -> None:
    await KVS().set('k', FORMS[form])
    await viewer.get('/debug/kvs/default/key?key=k', PAGE)
    paths = ('part?key=k', 'matches?key=k&text=find+me', 'matches?key=k&text=n', '?', 'key?key=k')
    for path, accept in itertools.product(paths, (JSON, PAGE)):
        if accept == PAGE or not path.startswith('key'):  # as JSON that is all of the value
            url = f'/debug/kvs/default/{path}'.replace('/?', '?')
            longest, (status, size) = await least_hold(functools.partial(viewer.get, url, accept), LONGEST)
            assert (path, accept, status) == (path, accept, 200)
            assert size < 1 << 19
            assert longest < LONGEST


@pytest.mark.parametrize(
    ('store', 'accept'),
    [
        pytest.param('stub', PAGE, marks=LONG),
        ('sqlite', JSON),
        pytest.param('files', JSON, marks=LONG),
        pytest.param('redis', PAGE, marks=LONG),
    ],
)
async def test_an_export_of_values_of_10_mb_does_not_hold_the_loop(
    server: TestServer, viewer: Viewer, store: str, accept: str
) -> None:
    state, text, shorter = (texts()[name] for name in ('state', 'text', 'shorter'))
    shared = b'{"ann": ' + shorter + b', "bob": ' + state + b'}'
    await KVS[store].commit_bytes({INTERNAL: shorter, EXTERNAL: text, 'roster': shared}, {})
    path = '/debug/kvs/stores/export?student=ann'
    longest, (status, size) = await least_hold(lambda: viewer.get(path, accept), LONGEST)
    assert status == 200
    assert size > len(text) + 2 * len(shorter)
    assert longest < LONGEST
