"""A Redis key of another type among the states: what looks at many keys names it, and goes on with the others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner, Result
from redis import Redis

from learning_observer_kvs import queries
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.plugin import setup
from learning_observer_kvs.privacy import retention
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stores.types import Description
from tests.support.redis_server import RedisServer

GOOD = 'Internal,demo.words,STUDENT:bob'
LIST = 'External,demo.words,STUDENT:bob'
OTHER = 'Internal,demo.words,STUDENT:ann'


@pytest.fixture(autouse=True)
def settings(
    direct: Redis, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Two states, and a list that another program wrote in the place of a third."""
    monkeypatch.chdir(tmp_path)
    found = {
        'kvs': {'default': {'type': 'redis'}},
        'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': redis_server.port},
    }
    Path('creds.yaml').write_text(json.dumps(found))
    direct.mset({GOOD: '{"n": 1}', OTHER: '2'})
    direct.rpush(LIST, 'x')
    return found


@pytest.fixture
async def router(settings: dict[str, Any]) -> AsyncIterator[KVSRouter]:
    async with KVSRouter.from_settings(settings) as router:
        yield router


@pytest.fixture
def store(router: KVSRouter) -> Store:
    return router()


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


async def test_descriptions_have_the_error_in_the_place_of_the_key(store: Store) -> None:
    good, foreign, missing, other = await store.describe_all([GOOD, LIST, 'none', OTHER])
    assert (good, missing, other) == (Description(8), None, Description(1))
    assert isinstance(foreign, CorruptValue)
    assert LIST in str(foreign)
    with pytest.raises(CorruptValue, match='holds a list'):
        await store.describe(LIST)


async def test_queries_find_a_state_whose_internal_key_it_is_once(store: Store, direct: Redis) -> None:
    internal = 'Internal,demo.words,STUDENT:eve'
    direct.rpush(internal, 'x')
    direct.set('External,demo.words,STUDENT:eve', '3')
    found = sorted([state.internal async for state in queries.states_by(store, 'demo.words')])
    assert found == sorted([GOOD, OTHER, internal])


def test_stats_counts_the_others_and_names_it() -> None:
    shown = run('stats', '--json')
    found = json.loads(shown.stdout)
    assert found['reducers'] == {
        'demo.words': {'internal_keys': 2, 'internal_bytes': 9, 'external_keys': 0, 'external_bytes': 0}
    }
    assert (shown.exit_code, found['unreadable']) == (1, 1)
    assert LIST in found['messages'][0]
    assert f'Not counted: {LIST!r} in' in run('stats').stderr


async def test_an_expiry_goes_on_and_counts_it(store: Store, direct: Redis) -> None:
    found = await retention.expire(store, 0.0)
    assert (found.undated, found.unreadable) == (1, 1)  # Redis does not keep times
    assert LIST in found.messages[0]
    assert direct.type(LIST) == b'list'


def test_expire_prints_it_and_counts_it() -> None:
    shown = run('expire', '--older-than', '5y', '--json')
    found = json.loads(shown.stdout)['stores']['default']
    assert (shown.exit_code, found['undated'], found['unreadable']) == (1, 1, 1)
    assert LIST in found['messages'][0]
    said = run('expire', '--older-than', '5y').stderr
    assert f'{LIST!r} in' in said
    assert '1 without a time, 1 unreadable.' in said


def test_an_export_has_the_student_s_other_state_and_says_why_it_lacks_this_one() -> None:
    assert run('export-student', 'bob').exit_code == 0
    states = json.loads(Path('student-data.json').read_text())['states']
    values = {state['state']: state['value'] for state in states}
    assert values['internal'] == {'n': 1}
    assert 'holds a list' in values['external']


@pytest.mark.parametrize('path', ['stores/student?student=bob', 'default/reducer?reducer=demo.words'])
async def test_the_pages_of_a_student_and_a_reducer_show_both_and_name_it(router: KVSRouter, path: str) -> None:
    app = web.Application()
    setup(app, authorize=lambda request, action, store, key: True, router=router)
    async with TestClient(TestServer(app)) as client:
        found = await (await client.get(f'/debug/kvs/{path}&format=json')).json()
        [state] = [state for state in found['states'] if state['fields']['STUDENT'] == 'bob']
        good, foreign = state['keys']
        assert (good['key'], good['bytes'], 'error' in good) == (GOOD, 8, False)
        assert (foreign['key'], foreign['bytes'], foreign['written']) == (LIST, None, None)
        assert 'holds a list' in foreign['error']
        assert found['not_searched'] == []
        page = await client.get(f'/debug/kvs/{path}', headers={'Accept': 'text/html'})
        assert 'unreadable' in await page.text()


async def test_the_page_of_the_other_state_shows_that_and_links_to_it(router: KVSRouter) -> None:
    app = web.Application()
    setup(app, authorize=lambda request, action, store, key: True, router=router)
    async with TestClient(TestServer(app)) as client:
        for accept in ('text/html', 'application/json'):
            answer = await client.get('/debug/kvs/default/key', params={'key': GOOD}, headers={'Accept': accept})
            assert answer.status == 200, await answer.text()
        assert (await answer.json())['counterpart'] == LIST
        assert (await client.get('/debug/kvs/default/key', params={'key': LIST})).status == 409


async def test_a_redis_key_that_is_longer_than_any_key_is_not_a_key(router: KVSRouter, direct: Redis) -> None:
    longest = 'x' * MAX_KEY_BYTES
    direct.mset({longest: '1', longest + 'x': '1'})
    assert sorted(await router().keys('x')) == [longest]
    app = web.Application()
    setup(app, authorize=lambda request, action, store, key: True, router=router)
    async with TestClient(TestServer(app)) as client:
        [shown] = (await (await client.get('/debug/kvs')).json())['stores']
        assert (shown['keys'], shown['error']) == (4, None)
        for path in ('default', 'default/reducers', 'stores/student?student=bob'):
            answer = await client.get(f'/debug/kvs/{path}')
            assert answer.status == 200, (await answer.text())[:300]


async def test_a_find_has_it_as_a_key_of_this_text(router: KVSRouter) -> None:
    app = web.Application()
    setup(app, authorize=lambda request, action, store, key: True, router=router)
    async with TestClient(TestServer(app)) as client:
        found = await (await client.get('/debug/kvs/stores/find', params={'text': LIST, 'format': 'json'})).json()
    assert (found['exact'], found['not_searched']) == (['default'], [])


@pytest.mark.parametrize(
    ('words', 'left'),
    [(['remove-reducer', 'demo.words'], []), (['erase-student', 'bob'], [OTHER])],
    ids=['remove-reducer', 'erase-student'],
)
def test_removals_remove_it_with_the_others(words: list[str], left: list[str], direct: Redis) -> None:
    assert run(*words, '--yes').exit_code == 0
    states = [key.decode() for key in direct.scan_iter() if b'demo.words' in key]
    assert states == left
