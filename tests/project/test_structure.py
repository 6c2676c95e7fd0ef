"""The package keeps its structure: names where their users look, no private name used from outside, short files."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.sources import MODULES, ROOT, SOURCES, each, parsed

MAX_LINES = 450

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
"""What the runtime's users import, by module."""

PUBLIC_UNDERSCORES = {'_asdict', '_fields', '_make', '_replace', '_exit', '_version'}
"""Names that begin with an underscore and are documented: of named tuples, of ``os``, and a module of the package."""


@pytest.mark.parametrize('module', NAMES)
def test_the_runtimes_names_are_in_their_modules(module: str) -> None:
    found = importlib.import_module(f'learning_observer_kvs.{module}')
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


@each(MODULES)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@each(SOURCES)
def test_no_file_is_long(path: Path) -> None:
    lines = path.read_text().count('\n')
    assert lines <= MAX_LINES


def is_private(name: str) -> bool:
    return name.startswith('_') and not name.endswith('__') and name not in PUBLIC_UNDERSCORES


def defined_in(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives to something: also attributes of its classes and of its objects."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id='self' | 'cls'), attr=name, ctx=ast.Store()):
                yield name


@each(MODULES)
def test_a_module_uses_no_private_name_of_another_one(path: Path) -> None:
    tree = parsed(path)
    defined = set(defined_in(tree))
    used = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id='self' | 'cls') | ast.Call(func=ast.Name(id='super'))):
                pass
            case ast.Attribute(attr=name) if is_private(name) and name not in defined:
                used.append(f'{path.name}:{node.lineno} {ast.unparse(node)}')
            case ast.Call(func=ast.Name(id='getattr' | 'setattr'), args=[_, ast.Constant(value=str(name)), *_]) if (
                is_private(name)
            ):
                used.append(f'{path.name}:{node.lineno} {ast.unparse(node)}')
            case ast.ImportFrom(module=module, names=names):
                private = [name.name for name in names if is_private(name.name)]
                used += [f'{path.name}:{node.lineno} from {module} import {name}' for name in private]
    assert not used, '\n'.join(used)


SERVERLESS = [ROOT / 'tests' / 'conftest.py', *sorted((ROOT / 'tests' / 'unit').rglob('*.py'))]


@each(SERVERLESS)
def test_the_fast_tests_know_no_server_and_no_browser(path: Path) -> None:
    imported = {name for node in ast.walk(parsed(path)) for name in names_imported(node)}
    assert not {name for name in imported if name.startswith(('tests.support.redis', 'tests.support.browser'))}
    assert 'playwright' not in {name.partition('.')[0] for name in imported}


def names_imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [module, *(f'{module}.{name.name}' for name in names)]
    return []
