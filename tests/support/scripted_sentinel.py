"""A Sentinel that says what a test wants, so that Sentinels can disagree, stand still, or be stuck in a fail-over."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from hiredis import Reader

from tests.support.redis_server import free_port


class ScriptedSentinel:
    """A context manager: listens on a free port of 127.0.0.1.

    Args:
        master: the port of the master it names; it is on 127.0.0.1.
        epoch: the version of that.
    """

    def __init__(self, master: int, epoch: int = 0) -> None:
        self.port = free_port()
        self.questions = 0
        """How often it was asked for the master."""
        self.followers = 0
        """How many connections follow its events."""
        self.pings = 0
        """How often it was asked whether it is there."""
        self.refuses_to_be_followed = False
        self.mute = False
        """Whether it answers nothing more."""
        self._master, self._epoch, self._state = master, epoch, ''
        self._changed = asyncio.Condition()
        self._subscribed: set[asyncio.StreamWriter] = set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._listener: asyncio.Server | None = None

    async def until(self, *, followers: int | None = None, pings: int = 0, questions: int = 0) -> None:
        """Wait until so many connections follow its events, and it was pinged and asked so often."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: followers in (None, self.followers) and self.pings >= pings and self.questions >= questions
            )

    def say(self, *, master: int | None = None, epoch: int | None = None, state: str = '') -> None:
        """Change what it answers, and publish an event.

        Args:
            master: the port of the master.
            epoch: the version of that.
            state: of the fail-over that it leads; none if empty.
        """
        self._master = self._master if master is None else master
        self._epoch = self._epoch if epoch is None else epoch
        self._state = state
        for writer in self._subscribed:
            writer.write(_array(b'pmessage', b'*', b'+switch-master', b'anything'))

    async def start(self) -> None:
        """Listen; after a stop on the same port."""
        self._listener = await asyncio.start_server(self._serve, '127.0.0.1', self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close all connections, and refuse new ones."""
        assert self._listener is not None
        self._listener.close()
        for writer in self._connections.values():
            writer.close()
        await asyncio.gather(*self._connections)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        parser = Reader()
        try:
            while data := await reader.read(1 << 16):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    reply = await self._reply([word.upper() for word in command], writer)
                    writer.write(b'' if self.mute else reply)
        except ConnectionError:
            pass
        finally:
            del self._connections[task]
            self._subscribed.discard(writer)
            await self._count()
            writer.close()

    async def _reply(self, command: list[bytes], writer: asyncio.StreamWriter) -> bytes:
        match command[:2]:
            case [b'PSUBSCRIBE', _]:
                if self.refuses_to_be_followed:
                    return b'-NOPERM this user has no permissions to access one of the channels\r\n'
                self._subscribed.add(writer)
                await self._count()
                return b'*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n'
            case [b'PING', *_]:
                self.pings += 1
                await self._count()
                return _array(b'pong', b'')
            case [b'SENTINEL', b'MASTER']:
                self.questions += 1
                await self._count()
                state = (b'failover-state', self._state.encode()) if self._state else ()
                return _array(b'name', command[2], b'config-epoch', b'%d' % self._epoch, *state)
            case [b'SENTINEL', _]:
                return _array(b'127.0.0.1', b'%d' % self._master)
            case _:
                return b'+OK\r\n'

    async def _count(self) -> None:
        async with self._changed:
            self.followers = len(self._subscribed)
            self._changed.notify_all()


def _array(*items: bytes) -> bytes:
    return b'*%d\r\n' % len(items) + b''.join(b'$%d\r\n%s\r\n' % (len(item), item) for item in items)
