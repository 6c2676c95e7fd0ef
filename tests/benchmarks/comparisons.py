"""What is compared on each backend: a base, the stores of this package, other libraries, and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks import limits, ours, peers, today
from tests.benchmarks.contender import Contender
from tests.benchmarks.environment import Environment
from tests.benchmarks.measure import Selection


@dataclass(frozen=True)
class Comparison:
    """The contenders on one backend.

    Attributes:
        backend: its type.
        base: the contender that the ratios are to.
        ours: the stores of this package.
        libraries: what else people would use.
        limits: what the parts can do.
        share: of the plan's students that write, where a thousand would be more than it is for.
    """

    backend: str
    base: type[today.Today]
    ours: Sequence[type[ours.Ours]]
    libraries: Sequence[type[Contender]] = ()
    limits: Sequence[type[Contender]] = ()
    share: float = 1.0


COMPARISONS = (
    Comparison(
        'redis',
        today.OneByOne,
        (ours.Redis, ours.RedisBehind),
        (peers.Aiocache, peers.AiocacheOptimistic, peers.Cashews, peers.CashewsLock, peers.PyKeyValue),
        (limits.CodecAndSocket, limits.BareSocket),
    ),
    Comparison(
        'stub',
        today.Deepcopy,
        (ours.Stub,),
        (peers.AiocacheMemory, peers.PyKeyValueMemory),
        (limits.Codec, limits.LooseCodec),
    ),
    Comparison(
        'sqlite',
        today.FilePerKey,
        (ours.SQLite, ours.SQLiteBehind),
        (today.FilePerKeyDurable, peers.Diskcache, peers.PyKeyValueDisk),
        (limits.BareSQLite,),
    ),
    Comparison('filesystem', today.FilePerKey, (ours.Filesystem, ours.FilesystemBehind), share=0.1),
)


def compared(environment: Environment) -> list[Comparison]:
    """Return the comparisons on the backends of the plan."""
    return [comparison for comparison in COMPARISONS if comparison.backend in environment.plan.backends]


def all_contenders(environment: Environment, comparison: Comparison) -> list[Contender]:
    """Return the contenders of a comparison that the plan selects."""
    location, everything = environment.location, environment.plan.selection is Selection.ALL
    libraries = [kind(location) for kind in comparison.libraries if everything and _installed(environment, kind)]
    stores = with_base(environment, comparison, [kind(location) for kind in comparison.ours])
    at_best = [kind(location) for kind in comparison.limits if everything]
    return [*stores[:1], *libraries, *stores[1:], *at_best] if everything else stores


def _installed(environment: Environment, kind: type[Contender]) -> bool:
    if peers.installed(kind):
        return True
    environment.say(f'Left out: {kind.name}. "pip install .[benchmark]" installs it.')
    return False


def with_base(environment: Environment, comparison: Comparison, stores: Sequence[ours.Ours]) -> list[Contender]:
    """Return the base, if the plan selects it, and those stores of this package that have what they need."""
    base = comparison.base(environment.location)
    found: list[Contender] = [] if environment.plan.selection is Selection.OURS else [base]
    for store in stores:
        if store.known():
            found.append(store)
        else:
            environment.say(f'Left out: {store.name}, which this version of the package does not know.')
    return found


def stores_on(environment: Environment, *kinds: type[ours.Ours]) -> list[type[ours.Ours]]:
    """Return those kinds of stores that are on a backend of the plan and have the options that they need."""
    return [kind for kind in kinds if kind.type in environment.plan.backends and kind(environment.location).known()]
