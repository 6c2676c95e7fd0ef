"""The integration, at start-up: whatever the order of loading, the router, stores and checks are ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import learning_observer_kvs
from tests.support.runtime_host import ORDERS, ROOT, STUB, Host


@ORDERS
def test_after_the_start_the_runtimes_router_and_stores_are_ours(host: Host, order: str) -> None:
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
def test_a_start_says_where_the_stores_are_and_which_reducers_run_through_them_and_why_not_the_others(
    host: Host, order: str
) -> None:
    ended = host.end('start()', 'kvs: {default: {type: sqlite, path: state}, memoization: {type: stub}}\n', order)
    stores, reducers, of_a_class, of_a_set = ended.stderr.splitlines()
    assert stores == (
        f'Key-value stores: default: sqlite, {host.folder}/state; memoization: stub, memory of this process'
    )
    assert reducers == '5 of 7 reducers run through the key-value store.'
    assert of_a_class.startswith('The reducer host_writing.reducers.of_a_class is left to the server: <KeyField.CLASS')
    assert of_a_set.startswith('The reducer host_writing.reducers.of_a_set is left to the server: value: set has no')


def test_a_server_with_logging_of_its_own_has_these_lines_there_alone(host: Host) -> None:
    ended = host.end('import logging; logging.basicConfig(level="INFO", format="LOG %(message)s")\nstart()', STUB)
    lines = ended.stderr.splitlines()
    assert [line.partition(':')[0][:17] for line in lines] == [
        'LOG Key-value sto',
        'LOG 5 of 7 reduce',
        *['LOG The reducer h'] * 2,
    ]


def test_a_reducer_that_is_not_a_function_is_left_to_the_server_and_named(host: Host) -> None:
    ended = host.end(
        """
import functools
import learning_observer.module_loader as loader
load = loader.load_modules

def load_more():
    if not loader.LOADED:
        load()
        loader.REDUCERS.append({'context': 'writing', 'function': functools.partial(print), 'scope': ()})

loader.load_modules = load_more
start()
""",
        STUB,
    )
    assert '5 of 8 reducers run' in ended.stderr
    assert 'functools.partial(' in ended.stderr
    assert ended.returncode == 0


WRONG = """config: {run_mode: dev}
kvs:
  default:
    type: redsi
  memoization:
    type: filesystem
"""


@ORDERS
def test_the_runtime_reports_a_wrong_configuration_once_with_locations(host: Host, order: str) -> None:
    ended = host.end('start()', WRONG, order)
    assert ended.returncode == 1
    assert 'Traceback' not in ended.stdout + ended.stderr
    assert ended.stdout.count("creds.yaml:4  kvs.default.type is 'redsi'") == 1
    assert 'creds.yaml:5  kvs.memoization.path is missing' in ended.stdout


@pytest.mark.parametrize(
    ('creds', 'message'),
    [
        ('config: {run_mode: dev}\n', 'kvs is missing'),
        ('kvs: {memoization: {type: stub}}\n', 'kvs.default is missing'),
        ('kvs_plugin: "off"\n' + STUB, "kvs_plugin is 'off'"),
        ('kvs_calm_collector: 1\n' + STUB, 'kvs_calm_collector is 1'),
        ('redis_connection: {redis_port: abc}\n' + STUB, "redis_connection.redis_port is 'abc'"),
    ],
)
def test_the_runtime_reports_missing_and_invalid_settings(host: Host, creds: str, message: str) -> None:
    ended = host.end('start()', creds)
    assert ended.returncode == 1
    assert message in ended.stdout
    assert 'Traceback' not in ended.stdout + ended.stderr


def test_the_kvs_block_may_be_an_array_of_pairs(host: Host) -> None:
    creds = 'kvs: [[default, {type: stub}], [memoization, {type: stub}]]\n'
    script = 'start()\nimport learning_observer.kvs\nsay(learning_observer.kvs.KVS.names())'
    assert host.run(script, creds) == ['default', 'memoization']


def test_a_router_made_under_the_runtimes_name_is_ours_and_raises_the_runtimes_error(host: Host) -> None:
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


def test_without_a_memoization_store_the_runtime_has_no_cache(host: Host) -> None:
    script = 'start()\nimport learning_observer.cache\nsay(learning_observer.cache.cache_backend)'
    assert host.run(script, 'kvs: {default: {type: stub}}\n') is None


@ORDERS
def test_the_setting_kvs_plugin_leaves_the_runtime_as_it_was(host: Host, order: str) -> None:
    said = host.run(
        """
start()
import learning_observer.cache, learning_observer.kvs, learning_observer.module_loader, learning_observer.routes
say([type(learning_observer.kvs.KVS).__module__, type(learning_observer.cache.cache_backend).__module__,
     learning_observer.kvs.kvs_startup_check.__module__, learning_observer.routes.register_debug_routes.__module__,
     any(hasattr(entry['function'], 'kvs_plugin') for entry in learning_observer.module_loader.REDUCERS)])
""",
        STUB + 'kvs_plugin: false\n',
        order,
    )
    assert said == ['learning_observer.kvs'] * 3 + ['learning_observer.routes', False]


def test_the_example_of_the_setting_works(host: Host) -> None:
    script = 'start()\nimport learning_observer.kvs\nsay(type(learning_observer.kvs.KVS).__module__)'
    example = ROOT / 'docs/examples/install-into-learning-observer/switched_off.yaml'
    assert host.run(script, example.read_text()) == 'learning_observer.kvs'


@pytest.mark.parametrize(
    ('switch', 'module'), [('true', 'learning_observer_kvs.kvs'), ('false', 'learning_observer.kvs')]
)
def test_the_module_may_be_imported_before_the_settings_are_loaded(host: Host, switch: str, module: str) -> None:
    said = host.run(
        """
import learning_observer_kvs.module
start()
import learning_observer.kvs, learning_observer.prestartup
say([type(learning_observer.kvs.KVS).__module__, len(learning_observer.prestartup.STARTUP_CHECKS)])
""",
        STUB + f'kvs_plugin: {switch}\n',
    )
    assert said == [module, 3]


LATE = """
import learning_observer.module_loader
learning_observer.module_loader.LOADED = True
app = start()
import learning_observer.cache, learning_observer.kvs, learning_observer.prestartup, learning_observer.stream_analytics
from host_writing.module import REDUCERS
learning_observer.module_loader.REDUCERS.extend(map(dict, REDUCERS))
assert type(learning_observer.kvs.KVS).__module__ == 'learning_observer.kvs'
"""


def test_a_late_import_repeats_the_start_up(host: Host) -> None:
    said = host.run(
        LATE
        + """
import learning_observer_kvs.module
from learning_observer_kvs.kvs import KVS
reducers = learning_observer.stream_analytics.REDUCER_MODULES['writing']
say([learning_observer.kvs.KVS is KVS, learning_observer.cache.cache_backend is KVS.memoization(),
     [hasattr(entry['reducer'], 'kvs_plugin') for entry in reducers]])
""",
        STUB,
    )
    assert said == [True, True, [True] * 5]


def test_a_late_import_with_wrong_settings_leaves_the_runtime_as_it_was(host: Host) -> None:
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


def test_our_checks_and_init_functions_run_in_the_runtime(host: Host) -> None:
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


DEBUG = """
async def main():
    async with served(start()) as server:
        import learning_observer_kvs
        closed = []
        async def close(): closed.append(True)
        learning_observer_kvs.KVS().close = close
        anonymous = await server.session.get(server.url + '/debug/kvs', allow_redirects=False)
        admin = await server.session.get(server.url + '/debug/kvs', headers={'Cookie': 'role=ADMIN'})
        its_own = await server.session.get(server.url + '/admin/headers', headers={'Cookie': 'role=ADMIN'})
        said = [anonymous.status, anonymous.headers['Location'], admin.status,
                [store['name'] for store in (await admin.json())['stores']], its_own.status, len(closed)]
    return [*said, len(closed)]

say(asyncio.run(main()))
"""


@pytest.mark.parametrize('mode', ['dev', 'deploy'])
def test_the_debug_pages_are_for_the_runtimes_administrators_and_its_end_closes_the_stores(
    host: Host, mode: str
) -> None:
    said = host.run(DEBUG, STUB + f'config: {{run_mode: {mode}}}\n')
    assert said == [302, '/?back_to=/debug/kvs', 200, ['default', 'memoization'], 200, 0, 1]


@pytest.mark.parametrize(('settings', 'is_calm'), [('', True), ('kvs_calm_collector: false\n', False)])
def test_while_the_server_runs_the_collector_leaves_out_what_was_loaded(
    host: Host, settings: str, is_calm: bool
) -> None:
    said = host.run(
        """
import gc

def collector():
    return gc.get_freeze_count() > 10_000, gc.get_threshold()

async def serve():
    before = collector()
    async with served(start()):
        there = collector()
    return [before[0], there[0], there[1] == before[1], collector() == before]

say(asyncio.run(serve()))
""",
        STUB + settings,
    )
    assert said == [False, is_calm, not is_calm, True]


def test_servers_one_after_the_other_do_not_see_what_a_stub_held_and_a_second_application_needs_its_own_router(
    host: Host,
) -> None:
    said = host.run(
        """
import learning_observer_kvs
from learning_observer_kvs import KVSRouter, StartupFailed

async def serve(said):
    async with served(start()) as server:
        store = learning_observer_kvs.KVS()
        said.append(await store.keys())
        await store.set('k', 1)
        for options in ({}, {'router': KVSRouter()}):
            app = web.Application()
            learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}}, **options)
            runner = web.AppRunner(app)
            try:
                await runner.setup()
                said.append(await app['kvs']().keys())
            except StartupFailed as failure:
                said.append('kvs.memoization' in str(failure))
            await runner.cleanup()
        said.append(await store.keys())
    return said

say([asyncio.run(serve([])) for _ in range(2)])
""",
        STUB,
    )
    assert said == [[[], True, [], ['k']]] * 2


def test_the_runtime_does_not_take_the_stores_from_an_application_that_runs_with_other_settings(host: Host) -> None:
    said = host.run(
        """
import learning_observer_kvs
from learning_observer import main

async def serve():
    app = web.Application()
    learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}})
    runner = web.AppRunner(app)
    await runner.setup()
    await app['kvs']().set('k', 1)
    try:
        start()
    except SystemExit as end:
        said = [end.code, await app['kvs']()['k'], app['kvs'].names()]
    await runner.cleanup()
    return said

say(asyncio.run(serve()))
""",
        STUB,
    )
    assert said == [1, 1, ['default']]


def test_no_other_module_of_the_package_imports_the_runtime() -> None:
    package = Path(learning_observer_kvs.__file__).parent
    importing = set()
    for path in package.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(name.split('.')[0] == 'learning_observer' or name.endswith('kvs.module') for name in names):
                importing.add(path.name)
    assert importing == {'module.py'}
