"""What must be right before the server starts: checks and init functions that modules register.

    @register_startup_check
    def check_disk(): ...          # plain or a coroutine function; raises StartupCheck

All checks run, whatever the ones before found, and everything found is reported together. Init functions run after
them, in order, and only if nothing was found. Nothing here ends the process; the aiohttp door does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from learning_observer_kvs.errors import StartupCheck

__all__ = [
    'StartupCheck',
    'register_init_function',
    'register_startup_check',
    'run_startup_checks_and_init',
    'startup_checks_and_init',
]

Hook = Callable[[], Any]
H = TypeVar('H', bound=Hook)

STARTUP_CHECKS: list[Hook] = []
INIT_FUNCTIONS: list[Hook] = []


def register_startup_check(check: H) -> H:
    """Have a function without arguments (or a coroutine function) called at start-up; usable as a decorator.

    It raises :class:`StartupCheck` if the server must not start. Registering a function twice runs it once.
    """
    if check not in STARTUP_CHECKS:
        STARTUP_CHECKS.append(check)
    return check


def register_init_function(init: H) -> H:
    """Have a function without arguments (or a coroutine function) called once all checks have passed."""
    if init not in INIT_FUNCTIONS:
        INIT_FUNCTIONS.append(init)
    return init


async def run_startup_checks_and_init() -> None:
    """Run every registered check, then every init function.

    Raises:
        StartupCheck: one that holds what all failing checks said. Any other exception is a fault of the check itself
            and goes through as it is.
    """
    failures = []
    for check in STARTUP_CHECKS:
        try:
            await _call(check)
        except StartupCheck as failure:
            failures.append(failure)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise StartupCheck(
            '\n\n'.join(str(failure) for failure in failures),
            problems=[problem for failure in failures for problem in failure.problems],
        )
    for init in INIT_FUNCTIONS:
        await _call(init)


def startup_checks_and_init() -> None:
    """The same for scripts, where no event loop is running.

    Raises:
        StartupCheck: as above.
        RuntimeError: called from within a running loop; await :func:`run_startup_checks_and_init` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run_startup_checks_and_init())
        return
    raise RuntimeError(
        'startup_checks_and_init() was called inside a running event loop; '
        'await prestartup.run_startup_checks_and_init() there.'
    )


async def _call(hook: Hook) -> None:
    result = hook()
    if inspect.isawaitable(result):
        await result
