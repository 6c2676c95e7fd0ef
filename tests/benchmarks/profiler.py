"""Where the time of an event goes: a sample of the stack every millisecond, sorted into rooms.

The innermost frame of each sample says what ran. What C code does counts for the line that called it, so a few words
in that line tell the codec from the rest.
"""

from __future__ import annotations

import asyncio
import collections
import linecache
import os
import signal
from collections.abc import Callable
from types import FrameType

from tests.benchmarks import ours
from tests.benchmarks.contender import Load
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import state_of
from tests.benchmarks.measure import warm
from tests.benchmarks.results import Table

INTERVAL = 0.001

SECONDS = 2.0

LINES = (
    ('codec', ('encode(', 'decode(', '_decode', 'orjson.', 'ormsgpack.', 'msgspec.')),
    ('digest', ('sha1(', 'blake2', 'sha256(')),
)
"""What words in the line that ran mean, where the line is the package's own."""

FILES = (
    ('the reducer', (f'benchmarks{os.sep}load.py',)),
    ('the benchmark', (f'{os.sep}benchmarks{os.sep}',)),
    ('codec', ('jsontext', f'{os.sep}json{os.sep}', 'msgspec', 'orjson')),
    (
        'transport',
        (
            'redis_batches',
            'redis_connection',
            f'{os.sep}redis{os.sep}',
            'hiredis',
            'redis_scripts',
            'writer.py',
            'sqlite',
        ),
    ),
    ('waiting for an answer', ('selectors.py',)),
    ('asyncio', (f'{os.sep}asyncio{os.sep}', 'async_timeout', 'contextvars')),
    ('ours', ('learning_observer_kvs',)),
)
"""Which room a file is in; the first that fits."""


def room_of(frame: FrameType) -> str:
    """What a frame is busy with."""
    code = frame.f_code
    if 'learning_observer_kvs' in code.co_filename:
        line = linecache.getline(code.co_filename, frame.f_lineno)
        for room, words in LINES:
            if any(word in line for word in words):
                return room
    for room, parts in FILES:
        if any(part in code.co_filename for part in parts):
            return room
    return 'the rest'


class Sampler:
    """Samples the main thread while it is entered.

    Attributes:
        rooms: samples by room.
        places: samples by ``file:function``.
    """

    def __init__(self) -> None:
        self.rooms: collections.Counter[str] = collections.Counter()
        self.places: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Sampler:
        self._before = signal.signal(signal.SIGALRM, self._sample)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        if frame is not None:
            self.rooms[room_of(frame)] += 1
            path = frame.f_code.co_filename.split(f'site-packages{os.sep}')[-1]
            self.places[f'{os.sep.join(path.split(os.sep)[-2:])}:{frame.f_code.co_name}'] += 1


LOADS: dict[str, Callable[[int], Load]] = {
    'one': lambda students: Load(1),
    'class': lambda students: Load(students),
    'queued': lambda students: Load(students, queued=10),
}
"""Which cases can be profiled."""


def profile(environment: Environment, case: str) -> list[Table]:
    """For each store and size, what share of an event is codec, transport, asyncio, ours.

    Args:
        case: one of ``LOADS``.
    """
    rooms = [
        'codec',
        'digest',
        'transport',
        'asyncio',
        'ours',
        'the reducer',
        'waiting for an answer',
        'the benchmark',
        'the rest',
    ]
    table = Table(
        f'Where the time of an event goes: {case}',
        'Shares of the main thread, sampled every millisecond; `sqlite` and `filesystem` write in threads of their '
        'own.',
        ['', 'state', 'µs an event', *rooms],
    )
    tables = [table]
    for kind in (ours.Redis, ours.RedisBehind, ours.SQLite, ours.Filesystem, ours.Stub):
        if ours.known(kind):
            for label in environment.plan.sizes:
                with environment.pinned(to_redis=kind.type == 'redis'):
                    sampler, cost = asyncio.run(
                        _profiled(environment, kind, LOADS[case](environment.plan.students), label)
                    )
                total = sampler.rooms.total() or 1
                shares = {room: sampler.rooms[room] / total for room in rooms}
                table.add(
                    [kind.name, label, f'{cost:.3g}', *(f'{share:.0%}' for share in shares.values())],
                    contender=kind.name,
                    state=label,
                    microseconds=cost,
                    shares=shares,
                    places=dict(sampler.places.most_common(25)),
                )
                environment.say(f'{kind.name}, {label}: {cost:.3g} µs an event')
                for place, count in sampler.places.most_common(12):
                    environment.say(f'  {count / total:6.1%}  {place}')
    return tables


async def _profiled(environment: Environment, kind: type[ours.Ours], load: Load, label: str) -> tuple[Sampler, float]:
    contender = kind(environment.place)
    await contender.open(state_of(label))
    sampler, events, seconds = Sampler(), 0, 0.0
    try:
        load, _ = await warm(contender, load, environment.plan)
        while not events or seconds < SECONDS * environment.plan.seconds / 0.3:
            with sampler:
                done = await contender.run(load)
            events, seconds = events + done.events, seconds + done.seconds
        return sampler, seconds / events * 1e6
    finally:
        await contender.close()
