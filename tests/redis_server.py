"""A real Redis for the tests: on a free loopback port, in a folder of its own, gone afterwards."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Self


class RedisServer:
    """Starts ``redis-server`` and stops it.

    Args:
        arguments: options of the server, such as ``'--requirepass', 'x'``; by default nothing is saved to disk.
        port: where it listens on 127.0.0.1; a free one if not given.
    """

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        self.arguments = arguments
        self.port = port or _free_port()
        self._folder = tempfile.mkdtemp(prefix='kvs-redis-')
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise RuntimeError('redis-server is not running.')
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            RuntimeError: there is no ``redis-server``, or it ends at once.
        """
        program = shutil.which('redis-server')
        if program is None:
            raise RuntimeError('redis-server was not found on the path; "sh tests/run.sh" installs it.')
        options = ['--bind', '127.0.0.1', '--port', str(self.port), '--dir', self._folder]
        options += ['--save', '', '--appendonly', 'no', '--loglevel', 'warning', *self.arguments]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(('127.0.0.1', self.port), 1):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f'redis-server did not start on port {self.port}.') from None
                time.sleep(0.005)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port: int = probe.getsockname()[1]
        return port
