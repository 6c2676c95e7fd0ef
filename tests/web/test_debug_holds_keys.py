"""``/debug/kvs``: whatever form a key has, and however long it is, its pages do not hold the event loop."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp.plugin import AiohttpServer

from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from tests.support.debug_pages import make_app
from tests.support.loops import least_hold
from tests.support.other_viewer import Viewer, other_viewer

LONGEST = 0.020
"""Seconds: two of the interpreter's switch intervals, and as much again for a busy machine."""

JSON, PAGE = 'application/json', 'text/html'

HALF = MAX_KEY_BYTES // 2

STATE = 'Internal,long.words,'

FORMS = {
    'letters': 'x' * MAX_KEY_BYTES,
    'words': 'words and words. ' * (MAX_KEY_BYTES // 17),
    'signs': '漢' * (MAX_KEY_BYTES // 3),
    'line ends': '\r\n' * HALF,
    'percent signs': '%' * MAX_KEY_BYTES,
    'what HTML escapes': '<&">' * (MAX_KEY_BYTES // 4),
    'quotes and backslashes': '"\\' * HALF,
    'capital letters': 'aB' * HALF,
    'a long document': f'{STATE}EventField.doc_id:{"1AbC" * (HALF // 2 - 50)}',
    'escapes in a field': STATE + 'STUDENT:' + r'\2c' * (MAX_KEY_BYTES // 3 - 50),
    'many commas': f'{STATE}{"," * (MAX_KEY_BYTES - 50)}',
}

SHORT = (('signs', PAGE), ('many commas', JSON))

LONG = pytest.mark.long


@pytest.fixture
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    server: TestServer = await aiohttp_server(
        make_app({'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}})
    )
    return server


@pytest.fixture
async def viewer(server: TestServer) -> AsyncIterator[Viewer]:
    async with other_viewer(server.port) as viewer:
        yield viewer


@pytest.mark.parametrize(
    ('form', 'accept'),
    [each if each in SHORT else pytest.param(*each, marks=LONG) for each in itertools.product(FORMS, (JSON, PAGE))],
)
async def test_no_page_of_a_long_key_holds_the_loop(viewer: Viewer, form: str, accept: str) -> None:
    key, too_long = FORMS[form], {}
    await KVS().set(key, {'words': 'find me'})
    await viewer.get('/debug/kvs/default/key?key=k', accept)  # imports
    for path, fields in {
        '/key': {'key': key},
        '/part': {'key': key, 'path': '["words"]'},
        '/matches': {'key': key, 'text': 'find'},
        '/raw': {'key': key, 'download': '1'},
        '': {},
        ' by prefix': {'prefix': key[: HALF // 8]},
        '/../stores/find': {'text': key[: HALF // 2]},
    }.items():
        url = f'/debug/kvs/default{path}'.replace('default/../', '').split(' ')[0]
        ask = functools.partial(viewer.get, url, accept, fields)
        longest, (status, _) = await least_hold(ask, LONGEST)
        assert (path, status) == (path, 200)
        if longest >= LONGEST:
            too_long[path] = f'{longest * 1000:.1f} ms'
    assert too_long == {}
