"""Settings as a plain dictionary, and the PMSS object that reads rulesets."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pmss
import yaml

settings: dict[str, Any] | None = None
args: SimpleNamespace | None = None
pmss_settings: Any = None


def parse_arguments(config_file: str, rulesets: Sequence[str] = ()) -> None:
    """Set what the command line would set."""
    global args
    args = SimpleNamespace(config_file=config_file)
    init_pmss_settings(rulesets or [config_file])


def init_pmss_settings(rulesets: Sequence[str]) -> None:
    """Read rulesets, the first time."""
    global pmss_settings
    pmss_settings = pmss_settings or pmss.Settings(
        rulesets=[
            pmss.PMSSFileRuleset(filename=name) if name.endswith('.pmss') else pmss.YAMLFileRuleset(filename=name)
            for name in rulesets
        ]
    )


def load_settings(config: str | dict[str, Any]) -> None:
    """Load settings from a file, or take a dictionary as it is."""
    global settings, pmss_settings
    if isinstance(config, dict):
        settings = config
    else:
        with open(config) as file:
            settings = yaml.safe_load(file)
    if pmss_settings is None:
        pmss_settings = pmss.Settings(rulesets=[pmss.YAMLFileRuleset(filename='creds.yaml')])
