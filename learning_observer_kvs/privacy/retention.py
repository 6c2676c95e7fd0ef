"""Removing states that were last written long ago."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.identifiers import student_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING, Description
from learning_observer_kvs.stream_analytics.keys import both_state_keys, replayed_key

MAX_MESSAGES = 20


@dataclass
class Expired:
    """The result of an expiry.

    Attributes:
        states: how many students' states were so old; the internal and the external one count as one.
        removed: how many of them were removed.
        kept: how many states are younger.
        undated: how many states have no time, because the backend does not keep it.
        unreadable: how many states cannot be read, such as a list that another program wrote to Redis; they stay.
        messages: what is wrong with the first of these.
    """

    states: int = 0
    removed: int = 0
    kept: int = 0
    undated: int = 0
    unreadable: int = 0
    messages: list[str] = field(default_factory=list)


async def expire(
    store: Store,
    before: float,
    *,
    dry_run: bool = False,
    on_old: Callable[[str], None] = lambda key: None,
    progress: Callable[[int], None] = lambda keys: None,
) -> Expired:
    """Remove the states of students that were last written before a time.

    The two states of a reducer, and the list of what was replayed to them, are removed together, if all of them are so
    old. A state that is written meanwhile stays.

    Args:
        store: the store.
        before: the time, in seconds since the epoch.
        dry_run: whether nothing is removed.
        on_old: called with the internal key of each state that is so old.
        progress: called with how many keys were looked at since the last call.

    Returns:
        How many there were.

    Raises:
        StoreUnavailable, Overloaded, WriteUnclear: some may be removed; run it again.
    """
    found = Expired()
    seen: set[str] = set()
    await store.flush()  # what this process keeps is new
    async with aclosing(store.pages()) as pages:
        async for page in pages:
            keys = {key: both_state_keys(key)[0] for key in page if student_of(key) is not None}
            others = list({internal for key, internal in keys.items() if key != internal})
            described = dict(zip(others, await store.describe_all(others), strict=True))
            for key, internal in keys.items():
                # One that has an internal state comes with that.
                if key == internal or described[internal] is None:
                    if store.SCAN_REPEATS:
                        if internal in seen:
                            continue
                        seen.add(internal)
                    await _judge(store, internal, before, dry_run, on_old, found)
            progress(len(page))
    return found


async def _judge(
    store: Store, internal: str, before: float, dry_run: bool, on_old: Callable[[str], None], found: Expired
) -> None:
    keys = [*both_state_keys(internal), replayed_key(internal)]
    try:
        values = dict(zip(keys, await store.multiget(keys, missing=MISSING), strict=True))
        there = {key: value for key, value in values.items() if value is not MISSING}
        described = await store.describe_all(there)
        if (unreadable := next((each for each in described if isinstance(each, CorruptValue)), None)) is not None:
            raise unreadable
    except CorruptValue as error:
        found.unreadable += 1
        if len(found.messages) < MAX_MESSAGES:
            found.messages.append(str(error))
        return
    times = [description.written for description in described if isinstance(description, Description)]
    if not times or None in times:
        found.undated += bool(times)
        return
    if max(time for time in times if time is not None) >= before:
        found.kept += 1
        return
    found.states += 1
    on_old(internal)
    # Its values were read before its times: what is written in between differs, unless it is the same again.
    if not dry_run and await store.commit(dict.fromkeys(there, MISSING), there):
        found.removed += 1
