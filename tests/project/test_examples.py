"""The examples of the documentation run, each in a directory that has the files of its page alone."""

from __future__ import annotations

import gc
import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from click.testing import CliRunner
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.settings import read_settings
from tests.project.documentation import EXAMPLES, PAGES, ROOT, blocks, examples_of, run
from tests.support.redis_server import RedisServer

JSON = {'Accept': 'application/json'}


@pytest.fixture
def directory_of(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the directory of a page's examples."""

    def copy(name: str) -> Path:
        return shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))

    return copy


@pytest.fixture
def server_of(
    directory_of: Callable[[str], Path], aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    """A client of the server in a file of a page: ``await server_of('first-reducer/own_app.py')``."""

    async def serve(file: str) -> TestClient[Any, Any]:
        name, _, program = file.partition('/')
        directory = directory_of(name)
        monkeypatch.chdir(directory)
        monkeypatch.syspath_prepend(directory)
        for path in directory.glob('*.py'):  # pages have files of the same name
            monkeypatch.delitem(sys.modules, path.stem, raising=False)
        client: TestClient[Any, Any] = await aiohttp_client(importlib.import_module(program.removesuffix('.py')).app)
        return client

    return serve


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('REDIS_PASSWORD', 'hunter2')
    monkeypatch.setenv('ADMIN_TOKEN', 'opensesame')


def install(directory: Path) -> None:
    """Install the example of a store into its directory, as its ``setup.cfg`` describes it."""
    points = (directory / 'setup.cfg').read_text().partition('[options.entry_points]\n')[2].replace('\n    ', '\n')
    group, _, names = points.partition(' =\n')
    (info := directory / 'one_file-1.0.dist-info').mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: one_file\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(f'[{group}]\n{names}')


@pytest.mark.parametrize('file', [str(path.relative_to(EXAMPLES)) for path in sorted(EXAMPLES.rglob('*.yaml'))])
def test_configurations_have_no_problem(
    directory_of: Callable[[str], Path], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, config = file.partition('/')
    directory = directory_of(name)
    assert read_settings(directory / config)
    if name == 'write-a-store':
        install(directory)
        assert 'no problems' in run(directory, 'check', config)[0]
    else:
        monkeypatch.chdir(directory)
        monkeypatch.syspath_prepend(directory)
        checked = CliRunner().invoke(main, ['check', config])
        assert (checked.exit_code, 'no problems' in checked.output) == (0, True), checked.output


@pytest.mark.parametrize(
    ('file', 'printed'),
    [
        ('write-a-reducer/pastes_check.py', ''),
        ('write-a-store/with_own_type.py', 'hello'),
        ('store/store_calls.py', ''),
        ('router/two_stores.py', "There is no store 'google_cache'"),
        ('decorators/words.py', ''),
        ('settings/loading.py', 'stub creds.yaml:5\ndev\nTrue True'),
        ('prestartup/script.py', 'hello'),
        ('errors/retry.py', 'hello'),
        ('live-changes/follow_keys.py', "[]\nessay,1\n{'essay,2': 'The end'}"),
        ('read-a-class/asking.py', 'ls-17 D1'),
        ('memoize-slow-functions/grammar.py', '1 run\n{"args"'),
    ],
)
def test_programs_run(directory_of: Callable[[str], Path], file: str, printed: str) -> None:
    name, _, program = file.partition('/')
    assert '\n'.join(run(directory_of(name), program)).startswith(printed)


def test_plain_keys_of_redis(directory_of: Callable[[str], Path], redis_server: RedisServer) -> None:
    directory = directory_of('redis-connection')
    config = (directory / 'creds.yaml').read_text().replace('6379', str(redis_server.port))
    (directory / 'creds.yaml').write_text(config.replace('localhost', '127.0.0.1'))
    assert run(directory, 'plain_keys.py') == ["b'hello' [b'hello', None]", '1']


def test_an_overlay_overrides(directory_of: Callable[[str], Path]) -> None:
    directory = directory_of('configuration')
    [shown] = run(directory, '-c', 'import overlay; print(overlay.settings.settings)')
    assert "'expiry': '60'" in shown
    assert "'redis_host': 'redis.example'" in shown


COMMANDS = {
    page: [block.text for block in blocks(page) if block.language == 'console']
    for page in PAGES
    if page.stem
    in (
        'first-reducer',
        'dashboard',
        'live-changes',
        'memoize-slow-functions',
        'read-a-class',
        'write-a-reducer',
        'write-a-store',
        'debug',
    )
}


@pytest.mark.parametrize('page', COMMANDS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_print_what_it_says(directory_of: Callable[[str], Path], page: Path) -> None:
    directory = directory_of(examples_of(page).name)
    if page.stem == 'write-a-store':
        install(directory)
    for text in COMMANDS[page]:
        for command, said in re.findall(r'^\$ (.+)\n((?:(?!\$ ).*\n)*)', text, re.M):
            program, *arguments = shlex.split(command)
            if program in ('pip', 'pytest') or 'run_app' in ''.join(
                (directory / name).read_text() for name in arguments if name.endswith('.py')
            ):
                continue  # installed above; below, and in tests/stores; a server
            printed = '\n'.join([*run(directory, *arguments), ''])
            pattern = re.escape(said).replace('…', '.*')
            assert re.fullmatch(pattern, printed) if said else True, printed


def test_the_second_run_of_the_tutorial_goes_on_where_the_first_ended(directory_of: Callable[[str], Path]) -> None:
    directory = directory_of('first-reducer')
    for keys in (2, 4):
        assert f"{{'keys typed': {keys}}}" in run(directory, 'feeding.py')[0]


def test_a_program_is_tested_with_its_own_router(directory_of: Callable[[str], Path]) -> None:
    directory = directory_of('testing')
    assert '2 passed' in run(directory, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_program.py')[-1]


def test_an_application_is_tested_by_the_fixtures_and_its_tests_have_types(directory_of: Callable[[str], Path]) -> None:
    directory = directory_of('test-your-application')
    assert '3 passed' in run(directory, '-m', 'pytest', '-q', '-p', 'no:cacheprovider')[-1]
    assert 'Success' in run(directory, '-m', 'mypy', '--strict', 'test_own_app.py')[-1]


async def test_the_tutorials_server_counts_keys(server_of: Callable[[str], Any]) -> None:
    client = await server_of('first-reducer/own_app.py')
    async with client.ws_connect('/events/ls-17') as socket:
        for _ in range(3):
            await socket.send_json({'event': 'keystroke'})
    assert await (await client.get('/dashboard/ls-17')).json() == {'keys typed': 3}


async def test_the_dashboard_has_a_row_for_each_student_and_goes_on(
    server_of: Callable[[str], Any], tmp_path: Path
) -> None:
    client = await server_of('dashboard/dashboard.py')
    assert '<tr><td>' not in await (await client.get('/')).text()
    run(tmp_path / 'dashboard', 'typing_class.py')
    lines = (await (await client.get('/')).text()).splitlines()
    assert lines[1:] == [
        '<tr><td>ls-17<td>11<td>2<td>Snow falls.',
        '<tr><td>ls-18<td>28<td>5<td>barks at &lt;everyone&gt;.',
        '<tr><td>ls-19<td>31<td>7<td>rk and stormy night.',
    ]
    run(tmp_path / 'dashboard', 'typing_class.py')
    assert '<tr><td>ls-17<td>22<td>3<td>' in await (await client.get('/')).text()


async def test_the_server_of_the_readme_answers_as_it_says(server_of: Callable[[str], Any]) -> None:
    client = await server_of('readme/server.py')
    command, answer = re.findall(r'^\$ (curl .+)\n(.+)$', (ROOT / 'README.md').read_text(), re.M)[0]
    _, _, event, url = shlex.split(command)
    response = await client.post(url.partition(':8080')[2], json=json.loads(event))
    assert await response.text() == answer


async def test_the_server_of_the_plugin_page_lets_its_administrator_in(server_of: Callable[[str], Any]) -> None:
    client = await server_of('plugin/server.py')
    assert await (await client.get('/greeting')).json() == {'greetings': 1}
    assert (await client.get('/debug/kvs')).status == 403
    assert (await client.get('/debug/kvs', headers={'Authorization': 'Bearer opensesame'})).status == 200


async def test_the_server_of_the_metrics_page_answers_a_load_balancer_and_prometheus(
    server_of: Callable[[str], Any],
) -> None:
    client = await server_of('metrics/watched_server.py')
    assert (await (await client.get('/health')).json())['ok'] is True
    assert 'lo_kvs_busy_keys{store="default"} 0.0' in await (await client.get('/metrics')).text()


async def test_an_application_of_the_plugin_page_has_its_own_router(server_of: Callable[[str], Any]) -> None:
    client = await server_of('plugin/archive.py')
    assert await (await client.get('/names')).json() == ['default']
    assert await (await client.get('/archive/names')).json() == ['default', 'last_year']


async def test_a_server_with_the_hook_starts_closed(server_of: Callable[[str], Any]) -> None:
    client = await server_of('plugin/hooked_server.py')
    assert client.app is not None
    assert client.app[learning_observer_kvs.KVS_KEY].names() == ['default']
    assert (await client.get('/debug/kvs')).status == 404


@pytest.mark.parametrize('name', ['configuration', 'several-server-processes'])
def test_the_rules_let_the_administrator_in(
    name: str, directory_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(directory_of(name))
    monkeypatch.delitem(sys.modules, 'own_app_rules', raising=False)
    rules = importlib.import_module('own_app_rules')

    class Request:
        def __init__(self, token: str) -> None:
            self.headers = {'Authorization': f'Bearer {token}'}

    assert rules.is_admin(Request('opensesame'), 'list', '', None)
    assert not rules.is_admin(Request('é'), 'list', '', None)


def alike(found: Any, wanted: Any) -> bool:
    """Whether two answers are the same, but for what differs from run to run: times, places, and the process."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(
            isinstance(found[name], type(value))
            if name in ('written', 'location', 'host', 'process', 'version', 'known', 'over_seconds')
            else alike(found[name], value)
            for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return bool(found == wanted)


async def test_the_debug_pages_answer_as_their_page_says(
    server_of: Callable[[str], Any], directory_of: Callable[[str], Path], aiohttp_client: AiohttpClient
) -> None:
    directory = directory_of('debug')
    page = ROOT / 'docs/reference/debug.md'
    for line in COMMANDS[page][0].splitlines():
        run(directory, *shlex.split(line)[2:])
    app = web.Application()
    stores = {'default': {'type': 'sqlite', 'path': str(directory / '.lo_kvs/state.sqlite3')}}
    settings = {'kvs': stores, 'config': {'run_mode': 'dev'}}
    learning_observer_kvs.setup(app, settings, authorize=lambda *_: True)
    client = await aiohttp_client(app)
    for address, file in re.findall(r'^`(/debug/kvs.*)` answers with `(.+)`', page.read_text(), re.M):
        expected = json.loads((directory / file).read_text())
        answer = await (await client.get(address.replace('Internal,', 'Internal%2C'), headers=JSON)).json()
        assert alike(answer, expected), (file, answer)


async def test_a_server_can_have_the_collector_run_less_often(server_of: Callable[[str], Any]) -> None:
    before = gc.get_threshold()
    try:
        await server_of('performance/calm.py')
        assert gc.get_threshold() == (5000, *before[1:])
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_the_balancer_knows_two_processes_and_lets_websockets_through() -> None:
    text = (EXAMPLES / 'several-server-processes/learning_observer.conf').read_text()
    assert text.count('{') == text.count('}') == 3
    assert text.count('    server 127.0.0.1:') == 2
    assert 'proxy_set_header Upgrade $http_upgrade;' in text
