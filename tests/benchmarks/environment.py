"""What a run has: a plan, a folder, a Redis of its own, and somebody to tell how far it is."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contender import Place
from tests.benchmarks.machine import pinned
from tests.benchmarks.measure import Plan
from tests.benchmarks.results import Say
from tests.support.redis_server import RedisServer


@dataclass(frozen=True)
class Environment:
    """What cases are given.

    Attributes:
        plan: how much to do.
        place: where contenders may keep things.
        server: the Redis behind ``place.port``.
        say: takes lines of progress.
    """

    plan: Plan
    place: Place
    server: RedisServer
    say: Say

    @contextlib.contextmanager
    def pinned(self, *, to_redis: bool) -> Iterator[None]:
        """While a case with Redis lasts, the server has a core of its own; others may use all cores."""
        if not to_redis:
            yield
            return
        with pinned(self.server.pid):
            yield


@contextlib.contextmanager
def environment(plan: Plan, say: Say) -> Iterator[Environment]:
    """A folder and a Redis that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix='kvs-benchmark-') as folder, RedisServer() as server:
        yield Environment(plan, Place(Path(folder), server.port), server, say)
