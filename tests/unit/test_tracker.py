"""What follows a Redis server, on scripted connections: what a real server does seldom, or at its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from learning_observer_kvs.errors import KVSError, StoreUnavailable
from learning_observer_kvs.stores.change_feed import ChangeFeed, ChangeSource, Listener
from learning_observer_kvs.stores.redis.names import Names
from learning_observer_kvs.stores.redis.tracker import TrackedChanges, Tracker
from tests.support.watched import until


class Connection:
    """A connection that answers what it is asked, and gives the messages that a test puts in it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sent: list[tuple[Any, ...]] = []
        self.messages: asyncio.Queue[Any] = asyncio.Queue()

    async def connect(self) -> None:
        if self.server.is_away:
            raise OSError('away')

    async def send_command(self, *command: Any) -> None:
        self.sent.append(command)
        self.messages.put_nowait([b'subscribe'])

    async def read_response(self, **options: Any) -> Any:
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def disconnect(self, **options: Any) -> None:
        self.server.open.remove(self)


class Server:
    """A single server that may be away."""

    clustered = False
    timeout = 10.0
    connect_timeout = 10.0

    def __init__(self) -> None:
        self.is_away = False
        self.open: list[Connection] = []

    async def masters(self, *, refresh: bool = False) -> dict[str, Callable[[], Any]]:
        return {'': self._make}

    def unavailable(self, error: BaseException) -> KVSError:
        return StoreUnavailable(str(error), retry=True)

    def _make(self) -> Connection:
        self.open.append(Connection(self))
        return self.open[-1]


def feed_of(tracker: Tracker) -> ChangeFeed:
    def source(feed: ChangeFeed) -> ChangeSource:
        return TrackedChanges(feed, tracker, Names('p:'), lambda cover: cover())

    return ChangeFeed({}, source)


async def next_of(listener: Listener) -> str | None:
    async with asyncio.timeout(10):
        await listener.wait()
    return listener.take()


async def test_what_was_missed_before_another_prefix_was_added_is_a_resync() -> None:
    server = Server()
    feed = feed_of(Tracker(server, 10))
    first = await feed.listen(('a',))
    [connection] = server.open
    server.is_away = True
    connection.messages.put_nowait(OSError('cut'))
    await until(lambda: connection not in server.open)
    server.is_away = False
    second = await feed.listen(('b',))  # before the pause is over after which the first connection is made again
    assert [await next_of(first), await next_of(second)] == [None, None]
    [connection] = server.open
    assert connection.sent[1][-4:] == ('PREFIX', 'p:a', 'PREFIX', 'p:b')
    connection.messages.put_nowait([b'message', b'', [b'p:a1', b'p:b1', b'p:\x00lo-kvs:writer:1', b'q:a']])
    assert [await next_of(first), await next_of(second)] == ['a1', 'b1']
    for listener in (first, second):
        feed.leave(listener)
    await feed.closed()
    assert not server.open


async def test_a_narrower_prefix_needs_no_other_connection() -> None:
    server = Server()
    feed = feed_of(Tracker(server, 10))
    listeners = [await feed.listen((prefix,)) for prefix in ('', 'a', 'ab')]
    assert len(server.open) == 1
    for listener in listeners:
        feed.leave(listener)
    await feed.closed()


async def test_a_beginning_that_is_cancelled_leaves_no_connection() -> None:
    server = Server()
    feed = feed_of(Tracker(server, 10))
    beginning = asyncio.create_task(feed.listen(('a',)))
    await until(lambda: bool(server.open))
    beginning.cancel()
    await asyncio.wait([beginning])
    await feed.closed()
    assert not server.open
    assert not feed.prefixes()
