"""What ``store.changes()`` gives: changes, and the iterator over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.change_feed import ChangeFeed, Listener


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an iterator of ``store.changes()`` gives.

    Attributes:
        kind: ``changed``: the key was set, was removed, or has expired; read it to know. ``resync``: changes may have
            been missed; read again whatever is of interest.
        key: the key; empty with ``resync``.
    """

    kind: Literal['changed', 'resync']
    key: str
    _read: Callable[[str], Awaitable[JSON]] = field(repr=False, compare=False)

    async def value(self) -> JSON:
        """Return the value of the key as it is now, which may be newer than this change.

        Returns:
            The value; ``None`` when missing.

        Raises:
            ValueError: this is a ``resync``, which has no key.
            CorruptValue, StoreUnavailable, Overloaded: as for ``await store[key]``.
        """
        if self.kind == 'resync':
            raise ValueError('A resync has no key and no value: read again whatever is of interest.')
        return await self._read(self.key)


class Changes:
    """An asynchronous iterator over the changes of a store: ``async for change in store.changes()``.

    It begins when it is first iterated over, or on entering ``async with``. Whichever way the loop is left, what it has
    opened is closed: by ``aclose()``, at the end of ``async with``, or as soon as nothing refers to it.

    Args:
        feed: returns the feed of the running event loop.
        read: reads a value.
        prefixes: what the keys begin with, each with one of them.
    """

    def __init__(
        self, feed: Callable[[], ChangeFeed], read: Callable[[str], Awaitable[JSON]], prefixes: tuple[str, ...]
    ) -> None:
        self._get_feed = feed
        self._read = read
        self._prefixes = prefixes
        self._feed: ChangeFeed | None = None
        self._listener: Listener | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        """Begin: whatever changes from now on is given.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        if self._listener is None and not self._has_ended:
            feed = self._get_feed()
            listener = await feed.listen(self._prefixes)
            if self._has_ended:  # closed meanwhile
                feed.leave(listener)
            else:
                self._feed, self._listener = feed, listener
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """Return the next change. Cancelled, for example by a timeout, it can be called again, and nothing is missed.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        return self._change((await self._waited()).take())

    async def together(self) -> list[Change]:
        """Return all changes that wait, at least one, for readers that read many keys in one call.

        Cancelled, it can be called again, and nothing is missed.

        Raises:
            StopAsyncIteration: the store was closed.
            StoreUnavailable: the changes cannot be seen.
        """
        return [self._change(key) for key in (await self._waited()).take_all()]

    async def _waited(self) -> Listener:
        """The listener, when there is a change."""
        if self._listener is None:
            await self.__aenter__()
        if self._listener is None:
            raise StopAsyncIteration
        listener = self._listener
        try:
            await listener.wait()
        except Exception:
            await self.aclose()
            raise
        return listener

    def _change(self, key: str | None) -> Change:
        return Change('resync', '', self._read) if key is None else Change('changed', key, self._read)

    async def aclose(self) -> None:
        """End: every task and connection that this iterator alone has needed is gone when this returns."""
        self._has_ended = True
        feed, listener = self._feed, self._listener
        if feed is not None and listener is not None:
            self._feed = self._listener = None
            listener.end()
            feed.leave(listener)
            await feed.closed()

    def __del__(self) -> None:
        if self._feed is not None and self._listener is not None:
            with suppress(RuntimeError):  # the loop is closed; what it had open ended with it
                self._feed.loop.call_soon_threadsafe(self._feed.leave, self._listener)
