"""How it is measured: warm, interleaved, the median."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

import redis

from tests.benchmarks.contender import Contender, Load, Location
from tests.benchmarks.load import State
from tests.benchmarks.results import Rates, Say


class Selection(enum.Enum):
    """Which contenders are measured."""

    ALL = 'all'
    PAIRS = 'the base and the stores of this package'
    OURS = 'the stores of this package'


BACKENDS = ('redis', 'stub', 'sqlite', 'filesystem')


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        seconds: about how long one measurement lasts.
        repeats: how many there are of each contender.
        students: how many write at once.
        sizes: of internal states, as in ``load.SIZES``.
        keys: how many keys a store holds where keys are listed.
        files: how many in the store with a file for each.
        sessions: how many writing sessions are replayed.
        events: how many events of each at most.
        backends: which of ``BACKENDS`` are measured.
        selection: which contenders.
    """

    seconds: float
    repeats: int
    students: int
    sizes: Sequence[str]
    keys: Sequence[int]
    files: int
    sessions: int
    events: int
    backends: Sequence[str] = BACKENDS
    selection: Selection = Selection.ALL


SMALL_TO_LARGE = ('0.3 KB', '3 KB', '50 KB')

PLANS = {
    'default': Plan(0.25, 3, 1000, SMALL_TO_LARGE, (100_000,), 10_000, 50, 100),
    'quick': Plan(0.3, 1, 1000, SMALL_TO_LARGE[:2], (20_000,), 2_000, 20, 50),
    'full': Plan(0.5, 5, 1000, SMALL_TO_LARGE, (100_000, 1_000_000), 100_000, 10_000, 100_000),
    'tiny': Plan(0.001, 1, 5, ('0.3 KB',), (50,), 20, 1, 5),
}
"""``full`` takes hours; ``tiny`` is for the test that this still runs."""

MAX_EACH = 20_000
"""Events of a student in one measurement, at most."""


async def interleaved(
    contenders: Sequence[Contender], state: State, load: Load, plan: Plan, say: Say, *, label: str = ''
) -> list[Rates]:
    """Measure each contender in turn, and again, so that what else the machine does affects all alike.

    Every other turn goes backwards. In pairs, each contender has as many turns as the others.

    Args:
        contenders: what is measured.
        state: what their reducers keep.
        load: how many students, how much queued; how many events each is found out from how fast the contender is.
        plan: how much is done.
        say: gets lines of progress.
        label: what the lines begin with.
    """
    loads: dict[str, tuple[Load, int]] = {}
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    try:
        for contender in contenders:
            await contender.open(state)
            loads[contender.name] = await warm(contender, load, plan)
        for turn in range(plan.repeats):
            for contender in contenders if turn % 2 == 0 else reversed(contenders):
                load, repeats = loads[contender.name]
                if turn < repeats or plan.selection is Selection.PAIRS:
                    done = await contender.run(load)
                    found[contender.name].append(done.events / done.seconds)
        for contender in contenders:
            await contender.verify()
    finally:
        for contender in contenders:
            await contender.close()
        if contenders:
            empty_redis(contenders[0].location)
    for name, rates in found.items():
        say(f'  {label:>7}  {name}: {max(rates):,.0f}/s')
    return [Rates(name, rates) for name, rates in found.items()]


async def warm(contender: Contender, load: Load, plan: Plan) -> tuple[Load, int]:
    """Warm up, until every key is there and it is known how many events each take as long as the plan says.

    Returns:
        The load, and how often to measure: less often where a single event each takes long already.
    """
    wanted = plan.seconds * contender.longer
    seconds = (await contender.run(load)).seconds
    while seconds < wanted and load.each < MAX_EACH:
        seconds = (await contender.run(load)).seconds
        if seconds > wanted / 4:
            break
        load = replace(load, each=min(MAX_EACH, load.each * 4))
    repeats = max(1, round(plan.repeats * min(1.0, 4 * wanted / seconds)))
    return replace(load, each=min(MAX_EACH, max(1, round(load.each * wanted / seconds)))), repeats


def empty_redis(location: Location) -> None:
    """Leave nothing for the next case."""
    with redis.Redis(host='127.0.0.1', port=location.port, socket_timeout=60) as client:
        client.flushall()
