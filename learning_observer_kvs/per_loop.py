"""What belongs to one event loop each: connections, queues, locks. A program may run several, one after the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Generic, TypeVar

T = TypeVar('T')


class PerLoop(Generic[T]):
    """A thing for each event loop, made when it is first asked for in a loop; those of closed loops are let go.

    A forked child starts with none: it must not use what its parent has open.

    Args:
        make: makes one, inside the running loop.
    """

    __slots__ = ('_by_loop', '_last', '_make', '_of_parent', '_pid')

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._by_loop: dict[asyncio.AbstractEventLoop, T] = {}
        # One object, so that loops of other threads cannot come between the two.
        self._last: tuple[asyncio.AbstractEventLoop, T] | None = None
        self._pid = os.getpid()
        self._of_parent: object = None

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._by_loop.values()))

    def here(self) -> T:
        """The one of the running loop."""
        # A loop that runs in this thread is the running one. This is asked with every event, and get_running_loop()
        # asks the system for the process id each time (until Python 3.12). Loops of other makers have no such mark.
        last = self._last
        if last is not None and get_ident() == getattr(last[0], '_thread_id', None) and self._pid == _pid:
            return last[1]
        loop = asyncio.get_running_loop()
        if self._pid != _pid:
            # What the parent has open is kept: closing it here would take its sockets out of the parent's loop.
            self._of_parent = self._of_parent, self._by_loop
            self._pid, self._by_loop = _pid, {}
        if loop not in self._by_loop:
            for other in list(self._by_loop):
                if other.is_closed():
                    self._by_loop.pop(other, None)
            self._by_loop[loop] = self._make()
        found = self._by_loop[loop]
        self._last = loop, found
        return found

    def peek(self) -> T | None:
        """The one of the running loop, if it was made."""
        return self._by_loop.get(asyncio.get_running_loop()) if self._pid == _pid else None

    def pop(self) -> T | None:
        """Let go of the one of the running loop, and give it back to be closed; ``None`` if there is none."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last[0] is loop:
            self._last = None
        return self._by_loop.pop(loop, None) if self._pid == _pid else None


def _note_pid() -> None:
    global _pid
    _pid = os.getpid()


_pid = os.getpid()
os.register_at_fork(after_in_child=_note_pid)
