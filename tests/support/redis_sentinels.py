"""A master, a replica and three Sentinels for the tests, on free loopback ports."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from tests.support.redis_server import RedisServer, free_port, until

SERVICE = 'class'

HELD_BACK = 10_000
"""Milliseconds for which a master holds writes back; the Sentinels make it a replica some time later."""


class Sentinels:
    """A context manager: starts them all, and stops them.

    Args:
        arguments: options of the master and its replica.
    """

    def __init__(self, *arguments: str) -> None:
        quick = ('--repl-diskless-sync-delay', '0', *arguments)
        self.master = RedisServer(*quick)
        self.replica = RedisServer(*quick, '--replicaof', '127.0.0.1', str(self.master.port))
        self.ports = [free_port() for _ in range(3)]
        self._folder = Path(tempfile.mkdtemp(prefix='kvs-sentinels-'))
        self._processes: list[subprocess.Popen[bytes]] = []

    def addresses(self) -> list[str]:
        """Return where the Sentinels are, as the settings have it."""
        return [f'127.0.0.1:{port}' for port in self.ports]

    def fail_over(self) -> None:
        """Kill the master, and wait until the Sentinels have made the replica the master."""
        self.master.stop()
        until(lambda: all(self._state(port)['port'] == self.replica.port for port in self.ports), 'a new master')

    def tolerate(self, milliseconds: int) -> None:
        """Set how long the master may be away before the Sentinels fail over; 300 at first.

        Args:
            milliseconds: how long.
        """
        for port in self.ports:
            with Redis(host='127.0.0.1', port=port) as client:
                client.sentinel_set(SERVICE, 'down-after-milliseconds', milliseconds)

    def fail_over_without_loss(self) -> None:
        """Make the replica the master as an operator does who wants to lose nothing.

        The master holds writes back from when the replica has all that was written until clients follow the Sentinels,
        so none is acknowledged that the new master lacks.
        """
        until(self._replicates, 'the replica')
        with self.master.client() as master, Redis(host='127.0.0.1', port=self.ports[0]) as sentinel:
            master.client_pause(HELD_BACK, all=False)
            until(lambda: self._lag(master) == 0, 'the replica to have everything')
            sentinel.execute_command('SENTINEL', 'FAILOVER', SERVICE)
            until(lambda: all(self._state(port)['port'] == self.replica.port for port in self.ports), 'a new master')
        self.master, self.replica = self.replica, self.master

    def __enter__(self) -> Self:
        self.master.start()
        self.replica.start()
        until(self._replicates, 'the replica')
        program = shutil.which('redis-server')
        assert program is not None
        for port in self.ports:
            settings = self._folder / f'{port}.conf'
            settings.write_text(
                f'port {port}\nbind 127.0.0.1\ndir {self._folder}\nloglevel warning\n'
                f'sentinel monitor {SERVICE} 127.0.0.1 {self.master.port} 2\n'
                f'sentinel down-after-milliseconds {SERVICE} 300\nsentinel failover-timeout {SERVICE} 3000\n'
            )
            self._processes.append(
                subprocess.Popen(
                    [program, str(settings), '--sentinel'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        until(lambda: all(self._complete(port) for port in self.ports), 'the Sentinels to know each other')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.replica.__exit__(kind, error, trace)
        self.master.__exit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lag(self, master: Redis) -> int:
        found = master.info('replication')
        return int(found['master_repl_offset']) - int(found['slave0']['offset'])

    def _replicates(self) -> bool:
        with self.master.client() as client:
            found = client.info('replication').get('slave0', {})
        return bool(found.get('state') == 'online')

    def _state(self, port: int) -> dict[str, int]:
        with contextlib.suppress(RedisError), Redis(host='127.0.0.1', port=port) as client:
            found = client.sentinel_master(SERVICE)
            return {word: int(found[word]) for word in ('port', 'num-slaves', 'num-other-sentinels')}
        return {'port': 0, 'num-slaves': 0, 'num-other-sentinels': 0}

    def _complete(self, port: int) -> bool:
        state = self._state(port)
        return state['num-slaves'] == 1 and state['num-other-sentinels'] == 2
