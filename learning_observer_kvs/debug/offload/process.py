"""Calling functions that take long: with small texts in a thread, with large ones in a helper process.

A thread holds Python's lock while it decodes a text: for 10 MB the event loop would stand still for 15 to 45 ms. The
helper process is started when it is first needed, and ended after a while without work. It is an interpreter of its
own, which does not import the main module of the program; nothing but the package is. The texts come by a pipe, none
is among its arguments or in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from aiohttp import web

from learning_observer_kvs.debug import answers
from learning_observer_kvs.debug.answers import Failure
from learning_observer_kvs.debug.offload.frames import CHUNK, COUNT, bytes_of_sizes, packed, sizes_of, unpacked
from learning_observer_kvs.debug.pace import Pace

T = TypeVar('T')

LARGE = 1 << 18
"""The largest text in bytes that is given to a thread: what a call of a codec does with it takes under 5 ms."""

LARGE_IN_ALL = 8 * LARGE
"""How many bytes the texts have together that are given to a thread in one call."""

CALL_SECONDS = 10.0
"""How long a call in the helper process may take."""

LOOK_SECONDS = 0.2
"""How often a call looks whether its answer is still waited for."""

IDLE_SECONDS = 60.0
"""How long the helper process stays without work."""

EXIT_SECONDS = 0.5
"""How long it takes until the system says how a process has ended whose pipes are closed."""

BOOT = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from learning_observer_kvs.debug.offload.child import serve
serve()
"""

ENDED = 'The process that takes large values apart has ended'
STOPS = 'The server stops.'


class Offload:
    """Calls functions without holding up the event loop.

    Args:
        pace: the pace of the pages; those with small texts are called in its thread.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._has_ended = False

    async def call(
        self,
        sizes: Iterable[int],
        function: Callable[..., T],
        *arguments: Any,
        has_gone: Callable[[], bool] = lambda: False,
        seconds: float = CALL_SECONDS,
    ) -> T:
        """Call a function.

        Args:
            sizes: how many bytes each text among the arguments has.
            function: a function of a module of this package.
            arguments: its arguments, which can be pickled.
            has_gone: whether the result is not waited for any more.
            seconds: how long it may take in the helper process.

        Returns:
            What the function returns.

        Raises:
            Failure: it took too long, needs too much memory, or the process has ended.
            Exception: as the function does.
        """
        sizes = list(sizes)
        if max(sizes, default=0) <= LARGE and sum(sizes) <= LARGE_IN_ALL:
            return await self._pace.in_thread(function, *arguments)
        async with self._in_turn():
            if self._has_ended:
                raise Failure(503, STOPS)
            exchange = asyncio.ensure_future(self._exchange((function, arguments)))
            try:
                async with asyncio.timeout(seconds):
                    while not (await asyncio.wait([exchange], timeout=LOOK_SECONDS))[0]:
                        if has_gone():
                            raise Failure(503, 'The page is not waited for any more.')
                is_result, outcome = await exchange
            except TimeoutError:
                raise Failure(503, f'This takes longer than {seconds:g} s, because a value is large.') from None
            finally:
                await _cancelled(exchange)
        if is_result:
            result: T = outcome
            return result
        if isinstance(outcome, MemoryError):
            raise Failure(409, 'A value is too large to be shown: it takes too much memory. "lo-kvs get" prints it.')
        raise outcome

    async def end(self, app: web.Application) -> None:
        """End the process, and with it a call that is under way; an ``on_shutdown`` handler.

        Args:
            app: the application that stops.
        """
        self._has_ended = True
        if self._idle is not None:
            self._idle.cancel()
        await self._kill()

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """One call at a time: one value is taken apart in memory."""
        try:
            async with asyncio.timeout(answers.PAGE_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise Failure(503, 'Too many large values are being read. Retry in a few seconds.') from None
        if self._idle is not None:
            self._idle.cancel()
        try:
            yield
        finally:
            self._turn.release()
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        if self._process is not None and not self._turn.locked():
            if self._process.stdin is not None:
                self._process.stdin.close()  # it ends with its input
            self._process = None

    async def _exchange(self, message: Any) -> Any:
        """What the process answers; whatever else happens, it is ended, because it may answer this later."""
        try:
            process = self._process = self._process or await _started()
            if self._has_ended:
                raise Failure(503, STOPS)
            assert process.stdin is not None
            assert process.stdout is not None
            for part in await self._pace.in_thread(packed, message):
                rest = memoryview(part)
                while rest:
                    process.stdin.write(rest[:CHUNK])
                    await process.stdin.drain()
                    await asyncio.sleep(0)  # it does not wait while the process reads as fast
                    rest = rest[CHUNK:]
            [count] = COUNT.unpack(await process.stdout.readexactly(COUNT.size))
            sizes = sizes_of(await process.stdout.readexactly(bytes_of_sizes(count)))
            parts = [await process.stdout.readexactly(size) for size in sizes]
            return unpacked(parts)
        except (OSError, asyncio.IncompleteReadError):
            status = await self._kill(EXIT_SECONDS)
            raise Failure(503, STOPS if self._has_ended else f'{ENDED} (status {status}). Try again.') from None
        except BaseException:
            await self._kill()
            raise

    async def _kill(self, exit_seconds: float = 0) -> int | None:
        """End the process, after so many seconds in which it may end itself; its status."""
        process, self._process = self._process, None
        if process is None:
            return None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(exit_seconds):
                    await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return await process.wait()


async def _started() -> Process:
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, '-P', '-c', BOOT), stdin=PIPE, stdout=PIPE, start_new_session=True
        )
    except (OSError, NotImplementedError, ValueError) as error:
        raise Failure(503, f'The process that takes large values apart cannot be started: {error}') from None
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(sys.path))
    return process


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # it was raised already, or is not waited for
