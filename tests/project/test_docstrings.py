"""Every public call of the package documents its arguments; the form of docstrings is checked by ruff."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.project.sources import MODULES, PACKAGE, Function, each, parsed


def public_functions(node: ast.Module | ast.ClassDef, prefix: str = '') -> Iterator[tuple[str, Function]]:
    """Yield the functions and methods without a leading underscore, and the names that lead to them."""
    for child in node.body:
        if isinstance(child, Function) and not child.name.startswith('_'):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef) and not child.name.startswith('_'):
            yield from public_functions(child, f'{prefix}{child.name}.')


def parameters(function: Function) -> set[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [star for star in (arguments.vararg, arguments.kwarg) if star]
    if named and named[0].arg in ('self', 'cls'):
        named = named[1:]
    return {argument.arg for argument in (*named, *starred)}


def explains_itself(function: Function) -> bool:
    """Whether it is a command, whose text is its help; a property's setter; or a test, which states a fact."""
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    return function.name.startswith('test_') or any('.command(' in text or '.setter' in text for text in decorators)


def inherits_its_documentation(path: Path, name: str) -> bool:
    """Whether it overrides a method that documents its arguments."""
    owner, _, method = name.rpartition('.')
    if not owner:
        return False
    module = '.'.join(('learning_observer_kvs', *path.relative_to(PACKAGE).with_suffix('').parts))
    cls: Any = importlib.import_module(module.removesuffix('.__init__'))
    for part in owner.split('.'):
        cls = getattr(cls, part)
    return any('Args:' in (getattr(getattr(base, method, None), '__doc__', '') or '') for base in cls.__mro__[1:])


@each(MODULES)
def test_every_public_call_documents_its_arguments(path: Path) -> None:
    silent = [
        f'{path.name}:{function.lineno} {name}({", ".join(sorted(parameters(function)))})'
        for name, function in public_functions(parsed(path))
        if parameters(function) and 'Args:' not in (ast.get_docstring(function) or '')
        if not explains_itself(function) and not inherits_its_documentation(path, name)
    ]
    assert not silent, '\n'.join(silent)


@each(MODULES)
def test_no_docstring_names_an_argument_that_is_not_there(path: Path) -> None:
    wrong = [
        f'{path.name}:{function.lineno} {name}: {argument}'
        for name, function in public_functions(parsed(path))
        for argument in documented(ast.get_docstring(function) or '')
        if argument not in parameters(function)
    ]
    assert not wrong, '\n'.join(wrong)


def documented(docstring: str) -> list[str]:
    """The names that the lines of ``Args:`` begin with; several may share a line."""
    _, _, section = docstring.partition('Args:\n')
    names: list[str] = []
    for line in section.splitlines():
        if line.strip() and not line.startswith('    '):
            break
        if line[:4] == '    ' and line[4:5].strip():
            names += [name.strip(' *`') for name in line.partition(':')[0].split(',')]
    return names
