"""Events and the states they lead to: what is committed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, TypeAlias

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue, ReducerError, StoreUnavailable
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.tally import UNNAMED, Tally
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.keys import check_key, display_key

ReducerCall: TypeAlias = Callable[[JSON], Awaitable[Any]]
"""A reducer with its event filled in: takes the internal state, returns ``(internal_state, external_state)``."""

Encode: TypeAlias = Callable[[str, JSON], bytes]
Decode: TypeAlias = Callable[[str, bytes], JSON]


class Event:
    """One event: how to run its reducer (again), what came of it, and the caller that waits for that.

    Args:
        external_key: the key of the external state.
        call: the reducer with the event filled in.
        null_text: the JSON text of the state that a key starts from.
        deadline: until when it waits for a backend that is away, as the time of the monotonic clock.
        may_wait: whether the reducer may wait for something.
        tally: what is counted of the reducer.

    Attributes:
        result: the external state, as the reducer returned it.
        error: what the reducer raised.
        context: the caller's, in which the reducer runs; ``None`` while it runs in the caller's own task.
        done: what the caller waits for; ``None`` as ``context``.
    """

    __slots__ = (
        'call',
        'context',
        'deadline',
        'done',
        'error',
        'external_key',
        'may_wait',
        'null_text',
        'result',
        'tally',
    )

    def __init__(
        self,
        external_key: str,
        call: ReducerCall,
        null_text: bytes,
        deadline: float = ONE_TRY,
        may_wait: bool = True,
        tally: Tally = UNNAMED,
    ) -> None:
        self.tally = tally
        self.may_wait = may_wait
        self.external_key = external_key
        self.call = call
        self.null_text = null_text
        self.deadline = deadline
        self.result: JSON = None
        self.error: Exception | asyncio.CancelledError | None = None
        self.context: Context | None = None
        self.done: asyncio.Future[JSON] | None = None

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[JSON]:
        """Return the future that the caller is to wait for; from now on the reducer runs in the caller's context.

        Args:
            loop: the running event loop.
        """
        self.context = copy_context()
        self.done = loop.create_future()
        return self.done

    def keep_context(self) -> None:
        """Keep the caller's context, which this is called in unless the caller waits; the reducer may run again."""
        if self.context is None:
            self.context = copy_context()

    def context_of_reducer(self) -> Context:
        """Return the context to run the reducer in; its caller does not run meanwhile."""
        assert self.context is not None
        return self.context

    def keep(self, external: JSON, text: bytes) -> None:
        """Keep what the reducer returned.

        Args:
            external: the external state; ``False`` where it is not to be written.
            text: its JSON text, empty where it is not to be written.
        """
        self.result = external

    def is_withdrawn(self) -> bool:
        """Tell whether the caller was cancelled while it waited."""
        return self.done is not None and self.done.cancelled()

    def is_waited_for(self) -> bool:
        """Tell whether a caller waits in its own task for this; the end of an event loop cancels that task, too."""
        return self.done is not None and not self.done.done()

    def resolve(self, error: BaseException | None) -> None:
        """Let the caller go on with its own result or error.

        Args:
            error: what befell all events of the commit; ``None`` if it succeeded.
        """
        done = self.done
        if done is None or done.done():
            return
        cause = error or self.error
        if cause is None:
            done.set_result(self.result)
            return
        self.tally.failed += 1
        if error is not None:
            self.tally.events += 1  # no commit counts it
        if isinstance(cause, asyncio.CancelledError):
            done.cancel()
        else:
            done.set_exception(cause)


def may_wait_on(events: Sequence[Event], error: BaseException) -> list[Event]:
    """Return the events that an error is not the end of: those that may still wait for a backend that is away.

    Args:
        events: some events of one commit, which changed nothing.
        error: why.
    """
    if not isinstance(error, StoreUnavailable) or not error.retry:
        return []
    now = monotonic()
    return [event for event in events if event.deadline > now and event.is_waited_for()]


class Batch:
    """The events of one commit: what they start from, and what they lead to.

    Args:
        base: the text of the internal state that the first event starts from; ``None`` for a fresh key.
        is_cached: whether that text is only what this process knows, and must be confirmed.
        attempt: how often other processes wrote in between.

    Attributes:
        text: the text of the internal state after the events.
        writes: the texts that are to be written, by key.
        events: the events, in order.
        outcome: what the first commit came to; ``True`` also where it is delayed.
    """

    __slots__ = ('attempt', 'base', 'events', 'is_cached', 'outcome', 'text', 'writes')

    def __init__(self, base: bytes | None, is_cached: bool, attempt: int = 0) -> None:
        self.base = base
        self.is_cached = is_cached
        self.attempt = attempt
        self.text = base
        self.writes: dict[str, bytes | None] = {}
        self.events: list[Event] = []
        self.outcome: bool | BaseException | None = None

    def state(self, decode: Decode, internal_key: str, event: Event) -> JSON:
        """Return what an event's reducer is given: a fresh copy.

        Args:
            decode: gives the value of a text, with an error that names the key.
            internal_key: the key of the internal state.
            event: the event.

        Raises:
            CorruptValue: the text is not JSON.
        """
        text = event.null_text if self.text is None else self.text
        try:
            return json_codec.decode(text)
        except CorruptValue:
            return decode(internal_key, text)  # the same, with a message that names the key

    def accept(self, encode: Encode, internal_key: str, event: Event, result: Any) -> None:
        """Note what a reducer returned; both states are encoded before anything of it counts.

        Args:
            encode: gives the text of a value, with an error that names the key.
            internal_key: the key of the internal state.
            event: the event.
            result: ``(internal_state, external_state)``, ``False`` for one that is not to be written.

        Raises:
            ReducerError: it is not a pair.
            InvalidKey, InvalidValue: a key or a state that no store takes.
        """
        if (type(result) is not tuple and not isinstance(result, (tuple, list))) or len(result) != 2:
            raise ReducerError(
                f'The reducer of {display_key(internal_key)} returned {type(result).__name__}; it must return '
                '(internal_state, external_state), with False for one that is not to be written.'
            )
        internal, external = result
        text, external_key = self.text, event.external_key
        if self.base is None:
            check_key(internal_key)
            check_key(external_key)
        elif not external_key.isascii():
            check_key(external_key)  # the internal one is stored
        external_text = b''
        try:
            if internal is not False:
                text = json_codec.encode(internal)
                if text == self.text:
                    text = self.text  # it did not change, so it need not be written
            elif text is None:
                text = event.null_text  # a fresh key is there from its first event on; the roster finds students by it
            if external is not False:
                # Many reducers return one object twice; its text is encoded, kept and sent once.
                external_text = text if external is internal else json_codec.encode(external)
        except InvalidValue:
            for key, value in ((internal_key, internal), (external_key, external)):
                encode(key, value)  # the same, with a message that names the key
            raise
        if external is not False:
            self.writes[external_key] = external_text
        if text is not self.text:
            self.writes[internal_key] = self.text = text
        event.keep(external, external_text)
