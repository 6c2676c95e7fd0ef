"""Changes from a log that is looked at again and again: begun once, read after a write, ended with its last reader."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import polled
from learning_observer_kvs.stores.change_feed import ChangeFeed, Listener, Listeners
from learning_observer_kvs.stores.polled import PolledChanges

NEVER = 3600.0


class Log:
    """A log that gives what a test puts in it; an error is raised.

    Attributes:
        steps: what was done with it, in order.
        begin_errors: what ``begin`` raises, the last one first.
        may_begin: when it begins.
        end_error: what ``end`` raises.
        is_read: it has been looked at.
    """

    def __init__(self) -> None:
        self.replies: asyncio.Queue[Collection[str] | Exception | None] = asyncio.Queue()
        self.steps: list[str] = []
        self.begin_errors: list[Exception] = []
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.end_error: Exception | None = None
        self.is_read = asyncio.Event()

    async def begin(self) -> None:
        self.steps.append('begin')
        await self.may_begin.wait()
        if self.begin_errors:
            raise self.begin_errors.pop()

    async def read(self) -> Collection[str] | None:
        self.steps.append('read')
        self.is_read.set()
        try:
            reply = await self.replies.get()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.steps.append('read given up')
            raise
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def end(self) -> None:
        self.steps.append('end')
        if self.end_error is not None:
            raise self.end_error


class Clock:
    """A time that passes when a test says so, and for how long the log had failed at each pause."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        monkeypatch.setattr(polled, 'monotonic', lambda: self.now)
        monkeypatch.setattr(polled, 'pause_after', self._pause_after)

    def _pause_after(self, seconds: float) -> float:
        self.pauses.put_nowait(seconds)
        return 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is looked at often."""
    monkeypatch.setattr(polled, 'INTERVAL', 0.005)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is looked at when this process has written."""
    monkeypatch.setattr(polled, 'INTERVAL', NEVER)


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
async def feed(log: Log) -> ChangeFeed:
    return ChangeFeed(Listeners(), lambda feed: PolledChanges(feed, log, lambda begin: begin()))


async def next_of(listener: Listener) -> str | None:
    async with asyncio.timeout(10):
        await listener.wait()
    return listener.take()


async def settled() -> None:
    """Let the tasks run on until they wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)


def tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith('kvs changes')]


async def left(feed: ChangeFeed, listener: Listener) -> None:
    feed.leave(listener)
    await feed.closed()


@pytest.mark.usefixtures('quick')
async def test_a_log_that_cannot_be_read_for_a_while_is_read_again(log: Log, feed: ChangeFeed) -> None:
    listener = await feed.listen(('',))
    for reply in (StoreUnavailable('locked', retry=True), Overloaded('busy'), ['k'], None, ()):
        log.replies.put_nowait(reply)
    assert await next_of(listener) == 'k'
    assert await next_of(listener) is None
    await left(feed, listener)


@pytest.mark.usefixtures('quick')
async def test_it_is_logged_once_that_a_log_cannot_be_read_for_long(
    log: Log, feed: ChangeFeed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, pauses = Clock(monkeypatch), list[float]()
    listener = await feed.listen(('',))

    async def fail(*seconds: float) -> None:
        began = clock.now
        for number in seconds:
            clock.now = began + number
            log.replies.put_nowait(Overloaded(f'{number}'))
            async with asyncio.timeout(10):
                pauses.append(await clock.pauses.get())

    await fail(0, 9)
    assert caplog.messages == []
    await fail(1, 2)
    assert caplog.messages == ['Changes are announced later, because their log cannot be read: 1']
    log.replies.put_nowait(['k'])
    assert await next_of(listener) == 'k'
    await fail(0, 9)
    assert len(caplog.messages) == 1
    await fail(1)
    assert len(caplog.messages) == 2
    assert pauses == [0, 9, 10, 11, 0, 9, 10]
    await left(feed, listener)


@pytest.mark.usefixtures('asked')
async def test_what_this_process_has_written_is_looked_for_at_once_and_once(log: Log, feed: ChangeFeed) -> None:
    listener = await feed.listen(('',))
    await settled()
    assert log.steps == ['begin']
    log.replies.put_nowait(['k'])
    feed.look()
    assert await next_of(listener) == 'k'
    await settled()
    assert log.steps == ['begin', 'read']
    await left(feed, listener)
    feed.look()


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('error', [StoreUnavailable('replaced'), RuntimeError('replaced')])
async def test_a_log_that_cannot_be_read_any_more_ends_the_iterators_with_its_error(
    error: Exception, log: Log, feed: ChangeFeed
) -> None:
    listener = await feed.listen(('',))
    log.replies.put_nowait(error)
    with pytest.raises(type(error), match='replaced'):
        await next_of(listener)
    with pytest.raises(StopAsyncIteration):
        await next_of(listener)
    await feed.closed()
    assert log.steps == ['begin', 'read', 'end']
    assert tasks() == []


@pytest.mark.usefixtures('quick')
async def test_a_log_that_cannot_be_begun_is_an_error_at_once_and_may_be_begun_later(
    log: Log, feed: ChangeFeed
) -> None:
    log.begin_errors = [StoreUnavailable('read-only')]
    with pytest.raises(StoreUnavailable, match='read-only'):
        await feed.listen(('',))
    assert feed.prefixes() == set()
    await feed.closed()
    listener = await feed.listen(('',))
    log.replies.put_nowait(['k'])
    assert await next_of(listener) == 'k'
    await left(feed, listener)


async def test_a_source_whose_log_could_not_be_begun_begins_it_for_the_next_iterator(
    log: Log, feed: ChangeFeed
) -> None:
    source = PolledChanges(feed, log, lambda begin: begin())
    log.begin_errors = [StoreUnavailable('read-only')]
    with pytest.raises(StoreUnavailable, match='read-only'):
        await source.cover()
    await source.cover()
    assert log.steps == ['begin', 'begin']
    await source.close()


@pytest.mark.usefixtures('asked')
async def test_a_log_is_begun_once_for_all_iterators(log: Log, feed: ChangeFeed) -> None:
    log.may_begin.clear()
    beginning = [asyncio.ensure_future(feed.listen((prefix,))) for prefix in 'ab']
    await settled()
    log.may_begin.set()
    listeners = [*await asyncio.gather(*beginning), await feed.listen(('c',))]
    assert (log.steps, tasks()) == (['begin'], ['kvs changes'])
    feed.leave(listeners.pop())
    feed.leave(listeners.pop())
    await settled()
    assert (log.steps, tasks()) == (['begin'], ['kvs changes'])
    await left(feed, listeners.pop())
    assert (log.steps, tasks()) == (['begin', 'end'], [])


@pytest.mark.usefixtures('asked')
async def test_an_iterator_that_leaves_while_the_log_is_begun_leaves_nothing_behind(log: Log, feed: ChangeFeed) -> None:
    log.may_begin.clear()
    beginning = asyncio.ensure_future(feed.listen(('',)))
    await settled()
    beginning.cancel()
    await asyncio.wait([beginning])
    await feed.closed()
    assert (log.steps, tasks(), feed.prefixes()) == (['begin', 'end'], [], set())


@pytest.mark.usefixtures('quick')
async def test_a_log_is_ended_when_it_is_looked_at_no_more(log: Log, feed: ChangeFeed) -> None:
    listener = await feed.listen(('',))
    async with asyncio.timeout(10):
        await log.is_read.wait()
    await left(feed, listener)
    assert log.steps == ['begin', 'read', 'read given up', 'end']


@pytest.mark.usefixtures('asked')
async def test_a_log_that_cannot_be_ended_is_left_to_its_writers(log: Log, feed: ChangeFeed) -> None:
    source = PolledChanges(feed, log, lambda begin: begin())
    await source.cover()
    log.end_error = StoreUnavailable('away')
    await source.close()
    assert (log.steps, tasks()) == (['begin', 'end'], [])


async def test_a_source_that_was_never_used_has_no_log_to_end(log: Log, feed: ChangeFeed) -> None:
    await PolledChanges(feed, log, lambda begin: begin()).close()
    assert log.steps == []
