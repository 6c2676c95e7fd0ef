"""Which erased students stores keep away, and lifting that."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.suppression import Entry, Suppression


async def suppressed(
    stores: Mapping[str, Store], student: str | None = None, hashes: Collection[str] = ()
) -> dict[str, list[Entry]]:
    """List the entries of erased students.

    Args:
        stores: the stores by name.
        student: an id, whose entries alone are listed; ``None``: those of all.
        hashes: the hashes of the entries that are listed; none: of all.

    Returns:
        The entries of each store, the oldest first; each has the hash of an id, and when that was erased.

    Raises:
        CorruptValue: the record of a store is damaged.
        StoreUnavailable, Overloaded: a store cannot be used.
    """
    found = {}
    for name, store in stores.items():
        record = await suppression.read(store)
        wanted = {entry.hash for entry in record} if student is None else set(record.hashes_of(student))
        if hashes:
            wanted &= set(hashes)
        found[name] = [entry for entry in record if entry.hash in wanted]
    return found


async def lift(stores: Mapping[str, Store], entries: Mapping[str, Collection[Entry]]) -> None:
    """Forget erasures, so that older data may come back.

    Args:
        stores: the stores by name.
        entries: of each store those to be removed, as :func:`suppressed` lists them.

    Raises:
        CorruptValue, Conflict: a record is damaged, or others kept changing it.
        StoreUnavailable, Overloaded, WriteUnclear: a store cannot be used; some may be removed.
    """
    for name, those in entries.items():
        if hashes := {entry.hash for entry in those}:
            await suppression.change(stores[name], functools.partial(Suppression.without, hashes=hashes))
