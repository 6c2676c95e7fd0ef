"""Settings as a plain dictionary, and the object that rulesets are asked through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import yaml

settings: dict[str, Any] | None = None
args: SimpleNamespace | None = None
pmss_settings: Rulesets | None = None

DEFAULTS = {'redis_host': 'localhost', 'redis_port': 6379, 'redis_password': None}
NUMBERS = {'redis_port'}


class Rulesets:
    """Asks one ruleset after the other; the first that has a value wins. Text is text, also where it was null."""

    def __init__(self, rulesets: Sequence[Mapping[str, Any]]) -> None:
        self._rulesets = rulesets

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in DEFAULTS:
            raise ValueError(f'no field {name}')

        def ask(types: Sequence[str]) -> Any:
            value = DEFAULTS[name]
            for ruleset in self._rulesets:
                block = ruleset.get(types[0]) or {}
                if name in block:
                    value = block[name]
                    break
            return int(value) if name in NUMBERS and value is not None else str(value)

        return ask


def parse_arguments(config_file: str, overlays: Sequence[Mapping[str, Any]] = ()) -> None:
    """What the command line says."""
    global args, pmss_settings
    args = SimpleNamespace(config_file=config_file)
    with open(config_file) as file:
        pmss_settings = Rulesets([*overlays, yaml.safe_load(file)])


def load_settings(config: str | dict[str, Any]) -> None:
    """From a file, or given as they are."""
    global settings, pmss_settings
    if isinstance(config, dict):
        settings = config
    else:
        with open(config) as file:
            settings = yaml.safe_load(file)
    if pmss_settings is None:
        pmss_settings = Rulesets([])
