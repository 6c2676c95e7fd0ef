"""What is counted of each reducer: plain numbers that its events find without looking for them."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Mapping
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.base import Store

NOT_MEASURED = 15
"""One of 16 time slices, and passes, has its reducers timed, and one of 16 commits its bytes counted: those whose
number has none of these bits."""


COUNTS = (
    'bytes',
    'commits',
    'conflicts',
    'erased',
    'events',
    'failed',
    'kept',
    'measured',
    'seconds',
    'timed',
)


class Tally:
    """What one reducer has done over one store in one thread.

    Args:
        reducer: its name in keys.

    Attributes:
        reducer: its name in keys.
        events: events that were answered, also those that failed.
        failed: those that changed nothing: the caller got an error, or they are among the next two.
        kept: those that were acknowledged, and are in the folder of failed events.
        erased: those that were acknowledged, and dropped because another process had erased the state they were for.
        conflicts: commits that another process came before, so that their events were reduced again.
        commits: commits that came into the store.
        measured: those of them whose bytes were counted.
        bytes: the text of the states that those wrote.
        timed: the calls of the reducer that were timed.
        seconds: how long those took, with what they waited for.
    """

    __slots__ = (*COUNTS, 'reducer')

    def __init__(self, reducer: str) -> None:
        self.reducer = reducer
        self.events = self.failed = self.kept = self.erased = self.conflicts = self.commits = 0
        self.measured = self.bytes = self.timed = 0
        self.seconds = 0.0

    def add(self, other: Tally) -> None:
        """Add the numbers of another one.

        Args:
            other: the other one.
        """
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def note_failed(self) -> None:
        """Count an event that came to an error, and that no commit counts."""
        self.events += 1
        self.failed += 1

    def measure(self, writes: Mapping[str, bytes | None]) -> None:
        """Count the bytes of a commit.

        Args:
            writes: the texts that it wrote, by key.
        """
        self.measured += 1
        self.bytes += sum(len(text) for text in writes.values() if text is not None)

    def time_call(self, call: Any) -> Any:
        """Return a reducer with its event filled in that is timed.

        Args:
            call: the reducer with its event filled in.

        Returns:
            One that returns the same; ``call`` itself where it is not a coroutine function with an event.
        """
        if type(call) is not functools.partial or not call.args or not inspect.iscoroutinefunction(call.func):
            return call
        return functools.partial(self._timed, *call.args, func=call.func)

    async def _timed(self, event: Any, state: JSON, *, func: Any) -> Any:
        began = perf_counter()
        try:
            return await func(event, state)
        finally:
            self.timed += 1
            self.seconds += perf_counter() - began


UNNAMED = Tally('')
"""Of events that come without a reducer's name, from a caller of the worker itself; they are not reported."""

_OF_STORES: WeakKeyDictionary[Store, dict[tuple[str, int], Tally]] = WeakKeyDictionary()


def tally_of(store: Store, reducer: str) -> Tally:
    """Return the tally of a reducer in this thread; another thread has its own, so that no number is lost.

    Args:
        store: where the reducer keeps its states.
        reducer: its name in keys.
    """
    return _OF_STORES.setdefault(store, {}).setdefault((reducer, threading.get_ident()), Tally(reducer))


def tallies_of(store: Store) -> dict[str, Tally]:
    """Return what each reducer has done over a store since the process began, by its name in keys.

    Args:
        store: the store.
    """
    found: dict[str, Tally] = {}
    for (reducer, _), tally in list(_OF_STORES.get(store, {}).items()):
        found.setdefault(reducer, Tally(reducer)).add(tally)
    return found
