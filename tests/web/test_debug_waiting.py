"""How long ``/debug/kvs`` waits for a store, or for the function that authorizes, which does not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVS, InMemoryKVS
from tests.support.debug_pages import make_app

SETTINGS = {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}}


class Away(InMemoryKVS):
    """A store whose keys cannot be listed: its backend is away, or does not answer at all."""

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> Any:
        if prefix == 'hangs':
            await asyncio.Event().wait()
        raise StoreUnavailable('gone fishing.', retry=True)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.debug.answers.RETRY_SECONDS', 0.05)
    monkeypatch.setattr('learning_observer_kvs.debug.answers.PAGE_SECONDS', 0.5)


@pytest.mark.parametrize(('prefix', 'text'), [('', 'gone fishing'), ('hangs', 'did not answer within 0.5 s')])
async def test_a_page_waits_no_longer_than_a_person_does(prefix: str, text: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(SETTINGS))
    KVS.add_item('away', Away(retry_timeout=3600))
    async with asyncio.timeout(30):
        answer = await client.get('/debug/kvs/away', params={'prefix': prefix})
    assert answer.status == 503
    assert text in (await answer.json())['error']


@pytest.mark.parametrize(
    'path',
    [
        '',
        '/default',
        '/default/key?key=k',
        '/default/changes?key=k',
        '/default/reducers',
        '/default/reducer?reducer=r',
        '/stores/student?student=s',
        '/stores/document?document=d',
        '/stores/find?text=t',
    ],
)
async def test_a_page_waits_for_authorize_no_longer_than_a_person_does(
    path: str, aiohttp_client: AiohttpClient
) -> None:
    async def authorize(*arguments: Any) -> bool:
        await asyncio.Event().wait()
        return True

    client = await aiohttp_client(make_app(SETTINGS, authorize))
    async with asyncio.timeout(60):
        for _ in range(2):
            answers = await asyncio.gather(*(client.get(f'/debug/kvs{path}') for _ in range(4)))
            for answer in answers:
                assert answer.status == 503
                assert 'authorize did not answer within 0.5 s' in (await answer.json())['error']


@pytest.mark.parametrize('path', ['', '/stores/find?text=t'])
async def test_the_stores_of_a_page_are_authorized_within_one_limit(path: str, aiohttp_client: AiohttpClient) -> None:
    asked = []

    async def authorize(request: Any, action: str, store: str, key: str | None) -> bool:
        asked.append(store)
        await asyncio.sleep(0.1)
        return True

    stores = {name: {'type': 'stub'} for name in ('default', *(f's{number}' for number in range(100)))}
    client = await aiohttp_client(make_app({**SETTINGS, 'kvs': stores}, authorize))
    answer = await client.get(f'/debug/kvs{path}')
    assert answer.status == 503
    assert len(asked) <= 6
