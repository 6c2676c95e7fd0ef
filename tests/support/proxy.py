"""A proxy before Redis that injects faults: between two commands, in the middle of a reply, or for a while.

It reads the protocol, so that a fault hits one command and the test knows when.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import NamedTuple, Self

from learning_observer_kvs.stores.redis.connection import RedisConnection


class Fault(enum.Enum):
    """What can happen to a command."""

    DROP_REQUEST = 'the connection is cut before the server has it'
    DROP_REPLY = 'the server carries it out, and the connection is cut before its reply'
    CUT_REPLY = 'the same, in the middle of its reply'
    HALF_CLOSE = 'the server carries it out, and closes its side of the connection before its reply'
    RESET = 'the server carries it out, and the connection is reset'
    GARBAGE = 'the server carries it out, and what comes in place of its reply is not the protocol of Redis'
    OTHER_REPLY = 'the server carries it out, and another reply of Redis comes in place of its own'
    HOLD_REPLY = 'its reply, and what comes behind it, waits until it is released'


class Injected(NamedTuple):
    """A fault, the event that it has happened, and whether nothing more is passed on then."""

    fault: Fault
    happened: asyncio.Event
    pause: bool


class Proxy:
    """A context manager: listens on a free port of 127.0.0.1 and passes everything on to a server there.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.port = 0
        self.faults = 0
        """How many have happened."""
        self.accepted = 0
        """How many connections have been opened."""
        self._armed: deque[tuple[Callable[[bytes], bool], Injected]] = deque()
        self._released = asyncio.Event()
        self._gates: set[asyncio.Event] = set()
        self._closed_to_new = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    def connection(self) -> RedisConnection:
        """Make a connection through it that waits half a second for a reply."""
        return RedisConnection({'redis_host': '127.0.0.1', 'redis_port': self.port, 'redis_timeout': 0.5})

    def inject(self, fault: Fault, hits: Callable[[bytes], bool] | bytes, *, pause: bool = False) -> asyncio.Event:
        """Let a fault happen to the next command that matches.

        Args:
            fault: what happens.
            hits: whether a command, as it is sent, matches; or some bytes in it.
            pause: whether nothing more is passed on once it has happened.

        Returns:
            An event that is set when it has happened.
        """
        if isinstance(hits, bytes):
            part = hits
            hits = lambda command: part in command  # noqa: E731
        injected = Injected(fault, asyncio.Event(), pause)
        self._armed.append((hits, injected))
        return injected.happened

    def release(self) -> None:
        """Pass on the replies that are held."""
        self._released.set()

    def pause(self, *, new_too: bool = True) -> None:
        """Pass nothing on, with all connections open.

        Args:
            new_too: also on connections that are opened after this.
        """
        self._closed_to_new = new_too
        for gate in self._gates:
            gate.clear()

    def resume(self) -> None:
        """Pass on again, also what came in between, and on connections that were closed since."""
        self._closed_to_new = False
        for gate in self._gates:
            gate.set()

    def cut(self) -> None:
        """Close all connections; those that are opened again go to ``server_port``, which may be another one now."""
        for writer in list(self._writers):
            writer.close()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, '127.0.0.1', 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection('127.0.0.1', self.server_port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, server_writer}
        faults: deque[Injected | None] = deque()
        gate = asyncio.Event()
        if not self._closed_to_new:
            gate.set()
        self._gates.add(gate)
        try:
            pumps = [
                asyncio.create_task(self._requests(reader, server_writer, faults, gate)),
                asyncio.create_task(self._replies(server_reader, writer, faults, gate)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                for injected in faults:  # the client was killed before: its reply is lost all the same
                    if injected is not None:
                        self._happened(injected)
        finally:
            self._gates.discard(gate)
            for end in (writer, server_writer):
                end.close()
                self._writers.discard(end)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        faults: deque[Injected | None],
        gate: asyncio.Event,
    ) -> None:
        async for command in _messages(reader):
            await gate.wait()
            injected = None
            if self._armed and self._armed[0][0](command):
                _, injected = self._armed.popleft()
                if injected.fault is Fault.DROP_REQUEST:
                    self._happened(injected)
                    return
            faults.append(injected)
            server.write(command)
            await server.drain()

    async def _replies(
        self,
        server: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        faults: deque[Injected | None],
        gate: asyncio.Event,
    ) -> None:
        async for reply in _messages(server):
            await gate.wait()
            injected = faults.popleft() if faults else None  # what was subscribed to answers no command
            if injected is not None:
                self._happened(injected)
            match injected and injected.fault:
                case Fault.DROP_REPLY:
                    return
                case Fault.CUT_REPLY:
                    writer.write(reply[: max(1, len(reply) // 2)])
                    return
                case Fault.RESET:
                    plug: socket.socket = writer.get_extra_info('socket')
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                    writer.transport.abort()
                    return
                case Fault.HALF_CLOSE:
                    writer.write_eof()
                    await asyncio.Event().wait()
                case Fault.GARBAGE:
                    reply = b'HTTP/1.1 502 Bad Gateway\r\n\r\n'
                case Fault.OTHER_REPLY:
                    reply = b'$-1\r\n' if reply != b'$-1\r\n' else b':5\r\n'
                case Fault.HOLD_REPLY:
                    await self._released.wait()
            writer.write(reply)
            await writer.drain()

    def _happened(self, injected: Injected) -> None:
        self.faults += 1
        injected.happened.set()
        if injected.pause:
            self.pause()


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield whole commands or replies, as they are on the wire."""
    data = bytearray()
    while True:
        end = _end(data, 0)
        while end is not None:
            yield bytes(data[:end])
            del data[:end]
            end = _end(data, 0)
        try:
            more = await reader.read(1 << 16)
        except ConnectionError:
            return
        if not more:
            return
        data += more


def _end(data: bytearray, start: int) -> int | None:
    """Return where a message of RESP 2 that begins at an offset ends; ``None`` if it is not complete."""
    line = data.find(b'\r\n', start)
    if line < 0:
        return None
    kind, position = data[start : start + 1], line + 2
    if kind == b'$':
        length = int(data[start + 1 : line])
        position += length + 2 if length >= 0 else 0
        return position if position <= len(data) else None
    if kind == b'*':
        for _ in range(int(data[start + 1 : line])):
            inner = _end(data, position)
            if inner is None:
                return None
            position = inner
    return position
