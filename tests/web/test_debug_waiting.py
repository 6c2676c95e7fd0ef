"""How long ``/debug/kvs`` waits for a store that is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVS, InMemoryKVS


class Away(InMemoryKVS):
    """A store whose keys cannot be listed: its backend is away, or does not answer at all."""

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> Any:
        if prefix == 'hangs':
            await asyncio.Event().wait()
        raise StoreUnavailable('gone fishing.', retry=True)


@pytest.mark.parametrize(('prefix', 'text'), [('', 'gone fishing'), ('hangs', 'did not answer within 0.5 s')])
async def test_a_page_waits_no_longer_than_a_person_does(
    prefix: str, text: str, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.debug.answers.RETRY_SECONDS', 0.2)
    monkeypatch.setattr('learning_observer_kvs.debug.answers.PAGE_SECONDS', 0.5)
    app = web.Application()
    learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}})
    client = await aiohttp_client(app)
    KVS.add_item('away', Away(retry_timeout=3600))
    async with asyncio.timeout(5):
        answer = await client.get('/debug/kvs/away', params={'prefix': prefix})
    assert answer.status == 503
    assert text in (await answer.json())['error']
