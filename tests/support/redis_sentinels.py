"""A master, its replicas and three Sentinels for the tests, on free loopback ports."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from tests.support.redis_server import USUAL, RedisServer, free_port, program_path, until

SERVICE = 'class'

HELD_BACK = 10_000
"""Milliseconds for which a master holds writes back; the Sentinels make it a replica some time later."""


class Sentinels:
    """A context manager: starts them all, and stops them.

    Args:
        arguments: options of the master and of its replicas.
        replicas: how many there are.
        lines: of the configuration of each Sentinel.
        password: of the Sentinels, if the lines say that they want one.
        server_password: of the master and of its replicas, if the arguments say so.
    """

    def __init__(
        self,
        *arguments: str,
        replicas: int = 1,
        lines: tuple[str, ...] = (),
        password: str | None = None,
        server_password: str | None = None,
    ) -> None:
        # A replica that is behind under load catches up, and is not cut off to begin anew.
        patient = ('--client-output-buffer-limit', 'replica', '0', '0', '0', '--repl-backlog-size', '256mb')
        quick = (*arguments, '--repl-diskless-sync-delay', '0', *patient)
        self.master = RedisServer(*quick)
        of_master = ('--replicaof', '127.0.0.1', str(self.master.port))
        self.replicas = [RedisServer(*quick, *of_master) for _ in range(replicas)]
        self.replica = self.replicas[0]
        self._servers = (*self.replicas, self.master)
        self.ports = [free_port() for _ in range(3)]
        self._lines = lines
        self._password = password
        self._server_password = server_password
        self._folder = Path(tempfile.mkdtemp(prefix='kvs-sentinels-'))
        self._named = self.master.port
        self._processes: list[subprocess.Popen[bytes]] = []

    def addresses(self) -> list[str]:
        """Return where the Sentinels are, as the settings have it."""
        return [f'127.0.0.1:{port}' for port in self.ports]

    def fail_over(self) -> None:
        """Kill the master, and wait until the Sentinels have made another server the master."""
        self.master.stop()
        self.until_moved()

    def plan_fail_over(self) -> None:
        """Have the first Sentinel make a replica the master, though the master works; it goes on after this returns."""
        with self.client(self.ports[0]) as client:
            until(lambda: _accepted(client), 'a Sentinel to accept a fail-over')

    def tolerate(self, milliseconds: int) -> None:
        """Set how long the master may be away before the Sentinels fail over; 300 at first.

        Args:
            milliseconds: how long.
        """
        for port in self.ports:
            with self.client(port) as client:
                client.sentinel_set(SERVICE, 'down-after-milliseconds', milliseconds)

    def fail_over_without_loss(self) -> None:
        """Make the replica the master as an operator does who wants to lose nothing.

        The master holds writes back from when the replica has all that was written until clients follow the Sentinels,
        so none is acknowledged that the new master lacks.
        """
        until(self._replicates, 'the replica', 300)  # it has much to read after a long load
        with self.master.client() as master:
            master.client_pause(HELD_BACK, all=False)
            until(lambda: _lag(master) == 0, 'the replica to have everything', 60)
            self.plan_fail_over()
            self.until_moved()
        self.master, self.replica = self.replica, self.master

    def until_moved(self) -> None:
        """Wait until all Sentinels name the same server as the master, and not the one that they named before."""
        before = self._named

        def moved() -> bool:
            named = {self._state(port)['port'] for port in self.ports}
            self._named = named.pop()
            return not named and self._named not in (before, 0)

        until(moved, 'a new master')

    def client(self, port: int) -> Redis:
        """Return a client of a Sentinel.

        Args:
            port: the Sentinel's.
        """
        return Redis(host='127.0.0.1', port=port, password=self._password)

    def start_sentinels(self) -> None:
        """Start the Sentinels, and wait until they know each other."""
        for port in self.ports:
            command = [program_path(USUAL), str(self._folder / f'{port}.conf'), '--sentinel']
            self._processes.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
            )
        until(lambda: all(self._complete(port) for port in self.ports), 'the Sentinels to know each other')

    def stop_sentinels(self) -> None:
        """Kill the Sentinels."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.master.start()
        for replica in self.replicas:
            replica.start()
        until(self._replicates, 'the replicas')
        for port in self.ports:
            self._folder.joinpath(f'{port}.conf').write_text(
                '\n'.join(
                    [
                        f'port {port}',
                        'bind 127.0.0.1',
                        f'dir {self._folder}',
                        'loglevel warning',
                        f'sentinel monitor {SERVICE} 127.0.0.1 {self.master.port} 2',
                        f'sentinel down-after-milliseconds {SERVICE} 300',
                        f'sentinel failover-timeout {SERVICE} 3000',
                        *self._lines,
                        '',
                    ]
                )
            )
        self.start_sentinels()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_sentinels()
        for server in self._servers:
            server.__exit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _replicates(self) -> bool:
        with Redis(host='127.0.0.1', port=self.master.port, password=self._server_password) as client:
            info: Any = client.info('replication')
        return all(info.get(f'slave{number}', {}).get('state') == 'online' for number in range(len(self.replicas)))

    def _state(self, port: int) -> dict[str, int]:
        with contextlib.suppress(RedisError), self.client(port) as client:
            found = client.sentinel_master(SERVICE)
            return {word: int(found[word]) for word in ('port', 'num-slaves', 'num-other-sentinels')}
        return {'port': 0, 'num-slaves': 0, 'num-other-sentinels': 0}

    def _complete(self, port: int) -> bool:
        state = self._state(port)
        return state['num-slaves'] == len(self.replicas) and state['num-other-sentinels'] == 2


def _lag(master: Redis) -> int:
    info: Any = master.info('replication')
    return int(info['master_repl_offset']) - int(info['slave0']['offset'])


def _accepted(sentinel: Redis) -> bool:
    try:
        sentinel.sentinel_failover(SERVICE)
    except ResponseError:  # it has not heard from the replica yet
        return False
    return True
