"""The integration: settings of the runtime, from its file, as a dictionary, and from PMSS rulesets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.redis_server import RedisServer, free_port
from tests.support.runtime_host import ROOT, STUB, Host


def test_settings_given_as_a_dictionary_work_in_a_running_loop_and_twice(host: Host) -> None:
    said = host.run(
        """
import learning_observer.kvs, learning_observer.prestartup, learning_observer.settings

async def notebook():
    learning_observer.settings.load_settings({'kvs': {'default': {'type': 'stub'}}})
    learning_observer.prestartup.startup_checks_and_init()
    await learning_observer.kvs.KVS().set('a', 1)
    store = learning_observer.kvs.KVS()
    learning_observer.kvs.kvs_startup_check()
    from learning_observer_kvs.kvs import KVS
    return [learning_observer.kvs.KVS is KVS, await learning_observer.kvs.KVS()['a'], KVS() is store]

say(asyncio.run(notebook()))
""",
        STUB,
    )
    assert said == [True, 1, True]


REDIS = """
app = start(*RULESETS)

async def main():
    async with served(app) as server:
        await server.feed('bob', [{'number': 1}])
        import learning_observer.kvs
        return await learning_observer.kvs.KVS()['External,host_writing.reducers.count,STUDENT:bob']

say(asyncio.run(main()))
"""


@pytest.mark.parametrize('rulesets', [[], ['local.pmss', 'creds.yaml'], ['local.pmss']])
def test_a_redis_password_works_from_any_settings_file(host: Host, rulesets: list[str]) -> None:
    with RedisServer('--requirepass', 'open') as server:
        (host.folder / 'local.pmss').write_text(
            f'redis_connection {{ redis_password: open; redis_port: {server.port}; }}\n'
        )
        said = host.run(
            f'RULESETS = {rulesets}\n' + REDIS,
            'kvs: {default: {type: redis}}\nredis_connection:\n  redis_host: 127.0.0.1\n'
            + ('' if rulesets else f'  redis_port: {server.port}\n  redis_password: open\n'),
        )
    assert said == {'events': 1}


def test_settings_given_as_a_dictionary_use_redis_connection_of_the_rulesets(
    host: Host, redis_server: RedisServer
) -> None:
    said = host.run(
        """
import learning_observer.kvs, learning_observer.prestartup, learning_observer.settings
learning_observer.settings.load_settings({'kvs': {'default': {'type': 'redis', 'prefix': 'notebook:'}}})
learning_observer.prestartup.startup_checks_and_init()

async def main():
    await learning_observer.kvs.KVS().set('a', 1)
    return await learning_observer.kvs.KVS()['a']

say(asyncio.run(main()))
""",
        f'redis_connection: {{redis_host: 127.0.0.1, redis_port: {redis_server.port}}}\n',
    )
    assert said == 1


def test_a_pmss_overlay_may_configure_a_store(host: Host) -> None:
    (host.folder / 'local.pmss').write_text('kvs memoization { type: stub; }\n')
    script = "start('local.pmss', 'creds.yaml')\nimport learning_observer.kvs\nsay(learning_observer.kvs.KVS.names())"
    assert sorted(host.run(script, 'kvs: {default: {type: stub}}\n')) == ['default', 'memoization']


def test_an_unreachable_redis_stops_the_start(host: Host) -> None:
    port = free_port()
    creds = f'kvs: {{default: {{type: redis}}}}\nredis_connection: {{redis_host: 127.0.0.1, redis_port: {port}}}\n'
    ended = host.end('start()', creds)
    assert ended.returncode == 1
    assert f'127.0.0.1:{port}' in ended.stdout
    assert 'Traceback' not in ended.stdout + ended.stderr


def test_a_null_password_means_no_password(host: Host, redis_server: RedisServer) -> None:
    creds = (
        'kvs: {default: {type: redis, prefix: "host:"}}\n'
        f'redis_connection: {{redis_port: {redis_server.port}, redis_password: null}}\n'
    )
    assert host.run('RULESETS = []\n' + REDIS, creds) == {'events': 1}


def test_checking_the_runtimes_settings_ignores_its_other_blocks() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            '-W',
            'error',
            '-m',
            'learning_observer_kvs.cli',
            'check',
            'tests/runtime/host/creds.yaml',
            '--json',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [
        (problem['id'], problem['location'], problem['subject']) for problem in json.loads(ended.stdout)['problems']
    ]
    assert found == [('KVS.W001', 'tests/runtime/host/creds.yaml:21', 'kvs.memoization.expiry')]
