"""One connection to a server on which it names the keys that are changed: client-side caching in broadcasting mode.

``CLIENT TRACKING … BCAST`` costs writers nothing, and sees every change: of other programs, by expiry, by eviction. The
connection redirects the messages to itself and subscribes to them, so that one connection is enough in RESP2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from learning_observer_kvs.errors import KVSError, StoreUnavailable
from learning_observer_kvs.stores.deadline import pause_after
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.errors import one_line
from learning_observer_kvs.stores.redis.permissions import CHANGES_RULES

CHANNEL = '__redis__:invalidate'

QUIET = 10.0
"""Seconds without a message after which the server is asked whether it is still there."""

_REFUSED = ('o permissions', 'NOPERM', "can't run this command")

_UNKNOWN = ('nknown command', 'nknown subcommand', 'nknown Redis command', 'syntax error', 'wrong number of arguments')


class Invalidations:
    """What one server announces.

    Args:
        make: makes a connection of redis-py to the server, which is not connected yet.
        prefixes: what the Redis keys begin with; none of them begins with another one.
        timeout: seconds for connecting and each answer.
        unavailable: returns the error to raise for one of redis-py.
        on_keys: called with the Redis keys that are changed; with ``None`` where all may be.
        on_lost: called when the connection is lost; another one is tried until it is closed.
        on_refused: called with the error when the server does not allow that any more; then it ends.
        quiet: seconds without a message, as ``QUIET``.

    Attributes:
        is_lost: whether the connection is lost at present.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        prefixes: Collection[str],
        timeout: float,
        unavailable: Callable[[BaseException], KVSError],
        on_keys: Callable[[list[bytes] | None], None],
        on_lost: Callable[[], None],
        on_refused: Callable[[KVSError], None],
        quiet: float,
    ) -> None:
        self._make = make
        self._prefixes = prefixes
        self._timeout = timeout
        self._unavailable = unavailable
        self._on_keys = on_keys
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._quiet = quiet
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self.is_lost = False

    async def open(self) -> None:
        """Connect; what changes from its return on is announced.

        Raises:
            StoreUnavailable, Overloaded: the server is away, or refuses.
        """
        await self._connect()
        self._task = asyncio.create_task(self._follow(), name='kvs changes: Redis')

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()  # a task that was cancelled before it began has not done it

    async def _connect(self) -> None:
        self._connection = connection = self._make()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
                identity = await _ask(connection, 'CLIENT', 'ID')
                prefixes = [part for prefix in self._prefixes if prefix for part in ('PREFIX', prefix)]
                await _ask(connection, 'CLIENT', 'TRACKING', 'ON', 'REDIRECT', identity, 'BCAST', *prefixes)
                await _ask(connection, 'SUBSCRIBE', CHANNEL)
        except BaseException as error:
            await self._disconnect()
            raise self._error(error) if isinstance(error, Exception) else error from None

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _follow(self) -> None:
        try:
            while True:
                with suppress(Exception):  # whatever it is, the next try tells what is the matter
                    await self._receive()
                self.is_lost = True
                await self._disconnect()
                self._on_lost()
                if not await self._connect_again():
                    return
                self.is_lost = False
                self._on_keys(None)  # what was changed meanwhile was not announced
        finally:
            await self._disconnect()

    async def _connect_again(self) -> bool:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            try:
                await self._connect()
                return True
            except KVSError as error:
                if isinstance(error, StoreUnavailable) and not error.retry:
                    self._on_refused(error)
                    return False
            await asyncio.sleep(pause_after(loop.time() - since))

    async def _receive(self) -> None:
        """Pass on what comes, until the connection is lost."""
        connection, is_asked = self._connection, False
        while True:
            seconds = self._timeout if is_asked else self._quiet
            message = await connection.read_response(timeout=seconds, disconnect_on_error=False)
            if message is None:
                if is_asked:
                    raise TimeoutError
                is_asked = True
                await connection.send_command('SUBSCRIBE', CHANNEL)  # it is allowed to this user; a PING may not be
                continue
            is_asked = False
            match message:
                case [b'message', _, list() | None as redis_keys]:
                    self._on_keys(redis_keys)

    def _error(self, error: Exception) -> KVSError:
        text = one_line(error)
        unavailable = self._unavailable(error)
        if any(sign in text for sign in _REFUSED):
            return StoreUnavailable(f'{_start(unavailable)}: {text}. To see changes, this user needs {CHANGES_RULES}.')
        if isinstance(error, redis_py.exceptions.ResponseError) and any(sign in text for sign in _UNKNOWN):
            return StoreUnavailable(
                f'{_start(unavailable)}: {text}. To see changes, CLIENT TRACKING is needed, which Redis has from '
                'version 6 on, and Valkey.'
            )
        return unavailable


async def _ask(connection: Any, *command: str | int) -> Any:
    await connection.send_command(*command)
    return await connection.read_response(disconnect_on_error=False)


def _start(error: KVSError) -> str:
    """What the message of an error says of the server, up to why it cannot be used."""
    return str(error).partition(' cannot be used: ')[0] + ' cannot be used'
