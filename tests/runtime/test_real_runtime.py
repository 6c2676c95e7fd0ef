"""The integration in a real Learning Observer: the checkout that ``LO_SOURCE`` names.

``LO_PYTHON`` names the interpreter of its environment, by default ``.venv/bin/python`` there, which has the runtime,
its module ``writing_observer`` and our requirements installed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from aiohttp.test_utils import unused_port

from learning_observer_kvs.replay import study_log
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_runtime

ROOT = Path(__file__).parent.parent.parent
LOGS = sorted((ROOT / 'devdata/sample').glob('*.study.log'))
EVENTS = 120
"""How many events of each session are sent."""

CREDS = """
hostname: localhost
protocol: http
config: {{run_mode: dev, debug: []}}
auth: {{password_file: {folder}/passwd.lo}}
aio: {{session_secret: not-so-secret-in-a-test, session_max_age: 3600}}
event_auth: {{testcase_auth: {{}}}}
feature_flags: {{}}
pubsub: {{type: stub}}
roster_data: {{source: all}}
logging: {{debug_log_level: NONE, debug_log_destinations: [CONSOLE]}}
theme: {{server_name: Learning Observer}}
modules: {{writing_observer: {{use_nlp: false}}}}
data_path: {folder}
repos: {{writing_observer: {source}}}
redis_connection: {{redis_host: 127.0.0.1, redis_port: {redis}, redis_password: null}}
kvs:
  default: {{type: {store}, path: {folder}/{state}}}
  memoization: {{type: stub, expiry: 6000}}
kvs_plugin: {plugin}
"""


@pytest.fixture
def source() -> Path:
    return Path(os.environ['LO_SOURCE']).resolve()


def python_of(source: Path) -> str:
    """The interpreter of the server's environment."""
    return os.environ.get('LO_PYTHON', str(source / '.venv/bin/python'))


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    """The data directory of a server with one account, ``ada``."""
    (tmp_path / 'dash_assets').mkdir()
    for name in ('admins.yaml', 'teachers.yaml'):
        (tmp_path / name).write_text('{}\n')
    hashed = subprocess.run(
        [
            python_of(source),
            '-c',
            'import bcrypt; found = bcrypt.hashpw(b"letmein", bcrypt.gensalt(4)); '
            'print(found if isinstance(found, str) else found.decode())',
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    account = {'username': 'ada', 'password': hashed, 'role': 'ADMIN'}
    (tmp_path / 'passwd.lo').write_text(json.dumps({'users': {'ada': account}}))
    return tmp_path


@contextmanager
def server(source: Path, folder: Path, installed: Path, **settings: Any) -> Iterator[str]:
    """A running server; its URL."""
    creds, port = folder / 'creds.yaml', unused_port()
    creds.write_text(CREDS.format(folder=folder, source=source, **settings))
    command = [python_of(source), str(ROOT / 'tests/runtime/host/launch.py'), '--port', str(port)]
    process = subprocess.Popen(
        [*command, '--config-file', str(creds), '--pmss-rulesets', str(creds)],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(installed), 'PYTHONUNBUFFERED': '1', 'HOME': str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            output.append(line)
            if 'Running on' in line:
                break
        else:
            raise RuntimeError(''.join(output[-40:]))
        if settings['plugin'] == 'true':
            said = ''.join(output)
            assert re.search(rf'^Key-value stores: default: {settings["store"]}, .*; memoization: stub', said, re.M)
            assert re.search(r'^(\d+) of \1 reducers run through the key-value store\.$', said, re.M)
        yield f'http://127.0.0.1:{port}'
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]
        assert not re.search('Traceback|never awaited|Unclosed', rest), rest
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def stream(session: ClientSession, address: str, log: Path) -> None:
    """Send the events of a study log, as its student."""
    student = log.name.partition('.')[0]
    async with session.ws_connect(f'{address}/wsapi/in/') as socket:
        await socket.send_json({'event': 'lock_fields', 'fields': {'source': 'org.mitros.writing_analytics'}})
        for line in itertools.islice(study_log.read(log), EVENTS):
            event = {name: value for name, value in line.event['client'].items() if name != 'auth'}
            await socket.send_json(event | {'user_id': student})
        # The server answers the close when it has processed everything before it.
        await socket.close()


async def lesson(address: str) -> list[str]:
    """A class writes, and an administrator logs in; the students on the roster."""
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        await asyncio.gather(*(stream(session, address, log) for log in LOGS))
        login = await session.post(f'{address}/auth/login/password', data={'username': 'ada', 'password': 'letmein'})
        assert (await login.json())['status'] == 'authorized'
        roster = await (await session.get(f'{address}/webapi/courseroster/12345')).json()
        return sorted(student['user_id'] for student in roster)


async def state(folder: Path) -> dict[str, Any]:
    async with FilesystemKVS(folder) as store:
        dumped: dict[str, Any] = await store.dump()
        return dumped


def its_own_listing(source: Path, path: Path) -> list[str]:
    """The keys that the runtime's own store finds in a folder of ours."""
    script = f'import asyncio, json, learning_observer.kvs as k; s = k.FilesystemKVS({str(path)!r}); '
    script += 'print(json.dumps(asyncio.run(s.keys())))'
    listed = subprocess.run([python_of(source), '-c', script], capture_output=True, text=True, check=True, cwd=path)
    keys: list[str] = json.loads(listed.stdout.splitlines()[-1])
    return keys


async def test_the_stored_state_is_the_same_as_of_the_runtimes_own_store_key_by_key(
    source: Path, folder: Path, installed: Path
) -> None:
    rosters, states = [], []
    for plugin in ('false', 'true'):
        with server(source, folder, installed, store='filesystem', state=plugin, plugin=plugin, redis=6379) as address:
            rosters.append(await lesson(address))
        states.append(await state(folder / plugin))
    assert len(rosters[0]) == len(LOGS)
    assert rosters[1] == rosters[0]
    assert len(states[0]) > 10 * len(LOGS)
    assert states[1] == states[0]
    names = [{path.name for path in (folder / plugin).iterdir() if path.name[0] != '.'} for plugin in ('false', 'true')]
    assert names[0] == names[1]
    assert set(its_own_listing(source, folder / 'true')) == {*states[1], '.lo_kvs'}, 'as the how-to says'


@pytest.mark.parametrize('store', ['stub', 'sqlite', 'filesystem', 'redis'])
async def test_the_runtimes_pages_and_logging_out_work_on_every_store(
    source: Path, folder: Path, installed: Path, redis_server: RedisServer, store: str
) -> None:
    port = redis_server.port
    with server(source, folder, installed, store=store, state='state', plugin='true', redis=port) as address:
        assert len(await lesson(address)) == len(LOGS)
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
            assert (await session.get(f'{address}/debug/kvs', allow_redirects=False)).status == 302
            await session.post(f'{address}/auth/login/password', data={'username': 'ada', 'password': 'letmein'})
            page = await session.get(f'{address}/debug/kvs/default?limit=1000')
            keys = [entry['key'] for entry in (await page.json())['keys']]
            assert any(key.startswith('Internal,writing_observer.writing_analysis.reconstruct,') for key in keys)
            assert (await session.get(f'{address}/auth/logout', allow_redirects=False)).status == 302
            assert (await session.get(f'{address}/debug/kvs', allow_redirects=False)).status == 302


async def test_four_windows_of_a_student_lose_no_event(
    source: Path, folder: Path, installed: Path, redis_server: RedisServer, redis: RedisConnection
) -> None:
    windows, port = 4, redis_server.port
    with server(source, folder, installed, store='redis', state='state', plugin='true', redis=port) as address:
        async with ClientSession() as session:
            await asyncio.gather(*(stream(session, address, LOGS[0]) for _ in range(windows)))
    async with PersistentRedisKVS(connection=redis) as store:
        counted = await store.dump(prefix='Internal,writing_observer.writing_analysis.event_count,')
    assert sum(state['count'] for state in counted.values()) == windows * EVENTS
