"""Rows and static problems of a configuration, each in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from learning_observer_kvs.checks import live, static
from learning_observer_kvs.config.rows import Configuration
from learning_observer_kvs.kvs import KVS_MAP, reserved_names
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.settings import Source, read_settings
from learning_observer_kvs.stores.configured import parse_settings


def parse(source: Source) -> Configuration:
    """The rows of a configuration."""
    return parse_settings(read_settings(source), KVS_MAP)


def check(source: Source) -> list[Problem]:
    """Every problem of a configuration."""
    return static.check(parse(source), KVS_MAP, reserved_names())


def check_store(options: Any) -> list[Problem]:
    """Every problem of one store; the default store is right."""
    return check({'kvs': {'default': {'type': 'stub'}, 'a': options}})


def ids(problems: Sequence[Problem]) -> list[str]:
    """The ids of problems, in order."""
    return [problem.id for problem in problems]


@pytest.fixture(autouse=True)
def patient_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health checks have a minute where a test gives them no limit, however busy the machine is."""
    monkeypatch.setattr(live.check_stores, '__defaults__', (60.0,))
