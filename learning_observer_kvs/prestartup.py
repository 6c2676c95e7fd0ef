"""Start-up checks and init functions that modules register, and that run before the server starts.

    @register_startup_check
    def check_disk(): ...          # plain or a coroutine function; raises StartupCheck

All checks run, also after one has failed, and all failures are reported together. Init functions run after the checks,
in order, and only if no check failed. Nothing here ends the process; the aiohttp plugin does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
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
    """Register a function that is called at start-up; usable as a decorator.

    Args:
        check: a plain or coroutine function without arguments. It raises :class:`StartupCheck` if the server must not
            start. One that is registered twice runs once.

    Returns:
        The function.
    """
    if check not in STARTUP_CHECKS:
        STARTUP_CHECKS.append(check)
    return check


def register_init_function(init: H) -> H:
    """Register a function that is called once all checks have passed; usable as a decorator.

    Args:
        init: a plain or coroutine function without arguments. One that is registered twice runs once.

    Returns:
        The function.
    """
    if init not in INIT_FUNCTIONS:
        INIT_FUNCTIONS.append(init)
    return init


async def run_startup_checks_and_init(instead: Mapping[Hook, Hook] = MappingProxyType({})) -> None:
    """Run every registered check, then every init function.

    Args:
        instead: checks to run in the place of registered ones.

    Raises:
        StartupCheck: a check failed; the text and the problems are those of all failed checks. Any other exception is
            an error in the check itself and is raised as it is.
    """
    failures = []
    for check in STARTUP_CHECKS:
        try:
            await _call(instead.get(check, check))
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
    """Run every registered check, then every init function, in a script where no event loop is running.

    Raises:
        StartupCheck: as for :func:`run_startup_checks_and_init`.
        RuntimeError: an event loop is running; await :func:`run_startup_checks_and_init` there.
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
