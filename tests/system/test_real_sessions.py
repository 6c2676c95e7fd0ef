"""The main job: of every event of whole writing sessions, exactly the expected text is reconstructed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from devdata.reducers import reconstruct
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.replay.runner import replay
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, KeyStateType, make_key
from learning_observer_kvs.stream_analytics.keys import Fields
from tests.support.redis_server import RedisServer
from tests.support.sessions import FOLDER, expected, texts

ALL = sorted(expected())


@pytest.fixture
def settings_of(tmp_path: Path, redis_server: RedisServer) -> Any:
    def settings(backend: str) -> dict[str, Any]:
        options = {
            'stub': {},
            'sqlite': {'path': str(tmp_path / 'state.sqlite3')},
            'filesystem': {'path': str(tmp_path / 'files')},
            'redis': {'prefix': 'sessions:'},
        }[backend]
        return {
            'kvs': {'default': {'type': backend, **options}},
            'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': redis_server.port},
        }

    return settings


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ('backend', 'files'),
    [  # in memory, below, all
        ('sqlite', ALL[::4]),
        ('redis', ALL[1::4]),
        ('filesystem', ALL[:10]),
        pytest.param('sqlite', ALL[2::4], marks=pytest.mark.long),
        pytest.param('redis', ALL[3::4], marks=pytest.mark.long),
    ],
    ids=['sqlite', 'redis', 'filesystem', 'more on sqlite', 'more on redis'],
)
def test_replayed_sessions_end_in_the_expected_text(
    backend: str, files: list[str], settings_of: Any, tmp_path: Path
) -> None:
    creds = tmp_path / 'creds.yaml'
    creds.write_text(json.dumps(settings_of(backend)))  # JSON is YAML
    arguments = ['replay', '--config', str(creds), '--reducer', 'devdata.reducers:reconstruct', '--json']
    result = CliRunner().invoke(main, [*arguments, *(str(FOLDER / name) for name in files)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report['events'] == sum(expected()[name]['events'] for name in files)

    async def compare() -> list[str]:
        async with KVSRouter.from_settings(creds) as router:
            return await wrong(router, files)

    assert asyncio.run(compare()) == []


async def wrong(router: KVSRouter, files: list[str]) -> list[str]:
    """The files whose documents do not end in the expected text."""
    failures = []
    for name in files:
        entry = expected()[name]
        for doc_id, text in texts(entry).items():
            fields: Fields = {KeyField.STUDENT: entry['student'], EventField('doc_id'): doc_id}
            found = await router()[make_key(reconstruct, fields, KeyStateType.EXTERNAL)]
            if found is None or found['text'] != text:
                failures.append(name)
    return failures


@pytest.mark.timeout(600)
async def test_sessions_replayed_in_memory_end_in_the_expected_text() -> None:
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        report = await replay([FOLDER / name for name in ALL], [reconstruct], router=router)
        assert report.failures == []
        assert await wrong(router, ALL) == []
