"""The part of every store that announces its changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.change_feed import MAX_KEYS, ChangeFeed, ChangeSource, InProcess, Listeners
from learning_observer_kvs.stores.changes import Changes
from learning_observer_kvs.stores.keys import check_prefix


class Announcer(ABC):
    """Announces the changes of a store; a parent of :class:`~learning_observer_kvs.stores.base.Store`, which see.

    Attributes:
        listeners: the listeners of all event loops; empty, as it mostly is, it costs a write one look.
    """

    def __init__(self) -> None:
        self.listeners = Listeners()
        self._feeds: PerLoop[ChangeFeed] = PerLoop(lambda: ChangeFeed(self.listeners, self._open_source))

    @abstractmethod
    async def __getitem__(self, key: str) -> JSON:
        """Return the value of a key."""

    def changes(self, prefix: str | Collection[str] = '') -> Changes:
        """Return an asynchronous iterator over the changes from now on, by whichever process.

            async for change in store.changes('External,'):
                ...

        Args:
            prefix: only keys that begin with it, or with one of several; no character has a special meaning.

        Returns:
            An iterator over :class:`~learning_observer_kvs.stores.changes.Change`. A key that changes again before it
            is read comes once. It begins when it is first iterated over, or on entering ``async with``, which wait
            until the changes can be seen, and raise ``StoreUnavailable`` where they cannot. It ends when the store is
            closed in this event loop.

        Raises:
            InvalidKey: no key can begin so.
            ValueError: there is no prefix in the collection.
        """
        prefixes = tuple(map(check_prefix, [prefix] if isinstance(prefix, str) else prefix))
        if not prefixes:
            raise ValueError("There is no prefix; '' stands for all keys.")
        return Changes(self._feeds.here, self.__getitem__, prefixes)

    def announce(self, keys: Collection[str]) -> None:
        """Announce keys whose values are others now, to the iterators of this process.

        Args:
            keys: the keys.
        """
        some = None
        if len(keys) <= MAX_KEYS:
            prefixes = self.listeners.prefixes
            some = [key for key in keys if key.startswith(prefixes)]
            if not some:
                return  # as nearly always, where a page follows one key
        for listener in list(self.listeners):
            listener.announce_from_anywhere(some)

    def _note_written(self, keys: Collection[str]) -> None:
        """This process has written keys, and there are listeners: announce it, unless the source sees it itself."""
        self.announce(keys)

    def _open_source(self, feed: ChangeFeed) -> ChangeSource:
        """What a backend overrides that sees the changes of other processes, too."""
        return InProcess()

    async def _end_changes(self) -> None:
        """End the iterators of this event loop."""
        feed = self._feeds.pop()
        if feed is not None:
            feed.end()
            await feed.closed()
