"""The registries of start-up, in the order of registration; loading the installed modules comes first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class StartupCheck(Exception):
    """The one error that is caught."""


STARTUP_CHECKS: list[Callable[[], Any]] = []
INIT_FUNCTIONS: list[Callable[[], Any]] = []


def register_startup_check(check: Callable[[], Any]) -> Callable[[], Any]:
    """Have a check run before the server starts."""
    STARTUP_CHECKS.append(check)
    return check


def register_init_function(init: Callable[[], Any]) -> Callable[[], Any]:
    """Have a function run after the checks."""
    INIT_FUNCTIONS.append(init)
    return init


@register_startup_check
def load_installed_modules() -> None:
    """Load the modules, before all other checks."""
    from learning_observer import module_loader

    module_loader.load_modules()


def startup_checks_and_init() -> None:
    """Run everything; a failed check ends the process."""
    found = []
    for check in STARTUP_CHECKS:
        try:
            check()
        except StartupCheck as error:
            found.append(error)
    for error in found:
        print(error)
        if error.args:
            print(error.args[0])
    if found:
        sys.exit(1)
    for init in INIT_FUNCTIONS:
        init()
