"""The running applications of a router: all with the same settings, each in its own event loop or several in one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.settings import Settings, read_settings

DIFFERENCES = 3
"""How many of the settings that differ a message names."""


class Applications:
    """Keeps account of the applications that run with one router. One whose event loop was closed runs no more.

    Attributes:
        ended: whether the last one has ended, and the router was not configured since.
    """

    def __init__(self) -> None:
        self.ended = False
        self._running: dict[object, _Running] = {}

    def check(self, settings: Settings) -> None:
        """Check that an application with some settings can use the router.

        Args:
            settings: its settings.

        Raises:
            StartupCheck: another application runs with other settings.
        """
        self._forget_closed()
        for running in self._running.values():
            if different := _differences(running.settings, settings):
                listed = ', '.join(different[:DIFFERENCES]) + (', …' if len(different) > DIFFERENCES else '')
                raise StartupCheck(
                    'The key-value store cannot start: another application of this process is running with other '
                    f'settings, and both would use the same stores. They differ in {listed}. Give this application '
                    'stores of its own with learning_observer_kvs.setup(app, config, router=KVSRouter()), or start it '
                    'when the other one has ended.'
                )

    def join(self, application: object, settings: Settings) -> bool:
        """Let an application use the router, from now on until :meth:`leave`.

        Args:
            application: the application.
            settings: its settings.

        Returns:
            Whether others run already, so that the router is filled.

        Raises:
            StartupCheck: another application runs with other settings.
        """
        self.check(settings)
        is_shared = bool(self._running)
        self._running[application] = _Running(asyncio.get_running_loop(), read_settings(settings))
        return is_shared

    def leave(self, application: object) -> bool:
        """End the use of the router by an application.

        Args:
            application: one that may have joined.

        Returns:
            Whether what the router has open in this event loop is to be closed: it had joined, and was the last one
            here.
        """
        if self._running.pop(application, None) is None:
            return False
        self._forget_closed()
        self.ended = not self._running
        here = asyncio.get_running_loop()
        return all(running.loop is not here for running in self._running.values())

    def _forget_closed(self) -> None:
        for application, running in list(self._running.items()):
            if running.loop.is_closed():
                del self._running[application]


class _Running(NamedTuple):
    loop: asyncio.AbstractEventLoop
    settings: Settings


def _differences(first: Any, second: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Return the dotted paths at which settings differ; the values, which may be secret, are not named."""
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return [] if type(first) is type(second) and first == second else ['.'.join(path)]
    found = []
    for key in dict.fromkeys([*first, *second]):
        inner = (*path, str(key))
        if (key in first) != (key in second):
            found.append('.'.join(inner))
        else:
            found += _differences(first[key], second[key], inner)
    return found
