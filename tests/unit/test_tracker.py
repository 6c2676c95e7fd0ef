"""What follows a Redis server, on scripted connections: what a real server does seldom, or at its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from learning_observer_kvs.errors import KVSError, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.change_feed import ChangeFeed, ChangeSource, Listener, Listeners
from learning_observer_kvs.stores.redis.invalidations import CHANNEL, Invalidations
from learning_observer_kvs.stores.redis.names import Names
from learning_observer_kvs.stores.redis.tracker import TrackedChanges, Tracker
from tests.support.watched import until


class Connection:
    """A connection that answers what it is asked, and gives the messages that a test puts in it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.sent: list[tuple[Any, ...]] = []
        self.waits: list[float | None] = []  # seconds for which a message was waited for
        self.messages: asyncio.Queue[Any] = asyncio.Queue()  # None where none came in that time

    async def connect(self) -> None:
        await self.server.gate.wait()
        if self.server.is_away:
            raise self.server.reason

    async def send_command(self, *command: Any) -> None:
        self.sent.append(command)
        if not self.server.is_silent:
            self.messages.put_nowait([b'subscribe'])

    async def read_response(self, **options: Any) -> Any:
        self.waits.append(options.get('timeout'))
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def disconnect(self, **options: Any) -> None:
        self.server.open.remove(self)
        if self.server.breaks:
            raise OSError('cut')


class Server:
    """A single server that may be away, or the masters of a cluster.

    Attributes:
        is_away, breaks: whether connecting, and disconnecting, is an error.
        is_silent: whether it does not answer commands.
        reason: why connecting is an error.
        error: what an error is to a caller; by default one that may recover.
        gate: connecting waits for it.
        open: the connections that are open.
        made: how many were made.
        names: of the servers.
        asked: how a cluster was asked for them.
    """

    timeout = 10.0
    connect_timeout = 10.0

    def __init__(self, *names: str) -> None:
        self.clustered = bool(names)
        self.names = list(names) or ['']
        self.is_away = self.breaks = self.is_silent = False
        self.reason: Exception = OSError('away')
        self.error: KVSError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.open: list[Connection] = []
        self.made = 0
        self.asked: list[bool] = []

    async def masters(self, *, refresh: bool = False) -> dict[str, Callable[[], Any]]:
        self.asked.append(refresh)
        if self.error is not None:
            raise self.error
        return {name: lambda name=name: self.make(name) for name in self.names}  # type: ignore[misc]

    def unavailable(self, error: BaseException) -> KVSError:
        return self.error or StoreUnavailable(str(error), retry=True)

    def make(self, name: str) -> Connection:
        self.made += 1
        self.open.append(Connection(self, name))
        return self.open[-1]

    def names_open(self) -> list[str]:
        return sorted(connection.name for connection in self.open)


def feed_of(tracker: Tracker) -> ChangeFeed:
    def source(feed: ChangeFeed) -> ChangeSource:
        return TrackedChanges(feed, tracker, Names('p:'), lambda cover: cover())

    return ChangeFeed(Listeners(), source)


async def next_of(listener: Listener) -> str | None:
    async with asyncio.timeout(12):
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
    wide, *listeners = [await feed.listen((prefix,)) for prefix in ('', 'a', 'ab')]
    feed.leave(wide)
    listeners.append(await feed.listen(('b',)))  # still there, though no listener is
    assert (len(server.open), server.made) == (1, 1)
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
    assert beginning.cancelled()
    await feed.closed()
    assert not server.open
    assert not feed.prefixes()


def tasks() -> list[str]:
    """What follows servers at present."""
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith('kvs changes'))


async def test_feeds_that_begin_at_once_share_one_connection() -> None:
    server = Server()
    tracker = Tracker(server, 10)
    feeds = [feed_of(tracker), feed_of(tracker)]
    await asyncio.gather(*(feed.listen((prefix,)) for feed, prefix in zip(feeds, 'ab', strict=True)))
    [connection] = server.open
    assert connection.sent[1][-4:] == ('PREFIX', 'p:a', 'PREFIX', 'p:b')
    assert tasks() == ['kvs changes: Redis']
    await tracker.close()
    assert not server.open
    assert not tasks()


async def test_a_feed_that_leaves_while_it_begins_leaves_no_connection() -> None:
    server = Server()
    tracker = Tracker(server, 10)
    feed = feed_of(tracker)
    server.gate.clear()
    beginning = asyncio.ensure_future(tracker.cover(feed, Names('')))
    await until(lambda: bool(server.open))
    leaving = asyncio.ensure_future(tracker.leave(feed))
    await asyncio.sleep(0)
    server.gate.set()
    await asyncio.gather(beginning, leaving)
    assert not server.open
    assert not tasks()


async def test_a_server_of_which_everything_is_followed_is_asked_for_no_prefix() -> None:
    server = Server()
    tracker = Tracker(server, 10)
    feed = ChangeFeed(Listeners(), lambda feed: TrackedChanges(feed, tracker, Names(''), lambda cover: cover()))
    await feed.listen(('',))
    [connection] = server.open
    assert connection.sent[1][-1] == 'BCAST'
    await tracker.close()


async def test_a_server_that_does_not_answer_is_away_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, 'timeout', 0.01)
    monkeypatch.setattr(Server, 'connect_timeout', 0.01)
    server = Server()
    server.gate.clear()
    with pytest.raises(StoreUnavailable):
        await feed_of(Tracker(server, 10)).listen(('a',))
    assert not server.open


async def test_a_server_that_cannot_be_followed_leaves_no_connection_to_the_others() -> None:
    server = Server('A', 'B')
    makes = await server.masters()

    def fail() -> Connection:
        raise OSError('no socket')

    async def masters(*, refresh: bool = False) -> dict[str, Callable[[], Any]]:
        return {'A': makes['A'], 'B': fail}

    server.masters = masters  # type: ignore[method-assign]
    server.gate.clear()
    beginning = asyncio.ensure_future(feed_of(Tracker(server, 10)).listen(('a',)))
    await until(lambda: bool(server.open))
    server.gate.set()
    with pytest.raises(OSError, match='no socket'):
        await beginning
    for _ in range(10):
        await asyncio.sleep(0)
    assert not server.open
    assert not tasks()


@pytest.mark.parametrize('is_begun', [False, True])
async def test_a_connection_is_closed_though_its_task_has_not_begun_or_ends_with_its_loop(is_begun: bool) -> None:
    server = Server()
    server.breaks = not is_begun  # which is no error of closing
    ignore: Any = lambda *arguments: None  # noqa: E731
    connection = Invalidations(lambda: server.make(''), (), 10, server.unavailable, ignore, ignore, ignore, 10)
    await connection.open()
    if is_begun:
        await asyncio.sleep(0)
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == 'kvs changes: Redis']
        task.cancel()
        await asyncio.wait([task])
    else:
        await connection.close()
    assert not server.open
    assert not tasks()


async def test_after_a_loss_nothing_is_missed_and_another_prefix_is_no_resync_any_more() -> None:
    server = Server()
    feed = feed_of(Tracker(server, 10))
    first = await feed.listen(('a',))
    server.open[0].messages.put_nowait(OSError('cut'))
    assert await next_of(first) is None
    second = await feed.listen(('b',))
    server.open[0].messages.put_nowait([b'message', b'', [b'p:a1', b'p:b1']])
    assert [await next_of(first), await next_of(second)] == ['a1', 'b1']
    feed.leave(first)
    feed.leave(second)
    await feed.closed()


async def test_another_prefix_is_no_resync_where_nothing_was_lost() -> None:
    server = Server()
    tracker = Tracker(server, 10)
    feed = feed_of(tracker)
    first = await feed.listen(('a',))
    await feed.listen(('b',))
    server.open[0].messages.put_nowait([b'message', b'', [b'p:a1']])
    assert await next_of(first) == 'a1'
    await tracker.close()


async def test_a_silent_server_is_asked_whether_it_is_there_and_lost_if_it_does_not_answer() -> None:
    server = Server()
    tracker = Tracker(server, 5)
    listener = await feed_of(tracker).listen(('a',))
    [connection] = server.open
    for number in range(2):
        connection.messages.put_nowait(None)
        await until(lambda number=number: len(connection.sent) == 4 + number)  # type: ignore[misc]
    connection.messages.put_nowait([b'message', b'', [b'p:a1']])
    assert await next_of(listener) == 'a1'
    assert connection.sent[2:] == [('SUBSCRIBE', CHANNEL)] * 3
    assert connection.waits[3:] == [5, 20, 5, 20, 5, 5]  # 20 s are the timeouts of the server
    server.is_silent = True
    connection.messages.put_nowait(None)
    connection.messages.put_nowait(None)
    await until(lambda: connection not in server.open)
    await tracker.close()


@pytest.mark.parametrize(
    ('reason', 'expected', 'retry'),
    [
        (
            ResponseError("unknown subcommand 'TRACKING'"),
            'CLIENT TRACKING is needed',
            False,
        ),
        (
            NoPermissionError('User x has no permissions to run it'),
            'this user needs +client',
            False,
        ),
        (ResponseError('LOADING'), 'Redis cannot be used: LOADING', True),
        (OSError('syntax error'), 'Redis cannot be used: syntax error', True),
    ],
    ids=repr,
)
async def test_a_server_that_cannot_announce_changes_says_what_is_needed(
    reason: Exception, expected: str, retry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    server.is_away, server.reason = True, reason
    away = lambda error: StoreUnavailable(f'Redis cannot be used: {error}. Look.', retry=True)  # noqa: E731
    monkeypatch.setattr(server, 'unavailable', away)
    with pytest.raises(StoreUnavailable) as raised:
        await feed_of(Tracker(server, 10)).listen(('a',))
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f'Redis cannot be used: {reason}. ')
    assert raised.value.retry is retry


async def test_closing_ends_a_connection_that_is_being_made_again() -> None:
    server = Server()
    tracker = Tracker(server, 10)
    await feed_of(tracker).listen(('a',))
    server.gate.clear()
    server.open[0].messages.put_nowait(OSError('cut'))
    await until(lambda: server.made == 2)
    async with asyncio.timeout(12):
        await tracker.close()
    assert not server.open
    assert not tasks()


@pytest.mark.parametrize('error', [StoreUnavailable('no right'), Overloaded('busy')])
async def test_a_feed_ends_where_a_server_refuses_it_for_good_and_only_there(
    error: KVSError, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    feed = feed_of(Tracker(server, 10))
    listener = await feed.listen(('a',))
    server.is_away, server.error = True, error
    server.open[0].messages.put_nowait(OSError('cut'))
    await until(lambda: server.made > 1)
    if isinstance(error, StoreUnavailable):
        with pytest.raises(StoreUnavailable, match='no right'):
            await next_of(listener)
        assert [record.getMessage() for record in caplog.records] == ['Changes cannot be announced any more: no right']
    else:
        server.is_away, server.error = False, None
        assert await next_of(listener) is None
        feed.leave(listener)
    await feed.closed()
    assert not server.open
    assert not tasks()


# A cluster


async def test_the_masters_of_a_cluster_are_asked_for_again_and_those_that_are_new_are_followed() -> None:
    server = Server('A', 'B')
    tracker = Tracker(server, 0.01)
    feed = feed_of(tracker)
    listener = await feed.listen(('',))
    assert tasks() == ['kvs changes: Redis', 'kvs changes: Redis', 'kvs changes: Redis Cluster']
    await until(lambda: len(server.asked) > 2)
    assert server.asked[:3] == [False, True, True]
    assert server.made == 2
    server.names = ['B', 'C']
    assert await next_of(listener) is None  # what C has announced before is not known
    await until(lambda: server.names_open() == ['B', 'C'])
    before = len(server.asked)
    await until(lambda: len(server.asked) > before + 1)
    assert (server.made, server.names_open()) == (3, ['B', 'C'])
    [connection] = [connection for connection in server.open if connection.name == 'C']
    assert connection.sent[1][-2:] == ('PREFIX', 'p:')
    connection.messages.put_nowait([b'message', b'', [b'p:c']])
    assert await next_of(listener) == 'c'
    feed.leave(listener)
    await feed.closed()
    assert not server.open
    assert not tasks()


async def test_masters_that_cannot_be_asked_for_are_asked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    server = Server('A', 'B')
    feed = feed_of(Tracker(server, 10))
    listener = await feed.listen(('',))
    monkeypatch.setattr(asyncio, 'sleep', pause)
    server.is_away, server.error = True, StoreUnavailable('away', retry=True)
    server.names = ['B', 'C']
    [lost] = [connection for connection in server.open if connection.name == 'A']
    lost.messages.put_nowait(OSError('cut'))
    await until(lambda: len(server.asked) > 3)
    assert 1.0 in pauses
    assert server.names_open() == ['B']
    server.is_away, server.error = False, None
    assert await next_of(listener) is None
    await until(lambda: server.names_open() == ['B', 'C'])
    feed.leave(listener)
    await feed.closed()


async def test_a_feed_that_comes_after_the_last_one_is_told_of_new_masters_too() -> None:
    server = Server('A')
    tracker = Tracker(server, 0.01)
    for _ in range(2):
        feed = feed_of(tracker)
        listeners = [await feed.listen(('a',)), await feed.listen(('b',))]
        assert tasks() == ['kvs changes: Redis', 'kvs changes: Redis Cluster']
        for listener in listeners:
            feed.leave(listener)
        await feed.closed()
        assert not tasks()
