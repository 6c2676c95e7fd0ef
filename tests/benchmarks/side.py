"""One side of a comparison of two checkouts: a process that has the package of one, and the cases of another.

    PYTHONPATH=CHECKOUT python -P -c START CASES ...

CASES is the checkout that has the cases. See :mod:`tests.benchmarks.against`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = 'learning_observer_kvs'

START = (
    f'import {PACKAGE}, sys; sys.path.insert(0, sys.argv.pop(1)); '
    'from tests.benchmarks.side import only_this_package; only_this_package(); '
    'from tests.benchmarks.__main__ import main; main()'
)


class OnlyThisPackage(MetaPathFinder):
    """Finds modules of the package in the directory that it was imported from, and nowhere else.

    Where another checkout is installed as editable, its finder would add the modules that this one does not have.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE + '.'):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            raise ModuleNotFoundError(f'No module named {fullname!r}', name=fullname)
        return spec


def only_this_package() -> None:
    """Import modules of the package from one directory only, from now on."""
    sys.meta_path.insert(0, OnlyThisPackage())
