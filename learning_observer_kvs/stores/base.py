"""The contract of every store: each public method, written once.

Whatever the backend, the calls keep the same promises. What reducers add lies over the store: an overlay in each loop.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores import dump, suppression
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.key_locks import Hold
from learning_observer_kvs.stores.keys import check_key
from learning_observer_kvs.stores.pacing import MAX_TRIES, pause
from learning_observer_kvs.stores.reads import ReadCalls
from learning_observer_kvs.stores.types import MISSING

log = logging.getLogger('learning_observer_kvs')

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for what is under way."""


class Store(ReadCalls):
    """A key-value store of JSON values.

    ``await store[key]`` reads a value, ``await store.set(key, value)`` writes one. Keys are non-empty text of up to
    1 MB, values are anything that JSON can hold.

    Args:
        name: its name in the configuration, for messages.
        flush_interval: seconds for which what reducers changed is kept in the process before it is written; ``None``
            writes with every event. Read by the layer of the reducers.
        cache_bytes: bytes of text of the keys in use that are kept in the process, in each event loop, so that reducers
            need not read them again. Read by the layer of the reducers.
        retry_timeout: seconds that a call waits, from its start, while the server, file or disk is away; 0 tries once.
            A call that goes through the store in pages, such as ``keys``, waits as long for each.
        reducer_timeout: seconds that a reducer may take for an event; then it is cancelled, and the event fails.
            ``None``: it may take any time. Read by the layer of the reducers.
        failed_events: the folder for events that were accepted and could not be stored, kept as an absolute path.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Writing

    async def set(self, key: str, value: JSON) -> None:
        """Store a value; readers and crashes see the old one or the new one.

        Args:
            key: the key.
            value: any JSON value.

        Raises:
            InvalidKey, InvalidValue: before anything is written.
            ReducerError: called by the reducer, or an update, of this very key, which would wait for itself.
            StoreUnavailable, Overloaded: nothing was written.
            WriteUnclear: it may or may not have been written; read the key to find out.
        """
        await self._write({check_key(key): self.encode(key, value)})

    async def multiset(self, mapping: Mapping[str, JSON]) -> None:
        """Store many values, all or none.

        Args:
            mapping: values by key.

        Raises:
            InvalidKey, InvalidValue: before anything is written.
            CrossSlot: the keys are in several slots of a Redis Cluster; nothing was written.
            ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`set`.
        """
        writes = {check_key(key): self.encode(key, value) for key, value in mapping.items()}
        if writes:
            await self._write(writes)

    async def remove(self, key: str) -> bool:
        """Remove a key.

        Args:
            key: the key.

        Returns:
            Whether it was there.

        Raises:
            InvalidKey: a key that no store takes.
            ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`set`.
        """
        deadline = deadline_after(self.retry_timeout)
        async with self._exclusive([check_key(key)]):
            return await self._remove(key, deadline)

    async def commit(self, writes: Mapping[str, JSON], expected: Mapping[str, JSON] | None = None) -> bool:
        """Write several keys at once, on condition.

        Args:
            writes: values by key; ``MISSING`` removes the key.
            expected: what other keys (or the same) must hold for that; ``MISSING`` for "not there".

        Returns:
            Whether the condition held and everything was written; otherwise nothing was.

        Raises:
            InvalidKey, InvalidValue: before anything is written.
            Conflict: others wrote an expected key in between, ``MAX_TRIES`` times; nothing was written.
            CrossSlot: the keys are in several slots of a Redis Cluster; nothing was written.
            ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`set`.
        """
        texts = self._encode_all(writes)
        wanted = self._encode_all(expected or {})
        deadline = deadline_after(self.retry_timeout)
        async with self._exclusive({*texts, *wanted}):
            for attempt in range(MAX_TRIES):
                found = await self.read_until(deadline, list(wanted)) if wanted else []
                stored = dict(zip(wanted, found, strict=True))
                if any(not self._is_same(key, stored[key], text) for key, text in wanted.items()):
                    return False
                # The condition is put in the bytes that are stored: equal values may be written differently.
                if await self._commit(texts, stored, deadline):
                    return True
                await pause(attempt)
        raise self._gave_up(next(iter(wanted)))

    async def compare_and_set(self, key: str, expected: JSON, value: JSON) -> bool:
        """Store a value if the key holds the expected one.

        Args:
            key: the key.
            expected: what it must hold; ``MISSING``: it must not be there.
            value: any JSON value; ``MISSING`` removes the key.

        Returns:
            Whether it did.

        Raises:
            InvalidKey, InvalidValue, Conflict, ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for
                :meth:`commit`.
        """
        return await self.commit({key: value}, {key: expected})

    async def update(self, key: str, fn: Callable[[JSON], JSON | Awaitable[JSON]]) -> JSON:
        """Read, modify and write a value without losing an update, of this process or another.

        Args:
            key: the key.
            fn: takes the value (``None`` when missing) and returns the new one, or an awaitable of it; ``MISSING``
                removes the key. It may run more than once, each time with a fresh copy: it must have no side effects.

        Returns:
            The new value.

        Raises:
            InvalidKey, InvalidValue: nothing was written.
            CorruptValue: what is stored is not JSON; nothing was written.
            Conflict: others wrote the key in between, ``MAX_TRIES`` times; nothing was written.
            ReducerError: ``fn`` waits for its own key.
            StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`set`.
        """
        deadline = deadline_after(self.retry_timeout)
        async with self._exclusive([check_key(key)]) as hold:
            for attempt in range(MAX_TRIES):
                [text] = await self.read_until(deadline, [key])
                with hold.running():
                    value = fn(None if text is None else self.decode(key, text))
                    if inspect.isawaitable(value):
                        value = await value
                new = None if value is MISSING else self.encode(key, value)
                if await self._commit({key: new}, {key: text}, deadline):
                    return value
                await pause(attempt)
        raise self._gave_up(key)

    async def load(self, filename: str | os.PathLike[str]) -> int:
        """Store every entry of a file that :meth:`dump` wrote, but for those of erased students.

        What is in a dump whose store knew of the erasure came after it, and is stored. This store knows of that erasure
        then, too.

        Args:
            filename: the file.

        Returns:
            The number of entries that were stored.

        Raises:
            DumpFileError: the file is not a dump; it is read through before anything is stored.
            CorruptValue: the record of erased students is damaged.
            ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`set`; the entries before are stored.
        """
        file = await dump.opened(filename)
        suppressed, new = await suppression.take_over(self, suppression.read_dump(file))
        if new and (states := await suppression.Admissions(new, self.name).states(self.pages())):
            log.warning(
                '%s: students were erased of whom store %r has %s states; erase them there, too, if those are older.',
                filename, self.name, f'{len(states):,}',
            )  # fmt: skip
        if not suppressed:
            return await file.read(self._load_entries)
        admissions, left_out = suppression.Admissions(suppressed, self.name), 0

        async def store(entries: Mapping[str, JSON]) -> None:
            nonlocal left_out
            admitted = {key: admissions.admit(key, value).value for key, value in entries.items()}
            kept = {key: value for key, value in admitted.items() if value is not MISSING}
            left_out += len(entries) - len(kept)
            await self._load_entries(kept)

        count = await file.read(store)
        if left_out:
            log.warning('%s: %s entries of erased students were left out.', filename, f'{left_out:,}')
        return count - left_out

    async def clear(self, *, force: bool = False) -> None:
        """Remove everything that belongs to this store, and nothing else.

        Args:
            force: whether to remove every key that the store lists, also where others may have written some of them.

        Raises:
            ForeignKeys: without ``force``: a Redis store would remove keys of other programs or stores; nothing was
                removed.
            ReducerError, StoreUnavailable, Overloaded, WriteUnclear: as for :meth:`set`; some keys may be gone.
        """
        if not force:
            await self._check_clear()
        async with self._exclusive(None):
            await self._clear()

    # Metrics

    def metrics(self) -> dict[str, Any]:
        """Return what this process has done with the store since it began, in all event loops, and what is under way.

        Nothing is asked of the backend, and nothing is written.

        Returns:
            Numbers by name, with ``type`` and ``location``; under ``reducers`` those of each reducer by its name in
            keys. A store whose writes are not counted, such as one in memory, has no numbers of them.
        """
        return {
            'type': self.TYPE,
            'location': self.location(),
            'busy_keys': self.busy_keys(),
            **self._write_metrics(),
            **self._metrics_above(),
        }

    # Lifecycle

    async def flush(self) -> None:
        """Write what ``flush_interval`` keeps in this event loop; without that option there is nothing to do.

        Raises:
            StoreUnavailable, WriteUnclear, Conflict, Overloaded: it could not be written; it is kept and written later.
        """
        await self.overlay().flush()

    async def close(self) -> None:
        """Finish what is under way in this event loop, and release its files and connections.

        What reducers changed is written first. All of it takes ``CLOSE_TIMEOUT`` seconds at most; what could not be
        written is counted in the log. Without ``flush_interval`` whatever was acknowledged is safe without this. The
        store can be used again.
        """
        deadline = time.monotonic() + CLOSE_TIMEOUT
        if (overlay := self.overlays.peek()) is not None:
            await overlay.close(CLOSE_TIMEOUT)
            self.overlays.drop(overlay)  # another call may have closed it before, and there is a new one
        await self._close_backend(deadline)

    # Inside

    async def _load_entries(self, entries: Mapping[str, JSON]) -> None:
        """Store some of the entries of a file."""
        await self.multiset(entries)

    def _exclusive(self, keys: Collection[str] | None) -> AbstractAsyncContextManager[Hold]:
        return self.overlay().exclusive(keys)

    async def _write(self, writes: Mapping[str, bytes | None]) -> None:
        deadline = deadline_after(self.retry_timeout)
        async with self._exclusive(writes.keys()):
            await self._commit(writes, {}, deadline)

    def _encode_all(self, values: Mapping[str, JSON]) -> dict[str, bytes | None]:
        return {check_key(key): None if value is MISSING else self.encode(key, value) for key, value in values.items()}
