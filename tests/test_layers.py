"""The house stands: imports go to a lower floor only, and every public name is where its users look."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import learning_observer_kvs

ROOT = Path(learning_observer_kvs.__file__).parent

FLOORS = {
    '_version': 0,
    'errors': 0,
    'loops': 0,
    'stores': 0,
    'masking': 0,
    'stores.finding': 0,
    'stores.options': 0.1,
    'stores.guesses': 0,
    'stream_analytics': 0,
    'stream_analytics.fields': 0.1,
    'jsontext': 0.1,
    'yaml_places': 0.1,
    'stores.key': 0.1,
    'stores.filenames': 0.2,
    'stores.dumpfile': 0.2,
    'stores.events': 0.2,
    'stores.locks': 0.2,
    'stores.folding': 0.3,
    'stores.walks': 0.2,
    'stores.folder_lock': 0.2,
    'stores.journal': 0.3,
    'stores.write_behind': 0.4,
    'stores.base': 1,
    'stores.gathering': 1.1,
    'stores.writer': 1.2,
    'stores.sqlite_batch': 1.2,
    'stores.sqlite_file': 1.3,
    'stores.filesystem_files': 1.2,
    'store_types': 1.5,
    'stream_analytics.keys': 1,
    'prestartup': 1,
    'settings': 1,
    'problems': 0.5,
    'setting_files': 0.6,
    'pmss_overlay': 0.7,
    'study_log': 1,
    'stores.memory': 2,
    'stores.filesystem': 2,
    'stores.sqlite': 2,
    'redis_settings': 1,
    'redis_contradictions': 1.1,
    'redis_errors': 1,
    'redis_nodes': 1.1,
    'redis_connection': 2,
    'stores.redis_scripts': 2,
    'stores.redis_names': 2.4,
    'stores.redis_batches': 2.5,
    'stores.redis_health': 2.6,
    'stores.redis_cluster': 2.6,
    'stores.redis': 3,
    'live_checks': 4,
    'checks': 4,
    'kvs': 5,
    'stream_analytics.helpers': 6,
    'testing': 6,
    'replay': 7,
    'copying': 4,
    'debug': 7,
    'plugin': 8,
    'cli': 9,
    'module': 9,
    '': 10,
}
"""The number is the floor; ``''`` is the package itself. What is not named stands where the room around it does."""


def floor(module: str) -> float:
    """The floor of a module: its own, or that of the room it is in."""
    name = module.removeprefix('learning_observer_kvs').removeprefix('.')
    while name not in FLOORS:
        name = name.rpartition('.')[0]
    return FLOORS[name]


def modules() -> list[str]:
    return sorted(
        '.'.join(('learning_observer_kvs', *path.relative_to(ROOT).with_suffix('').parts)).removesuffix('.__init__')
        for path in ROOT.rglob('*.py')
    )


def tree_of(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split('.')[1:])
    return ast.parse((path / '__init__.py' if path.is_dir() else path.with_suffix('.py')).read_text())


def imported(module: str) -> set[str]:
    """Every module of the package that a module imports, lazily too; not what is for type checkers alone."""
    tree = tree_of(module)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
        for inner in node.body
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node not in for_types:
            inner = {f'{node.module}.{alias.name}' for alias in node.names}
            found.update(inner & set(modules()) or {node.module})
    return {name for name in found if name.startswith('learning_observer_kvs')}


@pytest.mark.parametrize('module', modules())
def test_imports_go_to_a_lower_floor(module: str) -> None:
    room = '.'.join(module.split('.')[:2])
    for other in imported(module):
        same_room = floor(other) == floor(module) and other.startswith(room)
        assert floor(other) < floor(module) or same_room, f'{module} imports {other}'


@pytest.mark.parametrize('module', modules())
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree_of(module))


NAMES = {
    'kvs': (
        'KVS KVSRouter KVS_MAP InMemoryKVS EphemeralRedisKVS PersistentRedisKVS FilesystemKVS SQLiteKVS '
        'kvs_startup_check clear'
    ),
    'prestartup': 'StartupCheck register_startup_check register_init_function startup_checks_and_init',
    'redis_connection': 'connect connection get mget set delete keys',
    'settings': 'load_settings settings',
    'stream_analytics.fields': 'KeyField EventField Scope KeyStateType',
    'stream_analytics.helpers': (
        'kvs_pipeline student_event_reducer make_key make_key_from_json fully_qualified_function_name '
        'KeyField EventField Scope KeyStateType'
    ),
}


@pytest.mark.parametrize('module', NAMES)
def test_the_runtimes_names_are_in_their_places(module: str) -> None:
    place = importlib.import_module(f'learning_observer_kvs.{module}')
    assert [name for name in NAMES[module].split() if not hasattr(place, name)] == []
