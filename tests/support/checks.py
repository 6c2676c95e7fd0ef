"""Static checks of a configuration, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from learning_observer_kvs.kvs import parse_settings, static_problems
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import read_settings


def check(source: Any) -> list[Problem]:
    """Every problem of a configuration."""
    return static_problems(parse_settings(read_settings(source)))


def check_store(options: Any) -> list[Problem]:
    """Every problem of one store; the default store is right."""
    return check({'kvs': {'default': {'type': 'stub'}, 'a': options}})


def ids(problems: Sequence[Problem]) -> list[str]:
    """The ids of problems, in order."""
    return [problem.id for problem in problems]
