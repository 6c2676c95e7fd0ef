"""A replay of failed events that is killed at any moment and run again applies each event once, on every backend."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learning_observer_kvs import failed_events
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.replay import error_file, failures, files
from learning_observer_kvs.replay.retry import RetryReport, retry
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.suppression import Suppression
from learning_observer_kvs.stream_analytics.helpers import fully_qualified_function_name
from tests.support import killed_replay
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer

STUDENTS, EVENTS = ['ann', 'bob,ann'], 75
TYPES = ['sqlite', 'filesystem', 'redis', 'redis_ephemeral', 'redis cluster']

Settings = dict[str, Any]


@pytest.fixture(params=TYPES)
async def settings(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, redis_nodes: RedisNodes
) -> Settings:
    word, _, cluster = request.param.partition(' ')
    options: Settings = {'type': word}
    if word in ('sqlite', 'filesystem'):
        options['path'] = str(tmp_path / 'state')
    else:
        port = redis_nodes.nodes[0].port if cluster else redis_server.port
        options |= {'redis_host': '127.0.0.1', 'redis_port': port, 'redis_cluster': bool(cluster), 'prefix': 'kills:'}
    if word == 'redis_ephemeral':
        options['expiry'] = 600
    settings = {'kvs': {'default': options}}
    async with KVSRouter.from_settings(settings) as router:
        await router().clear()
        await suppression.change(router(), lambda found: Suppression())  # of a test before, on the same server
    return settings


def keep(folder: Path) -> list[str]:
    """Keep failed events in both kinds of files, some in both; the names of the reducers."""
    names = [fully_qualified_function_name(reducer) for reducer in killed_replay.REDUCERS]
    for number in range(EVENTS):
        for student in STUDENTS:
            auth = {'safe_user_id': student}
            event = {'client': {'number': number}, 'server': {'time': 1e9 + number}, 'metadata': {'auth': auth}}
            safe = student.replace(',', r'\2c')
            keys = [f'Internal,{name},STUDENT:{safe}' for name in names]
            if number % 3 != 1:
                for name, key in zip(names, keys, strict=True):
                    failed_events.record(event, StoreUnavailable('away'), reducer=name, keys=[key], folder=folder)
            if number % 3 != 2:
                write_error_file(folder / f'critical-error-{student}-{number}.tb', event, keys)
    return names


def write_error_file(path: Path, event: Any, keys: list[str]) -> None:
    """What the server writes of an event that a reducer failed on."""
    error = StoreUnavailable('away')
    error_file.annotate(error, {keys[0]: error}, keys[1:])
    [note] = error.__notes__
    path.write_text(f'{json.dumps(event, sort_keys=True, indent=2)}\nTraceback:\nStoreUnavailable: away\n{note}\n')


async def stored(settings: Settings) -> dict[str, Any]:
    async with KVSRouter.from_settings(settings) as router:
        found: dict[str, Any] = await router().dump(prefix='Internal,')
        return found


def expected(names: Iterable[str]) -> dict[str, Any]:
    lists = [list(range(EVENTS)), list(range(1, EVENTS, 2))]
    return {
        f'Internal,{name},STUDENT:{student}': numbers
        for name, numbers in zip(names, lists, strict=True)
        for student in ('ann', r'bob\2cann')
    }


async def test_every_event_is_applied_once_and_in_order_however_often_the_replay_is_killed(
    settings: Settings, tmp_path: Path
) -> None:
    names = keep(tmp_path / 'failed')
    program = 'from tests.support import killed_replay; killed_replay.main()'
    command = [sys.executable, '-W', 'error', '-c', program, json.dumps(settings), str(tmp_path / 'failed')]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report['failures'] == []
    assert report['kills'] > 2
    assert report['already'] > 0
    assert await stored(settings) == expected(names)


async def test_two_replays_at_the_same_time_apply_each_event_once(settings: Settings, tmp_path: Path) -> None:
    names = keep(tmp_path / 'failed')

    async def replay() -> RetryReport:
        return await killed_replay.replay(settings, tmp_path / 'failed')

    reports = await asyncio.gather(replay(), replay(), replay())
    assert [report.failures for report in reports] == [[], [], []]
    assert sum(report.replayed for report in reports) == EVENTS * len(STUDENTS) * len(names)
    found = await stored(settings)
    assert {key: sorted(value) for key, value in found.items()} == expected(names)


async def test_a_replay_while_a_server_processes_events_of_the_same_keys_loses_none(
    settings: Settings, tmp_path: Path
) -> None:
    names = keep(tmp_path / 'failed')

    async def serve() -> None:
        async with KVSRouter.from_settings(settings) as router:
            process = [await each({'auth': {'safe_user_id': 'ann'}}, router=router) for each in killed_replay.REDUCERS]
            for number in range(1001, 1201, 2):
                await asyncio.gather(*(one({'client': {'number': number}}) for one in process))

    await asyncio.gather(serve(), killed_replay.replay(settings, tmp_path / 'failed'))
    found = await stored(settings)
    served = list(range(1001, 1201, 2))
    wanted = {key: value + served * key.endswith(':ann') for key, value in expected(names).items()}
    assert {key: sorted(value) for key, value in found.items()} == wanted


async def test_erasing_a_student_erases_what_was_replayed_too(settings: Settings, tmp_path: Path) -> None:
    keep(tmp_path / 'failed')
    await killed_replay.replay(settings, tmp_path / 'failed')
    creds = tmp_path / 'creds.yaml'
    creds.write_text(json.dumps(settings))
    result = await asyncio.to_thread(
        CliRunner().invoke,
        main,
        ['erase-student', STUDENTS[1], '--yes', '--receipt', str(tmp_path / 'receipt.json'), '-c', str(creds)],
    )
    assert result.exit_code == 0, result.output
    async with KVSRouter.from_settings(settings) as router:
        assert {key for key in await router().keys() if 'bob' in key} == set()
        assert len(await router().keys()) == 5


async def test_an_event_that_failed_while_the_store_was_away_waits_for_the_next_run(tmp_path: Path) -> None:
    names = keep(tmp_path / 'failed')
    gone = {'kvs': {'default': {'type': 'redis', 'redis_host': '127.0.0.1', 'redis_port': 1, 'retry_timeout': 0.2}}}
    async with KVSRouter.from_settings(gone) as router:
        rows = failures.read(files.find([tmp_path / 'failed']).failures)
        with pytest.raises(StoreUnavailable):
            await retry(rows, killed_replay.REDUCERS, router=router)
    here = {'kvs': {'default': {'type': 'sqlite', 'path': str(tmp_path / 'state')}}}
    await killed_replay.replay(here, tmp_path / 'failed')
    assert await stored(here) == expected(names)
