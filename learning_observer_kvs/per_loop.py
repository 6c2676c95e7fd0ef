"""What belongs to one event loop: connections, queues, locks. A program may run several loops, in turn or at once."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar('T')


class PerLoop(Generic[T]):
    """One object for each event loop, made when it is first asked for in that loop.

    Those of closed loops are dropped when another loop makes or drops its own.

    A forked child starts with none: it must not use what its parent has open.

    Args:
        make: makes the object of the running loop.
    """

    __slots__ = ('_by_loop', '_inherited', '_make', '_pid')

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._by_loop: dict[AbstractEventLoop, T] = {}
        self._pid = _pid
        self._inherited: list[dict[AbstractEventLoop, T]] = []

    def __iter__(self) -> Iterator[T]:
        """Iterate over the objects of all loops."""
        self._forget_after_fork()
        return iter(list(self._by_loop.values()))

    def here(self) -> T:
        """Return the object of the running loop; make it if there is none yet.

        Returns:
            The object.

        Raises:
            RuntimeError: no event loop is running.
        """
        if self._pid != _pid:
            self._forget_after_fork()
        try:
            return self._by_loop[get_running_loop()]
        except KeyError:
            pass
        self._drop_closed()
        made = self._by_loop[get_running_loop()] = self._make()
        return made

    def peek(self) -> T | None:
        """Return the object of the running loop.

        Returns:
            The object; ``None`` if none was made.

        Raises:
            RuntimeError: no event loop is running.
        """
        self._forget_after_fork()
        return self._by_loop.get(get_running_loop())

    def pop(self) -> T | None:
        """Drop the object of the running loop.

        Returns:
            The object, to be closed by the caller; ``None`` if none was made.

        Raises:
            RuntimeError: no event loop is running.
        """
        self._forget_after_fork()
        self._drop_closed()
        return self._by_loop.pop(get_running_loop(), None)

    def drop(self, made: T) -> None:
        """Drop an object, whichever loop it belongs to, if it has not been dropped.

        A coroutine that is collected after the end of its loop has no running loop, or another one.

        Args:
            made: the object.
        """
        self._forget_after_fork()
        self._drop_closed()
        for loop, other in list(self._by_loop.items()):
            if other is made:
                self._by_loop.pop(loop, None)

    def _drop_closed(self) -> None:
        for loop in list(self._by_loop):
            if loop.is_closed():
                self._by_loop.pop(loop, None)  # a loop of another thread may drop it at the same time

    def _forget_after_fork(self) -> None:
        if self._pid != _pid:
            # What the parent has open is kept: closing it here would take its sockets out of the parent's loop.
            self._inherited.append(self._by_loop)
            self._by_loop, self._pid = {}, _pid


def call_in(loop: AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function that touches what belongs to an event loop, from wherever this is called.

    Args:
        loop: the loop. If it runs in another thread, the function is called there soon; if it is closed, never.
        function: the function.
    """
    try:
        here: AbstractEventLoop | None = get_running_loop()
    except RuntimeError:
        here = None
    if loop.is_running() and loop is not here:
        loop.call_soon_threadsafe(function)
    elif not loop.is_closed():
        function()


def _note_pid() -> None:
    global _pid
    _pid = os.getpid()


# os.getpid() asks the system each time; this is looked at with every event.
_pid = os.getpid()
os.register_at_fork(after_in_child=_note_pid)
