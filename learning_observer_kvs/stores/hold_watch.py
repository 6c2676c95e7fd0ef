"""Notices what holds a key for very long, such as a reducer that never returns.

Nothing is done for a single event: while keys are held, all of them are looked at once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from learning_observer_kvs.stores.keys import display_key

log = logging.getLogger('learning_observer_kvs')

INTERVAL = 1.0
"""Seconds between two looks."""

LONG = 10.0
"""Seconds after which a holder is logged."""


class Watched(Protocol):
    """A holder of keys."""

    has_ended: bool
    """Whether its code has ended, so that it only waits for the backend."""

    what: str
    """What it is, for the log."""


class HoldWatch:
    """Watches the keys of one store in one event loop.

    Args:
        held: the holder of each key that is held.
        reserved: the holder that stands for work that no caller's code is part of.

    Attributes:
        is_running: whether it is looked again; otherwise :meth:`start` is to be called when a key is held.
    """

    __slots__ = ('_began', '_held', '_logged', '_reserved', 'is_running')

    def __init__(self, held: Mapping[str, Watched], reserved: Watched) -> None:
        self._held = held
        self._reserved = reserved
        self._began: dict[Watched, float] = {}
        self._logged: set[Watched] = set()
        self.is_running = False

    def start(self) -> None:
        """Look once a second from now on, until no key is held."""
        self.is_running = True
        asyncio.get_running_loop().call_later(INTERVAL, self._look_and_go_on)

    def look(self, now: float) -> None:
        """Log each holder that was there ``LONG`` seconds ago already, once.

        Args:
            now: the time of a monotonic clock, in seconds.
        """
        before, self._began = self._began, {}
        logged, self._logged = self._logged, set()
        for key, holder in self._held.items():
            if holder is self._reserved or holder.has_ended:
                continue
            began = self._began[holder] = before.get(holder, now)
            if holder in logged:
                self._logged.add(holder)
            elif now - began >= LONG and holder not in self._logged:
                self._logged.add(holder)
                log.warning(
                    '%s of %s has not ended for %.0f s; what else is to be done with this key waits for it.',
                    holder.what,
                    display_key(key) if key else 'every key',
                    now - began,
                )

    def _look_and_go_on(self) -> None:
        self.look(asyncio.get_running_loop().time())
        if self._held:
            self.start()
        else:
            self.is_running = False
