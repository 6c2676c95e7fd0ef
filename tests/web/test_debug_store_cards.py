"""``/debug/kvs``: what the card of a store says of its keys by reducer, of what is written to it, and of the checks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug.activity import WINDOW_SECONDS, Activity
from learning_observer_kvs.debug.keys import census
from learning_observer_kvs.debug.keys.census import Census
from learning_observer_kvs.kvs import KVS, InMemoryKVS, PersistentRedisKVS, SQLiteKVS
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.debug_pages import make_app

Client = TestClient[web.Request, web.Application]

KEYS = {
    'Internal,m.words,STUDENT:ann': 'x' * 98,
    'External,m.words,STUDENT:ann': 'x' * 8,
    'Internal,m.words,STUDENT:bob': 'x' * 98,
    'Internal,m.time,EventField.doc_id:D1,STUDENT:ann': 1,
    'memo': [],
}


@pytest.fixture
async def client(
    aiohttp_client: AiohttpClient, tmp_path: Path, refused: set[str], monkeypatch: pytest.MonkeyPatch
) -> Client:
    monkeypatch.setattr(census, 'COUNT_SECONDS', 60.0)  # however busy the machine is
    archive = {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3'), 'subdirs': True}  # an option of another type
    health_check = SQLiteKVS.health_check

    async def readable(self: SQLiteKVS) -> list[Problem]:
        return [*await health_check(self), Problem('KVS.W020', '', 'path', 'can be read by <others>', 'Run chmod.')]

    monkeypatch.setattr(SQLiteKVS, 'health_check', readable)
    stores = {'default': {'type': 'stub'}, 'archive': archive}
    app = make_app({'kvs': stores}, lambda *asked: asked[2] not in refused)
    client: Client = await aiohttp_client(app)
    return client


async def cards(client: Client) -> dict[str, Any]:
    found = await (await client.get('/debug/kvs')).json()
    return {store['name']: store for store in found['stores']}


async def page_of(client: Client) -> str:
    return await (await client.get('/debug/kvs', headers={'Accept': 'text/html'})).text()


@pytest.mark.parametrize('store', ['default', 'archive', 'redis'])
async def test_keys_and_bytes_are_counted_by_reducer(client: Client, redis: RedisConnection, store: str) -> None:
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    await KVS[store].multiset(KEYS)
    card = (await cards(client))[store]
    assert card['reducers'] == [
        {'name': 'm.time', 'internal': 1, 'external': 0, 'bytes': 1},
        {'name': 'm.words', 'internal': 2, 'external': 1, 'bytes': 210},
    ]
    assert (card['other_keys'], card['bytes'], card['measured']) == (1, 213, 'exactly')
    text = await page_of(client)
    assert '<rect class="internal" x="0.00" y="0" width="66.67" height="8"/>' in text
    assert 'style=' not in text


async def test_of_many_keys_the_bytes_are_estimated_and_the_page_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, 'MEASURED_KEYS', 3)
    await KVS().multiset({f'Internal,m.words,STUDENT:{number}': 'x' * 98 for number in range(500)})
    card = (await cards(client))['default']
    assert (card['bytes'], card['measured'], card['keys'], card['counted']) == (50_000, 'about', 500, 'exactly')
    assert '<dt>Bytes <small>about</small></dt><dd>50.0 kB</dd>' in await page_of(client)


async def test_a_count_that_takes_long_goes_on_with_the_next_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await KVS().multiset({f'n{number}': 0 for number in range(5000)})
    monkeypatch.setattr(census, 'COUNT_SECONDS', 1e-9)  # two calls of the store
    counted = []
    for _ in range(3):
        card = (await cards(client))['default']
        counted.append((card['keys'], card['counted']))
    assert counted == [(2000, 'at least'), (4000, 'at least'), (5000, 'exactly')]


async def test_every_reducer_is_listed_before_its_keys_are_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f'Internal,m.{reducer},STUDENT:{number}': 0 for reducer in 'abc' for number in range(1000)}
    monkeypatch.setattr(census, 'SURVEY_SECONDS', 60.0)
    for store in ('default', 'archive'):
        await KVS[store].multiset(many)
        begun = Census(KVS, store)
        await begun.advance(0.0)
        assert sorted(begun.groups.by_reducer) == ['', 'm.a', 'm.b', 'm.c']
        assert (begun.groups.keys, begun.counted) == (2000, 'at least')


async def test_counting_takes_a_twentieth_of_the_time_at_most(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, 'SHOWN_FOR', 1e9)
    await KVS().multiset(KEYS)
    assert (await cards(client))['default']['keys'] == 5
    await KVS().set('new', 1)
    assert (await cards(client))['default']['keys'] == 5
    monkeypatch.setattr(census, 'SHOWN_FOR', 0)
    assert (await cards(client))['default']['keys'] == 6


async def test_pages_that_are_asked_for_at_once_count_once(client: Client) -> None:
    await KVS().multiset({f'n{number}': 0 for number in range(500)})
    looked = 0
    scan = InMemoryKVS._scan

    async def counted(self: Any, prefix: str, cursor: str | None, limit: int) -> Any:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0.05)
        return await scan(self, prefix, cursor, limit)

    InMemoryKVS._scan = counted  # type: ignore[method-assign]
    try:
        found = await asyncio.gather(*(cards(client) for _ in range(4)))
    finally:
        InMemoryKVS._scan = scan  # type: ignore[method-assign]
    assert {card['default']['keys'] for card in found} == {500}
    assert looked <= 2  # of the survey, and of the count


async def test_what_the_start_up_checks_warned_of_is_on_the_card_with_its_id(client: Client, refused: set[str]) -> None:
    warnings = (await cards(client))['archive']['warnings']
    assert [(found['id'], found['subject']) for found in warnings] == [
        ('KVS.W001', 'kvs.archive.subdirs'),
        ('KVS.W020', 'kvs.archive'),
    ]
    text = await page_of(client)
    assert '<span class="id">KVS.W020</span> <b>kvs.archive</b> can be read by &lt;others&gt;. Run chmod.' in text
    assert (await cards(client))['default']['warnings'] == []
    refused.add('archive')
    assert (await cards(client))['archive']['warnings'] == []


async def test_the_last_write_is_that_of_this_process_or_of_a_key(client: Client, redis: RedisConnection) -> None:
    KVS.add_item('redis', PersistentRedisKVS(connection=redis))
    before = await cards(client)
    assert [before[name]['written'] for name in ('default', 'archive', 'redis')] == [None, None, None]
    now = time.time()
    for name in ('archive', 'redis'):
        await KVS[name].set('k', 1)
    after = await cards(client)
    for name in ('archive', 'redis'):
        assert now - 1 < after[name]['written'] < time.time() + 1
        assert after[name]['writes']['pending'] == 0
    assert after['default']['writes'] is None  # in memory


def test_rates_are_those_of_the_last_minute() -> None:
    at = 100.0
    activity = Activity(lambda: at)
    numbers = {'writes': 0, 'write_batches': 0, 'write_seconds': 0.0, 'waiting_writes': 2, 'pending_keys': 3}
    for _ in range(100):
        at += 1
        numbers['writes'] += 10
        numbers['write_batches'] += 2
        numbers['write_seconds'] += 0.001
        found = activity.of('default', numbers)
    assert found is not None
    assert (found['per_second'], found['over_seconds'], found['pending']) == (10, WINDOW_SECONDS, 5)
    assert (found['batch_size'], round(found['microseconds'])) == (5, 100)
    at += 500
    found = activity.of('default', numbers)
    assert found is not None
    assert (found['per_second'], found['microseconds'], found['batch_size']) == (0, None, None)
    assert (
        activity.of('default', {**numbers, 'writes': 3, 'write_batches': 1}) is not None
    )  # another store of this name
    assert activity.of('memory', {}) is None
