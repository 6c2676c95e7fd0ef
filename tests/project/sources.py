"""The sources of the package and of the tests, as the tests of the project read them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / 'learning_observer_kvs'
MODULES = sorted(PACKAGE.rglob('*.py'))
FOLDERS = ('learning_observer_kvs', 'tests', 'devdata')
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py'))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def each(paths: list[Path]) -> pytest.MarkDecorator:
    """Parametrize a test with the ``path`` of each of these files."""
    return pytest.mark.parametrize('path', paths, ids=[str(path.relative_to(ROOT)) for path in paths])


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())
