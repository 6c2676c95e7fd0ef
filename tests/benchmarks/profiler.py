"""Where the time of an event goes: a sample of the stack every millisecond, sorted into categories.

The innermost frame of each sample says what ran. What C code does counts for the line that called it, so a few words
in that line distinguish the codec from the rest.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import linecache
import os
import signal
from collections.abc import Callable
from types import CodeType, FrameType

from tests.benchmarks import ours
from tests.benchmarks.cases.upstream import STUDENTS
from tests.benchmarks.comparisons import stores_on
from tests.benchmarks.contender import Load
from tests.benchmarks.environment import Environment
from tests.benchmarks.load import UPSTREAM_REDUCERS, State, state_of, upstream_state_of
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
    ('codec', ('json_codec', f'{os.sep}json{os.sep}', 'msgspec', 'orjson')),
    ('transport', (f'{os.sep}redis{os.sep}', f'{os.sep}sqlite{os.sep}', 'hiredis')),
    ('waiting for an answer', ('selectors.py',)),
    ('asyncio', (f'{os.sep}asyncio{os.sep}', 'async_timeout', 'contextvars')),
    ('ours', ('learning_observer_kvs',)),
)
"""Which category a file is in; the first that fits."""


def category_of(code: CodeType, line_number: int) -> str:
    """Return what a line is busy with."""
    if 'learning_observer_kvs' in code.co_filename:
        line = linecache.getline(code.co_filename, line_number)
        for category, words in LINES:
            if any(word in line for word in words):
                return category
    for category, parts in FILES:
        if any(part in code.co_filename for part in parts):
            return category
    return 'the rest'


class Sampler:
    """Samples the main thread while it is entered."""

    def __init__(self) -> None:
        self._lines: collections.Counter[tuple[CodeType, int]] = collections.Counter()

    def __enter__(self) -> Sampler:
        self._before = signal.signal(signal.SIGALRM, self._sample)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        if frame is not None:
            line_number: int | None = frame.f_lineno  # none before the first line of a function
            self._lines[frame.f_code, line_number or frame.f_code.co_firstlineno] += 1

    def categories(self) -> dict[str, float]:
        """Return the share of each category."""
        return self._shares(category_of)

    def functions(self) -> dict[str, float]:
        """Return the share of each function, as ``file:function``, the largest first."""
        return self._shares(lambda code, _: f'{os.sep.join(code.co_filename.split(os.sep)[-2:])}:{code.co_name}')

    def _shares(self, name: Callable[[CodeType, int], str]) -> dict[str, float]:
        found: collections.Counter[str] = collections.Counter()
        for (code, line_number), count in self._lines.items():
            found[name(code, line_number)] += count
        total = found.total() or 1
        return {what: count / total for what, count in found.most_common()}


CATEGORIES = (
    'codec',
    'digest',
    'transport',
    'asyncio',
    'ours',
    'the reducer',
    'waiting for an answer',
    'the benchmark',
    'the rest',
)


def profile(environment: Environment, case: str) -> list[Table]:
    """Return for each store and size what share of an event is codec, transport, asyncio, ours.

    Args:
        environment: what the run has.
        case: ``one``, ``class``, ``queued``, or ``upstream``, which goes by ``event_pipeline``.
    """
    students = environment.plan.students
    load = {
        'one': Load(1),
        'class': Load(students),
        'queued': Load(students, queued=10),
        'upstream': Load(min(STUDENTS, students), reducers=UPSTREAM_REDUCERS),
    }[case]
    joined = load.reducers > 1
    table = Table(
        f'Where the time of an event goes: {case}',
        'Shares of the main thread, sampled every millisecond; `sqlite` and `filesystem` write in other threads.',
        ['', 'state', 'µs an event', *CATEGORIES],
    )
    kinds = stores_on(environment, ours.Redis, ours.RedisBehind, ours.SQLite, ours.Filesystem, ours.Stub)
    for kind, label in itertools.product(kinds, environment.plan.sizes):
        store = kind(environment.location, joined=joined)
        state = upstream_state_of(label) if joined else state_of(label)
        with environment.pinned(to_redis=kind.type == 'redis'):
            sampler, cost = asyncio.run(_profiled(environment, store, load, state))
        shares, functions = sampler.categories(), sampler.functions()
        table.add(
            [store.name, label, f'{cost:.3g}', *(f'{shares.get(category, 0):.0%}' for category in CATEGORIES)],
            contender=store.name,
            state=label,
            microseconds=cost,
            shares=shares,
            functions=functions,
        )
        environment.say(f'{store.name}, {label}: {cost:.3g} µs an event')
        for function, share in list(functions.items())[:15]:
            environment.say(f'  {share:6.1%}  {function}')
    return [table]


async def _profiled(environment: Environment, contender: ours.Ours, load: Load, state: State) -> tuple[Sampler, float]:
    await contender.open(state)
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
