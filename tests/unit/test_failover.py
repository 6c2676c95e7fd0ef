"""The watch of the master over Sentinels whose answers a test writes down: what it asks, closes, logs and leaves."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import pytest
from redis import exceptions

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.redis import failover
from learning_observer_kvs.stores.redis.failover import MAX_PAUSE, MIN_PAUSE, POLL, QUIET, MasterWatch
from tests.support.answers import NEVER, answer

A, B = ('a', 1), ('b', 2)
REFUSED = exceptions.ConnectionError('Error 111 connecting to s:1. Connection refused.')
NO_PASSWORD = exceptions.AuthenticationError('Authentication required.')
WRONG_PASSWORD = exceptions.AuthenticationError('invalid username-password pair')
NO_PASSWORD_SET = exceptions.AuthenticationError(
    'AUTH <password> called without any password configured for the default user.'
)
NO_RIGHTS = exceptions.NoPermissionError('this user has no permissions to access one of the channels')


class Sentinel:
    """Stands for redis-py's client of a Sentinel, its pool, its pipeline and its connection.

    Attributes:
        master: the address that it names; an error is in the place of that reply.
        state: likewise what it says of the master: the epoch and the state of a fail-over.
        failure: what its questions end with, instead.
        connecting: what comes of connecting to follow it.
        subscribing: what comes of a subscription.
        events: what comes on the connection that follows it: an event, an error, or ``None`` for silence.
        questions: how often it was asked.
        happened: on that connection, in order.
    """

    def __init__(self, master: Any = A) -> None:
        self.master = master
        self.state: Any = (0, '')
        self.failure: Any = None
        self.connecting: Any = None
        self.subscribing: Any = None
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.questions = 0
        self.happened: list[Any] = []
        self.connection_pool = self
        self._commands: list[tuple[str, ...]] = []

    def pipeline(self, transaction: bool) -> Self:
        assert not transaction
        self._commands = []
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def execute_command(self, *command: str) -> None:
        self._commands.append(command)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        assert self._commands == [
            ('SENTINEL', 'MASTER', 'class'),
            ('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'class'),
        ]
        self.questions += 1
        await answer(self.failure)
        address = [self.master[0].encode(), b'%d' % self.master[1]] if isinstance(self.master, tuple) else self.master
        return [self._said(), address]

    def _said(self) -> Any:
        if isinstance(self.state, Exception):
            return self.state
        epoch, state = self.state
        of_promotion = [b'failover-state', state.encode()] if state else []
        return [b'config-epoch', b'%d' % epoch, *of_promotion]

    async def get_connection(self) -> Self:
        self.happened.append('connect')
        await answer(self.connecting)
        return self

    async def send_command(self, *command: str) -> None:
        self.happened.append(command)

    async def read_response(self, timeout: float, disconnect_on_error: bool = True) -> Any:
        assert timeout == QUIET
        if self.happened[-1] == ('PSUBSCRIBE', '*'):
            self.happened.append('subscribed')
            return await answer(self.subscribing or 'subscribed')
        return await answer(await self.events.get())

    async def disconnect(self, nowait: bool) -> None:
        self.happened.append('disconnect')

    async def release(self, connection: Any) -> None:
        self.happened.append('release')


class Watched:
    """A watch, and how often connections had to be closed."""

    def __init__(self, *sentinels: Any, timeout: float = 1000) -> None:
        self.moves = 0
        self.watch = MasterWatch('class', 'class (Sentinels s:1)', sentinels, timeout, self._on_move)

    def _on_move(self) -> None:
        self.moves += 1

    async def __aenter__(self) -> MasterWatch:
        return self.watch

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.watch.close()


async def settled() -> None:
    """Let the tasks run on until they wait for something."""
    for _ in range(40):
        await asyncio.sleep(0)


async def event(sentinel: Sentinel) -> None:
    """Have a Sentinel announce something, and the watch ask what it is."""
    sentinel.events.put_nowait('event')
    await settled()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which take no time."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        if seconds:
            found.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, 'sleep', pause)
    return found


# Asking


async def test_of_several_sentinels_the_first_answer_is_enough_and_the_others_are_asked_no_longer() -> None:
    slow, quick = Sentinel(), Sentinel()
    slow.failure = NEVER
    before = asyncio.all_tasks()
    async with Watched(slow, quick) as watch:
        assert await watch.master() == A
        assert len(asyncio.all_tasks() - before) == 2  # which follow the Sentinels
        assert watch.is_master(A)
        assert not watch.is_master(B)


@pytest.mark.parametrize(
    ('what', 'error', 'words', 'may_pass'),
    [
        (
            'failure',
            REFUSED,
            'no Sentinel answers (Error 111 connecting to s:1. Connection refused). Are they running there?',
            True,
        ),
        ('failure', EOFError(), 'no Sentinel answers (EOFError). Are they running there?', True),
        ('state', exceptions.ResponseError('No such master with that name'), 'know no service of that name', False),
        ('master', exceptions.ResponseError('No such master with that name'), 'know no service of that name', False),
        ('master', None, 'know no service of that name', False),
        ('failure', NO_PASSWORD, 'want a password', False),
        ('failure', exceptions.ResponseError('NOAUTH HELLO must be called'), 'want a password. Set', False),
        ('failure', exceptions.ResponseError('WRONGPASS invalid'), 'refuse the password. Set', False),
        (
            'failure',
            WRONG_PASSWORD,
            'refuse the password. Set',
            False,
        ),
        (
            'failure',
            NO_PASSWORD_SET,
            'one was given. Take redis_connection.redis_s',
            False,
        ),
        ('state', exceptions.ResponseError("unknown command 'SENTINEL'"), 'is not a Sentinel. Name the ports', False),
        ('state', exceptions.NoPermissionError('NOPERM this user has no permissions'), 'refuse what their user', False),
    ],
)
async def test_what_a_sentinel_refuses_is_the_error_and_whether_it_may_pass(
    what: str, error: Any, words: str, may_pass: bool
) -> None:
    sentinel = Sentinel()
    setattr(sentinel, what, error)
    async with Watched(sentinel) as watch:
        with pytest.raises(StoreUnavailable) as raised:
            await watch.master()
    assert str(raised.value).startswith('Redis at class (Sentinels s:1) cannot be used: ')
    assert words in str(raised.value)
    assert raised.value.retry is may_pass


async def test_a_master_that_was_known_stays_in_use_unless_the_sentinels_say_what_is_wrong(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    sentinel = Sentinel()
    async with Watched(sentinel) as watch:
        assert await watch.master() == A
        await settled()
        sentinel.failure = sentinel.connecting = REFUSED
        sentinel.events.put_nowait(REFUSED)
        await settled()
        assert await watch.master() == A
        sentinel.failure = NO_PASSWORD
        with pytest.raises(StoreUnavailable, match='want a password'):
            await watch.master()
    assert caplog.messages == [
        'No Sentinel of class can be reached (Error 111 connecting to s:1. Connection refused); '
        'a:1 stays in use as the master.'
    ]


# Following


async def test_a_sentinel_is_asked_when_it_is_followed_and_after_each_event() -> None:
    sentinel = Sentinel()
    async with Watched(sentinel) as watch:
        await watch.master()
        await settled()
        assert sentinel.happened == ['connect', ('PSUBSCRIBE', '*'), 'subscribed']
        questions = sentinel.questions
        await event(sentinel)
        assert sentinel.questions == questions + 1
        sentinel.events.put_nowait(None)
        await settled()
        assert sentinel.happened[-1] == ('PING',)
        sentinel.events.put_nowait('pong')
        await settled()
        assert sentinel.questions == questions + 2
    assert sentinel.happened[-2:] == ['disconnect', 'release']


async def test_the_pause_between_tries_grows_and_begins_anew_when_a_sentinel_has_answered(pauses: list[float]) -> None:
    sentinel = Sentinel()
    sentinel.connecting = REFUSED
    async with Watched(sentinel) as watch:
        await watch.master()
        while len(pauses) < 6:
            await settled()
        growing = [MIN_PAUSE, 2 * MIN_PAUSE, 4 * MIN_PAUSE, 8 * MIN_PAUSE, MAX_PAUSE, MAX_PAUSE]
        assert pauses[:6] == growing
        sentinel.connecting = None
        await settled()
        pauses.clear()
        sentinel.connecting = REFUSED
        sentinel.events.put_nowait(REFUSED)
        await settled()
        assert pauses[:2] == growing[:2]


async def test_a_sentinel_that_accepts_no_connection_to_follow_it_is_tried_again_after_the_timeout(
    pauses: list[float],
) -> None:
    sentinel = Sentinel()
    sentinel.connecting = NEVER
    async with asyncio.timeout(10), Watched(sentinel, timeout=0.01) as watch:
        await watch.master()
        while sentinel.happened != ['connect', 'connect']:
            await settled()


async def test_a_sentinel_that_refuses_to_be_followed_is_asked_and_one_line_says_why(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    sentinel = Sentinel()
    sentinel.subscribing = NO_RIGHTS
    async with Watched(sentinel) as watch:
        await watch.master()
        while len(pauses) < 3:
            await settled()
        assert pauses[:3] == [POLL] * 3
        assert watch.is_master(A)
    [line] = caplog.messages
    assert line == (
        'The Sentinels of class are asked every second, and a fail-over is noticed late, because they refuse to be '
        f'followed: {NO_RIGHTS}. Allow their user "+psubscribe allchannels".'
    )


# Promotions


@pytest.mark.parametrize('state', ['send_slaveof_noone', 'wait_promotion'])
async def test_a_watch_that_begins_while_a_replica_is_promoted_waits_for_a_bounded_time(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, 'HOLD', 0.01)
    sentinel = Sentinel()
    sentinel.state = (0, state)
    async with asyncio.timeout(10), Watched(sentinel) as watch:
        assert await watch.master() == A
        assert watch.is_master(A)


async def test_a_promotion_closes_connections_once_and_its_end_ends_the_wait() -> None:
    sentinel = Sentinel()
    watched = Watched(sentinel)
    async with watched as watch:
        await watch.master()
        await settled()
        assert watched.moves == 1
        sentinel.state = (0, 'send_slaveof_noone')
        await event(sentinel)
        hold = watch._hold
        assert hold is not None
        assert (watched.moves, watch.is_master(A)) == (2, False)
        sentinel.state = (0, 'wait_promotion')
        await event(sentinel)
        assert (watched.moves, watch._hold) == (2, hold)
        sentinel.state, sentinel.master = (1, ''), B
        await event(sentinel)
        assert (watched.moves, watch.is_master(B)) == (3, True)
        assert hold.cancelled()  # else it would end the wait for the next promotion
        sentinel.state = (1, 'wait_promotion')
        await event(sentinel)
        assert (watched.moves, watch.is_master(B)) == (4, False)
        assert watch._hold not in (None, hold)


# The end


async def test_what_is_closed_has_no_task_no_connection_and_no_timer_and_cannot_be_used() -> None:
    sentinel = Sentinel()
    before = asyncio.all_tasks()
    async with Watched(sentinel) as watch:
        await watch.master()
        await settled()
        sentinel.state = (0, 'wait_promotion')
        await event(sentinel)
        hold = watch._hold
        assert hold is not None
        await watch.close()
        assert asyncio.all_tasks() == before
        assert hold.cancelled()
        assert sentinel.happened[-2:] == ['disconnect', 'release']
        with pytest.raises(StoreUnavailable, match='the connection was closed') as raised:
            await watch.master()
        assert not raised.value.retry
    assert asyncio.all_tasks() == before
