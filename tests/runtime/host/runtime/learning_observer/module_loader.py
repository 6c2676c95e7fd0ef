"""Loads what the installed distributions name in their entry points."""

from __future__ import annotations

from typing import Any

import pkg_resources

LOADED = False
REDUCERS: list[dict[str, Any]] = []


def load_modules() -> None:
    """Once; in the order of the path."""
    global LOADED
    if LOADED:
        return
    for entry_point in pkg_resources.iter_entry_points('lo_modules'):
        module = entry_point.load()
        if not module.__name__.endswith('.module') or not hasattr(module, 'NAME'):
            raise ValueError(f'{module} is no module of ours')
        REDUCERS.extend(dict(reducer) for reducer in getattr(module, 'REDUCERS', []))
    LOADED = True


def reducers() -> list[dict[str, Any]]:
    """Of all modules."""
    load_modules()
    return REDUCERS
