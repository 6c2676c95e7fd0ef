"""Collecting the reducers of the modules."""

from __future__ import annotations

import copy
from typing import Any

import learning_observer.module_loader
import learning_observer.stream_analytics.helpers

REDUCER_MODULES: dict[str, list[dict[str, Any]]] | None = None


def init() -> None:
    """Collect the reducers by the context of their events."""
    global REDUCER_MODULES
    found: dict[str, list[dict[str, Any]]] = {}
    for reducer in learning_observer.module_loader.reducers():
        found.setdefault(reducer['context'], []).append(
            {'reducer': reducer['function'], 'scope': reducer['scope']},
        )
    REDUCER_MODULES = found


def reducer_modules(source: str) -> list[dict[str, Any]]:
    """The reducers for events of a source."""
    return copy.deepcopy((REDUCER_MODULES or {})[source])
