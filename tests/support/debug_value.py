"""A value of a reducer with all that a page of it has to show, and to mask; a server that has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS
from tests.support.debug_pages import make_app

Client: TypeAlias = TestClient[web.Request, web.Application]

KEY = 'Internal,values.count,STUDENT:ann'
OTHER = KEY.replace('Internal', 'External')

VALUE = {
    'text': 'First line\nSecond <b>line</b>',
    'words': 7,
    'items': [{'number': number, 'password': f's3cret{number}'} for number in range(250)],
    'auth': {'inner': {'deep': 's3cret'}},
    'as text': json.dumps({'token': 's3cret'}),
    'empty': {},
    'none': None,
}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    """Of a server whose default store has the value."""
    stores = {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    await KVS().set(KEY, VALUE)
    return client


async def got(client: Client, address: str, **query: Any) -> Any:
    """Return what a page of the value has as JSON."""
    answer = await client.get(address, params={'key': KEY, **query})
    assert answer.status == 200, await answer.text()
    return await answer.json()
