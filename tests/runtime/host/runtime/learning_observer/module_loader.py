"""Loading the modules that the installed distributions name in their entry points."""

from __future__ import annotations

from typing import Any

import pkg_resources

LOADED = False
REDUCERS: list[dict[str, Any]] = []


def load_modules() -> None:
    """Load all modules once, in the order of the path."""
    global LOADED
    if LOADED:
        return
    for entry_point in pkg_resources.iter_entry_points('lo_modules'):
        module = entry_point.load()
        if not module.__name__.endswith('.module') or not hasattr(module, 'NAME'):
            raise ValueError(f'{module} is not a module of the host')
        REDUCERS.extend(dict(reducer) for reducer in getattr(module, 'REDUCERS', []))
    LOADED = True


def reducers() -> list[dict[str, Any]]:
    """Return the reducers of all modules."""
    load_modules()
    return REDUCERS
