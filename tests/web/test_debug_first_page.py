"""The first pages of ``/debug/kvs`` come at once, also of a million keys on Redis and of a hundred thousand files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stores.filesystem import files, listing
from tests.support.debug_pages import make_app
from tests.support.redis_server import RedisServer

STUDENTS_AT_ONCE, REDUCERS = 500, 5

SECONDS = 0.1


def states_of(first: int) -> dict[str, Any]:
    """Return the states of some students."""
    return {
        f'{state},school.reducer_{reducer},STUDENT:s{first + number:06}': {'words': number}
        for number in range(STUDENTS_AT_ONCE)
        for reducer in range(REDUCERS)
        for state in ('Internal', 'External')
    }


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(('kind', 'keys'), [('redis', 1_000_000), ('filesystem', 100_000)])
async def test_the_first_pages_come_at_once(
    aiohttp_client: AiohttpClient, tmp_path: Path, kind: str, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, 'SETTLED_SECONDS', 0.1)  # the folder counts as one that has been at rest
    with RedisServer() as server:
        store = {'type': kind} if kind == 'redis' else {'type': kind, 'path': str(tmp_path / 'files')}
        connection = {'redis_host': '127.0.0.1', 'redis_port': server.port}
        settings = {'kvs': {'default': store}, 'redis_connection': connection, 'config': {'run_mode': 'dev'}}
        client: TestClient[Any, Any] = await aiohttp_client(make_app(settings))
        step = STUDENTS_AT_ONCE * REDUCERS * 2
        for first in range(0, keys // step):
            await KVS().multiset(states_of(first * STUDENTS_AT_ONCE))
        await seconds_of(client, '/debug/kvs')  # imports the templates
        for path in ('/debug/kvs', '/debug/kvs/default', '/debug/kvs/default/key'):
            times = [await seconds_of(client, path) for _ in range(10)]
            print(f'{kind} {path}: {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms')
            assert min(times) < SECONDS, path  # the others are those of a busy machine
        await client.close()


async def test_the_pages_of_a_folder_list_it_once_and_again_when_it_was_changed(
    aiohttp_client: AiohttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = []

    def counted(*arguments: Any) -> listing.Listing:
        listings.append(arguments)
        return list_files(*arguments)

    list_files = listing.list_files
    monkeypatch.setattr(files, 'list_files', counted)
    monkeypatch.setattr(listing, 'SETTLED_SECONDS', -10.0)
    store = {'type': 'filesystem', 'path': str(tmp_path / 'files')}
    client = await aiohttp_client(make_app({'kvs': {'default': store}, 'config': {'run_mode': 'dev'}}))
    for number in range(3):
        listings.clear()
        await KVS().multiset(states_of(number * STUDENTS_AT_ONCE))
        for _ in range(2):
            for path in (
                '',
                '/default',
                '/default?text=s0001',
                '/default?reducer=school.reducer_2',
                '/default?sort=bytes',
            ):
                await seconds_of(client, f'/debug/kvs{path}')
        assert len(listings) == 1
    for number in range(3):
        await KVS().set('other', number)
        listings.clear()
        await seconds_of(client, '/debug/kvs/default')
        assert len(listings) <= 2


async def seconds_of(client: TestClient[Any, Any], path: str) -> float:
    began = time.monotonic()
    key = {'key': next(iter(states_of(0)))} if path.endswith('/key') else {}
    answer = await client.get(path, params=key, headers={'Accept': 'text/html'})
    text = await answer.text()
    assert answer.status == 200, text
    return time.monotonic() - began
