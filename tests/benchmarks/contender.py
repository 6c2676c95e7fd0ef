"""What a contender is: a way to reduce events to pairs of states, with what it promises, and how fast events come."""

from __future__ import annotations

import asyncio
import collections
import gc
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.benchmarks.load import EVENTS, JSON, ProcessEvent, State, student

VERIFIED = 20
"""How many students are checked afterwards for events that are missing."""


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


LIMIT = Promise(False, 'none', 'not kept')
"""Limits promise nothing: they show what the parts can do."""


@dataclass(frozen=True)
class Load:
    """How events come.

    Attributes:
        students: how many send at once, each one event after the other.
        queued: how many events of each are under way at once.
        reducers: how many reducers an event goes through; it counts once.
        each: events of each of those in one measurement.
    """

    students: int
    queued: int = 1
    reducers: int = 1
    each: int = 1


class Done(NamedTuple):
    """The result of a measurement.

    Attributes:
        events: how many were reduced.
        seconds: how long that took.
    """

    events: int
    seconds: float


@dataclass
class Location:
    """Where contenders may keep things: a directory, and the port of the benchmark's Redis."""

    directory: Path
    port: int
    _count: int = field(default=0)

    def fresh(self) -> str:
        """Return a name that was not used before."""
        self._count += 1
        return f'b{self._count:04}'


class Contender(ABC):
    """Something that reduces events.

    Args:
        location: where it may keep things.
    """

    name: str
    """How tables call it."""
    promise: ClassVar[Promise]
    queues: ClassVar[bool] = False
    """Whether it may get events of one student before the last one is answered. Where not, they wait in the student's
    socket, and it gets them one after the other."""

    longer: ClassVar[int] = 1
    """How many times as long as others it is measured, where its cost shows later only."""

    def __init__(self, location: Location) -> None:
        self.location = location

    @abstractmethod
    async def open(self, state: State) -> None:
        """Begin, empty."""

    @abstractmethod
    async def run(self, load: Load) -> Done:
        """Reduce events, and measure until all of them are kept."""

    async def verify(self) -> None:
        """Raise if an event that was acknowledged is missing."""
        return None

    async def close(self) -> None:
        """End, and leave nothing behind."""
        return None


class ByEvent(Contender):
    """A contender that gets one event of one student at a time, in a coroutine, as the runtime does."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._connections: dict[str, ProcessEvent] = {}
        self._sent: collections.Counter[str] = collections.Counter()
        self._reducers = 1

    async def open(self, state: State) -> None:
        self.state = state
        self._connections.clear()
        self._sent.clear()

    @abstractmethod
    async def process_event(self, name: str, reducer: int = 0) -> ProcessEvent:
        """Return what processes a student's events with one reducer."""

    @abstractmethod
    async def read(self, keys: Sequence[str]) -> list[JSON]:
        """Return the values of many keys at once, as a dashboard asks for them."""

    async def read_one(self, key: str) -> JSON:
        """Return the value of one key."""
        return (await self.read([key]))[0]

    async def settle(self) -> None:
        """Wait until all that was acknowledged is where ``promise.kept`` says."""
        return None

    async def connection(self, name: str, reducers: int) -> ProcessEvent:
        """Return what a student's connection awaits with each event: its reducers in turn, as the runtime does."""
        processes = [await self.process_event(name, reducer) for reducer in range(reducers)]
        if len(processes) == 1:
            return processes[0]

        async def process_in_turn(event: JSON) -> JSON:
            result = None
            for process in processes:
                result = await process(event)
            return result

        return process_in_turn

    async def run(self, load: Load) -> Done:
        self._reducers = load.reducers
        names = [student(number) for number in range(load.students)]
        for name in names:
            if name not in self._connections:
                self._connections[name] = await self.connection(name, load.reducers)
        senders = [self._connections[name] for name in names] * (load.queued if self.queues else 1)
        gc.collect()
        started = time.perf_counter()
        await asyncio.gather(*(send(process, number * 13, load.each) for number, process in enumerate(senders)))
        await self.settle()
        done = Done(len(senders) * load.each, time.perf_counter() - started)
        for name in names:
            self._sent[name] += done.events // load.students
        return done

    async def verify(self) -> None:
        pairs = [(name, reducer) for name in list(self._sent)[:VERIFIED] for reducer in range(self._reducers)]
        states = await self.read([self.state.keys(name, reducer)[0] for name, reducer in pairs])
        for (name, reducer), state in zip(pairs, states, strict=True):
            if state['total'] != self._sent[name]:
                kept = f'{state["total"]} of {self._sent[name]} events of {name}'
                raise RuntimeError(f'{self.name}: reducer {reducer} kept {kept}.')


async def send(process: ProcessEvent, first: int, count: int) -> None:
    """Send a student's events, one after the other."""
    for number in range(first, first + count):
        await process(EVENTS[number % len(EVENTS)])
