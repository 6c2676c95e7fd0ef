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
    'jsontext': 0.5,
    'stream_analytics': 0,
    'stream_analytics.fields': 0.5,
    'stream_analytics.keys': 1,
    'yaml_places': 0.5,
    'prestartup': 1,
    'settings': 1,
    'study_log': 1,
    'stores': 0,
    'stores.options': 0,
    'stores.locks': 0,
    'stores.filenames': 0.5,
    'stores.base': 1,
    'stores.dumpfile': 1,
    'stores.folding': 1.5,
    'stores.memory': 2,
    'redis_connection': 2,
    'checks': 4,
    'kvs': 5,
    'stream_analytics.helpers': 6,
    'testing': 6,
    'replay': 7,
    'debug': 7,
    'plugin': 8,
    'cli': 9,
    '': 10,
}


def floor(module: str) -> float:
    """The floor of a module: its own, or that of the room it is in."""
    name = module.removeprefix('learning_observer_kvs').removeprefix('.')
    if name.startswith('stores.') and name not in FLOORS:
        return 3 if name.startswith('stores.redis') else 2
    while name and name not in FLOORS:
        name = name.rpartition('.')[0]
    return FLOORS[name]


def modules() -> list[str]:
    return sorted(
        '.'.join(('learning_observer_kvs', *path.relative_to(ROOT).with_suffix('').parts)).removesuffix('.__init__')
        for path in ROOT.rglob('*.py')
    )


def imported(module: str) -> set[str]:
    """Every module of the package that a module imports, lazily too."""
    path = ROOT.joinpath(*module.split('.')[1:])
    tree = ast.parse((path / '__init__.py' if path.is_dir() else path.with_suffix('.py')).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f'{node.module}.{alias.name}' for alias in node.names}
            found.update(inner & set(modules()) or {node.module})
    return {name for name in found if name.startswith('learning_observer_kvs')}


@pytest.mark.parametrize('module', modules())
def test_imports_go_to_a_lower_floor(module: str) -> None:
    for other in imported(module):
        same_room = floor(other) == floor(module) and other.rpartition('.')[0].startswith(
            module.rpartition('.')[0].removesuffix('.')
        )
        assert floor(other) < floor(module) or same_room, f'{module} imports {other}'


@pytest.mark.parametrize('module', modules())
def test_every_module_says_what_it_is(module: str) -> None:
    assert importlib.import_module(module).__doc__


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
