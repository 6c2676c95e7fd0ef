"""Coroutines that are driven step by step: a reducer begins without a task, and goes on in one where it waits."""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from types import CodeType, coroutine
from typing import Any, TypeVar

from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.stores.keys import display_key

T = TypeVar('T')


async def awaited(reducing: Awaitable[T], key: str) -> T:
    """Await what a reducer returned that is not a coroutine.

    Args:
        reducing: what it returned.
        key: the internal key, for messages.

    Raises:
        ReducerError: it cannot be awaited.
    """
    if not inspect.isawaitable(reducing):
        raise ReducerError(
            f'The reducer of {display_key(key)} is a plain function; write it as async def, to be awaited.'
        )
    return await reducing


def may_wait(reducer: Callable[..., Any]) -> bool:
    """Tell whether a reducer may wait for something: all may but a coroutine function without an ``await``.

    Args:
        reducer: the reducer.
    """
    code = getattr(reducer, '__code__', None)
    return code is None or _has_await(code)


@functools.lru_cache(maxsize=4096)
def _has_await(code: CodeType) -> bool:
    if not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(step.opname in ('SEND', 'YIELD_VALUE') for step in dis.get_instructions(code))


def without_await(begin: Callable[[Any, Any], Coroutine[Any, Any, Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a coroutine function for which :func:`may_wait` is false, too.

    Args:
        begin: begins a reducer that does not wait, with an event and a state.
    """

    async def reducer(event: Any, state: Any) -> Any:
        try:
            begin(event, state).send(None)
        except StopIteration as end:
            return end.value

    return reducer


@coroutine
def rest_of(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Run the rest of a coroutine that has begun in this context.

    Args:
        work: the coroutine.
        waits_for: what it waits for now.

    Returns:
        What the coroutine returns.
    """
    while True:
        step: Callable[[], Any]
        try:
            answer = yield waits_for
        except BaseException as error:
            step = functools.partial(work.throw, error)
        else:
            step = functools.partial(work.send, answer)
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@coroutine
def run_in(context: Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a coroutine in this task, but in another context.

    Args:
        context: the context; it must not be entered meanwhile.
        work: the coroutine, which has not begun.

    Returns:
        What the coroutine returns.
    """
    task = asyncio.current_task()
    assert task is not None
    step: Callable[[], Any] = functools.partial(work.send, None)
    while True:
        try:
            waits_for = context.run(step)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        has_cancelled_itself = task.cancelling() > 0
        try:
            answer = yield waits_for
        except BaseException as error:
            while has_cancelled_itself and task.cancelling():
                task.uncancel()  # so that it is not taken for the end of the event loop
            step = functools.partial(work.throw, error)
        else:
            step = functools.partial(work.send, answer)


async def shed_cancellation(task: asyncio.Task[Any]) -> None:
    """Take off the cancellations of the running task that work in it has asked for.

    What cancelled the work must not reach what the task does next.

    Args:
        task: the running task.
    """
    while task.cancelling():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        task.uncancel()
