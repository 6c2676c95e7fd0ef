"""Which server the Sentinels call the master, followed from one fail-over to the next.

An old master that still runs answers for ten seconds after a fail-over, until the Sentinels demote it, and then forgets
what it acknowledged in that time. So each Sentinel is followed by a subscription to its events. While one of them has a
replica promoted no connection is given, and those that are open are closed at once: what was under way on them is sent
again to the new master.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio import Redis

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.redis.errors import one_line

log = logging.getLogger('learning_observer_kvs')

HOLD = 5.0
"""Seconds for which connections wait for a promotion, at most; a Sentinel notices one within two."""

QUIET = 10.0
"""Seconds without an event after which a Sentinel is asked whether it is still there."""

MIN_PAUSE, MAX_PAUSE = 0.5, 5.0
"""Seconds between two tries to reach a Sentinel."""

POLL = 1.0
"""Seconds between two questions to a Sentinel that refuses to be followed."""

_PROMOTING = (b'send_slaveof_noone', b'wait_promotion')

_FAILURES = (exceptions.RedisError, OSError, EOFError)
"""Every error with which a question to a Sentinel may end."""

_PASSWORD = 'Set redis_connection.redis_sentinel_password (and redis_sentinel_username) as they expect them.'

_REFUSALS = (
    ('No such master', 'its Sentinels know no service of that name', 'See redis_connection.redis_service_name.'),
    ('NOAUTH', 'its Sentinels want a password', _PASSWORD),
    ('Authentication required', 'its Sentinels want a password', _PASSWORD),
    ('invalid username-password', 'its Sentinels refuse the password', _PASSWORD),
    ('WRONGPASS', 'its Sentinels refuse the password', _PASSWORD),
    (
        'without any password configured',
        'its Sentinels have no password, and one was given',
        'Take redis_connection.redis_sentinel_password out.',
    ),
    (
        'o permissions',
        'its Sentinels refuse what their user asks',
        'Allow it: allchannels +ping +psubscribe +sentinel|master +sentinel|get-master-addr-by-name.',
    ),
    (
        'unknown command',
        'what answers there is not a Sentinel',
        'Name the ports of the Sentinels, mostly 26379, in redis_connection.redis_sentinels.',
    ),
)
"""What is in the text of a Sentinel's error, what that means, and the hint; waiting does not help against these."""

Address = tuple[str, int]


class _Answer(NamedTuple):
    """What one Sentinel knows.

    Args:
        address: where the master is.
        epoch: the version of that: of two answers the one with the higher epoch is newer.
        promoting: whether it has a replica promoted just now, so that the master may be another at any moment.
    """

    address: Address
    epoch: int
    promoting: bool


class MasterWatch:
    """The master of one service, as its Sentinels know it, for one event loop.

    Args:
        service: what the Sentinels call the master.
        location: the service and its Sentinels, for messages.
        sentinels: a client for each Sentinel; its replies are bytes.
        timeout: seconds to wait for an answer of a Sentinel, and for the end of a promotion.
        on_move: called when connections to the master must be closed: it is another, or about to be.
    """

    def __init__(
        self, service: str, location: str, sentinels: Sequence[Redis], timeout: float, on_move: Callable[[], None]
    ) -> None:
        self._service = service
        self._location = location
        self._sentinels = list(sentinels)
        self._timeout = timeout
        self._on_move = on_move
        self._answers: dict[int, _Answer] = {}  # of those Sentinels that answer, by position
        self._address: Address | None = None
        self._promoting = False
        self._settled = asyncio.Event()
        self._hold: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._refused = False
        self._closed = False

    async def master(self) -> Address:
        """Return where the master is; follow the Sentinels from now on.

        While a replica is promoted this waits, ``HOLD`` seconds at most.

        Raises:
            StoreUnavailable: no Sentinel has ever answered, or none knows the service; or a promotion takes long.
        """
        if self._closed:
            raise self._unavailable('the connection was closed.', retry=False)
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow(position)) for position in range(len(self._sentinels))]
        if not self._answers:
            try:
                await self._ask_any()
            except StoreUnavailable as error:
                if self._address is None or not error.retry:
                    raise  # else the last that was known is used
        try:
            async with asyncio.timeout(self._timeout):
                await self._settled.wait()
        except TimeoutError:
            raise self._unavailable('its Sentinels are replacing the master. Retry later.', retry=True) from None
        assert self._address is not None
        return self._address

    def is_master(self, address: Address) -> bool:
        """Return whether commands may be sent to a server.

        Args:
            address: where it is.
        """
        return self._settled.is_set() and address == self._address

    async def close(self) -> None:
        """Follow the Sentinels no longer."""
        self._closed = True
        if self._hold is not None:
            self._hold.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What the Sentinels say

    async def _ask_any(self) -> None:
        """Ask all Sentinels, until one has answered."""
        asking = [asyncio.create_task(self._ask(position)) for position in range(len(self._sentinels))]
        errors: list[Exception] = []
        try:
            for answered in asyncio.as_completed(asking):
                try:
                    return await answered
                except _FAILURES as error:
                    errors.append(error)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        reasons = [one_line(error) for error in errors]
        for sign, message, hint in _REFUSALS:
            if any(sign in reason for reason in reasons):
                raise self._unavailable(f'{message}. {hint}', retry=False)
        hint = 'Are they running there? See redis_connection.redis_sentinels.'
        raise self._unavailable(f'no Sentinel answers ({reasons[0]}). {hint}', retry=True)

    async def _ask(self, position: int) -> None:
        async with self._deadline(), self._sentinels[position].pipeline(transaction=False) as pipeline:
            # One packet, which a Sentinel works off in one go: both replies are of one moment.
            pipeline.execute_command('SENTINEL', 'MASTER', self._service)
            pipeline.execute_command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', self._service)
            state, address = await pipeline.execute(raise_on_error=False)
        for reply in (state, address):
            if isinstance(reply, Exception):
                raise reply
        if address is None:
            raise exceptions.ResponseError('No such master with that name')
        host, port = address
        fields = dict(zip(state[::2], state[1::2], strict=True))
        self._learn(
            position,
            _Answer(
                (host.decode(), int(port)), int(fields[b'config-epoch']), fields.get(b'failover-state') in _PROMOTING
            ),
        )

    async def _follow(self, position: int) -> None:
        """Ask a Sentinel at first and after each of its events; try again where that fails."""
        pool = self._sentinels[position].connection_pool
        pause = MIN_PAUSE
        while not self._closed:
            try:
                await self._ask(position)
                async with self._deadline():
                    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    await connection.send_command('PSUBSCRIBE', '*')
                    while True:
                        await self._event(connection)  # the first one: that it is subscribed
                        await self._ask(position)
                        pause = MIN_PAUSE
                except (Exception, asyncio.CancelledError):  # but not what is collected after the end of its loop
                    await connection.disconnect(nowait=True)
                    await pool.release(connection)
                    raise
            except exceptions.NoPermissionError as error:
                self._note_refusal(error)
                pause = POLL
            except _FAILURES as error:
                self._forget(position, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)

    async def _event(self, connection: Any) -> None:
        """Wait for an event, or for the answer to the question whether the Sentinel is still there."""
        if await connection.read_response(timeout=QUIET, disconnect_on_error=False) is None:
            await connection.send_command('PING')
            if await connection.read_response(timeout=QUIET) is None:
                raise exceptions.TimeoutError(f'It has not answered for {QUIET:g} s')

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            raise exceptions.TimeoutError(f'It has not answered for {self._timeout:g} s') from None

    def _unavailable(self, message: str, *, retry: bool) -> StoreUnavailable:
        return StoreUnavailable(f'Redis at {self._location} cannot be used: {message}', retry=retry)

    def _note_refusal(self, error: Exception) -> None:
        if not self._refused:
            self._refused = True
            log.warning(
                'The Sentinels of %s are asked every second, and a fail-over is noticed late, because they refuse to '
                'be followed: %s. Allow their user "+psubscribe allchannels".',
                self._service,
                error,
            )

    # What follows from it

    def _learn(self, position: int, answer: _Answer) -> None:
        if not self._answers and self._address is not None:
            log.warning('A Sentinel of %s can be reached again.', self._service)
        self._answers[position] = answer
        self._conclude()

    def _forget(self, position: int, error: Exception) -> None:
        if self._answers.pop(position, None) is None:
            return
        if not self._answers:
            log.warning(
                'No Sentinel of %s can be reached (%s); %s stays in use as the master.',
                self._service,
                one_line(error),
                self._address and '{}:{}'.format(*self._address),
            )
        self._conclude()

    def _conclude(self) -> None:
        """Compare what the Sentinels say with what is in use."""
        promoting = any(answer.promoting for answer in self._answers.values())
        if promoting and not self._promoting:
            self._settled.clear()
            self._hold = asyncio.get_running_loop().call_later(HOLD, self._settled.set)
            self._on_move()
        self._promoting = promoting
        if self._answers:
            newest = max(self._answers.values(), key=lambda answer: (answer.epoch, answer.address == self._address))
            if newest.address != self._address:
                if self._address is not None:
                    log.warning(
                        'The master of %s is %s:%d now; it was %s:%d.', self._service, *newest.address, *self._address
                    )
                self._address = newest.address
                self._on_move()
        if not promoting and self._address is not None:
            self._settled.set()
            if self._hold is not None:
                self._hold.cancel()
                self._hold = None
