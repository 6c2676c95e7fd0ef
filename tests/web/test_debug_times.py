"""A time that no calendar has, as other programs may write it, is not known: on the debug pages, and in commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from click.testing import CliRunner
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.cli.main import main
from learning_observer_kvs.kvs import InMemoryKVS, KVSRouter
from learning_observer_kvs.stores.types import Description
from tests.support.debug_pages import make_app
from tests.support.sqlite import sql

Client = TestClient[web.Request, web.Application]

KEY = 'Internal,m.words,STUDENT:ann'

UNUSABLE = ['1e300', '-1e300', '9e999', '253402300800', '-62135596801', "'soon'", "x'00'"]


async def write(settings: dict[str, Any], written: str) -> None:
    """Store a state, and have another program change when it was written."""
    async with KVSRouter.from_settings(settings) as router:
        await router().set(KEY, {'words': 1})
    sql(settings['kvs']['default']['path'], f'UPDATE "kvs default" SET written = {written}')


@pytest.mark.parametrize('written', UNUSABLE)
async def test_pages_show_a_state_whose_time_is_none(
    aiohttp_client: AiohttpClient, settings: dict[str, Any], written: str
) -> None:
    await write(settings, written)
    client: Client = await aiohttp_client(make_app(settings))
    for page in (f'default/key?key={KEY}', 'stores/student?student=ann', 'default/reducer?reducer=m.words'):
        for accept in ('text/html', 'application/json'):
            answer = await client.get(f'/debug/kvs/{page}', headers={'Accept': accept})
            assert answer.status == 200, await answer.text()
        data = await answer.json()
        shown = data if 'value' in data else data['states'][0]['keys'][0]
        assert shown['written'] is None


@pytest.mark.parametrize('written', UNUSABLE)
def test_commands_give_a_state_whose_time_is_none(settings: dict[str, Any], written: str, tmp_path: Path) -> None:
    asyncio.run(write(settings, written))
    creds = tmp_path / 'creds.yaml'
    creds.write_text(json.dumps(settings))

    def output(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, [*arguments, '--config', str(creds)])
        assert result.exit_code == status, result.output
        return result.stdout

    rows, page = tmp_path / 'rows.ndjson', tmp_path / 'ann.json'
    output('dump', '--csv', '--state', 'internal', str(tmp_path / 'rows.csv'))
    output('dump', '--ndjson', '--state', 'internal', str(rows))
    assert json.loads(rows.read_text())['written'] is None
    output('export-student', 'ann', '--to', str(page))
    assert json.loads(page.read_text())['states'][0]['written'] is None
    left = json.loads(output('expire', '--older-than', '1d', '--json', status=1))['stores']['default']
    assert (left['undated'], left['removed']) == (1, 0)


@pytest.mark.parametrize('written', [-62135596800.0, -1, 0, 1.5, 1_795_910_248.25, 253402300799])
async def test_a_time_of_the_calendar_stays(written: float) -> None:
    class Store(InMemoryKVS):
        async def _describe(self, keys: Any) -> Any:
            return [Description(1, None, written) for _ in keys]

    assert await Store().describe('k') == Description(1, None, written)
