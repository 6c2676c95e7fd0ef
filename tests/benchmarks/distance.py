"""A server that is far away: a proxy before it that delays every byte, in both directions, and throttles none.

    python -m tests.benchmarks.distance PORT MILLISECONDS

Prints the port that it listens on; ends when its standard input ends.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import subprocess
import sys
from collections import deque
from types import TracebackType
from typing import Self, cast


class End(asyncio.Protocol):
    """One end of a connection: what it receives is sent at the other end, later.

    Args:
        seconds: how much later.
    """

    def __init__(self, seconds: float) -> None:
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[bytes | None] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.get_extra_info('socket').setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._send_later(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._send_later(None)

    def _send_later(self, data: bytes | None) -> None:
        self._under_way.append(data)
        self._loop.call_later(self._seconds, self._arrive)

    def _arrive(self) -> None:
        data = self._under_way.popleft()
        assert self.other is not None
        assert self.other.transport is not None
        if data is None:
            self.other.transport.close()
        else:
            self.other.transport.write(data)


async def serve(port: int, seconds: float) -> None:
    """Serve until standard input ends.

    Args:
        port: the server's, on 127.0.0.1.
        seconds: how far away it is, each way.
    """
    loop = asyncio.get_running_loop()
    opening: set[asyncio.Task[None]] = set()

    class Near(End):
        """The end of the client."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert self.transport is not None
            self.transport.pause_reading()
            task = loop.create_task(self._open())
            opening.add(task)
            task.add_done_callback(opening.discard)

        async def _open(self) -> None:
            assert self.transport is not None
            _, self.other = await loop.create_connection(lambda: End(seconds), '127.0.0.1', port)
            self.other.other = self
            self.transport.resume_reading()

    listener = await loop.create_server(lambda: Near(seconds), '127.0.0.1', 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main(port: int, milliseconds: float) -> None:
    """Run the proxy. Its loop waits by ``select``, because ``epoll`` rounds delays up to whole milliseconds."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(port, milliseconds / 1000))


class Distance:
    """Such a proxy in another process, for as long as the block lasts.

    Args:
        port: the server's, on 127.0.0.1.
        milliseconds: how far away it is, each way.

    Attributes:
        port: where it is reached from afar.
        pid: the id of the process.
    """

    def __init__(self, port: int, milliseconds: float) -> None:
        self._arguments = [str(port), str(milliseconds)]
        self.port = 0
        self.pid = 0

    def __enter__(self) -> Self:
        command = [sys.executable, '-m', 'tests.benchmarks.distance', *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port, self.pid = int(self._process.stdout.readline()), self._process.pid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


if __name__ == '__main__':
    main(int(sys.argv[1]), float(sys.argv[2]))
