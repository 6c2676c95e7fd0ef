"""At home in a server of the runtime: whatever the order of loading, its store, checks and reducers are ours.

Most tests start the host that stands beside them (``tests/runtime/host``) in a process of its own.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import unused_port

import learning_observer_kvs
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent.parent
RUNTIME, MODULES = ROOT / 'tests/runtime/host/runtime', ROOT / 'tests/runtime/host/modules'
ORDERS = pytest.mark.parametrize('order', ['ours first', 'ours last'])


class Host:
    """Runs scripts beside the host.

    Args:
        folder: the working directory.
        installed: where this package is installed.
    """

    def __init__(self, folder: Path, installed: Path) -> None:
        self.folder = folder
        self.installed = installed

    def run(self, script: str, creds: str, order: str = 'ours first') -> Any:
        """What a script prints last, as JSON; it finds ``creds.yaml``, and ``start`` and ``feed`` defined."""
        ended = self.end(script, creds, order)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])

    def end(self, script: str, creds: str, order: str = 'ours first') -> subprocess.CompletedProcess[str]:
        """The ended process of a script."""
        (self.folder / 'creds.yaml').write_text(creds)
        path = [self.installed, RUNTIME, MODULES] if order == 'ours first' else [RUNTIME, MODULES, self.installed]
        return subprocess.run(
            [sys.executable, '-W', 'error', *PKG_RESOURCES_IS_OLD, '-c', PRELUDE + script],
            cwd=self.folder,
            env=os.environ | {'PYTHONPATH': os.pathsep.join(map(str, path))},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


PKG_RESOURCES_IS_OLD = [
    '-W',
    'ignore:pkg_resources is deprecated',
    '-W',
    'ignore:Deprecated call to `pkg_resources',
]

PRELUDE = """
import asyncio, json, sys
from aiohttp import ClientSession, web

def start(*rulesets):
    from learning_observer import main
    return main.create_app('creds.yaml', rulesets)

class served:
    def __init__(self, app):
        self.runner = web.AppRunner(app)
    async def __aenter__(self):
        await self.runner.setup()
        site = web.TCPSite(self.runner, '127.0.0.1', 0)
        await site.start()
        self.url = 'http://127.0.0.1:%d' % self.runner.addresses[0][1]
        self.session = ClientSession()
        return self
    async def __aexit__(self, *error):
        await self.session.close()
        await self.runner.cleanup()
    async def feed(self, student, events):
        async with self.session.ws_connect(f'{self.url}/wsapi/in/{student}') as socket:
            for event in events:
                await socket.send_json(event)
                assert await socket.receive_str() == 'done'

def say(value):
    print(json.dumps(value))
"""


@pytest.fixture
def host(tmp_path: Path, installed: Path) -> Host:
    return Host(tmp_path, installed)


STUB = 'kvs: {default: {type: stub}, memoization: {type: stub}}\n'

FEED = """
EVENTS = [{'number': n, 'word': None if n % 5 == 0 else f'w{n % 7}', 'doc_id': f'd{n % 2}'} for n in range(40)]

async def main():
    async with served(start()) as server:
        await server.feed('bob', EVENTS)
        await server.feed('ls-Jos%C3%A9', EVENTS[:7])
        import learning_observer.kvs
        return await learning_observer.kvs.KVS().dump()

say(asyncio.run(main()))
"""


@ORDERS
def test_the_hosts_names_are_ours_once_it_has_started(host: Host, order: str) -> None:
    said = host.run(
        """
app = start()
import learning_observer.cache, learning_observer.kvs, learning_observer.module_loader
import learning_observer_kvs
from learning_observer_kvs.stores.memory import InMemoryKVS
KVS = learning_observer_kvs.KVS
say({
    'the router is ours': learning_observer.kvs.KVS is KVS,
    'memoization is ours': learning_observer.cache.cache_backend is KVS.memoization(),
    'google_cache is ours': isinstance(learning_observer.kvs.KVS.google_cache(), InMemoryKVS),
    'our module is loaded once': [point.module_name for point in
        learning_observer.module_loader.pkg_resources.iter_entry_points('lo_modules')
        ].count('learning_observer_kvs.module') == 1,
    'handlers find it': app['kvs'] is app[learning_observer_kvs.KVS_KEY] is KVS,
})
""",
        'kvs: {default: {type: stub}, memoization: {type: stub}, google_cache: {type: stub}}\n',
        order,
    )
    assert all(said.values()), said


@ORDERS
def test_its_reducers_leave_the_same_state_as_in_its_own_store(host: Host, order: str) -> None:
    its_own = host.run(FEED, STUB + 'kvs_plugin: false\n', order)
    assert its_own['Internal,host_writing.reducers.count,STUDENT:bob'] == {'count': 40}
    assert its_own['Internal,essays.now_and_then,STUDENT:bob'] == [39]
    assert its_own['Internal,host_writing.reducers.moments,STUDENT:bob'] == {'at': {'0': 39, '1': 37, '2': 38}}
    assert host.run(FEED, STUB, order) == its_own


@ORDERS
@pytest.mark.parametrize('store', ['stub', 'sqlite', 'filesystem'])
def test_two_sockets_of_a_student_lose_no_event(host: Host, order: str, store: str) -> None:
    said = host.run(
        """
async def main():
    async with served(start()) as server:
        await asyncio.gather(*(server.feed('bob', [{'number': n} for n in range(50)]) for _ in range(2)))
        import learning_observer.kvs
        return await learning_observer.kvs.KVS()['Internal,host_writing.reducers.count,STUDENT:bob']

say(asyncio.run(main()))
""",
        f'kvs: {{default: {{type: {store}, path: state}}}}\n',
        order,
    )
    assert said == {'count': 100}


@ORDERS
def test_only_reducers_that_can_be_folded_are(host: Host, order: str) -> None:
    said = host.run(
        """
start()
import learning_observer.module_loader
say({entry['function'].__name__: hasattr(entry['function'], 'folded')
     for entry in learning_observer.module_loader.REDUCERS})
""",
        STUB,
        order,
    )
    left = {'of_a_class': False, 'of_a_set': False}
    assert said == {'count': True, 'words': True, 'often_none': True, 'moments': True} | left


def test_functions_that_are_decorated_after_the_start_are_folded_too(host: Host) -> None:
    said = host.run(
        """
start()
from learning_observer.stream_analytics.helpers import kvs_pipeline, student_event_reducer

@kvs_pipeline(null_state=0, module_override='notebook', qualname_override='cell')
async def one(event, state):
    return state + event, state + event

@student_event_reducer()
async def two(event, state):
    return event, False

async def main():
    process_event = await one(None)
    await asyncio.gather(*(process_event(1) for _ in range(10)))
    await (await two({'auth': {'safe_user_id': 'bob'}}))('last')
    import learning_observer.kvs
    return await learning_observer.kvs.KVS().dump()

say(asyncio.run(main()))
""",
        STUB,
    )
    assert said == {
        'Internal,notebook.cell,STUDENT:[guest]': 10,
        'External,notebook.cell,STUDENT:[guest]': 10,
        'Internal,__main__.two,STUDENT:bob': 'last',
    }


@ORDERS
def test_a_default_store_of_others_gets_its_events_by_the_hosts_own_pipeline(host: Host, order: str) -> None:
    said = host.run(
        """
app = start()
import learning_observer.kvs
learning_observer.kvs.KVS.add_item('default', learning_observer.kvs.InMemoryKVS)

async def main():
    async with served(app) as server:
        await server.feed('bob', [{'number': 1}])
    return learning_observer.kvs.OBJECTS

say(asyncio.run(main()))
""",
        STUB,
        order,
    )
    assert said['External,host_writing.reducers.count,STUDENT:bob'] == {'events': 1}


WRONG = """config: {run_mode: dev}
kvs:
  default:
    type: redsi
  memoization:
    type: filesystem
"""


@ORDERS
def test_a_wrong_configuration_is_told_by_the_host_once_with_its_places(host: Host, order: str) -> None:
    ended = host.end('start()', WRONG, order)
    assert ended.returncode == 1
    assert 'Traceback' not in ended.stdout + ended.stderr
    assert ended.stdout.count("creds.yaml:4  kvs.default.type is 'redsi'") == 1
    assert 'creds.yaml:5  kvs.memoization.path is missing' in ended.stdout


@pytest.mark.parametrize(
    ('creds', 'fault'),
    [
        ('config: {run_mode: dev}\n', 'kvs is missing'),
        ('kvs: {memoization: {type: stub}}\n', 'kvs.default is missing'),
        ('kvs_plugin: "off"\n' + STUB, "kvs_plugin is 'off'"),
        ('redis_connection: {redis_port: abc}\n' + STUB, "redis_connection.redis_port is 'abc'"),
    ],
)
def test_what_is_missing_or_unclear_is_told_too(host: Host, creds: str, fault: str) -> None:
    ended = host.end('start()', creds)
    assert ended.returncode == 1
    assert fault in ended.stdout
    assert 'Traceback' not in ended.stdout + ended.stderr


def test_the_kvs_block_may_be_an_array_of_pairs(host: Host) -> None:
    creds = 'kvs: [[default, {type: stub}], [memoization, {type: stub}]]\n'
    script = 'start()\nimport learning_observer.kvs\nsay(learning_observer.kvs.KVS.names())'
    assert host.run(script, creds) == ['default', 'memoization']


def test_a_router_built_by_the_hosts_name_is_ours_and_fails_as_the_host_expects(host: Host) -> None:
    said = host.run(
        """
start()
import learning_observer.kvs, learning_observer.prestartup, learning_observer_kvs.kvs
router = learning_observer.kvs.KVSRouter(items={'default': {'type': 'stub'}}.items())
said = [isinstance(router, learning_observer_kvs.kvs.KVSRouter)]
try:
    learning_observer.kvs.KVSRouter(items=[('default', {'type': 'stub', 'nonsense': 1})])
except learning_observer.prestartup.StartupCheck as failure:
    said.append('nonsense' in str(failure) and len(failure.problems))
say(said)
""",
        STUB,
    )
    assert said == [True, 1]


def test_without_memoization_the_host_goes_on_without_it(host: Host) -> None:
    script = 'start()\nimport learning_observer.cache\nsay(learning_observer.cache.cache_backend)'
    assert host.run(script, 'kvs: {default: {type: stub}}\n') is None


@ORDERS
def test_the_switch_leaves_the_host_as_it_was(host: Host, order: str) -> None:
    said = host.run(
        """
start()
import learning_observer.cache, learning_observer.kvs, learning_observer.module_loader, learning_observer.routes
say([type(learning_observer.kvs.KVS).__module__, type(learning_observer.cache.cache_backend).__module__,
     learning_observer.kvs.kvs_startup_check.__module__, learning_observer.routes.register_debug_routes.__module__,
     any(hasattr(entry['function'], 'folded') for entry in learning_observer.module_loader.REDUCERS)])
""",
        STUB + 'kvs_plugin: false\n',
        order,
    )
    assert said == ['learning_observer.kvs'] * 3 + ['learning_observer.routes', False]


def test_the_switch_works_as_its_page_says(host: Host) -> None:
    script = 'start()\nimport learning_observer.kvs\nsay(type(learning_observer.kvs.KVS).__module__)'
    assert host.run(script, (ROOT / 'docs/examples/switched_off.yaml').read_text()) == 'learning_observer.kvs'


def test_reducers_with_our_decorators_serve_the_host(host: Host) -> None:
    said = host.run(
        f"""
sys.path.append({str(ROOT / 'docs/examples')!r})
app = start()
import learning_observer.kvs, learning_observer.module_loader, learning_observer.stream_analytics, runtime_module
learning_observer.module_loader.REDUCERS[:] = [entry | {{'context': 'writing'}} for entry in runtime_module.REDUCERS]
learning_observer.stream_analytics.init()
COMMAND = {{'ty': 'is', 'ibi': 1, 's': 'x' * 40}}
EVENT = {{'event': 'google_docs_save', 'doc_id': 'd', 'bundles': [{{'commands': [COMMAND]}}]}}

async def main():
    async with served(app) as server:
        await server.feed('bob', [EVENT, EVENT])
        return await learning_observer.kvs.KVS()['External,pastes.pastes,EventField.doc_id:d,STUDENT:bob']

say(asyncio.run(main()))
""",
        STUB,
    )
    assert said == {'pastes': 2, 'longest': 40}


@pytest.mark.parametrize(
    ('switch', 'whose'), [('true', 'learning_observer_kvs.kvs'), ('false', 'learning_observer.kvs')]
)
def test_the_module_may_be_imported_before_the_settings_are_loaded(host: Host, switch: str, whose: str) -> None:
    said = host.run(
        """
import learning_observer_kvs.module
start()
import learning_observer.kvs, learning_observer.prestartup
say([type(learning_observer.kvs.KVS).__module__, len(learning_observer.prestartup.STARTUP_CHECKS)])
""",
        STUB + f'kvs_plugin: {switch}\n',
    )
    assert said == [whose, 3]


LATE = """
import learning_observer.module_loader
learning_observer.module_loader.LOADED = True
app = start()
import learning_observer.cache, learning_observer.kvs, learning_observer.prestartup, learning_observer.stream_analytics
from host_writing.module import REDUCERS
learning_observer.module_loader.REDUCERS.extend(map(dict, REDUCERS))
assert type(learning_observer.kvs.KVS).__module__ == 'learning_observer.kvs'
"""


def test_a_late_load_catches_up(host: Host) -> None:
    said = host.run(
        LATE
        + """
import learning_observer_kvs.module
from learning_observer_kvs.kvs import KVS
reducers = learning_observer.stream_analytics.REDUCER_MODULES['writing']
say([learning_observer.kvs.KVS is KVS, learning_observer.cache.cache_backend is KVS.memoization(),
     [hasattr(entry['reducer'], 'folded') for entry in reducers]])
""",
        STUB,
    )
    assert said == [True, True, [True, True, True, True]]


def test_a_late_load_with_a_fault_leaves_the_host_as_it_was(host: Host) -> None:
    said = host.run(
        LATE
        + """
try:
    import learning_observer_kvs.module
except learning_observer.prestartup.StartupCheck as failure:
    say([str(failure).count('expirry'), type(learning_observer.kvs.KVS).__module__,
         learning_observer.kvs.KVSRouter.__module__])
""",
        'kvs: {default: {type: stub}, other: {type: stub, expirry: 3}}\n',
    )
    assert said == [1, 'learning_observer.kvs', 'learning_observer.kvs']


def test_settings_given_as_a_dictionary_are_taken_in_a_running_loop_and_twice(host: Host) -> None:
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


def test_checks_and_init_functions_of_ours_run_in_the_host(host: Host) -> None:
    said = host.run(
        """
from learning_observer_kvs import prestartup
said = []
@prestartup.register_startup_check
async def check(): said.append('check')
@prestartup.register_init_function
def init(): said.append('init')
start()
import learning_observer.kvs
learning_observer.kvs.kvs_startup_check()
say(said)
""",
        STUB,
    )
    assert said == ['check', 'init']


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
def test_a_password_of_redis_works_wherever_it_was_said(host: Host, rulesets: list[str]) -> None:
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


def test_settings_given_as_a_dictionary_take_redis_from_the_rulesets(host: Host, redis_server: RedisServer) -> None:
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


def test_an_overlay_of_pmss_may_name_a_store(host: Host) -> None:
    (host.folder / 'local.pmss').write_text('kvs memoization { type: stub; }\n')
    script = "start('local.pmss', 'creds.yaml')\nimport learning_observer.kvs\nsay(learning_observer.kvs.KVS.names())"
    assert sorted(host.run(script, 'kvs: {default: {type: stub}}\n')) == ['default', 'memoization']


def test_a_redis_that_is_not_there_is_told_before_the_host_starts(host: Host) -> None:
    port = unused_port()
    creds = f'kvs: {{default: {{type: redis}}}}\nredis_connection: {{redis_host: 127.0.0.1, redis_port: {port}}}\n'
    ended = host.end('start()', creds)
    assert ended.returncode == 1
    assert f'127.0.0.1:{port}' in ended.stdout
    assert 'Traceback' not in ended.stdout + ended.stderr


def test_a_null_password_is_none(host: Host, redis_server: RedisServer) -> None:
    creds = (
        'kvs: {default: {type: redis, prefix: "host:"}}\n'
        f'redis_connection: {{redis_port: {redis_server.port}, redis_password: null}}\n'
    )
    assert host.run('RULESETS = []\n' + REDIS, creds) == {'events': 1}


DEBUG = """
async def main():
    async with served(start()) as server:
        import learning_observer_kvs
        closed = []
        async def close(): closed.append(True)
        learning_observer_kvs.KVS().close = close
        stranger = await server.session.get(server.url + '/debug/kvs', allow_redirects=False)
        admin = await server.session.get(server.url + '/debug/kvs', headers={'Cookie': 'role=ADMIN'})
        its_own = await server.session.get(server.url + '/admin/headers', headers={'Cookie': 'role=ADMIN'})
        said = [stranger.status, stranger.headers['Location'], admin.status,
                [store['name'] for store in (await admin.json())['stores']], its_own.status, len(closed)]
    return [*said, len(closed)]

say(asyncio.run(main()))
"""


@pytest.mark.parametrize('mode', ['dev', 'deploy'])
def test_the_debug_pages_are_for_the_hosts_administrators_and_its_end_closes_the_stores(host: Host, mode: str) -> None:
    said = host.run(DEBUG, STUB + f'config: {{run_mode: {mode}}}\n')
    assert said == [302, '/?back_to=/debug/kvs', 200, ['default', 'memoization'], 200, 0, 1]


def test_nothing_else_of_the_package_imports_the_runtime() -> None:
    package = Path(learning_observer_kvs.__file__).parent
    importing = set()
    for path in package.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(name.split('.')[0] == 'learning_observer' or name.endswith('kvs.module') for name in names):
                importing.add(path.name)
    assert importing == {'module.py'}


def test_checking_a_servers_settings_leaves_its_other_blocks_alone() -> None:
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
    found = [(problem['id'], problem['location'], problem['subject']) for problem in json.loads(ended.stdout)]
    assert found == [('KVS.W001', 'tests/runtime/host/creds.yaml:21', 'kvs.memoization.expiry')]
