"""What is folded: events with their reducers, and the batch of those that are committed at once."""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from types import CodeType
from typing import TYPE_CHECKING, Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, ReducerError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.keys import check_key, display_key

if TYPE_CHECKING:
    from learning_observer_kvs.stores.base import Store

Step = Callable[[JSON], Awaitable[Any]]
"""A reducer with its event filled in: takes the internal state, gives ``(internal_state, external_state)``."""


class Event:
    """One event: how to run its reducer (again), what came of it, and whom to tell."""

    __slots__ = ('context', 'done', 'error', 'external_key', 'null_text', 'result', 'step')

    def __init__(self, external_key: str, step: Step, null_text: bytes) -> None:
        self.external_key = external_key
        self.step = step
        self.null_text = null_text
        self.result: JSON = None
        self.error: Exception | asyncio.CancelledError | None = None
        self.context: Context | None = None
        self.done: asyncio.Future[JSON] | None = None

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[JSON]:
        """The caller's future; whoever reduces the event from now on does it in the caller's context."""
        self.context = copy_context()
        self.done = loop.create_future()
        return self.done

    def withdrawn(self) -> bool:
        """Whether its caller was cancelled while it waited."""
        return self.done is not None and self.done.cancelled()

    def tell(self, error: BaseException | None) -> None:
        """Answer the caller: its own result or error, unless something befell all events of the commit."""
        done = self.done
        if done is None or done.done():
            return
        error = error or self.error
        if error is None:
            done.set_result(self.result)
        elif isinstance(error, asyncio.CancelledError):
            done.cancel()
        else:
            done.set_exception(error)


class Batch:
    """The events of one commit: what they start from, and what they come to.

    Attributes:
        outcome: what the first commit came to, or that it is put off.
        unclear: texts that were perhaps written, each with the number of events that it holds.
    """

    __slots__ = ('attempt', 'base', 'events', 'guessed', 'outcome', 'text', 'unclear', 'writes')

    def __init__(self, base: bytes | None, guessed: bool, attempt: int = 0) -> None:
        self.base = base
        self.guessed = guessed
        self.attempt = attempt
        self.text = base
        self.writes: dict[str, bytes | None] = {}
        self.events: list[Event] = []
        self.outcome: bool | BaseException | None = None
        self.unclear: dict[bytes | None, int] = {}

    def state(self, store: Store, internal_key: str, event: Event) -> JSON:
        """What an event's reducer is given."""
        text = event.null_text if self.text is None else self.text
        try:
            return json_codec.decode(text)
        except CorruptValue:
            return store.decode(internal_key, text)  # the same, told with key and place

    def take(self, store: Store, internal_key: str, event: Event, result: Any) -> None:
        """Note what a reducer gave; both states are encoded before anything of it counts."""
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ReducerError(
                f'The reducer of {display_key(internal_key)} returned {type(result).__name__}; it must return '
                '(internal_state, external_state), with False for one that is not to be written.'
            )
        internal, external = result
        text, external_key = self.text, event.external_key
        if self.base is None:
            check_key(internal_key)
            check_key(external_key)
        if internal is not False:
            text = store.encode(internal_key, internal)
        elif text is None:
            text = event.null_text  # a fresh key is there from its first event on; the roster finds students by it
        if external is not False:
            self.writes[external_key] = store.encode(external_key, external)
        if text is not self.text:
            self.writes[internal_key] = self.text = text
        event.result = external


def ends_at_once(step: Step) -> bool:
    """Whether a reducer cannot wait for anything: it is a coroutine function without an ``await``, as most are.

    Such a one ends at its first step, and so needs no task of its own.
    """
    func = step.func if type(step) is functools.partial else step
    code = getattr(func, '__code__', None)
    return code is not None and _never_waits(code)


@functools.lru_cache(maxsize=4096)
def _never_waits(code: CodeType) -> bool:
    if not code.co_flags & inspect.CO_COROUTINE:
        return False
    return not any(operation.opname in ('SEND', 'YIELD_VALUE') for operation in dis.get_instructions(code))
