"""``/debug/kvs`` over a million keys: its first pages come at once, and no reader holds up the event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.kvs import KVS
from tests.support.debug_pages import make_app
from tests.support.sqlite import sql

Client = TestClient[web.Request, web.Application]

HTML = {'Accept': 'text/html'}

STUDENTS, REDUCERS = 25_000, 20

FILL = f"""
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {2 * STUDENTS * REDUCERS - 1})
INSERT INTO "kvs default"(key, value, written)
SELECT
  CASE n % 2 WHEN 0 THEN 'Internal' ELSE 'External' END || ',school.reducer_' || printf('%02d', n / 2 % {REDUCERS})
  || ',STUDENT:s' || printf('%05d', n / {2 * REDUCERS}),
  CAST('{{"essay":"The bell rings at eight.","n":' || n || '}}' AS BLOB),
  1700000000.0 + n
FROM numbers
"""

LONGEST = 0.010
"""Seconds of its thread that a callback of the loop may take."""


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, tmp_path: Path) -> Client:
    path = tmp_path / 'a.sqlite3'
    stores = {'default': {'type': 'sqlite', 'path': str(path)}}
    client: Client = await aiohttp_client(make_app({'kvs': stores, 'config': {'run_mode': 'dev'}}))
    await KVS().set('zebra', {'essay': 'a rare word'})
    await asyncio.to_thread(sql, path, FILL)
    return client


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """How long each callback of the loop took its thread, without the collector, which a server has run rarely."""
    times: list[float] = []
    run = asyncio.events.Handle._run

    def timed(self: asyncio.Handle) -> None:
        before = time.thread_time()
        run(self)
        times.append(time.thread_time() - before)

    monkeypatch.setattr(asyncio.events.Handle, '_run', timed)
    gc.disable()
    yield times
    gc.enable()


async def seconds_of(client: Client, path: str, **query: str) -> tuple[float, str]:
    began = time.monotonic()
    answer = await client.get(path, params=query, headers=HTML)
    text = await answer.text()
    assert answer.status == 200, text
    return time.monotonic() - began, text


@pytest.mark.long
async def test_a_million_keys_are_browsed_at_once(client: Client, held: list[float]) -> None:
    await seconds_of(client, '/debug/kvs')  # imports the templates
    path, query = '/debug/kvs/default', {'text': 'BELL', 'inside': 'values'}
    for wanted, most in ((('/debug/kvs', {}), 0.1), ((path, {}), 0.1), ((path, query), 1.0)):
        held.clear()
        times = [(await seconds_of(client, wanted[0], **wanted[1]))[0] for _ in range(10)]
        assert min(times) < most, (wanted, times)  # the others are those of a busy machine
        assert max(held) < LONGEST
    facets: Any = await (await client.get(path)).json()
    assert len(facets['facets']['reducers']) == REDUCERS  # although not all keys are counted yet


@pytest.mark.long
async def test_a_rare_word_among_a_million_values_is_found_and_the_way_there_is_said(
    client: Client, held: list[float]
) -> None:
    cursor, seen, found = None, 0, []
    began = time.monotonic()
    while True:
        query = {'text': 'a rare', 'inside': 'values', 'step': '[0,null,100]'} | ({'cursor': cursor} if cursor else {})
        page: Any = await (await client.get('/debug/kvs/default', params=query)).json()
        found += [row['key'] for row in page['keys']]
        seen += page['keys_seen']
        cursor = page['next_cursor']
        if cursor is None:
            break
    assert (found, seen) == (['zebra'], 2 * STUDENTS * REDUCERS + 1)
    assert time.monotonic() - began < 240
    assert max(held) < LONGEST
