"""What a contender is: a way to fold events into pairs of states, with what it promises, and how fast it is asked."""

from __future__ import annotations

import asyncio
import collections
import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from learning_observer_kvs.json_codec import JSON
from tests.benchmarks.load import EVENTS, Apply, State, student

VERIFIED = 20
"""For how many students it is looked up afterwards whether every event is there."""


class Promise(NamedTuple):
    """What an acknowledged event is worth.

    Attributes:
        pair: whether internal and external state are written at once, both or none.
        updates: where no update is lost: ``processes``, ``process`` (between tasks of one), ``none``.
        kept: where it is when it is acknowledged.
    """

    pair: bool
    updates: str
    kept: str


LIMIT = Promise(False, 'none', 'no matter')
"""Limits promise nothing: they show what the parts can do."""


@dataclass(frozen=True)
class Load:
    """How events come.

    Attributes:
        students: how many send at once, each one event after the other.
        queued: how many events of each are under way at once.
        each: events of each of those in one measurement.
    """

    students: int
    queued: int = 1
    each: int = 1


class Done(NamedTuple):
    """What a measurement came to."""

    events: int
    seconds: float


@dataclass
class Place:
    """Where contenders may keep things: a folder, and the port of a Redis of the benchmark's own."""

    folder: Path
    port: int
    _count: int = field(default=0)

    def fresh(self) -> str:
        """A name nobody had before."""
        self._count += 1
        return f'b{self._count:04}'


class Contender(ABC):
    """Something that folds events.

    Args:
        place: where it may keep things.
    """

    name: ClassVar[str]
    """How tables call it."""
    promise: ClassVar[Promise]
    queues: ClassVar[bool] = False
    """Whether events of one student may be handed to it before the last one is answered. Where not, they wait in the
    student's socket, and it gets them one after the other."""

    longer: ClassVar[int] = 1
    """How many times as long as others it is measured, where its cost shows later only."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    async def open(self, state: State) -> None:
        """Begin, empty."""

    @abstractmethod
    async def run(self, load: Load) -> Done:
        """Fold events; how many, and the seconds until all of them were kept."""

    async def verify(self) -> None:
        """Raise if an event that was acknowledged is not there."""
        return None

    async def close(self) -> None:
        """End, and leave nothing behind."""
        return None


class ByEvent(Contender):
    """A contender that is handed one event of one student at a time, in a coroutine, as the runtime does."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._sockets: dict[tuple[str, int], Apply] = {}
        self._sent: collections.Counter[str] = collections.Counter()

    async def open(self, state: State) -> None:
        self.state = state
        self._sockets.clear()
        self._sent.clear()

    @abstractmethod
    async def socket(self, name: str, reducer: int = 0) -> Apply:
        """What a student's connection calls with each event."""

    @abstractmethod
    async def read(self, keys: Sequence[str]) -> list[JSON]:
        """The values of many keys at once, as a dashboard asks for them."""

    async def settle(self) -> None:
        """Wait until all that was acknowledged is where ``promise.kept`` says."""
        return None

    async def sockets(self, students: int, reducers: int = 1) -> list[Apply]:
        """The connections of so many students, opened once."""
        wanted = [(student(number), reducer) for number in range(students) for reducer in range(reducers)]
        for name, reducer in wanted:
            if (name, reducer) not in self._sockets:
                self._sockets[name, reducer] = await self.socket(name, reducer)
        return [self._sockets[pair] for pair in wanted]

    async def run(self, load: Load) -> Done:
        senders = await self.sockets(load.students) * (load.queued if self.queues else 1)
        gc.collect()
        started = time.perf_counter()
        await asyncio.gather(*(send(apply, number * 13, load.each) for number, apply in enumerate(senders)))
        await self.settle()
        done = Done(len(senders) * load.each, time.perf_counter() - started)
        for number in range(load.students):
            self._sent[student(number)] += done.events // load.students
        return done

    async def verify(self) -> None:
        some = list(self._sent)[:VERIFIED]
        states = await self.read([self.state.keys(name)[0] for name in some])
        for name, state in zip(some, states, strict=True):
            if state['total'] != self._sent[name]:
                raise RuntimeError(f'{self.name}: {state["total"]} of {self._sent[name]} events of {name} were kept.')


async def send(apply: Apply, first: int, count: int) -> None:
    """A student: one event after the other."""
    for number in range(first, first + count):
        await apply(EVENTS[number % len(EVENTS)])


def loads(text: Any, state: State) -> Any:
    """A state by the standard ``json``; the first one where there is none."""
    import json

    return state.null_state() if text is None else json.loads(text)
