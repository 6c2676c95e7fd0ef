"""What a run has: a plan, a directory, a Redis, and what prints its progress."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contender import Location
from tests.benchmarks.machine import pinned
from tests.benchmarks.measure import Plan
from tests.benchmarks.results import Say
from tests.support.redis_server import RedisServer


@dataclass(frozen=True)
class Environment:
    """What cases get.

    Attributes:
        plan: how much to do.
        location: where contenders may keep things.
        server: the Redis behind ``location.port``.
        say: gets lines of progress.
    """

    plan: Plan
    location: Location
    server: RedisServer
    say: Say

    @contextlib.contextmanager
    def pinned(self, *others: int, to_redis: bool) -> Iterator[None]:
        """While a case with Redis lasts, keep the server and others off the core of this process.

        Args:
            others: ids of processes that run where the server does.
            to_redis: whether the case is with Redis; if not, all processes may use all cores.
        """
        if not to_redis:
            yield
            return
        with pinned(self.server.pid, *others):
            yield


@contextlib.contextmanager
def environment(plan: Plan, say: Say) -> Iterator[Environment]:
    """Make a directory and start a Redis; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix='kvs-benchmark-') as directory, RedisServer() as server:
        yield Environment(plan, Location(Path(directory), server.port), server, say)
