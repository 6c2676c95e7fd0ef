"""The events that wait behind the keys of one store in one event loop, counted and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from learning_observer_kvs.errors import Overloaded
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers.batch import Event, may_wait_on
from learning_observer_kvs.reducers.serving import EventQueue
from learning_observer_kvs.stores.key_locks import CURRENT, Holder, KeyLocks, Wait, current_holder, waits_for_itself
from learning_observer_kvs.stores.keys import display_key

MAX_QUEUED_EVENTS = 10_000
"""How many events may wait behind one key."""


class QueuedEvents(dict[str, int]):
    """How many events wait behind each key; a key without any is left out.

    Args:
        locks: the locks of the keys.
        on_ready: called with a key and its queue when the key is granted.
    """

    __slots__ = ('_locks', '_loop', '_on_ready')

    def __init__(self, locks: KeyLocks, on_ready: Callable[[str, EventQueue], None]) -> None:
        super().__init__()
        self._locks = locks
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()

    def wait(self, key: str, event: Event) -> Awaitable[JSON]:
        """Let an event wait for its turn, and for what comes of it; to be awaited at once.

        Args:
            key: the key, which is held.
            event: the event.

        Returns:
            The event's result.

        Raises:
            ReducerError: the caller would wait for itself.
            Overloaded: too many wait for the key.
        """
        if CURRENT.get() is None or (holder := current_holder()) is None:
            self.put(key, event)
            return event.wait(self._loop)  # cancelled, it withdraws the event unless its turn has come
        if self._locks.depends_on_caller([key]):
            raise waits_for_itself([key])
        queue = self.put(key, event)
        return self._wait_inside(holder, (self._locks, key, queue), event.wait(self._loop))

    async def _wait_inside(self, holder: Holder, wait: Wait, future: asyncio.Future[JSON]) -> JSON:
        """Wait inside a reducer or an update, which what it waits for must not depend on."""
        holder.add_wait(wait)
        holder.give_back_permits()
        try:
            return await future
        finally:
            holder.remove_wait(wait)

    def put(self, key: str, event: Event) -> EventQueue:
        """Let an event wait behind all others of its key.

        Args:
            key: the key, which is held.
            event: the event.

        Returns:
            The queue that it is in.

        Raises:
            Overloaded: too many wait for the key.
        """
        queued = self.get(key, 0)
        if queued >= MAX_QUEUED_EVENTS:
            event.tally.note_failed()
            raise Overloaded(
                f'{queued:,} events wait for {display_key(key)} already; the event was rejected. Retry later, or send '
                'slower.'
            )
        queue = self._locks.last_waiter(key)
        if not isinstance(queue, EventQueue) or queue.on_ready != self._on_ready:
            queue = EventQueue(self._on_ready)
            self._locks.request([key], queue)  # which takes nothing: the key is held, or the caller is barred
        queue.events.append(event)
        self[key] = queued + 1
        return queue

    def take_next(self, key: str) -> EventQueue | None:
        """Take the events that are next in line for a key.

        Args:
            key: the key, which is held.

        Returns:
            Their queue; ``None`` if something else is next.
        """
        queue = self._locks.next_waiter(key)
        if not isinstance(queue, EventQueue) or queue.on_ready != self._on_ready:
            return None
        self._locks.withdraw([key], queue)
        return queue

    def put_first(self, key: str, events: Sequence[Event], queue: EventQueue | None = None) -> EventQueue:
        """Let events wait before all others of their key.

        Args:
            key: the key, which is held for them.
            events: the events, in order.
            queue: those that wait behind them, if any do.

        Returns:
            The queue of all of them.
        """
        queue = queue or EventQueue(self._on_ready)
        queue.events.extendleft(reversed(events))
        self[key] = self.get(key, 0) + len(events)
        return queue

    def note_dequeued(self, key: str, events: int) -> None:
        """Count events that wait no longer.

        Args:
            key: their key.
            events: how many.
        """
        left = self[key] - events
        if left:
            self[key] = left
        else:
            del self[key]

    def resolve(
        self, key: str, events: Sequence[Event], rest: EventQueue | None, error: BaseException
    ) -> EventQueue | None:
        """Give events that have changed nothing their error; those that may still wait for the backend wait on.

        Args:
            key: their key, which is held for them.
            events: the events.
            rest: those that wait behind them, if any do.
            error: what befell all of them.

        Returns:
            Those that wait now, if any do.
        """
        waiting = may_wait_on(events, error)
        for event in events:
            if event not in waiting:
                event.resolve(error)
        return self.put_first(key, waiting, rest) if waiting else rest
