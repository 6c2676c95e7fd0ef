"""The house stands: imports go to a lower floor only, and every public name is where its users look."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import learning_observer_kvs

ROOT = Path(learning_observer_kvs.__file__).parent


def modules() -> list[str]:
    return sorted(
        '.'.join(('learning_observer_kvs', *path.relative_to(ROOT).with_suffix('').parts)).removesuffix('.__init__')
        for path in ROOT.rglob('*.py')
    )


def tree_of(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split('.')[1:])
    return ast.parse((path / '__init__.py' if path.is_dir() else path.with_suffix('.py')).read_text())


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
