"""Pages of keys: stores of each type behind them, and what a page says."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS, PersistentRedisKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app

Client = TestClient[web.Request, web.Application]

HTML = {'Accept': 'text/html'}

STORES = ['default', 'archive', 'files', 'redis']
"""The names of the stores, of each type one."""


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


def links(text: str) -> dict[str, str]:
    pager = text.split('<nav class="pager"')[1].split('</nav>')[0]
    found = re.findall(r'href="([^"]*)"[^>]*>([^<]*)</a>', pager)
    return {name.strip(' ‹›'): html.unescape(link) for link, name in found}


def shown_in(text: str) -> list[str]:
    return [re.sub('<[^>]*>', '', found) for found in re.findall(r'<a class="open"[^>]*>(.*?)</a>', text)]


def status_in(text: str) -> str:
    inner = text.split('id="status"')[1].split('>', 1)[1].split('</p>')[0]
    return ' '.join(re.sub('<[^>]*>', '', inner).split())
