"""Exclusive access to keys within one event loop: first come, first served, several keys in one step.

What runs a reducer, updates a key or writes it holds the key meanwhile. Several keys are asked for in one step, so two
callers can never each hold what the other one waits for; a wait that could not end, because it depends on the caller
itself, raises. Other event loops and other processes are excluded by the condition of a commit, not here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, Self, TypeAlias

from learning_observer_kvs.errors import Overloaded, ReducerError
from learning_observer_kvs.stores.hold_watch import HoldWatch
from learning_observer_kvs.stores.keys import display_key

MAX_WAITERS = 10_000
"""How many callers may wait for one key."""

_ALL = ''
"""A key of no store: held by the one caller that waits for every key, or holds them all."""


class Holder:
    """A caller that holds keys: a reducer call, an update, a write.

    Attributes:
        outer: the holder in whose context this one was made.
        waits: what it waits for now.
        has_ended: whether it holds nothing any more; tasks that it began may go on.
        what: what it is, for the log.
        permit: what it gives back when it ends, or waits for a key: what it waits for may need it.
    """

    # One is made with every event, so it has no __init__.
    outer: Holder | None = None
    waits: Sequence[Wait] = ()
    has_ended = False
    what = 'The reducer'
    permit: asyncio.Semaphore | None = None

    def add_wait(self, wait: Wait) -> None:
        """Note what it waits for.

        Args:
            wait: what it waits for from now on, besides what it waits for already.
        """
        self.waits = [*self.waits, wait]

    def remove_wait(self, wait: Wait) -> None:
        """Note that a wait is over.

        Args:
            wait: as it was given to :meth:`add_wait`.
        """
        waits = list(self.waits)
        waits.remove(wait)
        self.waits = waits

    def end(self) -> None:
        """Note that it holds nothing any more."""
        self.has_ended = True
        while self.outer is not None and self.outer.has_ended:  # so that no chain of those that have ended grows
            self.outer = self.outer.outer

    def give_back_permits(self) -> None:
        """Give back the permit of this and of each outer holder."""
        holder: Holder | None = self
        while holder is not None:
            if holder.permit is not None:
                holder.permit.release()
                holder.permit = None
            holder = holder.outer


class BlockHolder(Holder):
    """A caller that holds keys for a block: an update, a write."""

    what = 'An update or a write'


class Waiter(Protocol):
    """What stands in line for a key."""

    def granted(self, key: str) -> None:
        """Take the key over; it is held for this waiter already.

        Args:
            key: the key.
        """

    def missing(self) -> Collection[str]:
        """Return the keys that it still waits for."""


Wait: TypeAlias = 'Holder | tuple[KeyLocks, str, Waiter | None]'
"""A holder that must end first; or the locks, the key, and what stands in line for it (``None``: at its end)."""

CURRENT: ContextVar[Holder | None] = ContextVar('learning_observer_kvs_holder', default=None)
"""The holder in whose context code runs."""

RESERVED = Holder()
"""Holds a key for work that no caller's code is part of: a read, a commit, a queue that is about to be served."""


def current_holder() -> Holder | None:
    """Return the innermost holder in whose context the caller runs, of those that have not ended."""
    holder = CURRENT.get()
    while holder is not None and holder.has_ended:
        holder = holder.outer
    return holder


class KeyLocks:
    """The locks of one store in one event loop.

    Attributes:
        held: the holder of each key that is held. A key that is neither held nor waited for takes no memory.
        barrier: the caller that waits for every key, or holds them all; ``None`` most of the time.
        watch: logs what holds a key for very long; whatever runs a caller's code while it holds a key starts it.
    """

    def __init__(self) -> None:
        self.held: dict[str, Holder] = {}
        self.barrier: Hold | None = None
        self.watch = HoldWatch(self.held, RESERVED)
        self._waiting: dict[str, deque[Waiter]] = {}
        self._parked: dict[Waiter, Collection[str]] = {}  # kept waiting by the barrier, in the order they came
        self._parked_lines: dict[str, deque[Waiter]] = {}  # the same, by key

    def hold(self, keys: Collection[str] | None) -> Hold:
        """Return an async context manager that holds keys for its block.

        Args:
            keys: the keys; ``None`` for every key there is or may come.

        Returns:
            The context manager. Entering it raises ``ReducerError`` where the wait would depend on the caller itself,
            and ``Overloaded`` where too many wait already.
        """
        return Hold(self, keys)

    def is_barred(self) -> bool:
        """Tell whether the caller must wait for the barrier, whatever key it wants.

        A caller that runs inside a reducer or an update need not while the barrier itself still waits: it may be what
        the barrier waits for.
        """
        barrier = self.barrier
        return barrier is not None and (barrier.is_active or current_holder() is None)

    def request(self, keys: Collection[str], waiter: Waiter) -> list[str]:
        """Take the keys that are free, and stand in line for the others.

        Args:
            keys: each once.
            waiter: whom to call for those that are granted later; all of them where the caller is barred.

        Returns:
            The keys that were taken.

        Raises:
            Overloaded: too many wait already; nothing was taken.
        """
        is_barred = self.is_barred()
        lines = self._parked_lines if is_barred else self._waiting
        for key in keys:
            if key in lines and len(lines[key]) >= MAX_WAITERS:
                waiters, wanted = len(lines[key]), display_key(key) if key else 'the whole store'
                raise Overloaded(f'{waiters:,} callers wait for {wanted} already; this one was rejected. Retry later.')
        if not is_barred:
            return self._take_or_wait(keys, waiter)
        self._parked[waiter] = keys
        for key in keys:
            lines.setdefault(key, deque()).append(waiter)
        return []

    def last_waiter(self, key: str) -> Waiter | None:
        """Return the waiter that the caller would come next to in line.

        Args:
            key: the key.

        Returns:
            The last waiter; ``None`` if there is none.
        """
        lines = self._waiting if self.barrier is None or not self.is_barred() else self._parked_lines
        queue = lines.get(key)
        return queue[-1] if queue else None

    def next_waiter(self, key: str) -> Waiter | None:
        """Return the waiter that gets a key when it is released.

        Args:
            key: the key.

        Returns:
            The first waiter; ``None`` if there is none.
        """
        return self._waiting[key][0] if key in self._waiting else None

    def withdraw(self, keys: Iterable[str], waiter: Waiter) -> None:
        """Take a waiter out of every line that it stands in.

        Args:
            keys: the keys that it waits for.
            waiter: the waiter.
        """
        lines = self._waiting if self._parked.pop(waiter, None) is None else self._parked_lines
        for key in keys:
            queue = lines[key]
            queue.remove(waiter)
            if not queue:
                del lines[key]

    def release(self, key: str) -> None:
        """Hand a key on to the next in line, or let it go.

        Args:
            key: a key that the caller holds.
        """
        queue = self._waiting.get(key)
        if queue is not None:
            waiter = queue.popleft()
            if not queue:
                del self._waiting[key]
            self.held[key] = RESERVED
            waiter.granted(key)
            return
        del self.held[key]
        if self.barrier is not None:
            self.barrier.activate_if_idle()

    def lift_barrier(self) -> None:
        """Let those go on that the barrier kept waiting, in the order in which they came."""
        self.barrier = None
        parked, self._parked, self._parked_lines = self._parked, {}, {}
        for waiter, keys in parked.items():
            for key in self._take_or_wait(keys, waiter):
                waiter.granted(key)

    def _take_or_wait(self, keys: Collection[str], waiter: Waiter) -> list[str]:
        taken = []
        for key in keys:
            if key in self.held:
                self._waiting.setdefault(key, deque()).append(waiter)
            else:
                self.held[key] = RESERVED
                taken.append(key)
        return taken

    def depends_on_caller(self, keys: Iterable[str]) -> bool:
        """Tell whether a wait for keys could never end, because it depends on the caller itself.

        Args:
            keys: the keys; a new waiter would stand at the end of their lines.

        Returns:
            Whether a reducer or update that the caller is part of holds one of them, or holds what a holder of one of
            them, or a waiter before the caller in a line, waits for.
        """
        chain: set[Holder] = set()
        holder = current_holder()
        while holder is not None:
            chain.add(holder)
            holder = holder.outer
        if not chain:
            return False
        seen: set[Wait] = set()
        to_visit: list[Wait] = [(self, key, None) for key in keys]
        while to_visit:
            wait = to_visit.pop()
            if wait in seen:
                continue
            seen.add(wait)
            if isinstance(wait, Holder):
                if wait in chain:
                    return True
                to_visit += wait.waits
            else:
                locks, key, waiter = wait
                to_visit += locks.waits_before(key, waiter)
        return False

    def waits_before(self, key: str, waiter: Waiter | None) -> Iterator[Wait]:
        """Yield what must end before a waiter gets a key.

        Args:
            key: the key.
            waiter: the waiter; ``None`` for one that would come last.
        """
        if key in self.held:
            yield self.held[key]
        if key == _ALL:
            for other in self.held:
                if other != _ALL:
                    yield self, other, None
        line = self._waiting.get(key, ())
        if waiter is not None and waiter not in line:
            return  # it has the key already
        for ahead in line:
            if ahead is waiter:
                return
            for other in ahead.missing():
                if other != key:
                    yield self, other, ahead


class Hold:
    """Exclusive access to some keys, or to all, for an ``async with`` block.

    Attributes:
        holder: stands for the block among the holders.
        is_active: of one that is to hold every key: whether it does.
    """

    __slots__ = ('_granted', '_locks', '_missing', '_owned', '_wanted', 'holder', 'is_active')

    def __init__(self, locks: KeyLocks, keys: Collection[str] | None) -> None:
        self._locks = locks
        self._wanted = keys
        self._owned: list[str] = []
        self._missing: set[str] = set()
        self._granted: asyncio.Future[None] | None = None
        self.holder = BlockHolder()
        self.holder.outer = current_holder()
        self.is_active = False

    async def __aenter__(self) -> Self:
        locks, wanted = self._locks, self._wanted
        if wanted is None:
            await self._acquire_all()
        elif locks.barrier is None and locks.held.keys().isdisjoint(wanted):
            for key in wanted:
                locks.held[key] = self.holder
            self._owned += wanted
        else:
            await self._acquire(wanted)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._release()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the code of a caller: a wait of that code for a key that is held here raises."""
        if not self._locks.watch.is_running:
            self._locks.watch.start()
        outer = self.holder.outer
        if outer is not None:
            outer.add_wait(self.holder)
        token = CURRENT.set(self.holder)
        try:
            yield
        finally:
            CURRENT.reset(token)
            if outer is not None:
                outer.remove_wait(self.holder)

    def missing(self) -> Collection[str]:
        """Return the keys that it still waits for."""
        return self._missing

    def granted(self, key: str) -> None:
        """Take a key over.

        Args:
            key: the key.
        """
        self._locks.held[key] = self.holder
        self._owned.append(key)
        self._missing.discard(key)
        if not self._missing:
            self._go_on()

    def activate_if_idle(self) -> None:
        """Hold every key as soon as none is held."""
        if not self.is_active and len(self._locks.held) == 1:
            self.is_active = True
            self._go_on()

    async def _acquire(self, keys: Collection[str]) -> None:
        """Wait for keys, all in one step."""
        taken = self._locks.request(keys, self)
        self._missing.update(keys)
        for key in taken:
            self.granted(key)
        if self._missing:
            await self._wait(list(self._missing))

    async def _acquire_all(self) -> None:
        """Wait until no key is held, while no further caller is let in."""
        locks = self._locks
        await self._acquire([_ALL])
        locks.barrier = self
        self.activate_if_idle()
        if not self.is_active:
            await self._wait([_ALL])

    async def _wait(self, keys: list[str]) -> None:
        self._granted = asyncio.get_running_loop().create_future()
        holder, outer = self.holder, self.holder.outer
        holder.waits = [(self._locks, key, self) for key in keys]
        if outer is not None:
            outer.add_wait(holder)
            outer.give_back_permits()
        try:
            if self._locks.depends_on_caller(keys):
                raise waits_for_itself(keys)
            await self._granted
        except BaseException:
            self._release()
            raise
        finally:
            holder.waits = ()
            if outer is not None:
                outer.remove_wait(holder)

    def _go_on(self) -> None:
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)

    def _release(self) -> None:
        locks = self._locks
        self.holder.end()
        if self._missing:
            locks.withdraw(self._missing, self)
            self._missing.clear()
        if locks.barrier is self:
            locks.lift_barrier()
        owned, self._owned = self._owned, []
        for key in owned:
            locks.release(key)


def waits_for_itself(keys: Iterable[str]) -> ReducerError:
    """Return the error for a wait that depends on the caller itself.

    Args:
        keys: what it wants to wait for.
    """
    wanted = ', '.join(display_key(key) for key in list(keys)[:3] if key) or 'every key'
    return ReducerError(
        f'{wanted} is held by the reducer or update that asks for it, or by one that waits for that: it would wait for '
        'its own key forever. Return the new state instead of writing it.'
    )
