"""Another client of the server: asks it something every millisecond, and says how long it waited at most.

    python -m tests.benchmarks.pinger PORT

Prints a line when it begins; its answer, in milliseconds, when its standard input ends.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self


def main(port: int) -> None:
    """Ask until standard input ends."""
    longest = 0.0
    with socket.create_connection(('127.0.0.1', port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print('asking', flush=True)
        while not select.select([sys.stdin], [], [], 0.001)[0]:
            started = time.perf_counter()
            connection.sendall(b'PING\r\n')
            connection.recv(64)
            longest = max(longest, time.perf_counter() - started)
    print(longest * 1000)


class Pinger:
    """Such a client in another process, for as long as the block lasts.

    Attributes:
        longest: how many milliseconds it waited at most.
    """

    def __init__(self, port: int) -> None:
        self.longest = 0.0
        self._port = port

    def __enter__(self) -> Self:
        command = [sys.executable, '-m', 'tests.benchmarks.pinger', str(self._port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, _ = self._process.communicate()
        self.longest = float(out)


if __name__ == '__main__':
    main(int(sys.argv[1]))
