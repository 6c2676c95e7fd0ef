"""Problems of the files, directories and servers that settings name, where no server runs."""

# ruff: noqa: ASYNC240, nothing else runs in the loop of these tests

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

import learning_observer_kvs
from learning_observer_kvs import failed_events, settings
from learning_observer_kvs.checks.live import LIMIT, check_stores
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.errors import StartupCheck, StartupFailed
from learning_observer_kvs.kvs import KVS, KVSRouter, live_problems
from learning_observer_kvs.prestartup import run_startup_checks_and_init
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Settings, read_settings
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.checks import parse
from tests.support.redis_server import free_port
from tests.support.users import open_folder


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(**options: Any) -> Settings:
    return read_settings({'kvs': {'default': options}})


def at(port: int, **more: Any) -> dict[str, Any]:
    return {'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': port} | more}


async def problems_of(configuration: Settings) -> list[Problem]:
    return await live_problems(parse(configuration))


async def ids(configuration: Settings) -> list[str]:
    return [problem.id for problem in await problems_of(configuration)]


@pytest.fixture
def closed_port() -> int:
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        yield server.getsockname()[1]


# Directories and files


@pytest.mark.parametrize('type', ['filesystem', 'sqlite'])
async def test_a_check_makes_nothing_that_is_missing(type: str) -> None:
    configuration = config(type=type, path='a/b/c')
    assert await ids(configuration) == []
    assert list(Path().iterdir()) == []
    Path('a').mkdir()
    assert await ids(configuration) == []
    assert list(Path().rglob('*')) == [Path('a')]
    async with KVSRouter.from_settings(configuration) as router:
        await router().set('k', 1)
        assert await router().keys() == ['k']


async def test_a_check_of_a_folder_without_a_lock_leaves_nothing_in_it() -> None:
    Path('data').mkdir()
    Path('data/k').write_text('1')
    assert await ids(config(type='filesystem', path='data')) == []
    assert [path.name for path in Path('data').rglob('*')] == ['k']


async def test_the_data_of_the_store_and_of_other_programs_stays_as_it_was() -> None:
    configuration = config(type='filesystem', path='data')
    async with KVSRouter.from_settings(configuration) as router:
        await router().set('k', 1)
        Path('data/.DS_Store').write_text('x')
        assert await ids(configuration) == []
        assert await router().dump() == {'k': 1}


@pytest.mark.parametrize('type', ['filesystem', 'sqlite'])
@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('a_file/below/it', 'Not a directory|File exists'),
        ('/proc/none/it', 'No such file'),
        ('dangling/below', 'File exists|No such file|Not a directory'),
    ],
)
async def test_a_path_that_cannot_be_made_is_an_error(type: str, path: str, message: str) -> None:
    Path('a_file').write_text('')
    Path('dangling').symlink_to('nowhere/at/all')
    [problem] = await problems_of(config(type=type, path=path))
    assert (problem.id, problem.subject) == ('KVS.E018', 'kvs.default')
    assert re.search(message, problem.hint)


async def test_a_path_that_is_a_file_is_an_error() -> None:
    Path('data').write_text('')
    [problem] = await problems_of(config(type='filesystem', path='data'))
    assert re.search(r'data.* cannot be used: .*A folder is needed there', str(problem))


@pytest.mark.parametrize(
    'content', [b'x' * 5000, b'', b'SQLite format 3\0' + b'x' * 4084], ids=['text', 'empty', 'damaged']
)
async def test_a_file_that_is_not_a_database_is_an_error_and_stays_as_it_is(content: bytes) -> None:
    Path('data').write_bytes(content)
    found = await problems_of(config(type='sqlite', path='data'))
    if content:
        assert [problem.id for problem in found] == ['KVS.E018']
        assert Path('data').read_bytes() == content
    else:
        assert found == []


async def test_a_database_of_another_program_is_an_error_and_stays_as_it_is() -> None:
    connection = sqlite3.connect('data')
    connection.execute('CREATE TABLE theirs (x)')
    connection.close()
    before = Path('data').read_bytes()
    [problem] = await problems_of(config(type='sqlite', path='data'))
    assert 'it is the database of another program. Choose another path' in problem.hint
    assert Path('data').read_bytes() == before


async def test_a_directory_in_place_of_a_database_is_an_error() -> None:
    Path('data').mkdir()
    [problem] = await problems_of(config(type='sqlite', path='data'))
    assert 'it is a folder. Give the path of a file' in problem.hint


async def test_a_database_that_another_process_writes_to_all_the_time_is_a_warning() -> None:
    configuration = config(type='sqlite', path='data')
    async with KVSRouter.from_settings(configuration) as router:
        await router().set('k', 1)
    assert await ids(configuration) == []
    other = sqlite3.connect('data', isolation_level=None)
    other.execute('BEGIN IMMEDIATE')
    assert await ids(configuration) == ['KVS.W010']
    async with SQLiteKVS('data', name='default') as store:
        assert [problem.subject for problem in await store.health_check()] == ['path']
    other.close()
    assert await ids(configuration) == []


async def test_a_store_in_memory_has_no_problem() -> None:
    assert await ids(config(type='stub')) == []


# Redis that does not answer


async def test_several_stores_in_a_redis_that_is_not_there_are_one_problem_at_once(closed_port: int) -> None:
    configuration = read_settings(
        {
            'kvs': {
                'default': {'type': 'redis', 'prefix': 'a:'},
                'cache': {'type': 'redis_ephemeral', 'expiry': 5, 'prefix': 'c:'},
                'files': {'type': 'filesystem', 'path': 'files'},
            }
        }
        | at(closed_port, redis_password='hunter2')
    )
    started = time.monotonic()
    [problem] = await problems_of(configuration)
    assert time.monotonic() - started < LIMIT
    assert problem.subject == 'kvs.default and kvs.cache'
    assert f'Redis at 127.0.0.1:{closed_port} cannot be used' in problem.hint
    assert 'redis_connection.redis_host' in problem.hint
    assert 'hunter2' not in str(problem)


async def test_a_server_that_never_answers_ends_within_the_limit_and_delays_no_other_store(silent_port: int) -> None:
    stores = {
        name: PersistentRedisKVS(connection=RedisConnection(at(silent_port)['redis_connection'])) for name in 'ab'
    }
    started = time.monotonic()
    [problem] = await check_stores(stores | {'c': InMemoryKVS()}, {}, limit=0.2)
    assert time.monotonic() - started < 15  # the retry timeout of a store
    assert (problem.id, problem.subject) == ('KVS.E019', 'kvs.a and kvs.b')
    assert f'within 0.2 s: Redis at 127.0.0.1:{silent_port}' in problem.message
    for store in stores.values():
        await store.connection.close()


async def test_a_server_that_does_not_answer_is_located_at_the_type_of_the_store(
    closed_port: int, silent_port: int
) -> None:
    Path('creds.yaml').write_text(
        f'kvs:\n  default:\n    redis_host: 127.0.0.1\n    redis_port: {closed_port}\n    type: redis\n'
        f'  silent:\n    redis_host: 127.0.0.1\n    redis_port: {silent_port}\n    type: redis\n'
    )
    configuration = parse(read_settings('creds.yaml'))
    async with KVSRouter.from_settings('creds.yaml') as router:
        stores = {name: router[name] for name in router.names()}
        found = await check_stores(stores, {row.name: row for row in configuration.stores}, limit=2.0)
    assert [(problem.id, problem.location) for problem in found] == [
        ('KVS.E018', 'creds.yaml:5'),
        ('KVS.E019', 'creds.yaml:9'),
    ]


async def test_fakeredis_which_has_no_info_has_no_problem() -> None:
    connection = RedisConnection()
    async with fakeredis.FakeAsyncRedis() as client:
        connection.use(client)
        for store in (PersistentRedisKVS(connection=connection), EphemeralRedisKVS(5, connection=connection)):
            assert await check_stores({'a': store}, {}) == []


# How they are reported


class Odd(InMemoryKVS):
    """Reports the problems it is given."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = list(problems)

    async def health_check(self) -> list[Problem]:
        return self.problems


async def test_the_location_is_the_line_of_the_store(tmp_path: Path) -> None:
    Path('creds.yaml').write_text(
        'kvs:\n  - [default, {type: stub}]\n  - - files\n    - type: filesystem\n      path: x\n'
    )
    Path('x').write_text('')
    [problem] = await problems_of(read_settings('creds.yaml'))
    assert problem.location == 'creds.yaml:5'


async def test_an_error_stops_the_start_with_one_screen(closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'redis'}}} | at(closed_port))
    with pytest.raises(StartupFailed) as failure:
        await web.AppRunner(app).setup()
    assert [problem.id for problem in failure.value.problems] == ['KVS.E018']
    text = capsys.readouterr().err
    assert 'kvs.default does not work. Redis at' in text
    assert 'Traceback' not in text


async def test_a_warning_is_logged_and_the_server_starts(caplog: pytest.LogCaptureFixture) -> None:
    settings.load_settings({'kvs': {'default': {'type': 'stub'}}})
    KVS.add_item('odd', Odd(Problem('KVS.W009', '', 'type', 'is odd', 'Even it out.')))
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr(KVS, 'configure', lambda configuration: None)
        await run_startup_checks_and_init()
    assert 'settings  kvs.odd is odd. Even it out.  [KVS.W009]' in caplog.text


async def test_errors_of_the_settings_stop_the_start_too() -> None:
    settings.load_settings({'kvs': {'default': {'type': 'redsi'}}})
    with pytest.raises(StartupCheck, match='redsi'):
        await run_startup_checks_and_init()


@pytest.fixture
def creds(closed_port: int) -> Path:
    path = Path('creds.yaml')
    path.write_text(
        'kvs:\n  default: {type: sqlite, path: state.sqlite3}\n  cache: {type: redis, prefix: "c:"}\n'
        f'redis_connection: {{redis_host: 127.0.0.1, redis_port: {closed_port}}}\n'
    )
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ['check', *words])


def test_the_command_runs_them_with_live(creds: Path) -> None:
    assert run().exit_code == 0
    result = run('--live')
    assert result.exit_code == 1
    assert 'creds.yaml:3  kvs.cache does not work. Redis at 127.0.0.1' in result.stdout
    found = json.loads(run('--live', '--json').stdout)['problems']
    assert [(problem['id'], problem['level'], problem['location']) for problem in found] == [
        ('KVS.E018', 'error', 'creds.yaml:3')
    ]


def test_the_command_runs_none_while_the_settings_have_an_error(creds: Path) -> None:
    creds.write_text('kvs: {default: {type: redsi}, files: {type: filesystem, path: files}}')
    assert run('--live').exit_code == 1
    assert not Path('files').exists()


def test_the_command_fails_from_the_level_that_it_is_given(creds: Path) -> None:
    creds.write_text('kvs: {default: {type: stub, expiry: 5}}')
    assert run('--live').exit_code == 0
    assert run('--fail-level', 'error').exit_code == 0
    assert run('--fail-level', 'warning').exit_code == 1
    assert run('--live', '--fail-level', 'warning').exit_code == 1
    assert run('--fail-level', 'nothing').exit_code == 2
    creds.write_text('kvs: {default: {type: stub}}')
    assert run('--live', '--fail-level', 'warning').exit_code == 0


def test_what_several_stores_report_alike_is_one_problem() -> None:
    problem = Problem('KVS.W009', '', 'type', 'is odd', 'Even it out.')
    found = asyncio.run(check_stores({'a': Odd(problem), 'b': Odd(), 'c': Odd(problem)}, {}))
    assert [problem.subject for problem in found] == ['kvs.a and kvs.c']


# Where stores are


async def test_a_store_beside_the_settings_that_the_working_directory_lacks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / 'elsewhere').mkdir()
    (elsewhere / 'creds.yaml').write_text('kvs:\n  default:\n    type: sqlite\n    path: state.sqlite3\n')
    (elsewhere / 'state.sqlite3').touch()
    [problem] = await problems_of(read_settings('elsewhere/creds.yaml'))
    assert (problem.id, problem.location) == ('KVS.W018', 'elsewhere/creds.yaml:4')
    assert str(tmp_path) in problem.message
    assert str(elsewhere / 'state.sqlite3') in problem.message
    assert f'Start this in {elsewhere}' in problem.hint
    monkeypatch.chdir(elsewhere)
    assert await ids(read_settings('creds.yaml')) == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'state.sqlite3').touch()
    assert await ids(read_settings('elsewhere/creds.yaml')) == []
    (tmp_path / 'absolute.yaml').write_text(f'kvs: {{default: {{type: sqlite, path: {tmp_path}/new.sqlite3}}}}')
    assert await ids(read_settings('absolute.yaml')) == []


async def test_files_that_look_like_keys_and_are_not_are_a_warning_of_the_command_alone(tmp_path: Path) -> None:
    settings = config(type='filesystem', path='files')
    async with KVSRouter.from_settings(settings) as router:
        await router().set('key', 1)
        (tmp_path / 'files' / 'a-97-').write_text('1')
        assert await router.health_check() == []
    [problem] = await problems_of(settings)
    assert problem.id == 'KVS.W017'
    assert 'a-97-' in problem.message


async def test_a_server_logs_the_absolute_paths_of_its_stores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stores = {'default': {'type': 'sqlite', 'path': 'a.sqlite3'}, 'files': {'type': 'filesystem', 'path': 'b'}}
    for router in (KVS, KVSRouter()):
        caplog.clear()
        app = web.Application()
        learning_observer_kvs.setup(app, {'kvs': stores}, router=router)
        runner = web.AppRunner(app)
        await runner.setup()
        await runner.cleanup()
        said = f'default: sqlite, {tmp_path}/a.sqlite3; files: filesystem, {tmp_path}/b'
        assert said in caplog.text


@pytest.mark.parametrize('mode', [0o600, 0o644, 0o640])
async def test_failed_events_that_others_can_read_are_a_warning_of_every_type_of_store(mode: int) -> None:
    with open_folder() as folder:
        path = failed_events.record({}, OSError('x'), reducer='r', keys=['k'], folder=folder)
        path.chmod(mode)
        problems = await problems_of(config(type='stub', failed_events=str(folder)))
    assert [problem.id for problem in problems] == (['KVS.W020'] if mode != 0o600 else [])
    assert [problem.hint for problem in problems] == [f'Run chmod go= {path}.'] * len(problems)
