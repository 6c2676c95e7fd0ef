"""Erasing one student: by named rules, until a search finds nothing any more, with a receipt."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning_observer_kvs import audit
from learning_observer_kvs import erasure_rules as rules
from learning_observer_kvs.arguments import several
from learning_observer_kvs.errors import StoreUnavailable, Undecided, UnknownStudent
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.privacy import event_files
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.privacy.search import find
from learning_observer_kvs.queries.remove import MAX_SEARCHES
from learning_observer_kvs.reducers.erased_students import FLUSH_TIME
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING

KEYS_AT_ONCE = 500
"""How many keys are removed at a time."""

Count = tuple[str, str, str]
"""A store's name or a file's path, its location, and a rule."""


@dataclass
class Plan:
    """What a search found, before anything is erased.

    Attributes:
        ids: the student's.
        counts: how many places a rule erases, by store or file, location and rule; of a file its lines.
        undecided: the places that no rule is known for.
        aliases: what mappings and rosters call the student besides.
        not_reached: what was not searched, as :func:`.find` names it.
    """

    ids: Ids
    counts: Counter[Count] = field(default_factory=Counter)
    undecided: list[Place] = field(default_factory=list)
    aliases: set[str] = field(default_factory=set)
    not_reached: dict[str, None] = field(default_factory=dict)

    def add(self, place: Place) -> None:
        """Count a place.

        Args:
            place: the place.
        """
        for part in place.parts:
            if part.rule is not None:
                self.counts[_count_of(place, part.rule)] += 1
        if place.undecided and place.name not in {other.name for other in self.undecided}:
            self.undecided.append(place)

    @property
    def is_empty(self) -> bool:
        """Whether nothing names the student."""
        return not self.counts and not self.undecided


@dataclass
class Receipt:
    """What was erased, without any content.

    Attributes:
        student: the id.
        aliases: the other ids that were accepted as the student's.
        who: who asked for it.
        started, finished: when, in ISO 8601.
        erased: how many places by store or file, location and rule.
        left: the places that were left as they were, because that was asked for.
        kept_logs: whether study logs and failed events were left out.
        not_reached: what could not be searched, such as stores in the memory of another process.
        remaining: what could not be erased, or came back at each search.
    """

    student: str
    aliases: list[str]
    who: str
    started: str
    finished: str = ''
    erased: Counter[Count] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    kept_logs: bool = False
    not_reached: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the last search found nothing."""
        return not self.remaining

    def as_json(self) -> dict[str, JSON]:
        """Return the receipt as it is kept."""
        erased = [
            {'where': where, 'location': location, 'rule': rule, 'count': count}
            for (where, location, rule), count in sorted(self.erased.items())
        ]
        return {
            'student': self.student,
            'aliases': self.aliases,
            'who': self.who,
            'started': self.started,
            'finished': self.finished,
            'erased': erased,
            'left': self.left,
            'kept_logs': self.kept_logs,
            'not_reached': self.not_reached,
            'remaining': self.remaining,
            'complete': self.is_complete,
        }


async def plan(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    folders: Iterable[str | os.PathLike[str]] = (),
    on_place: Callable[[Place], None] = lambda place: None,
    progress: Callable[[int], None] = lambda keys: None,
) -> Plan:
    """Find out what :func:`erase` would do.

    Args:
        stores: the stores by name.
        ids: the student's.
        folders: of study logs and failed events.
        on_place: called with each place.
        progress: called with how many keys and files were looked at since the last call.

    Raises:
        StoreUnavailable, Overloaded, EventFileError: something cannot be searched.
    """
    found = Plan(ids)
    missed = found.not_reached.setdefault
    async for place in find(
        stores, ids, folders=folders, aliases=found.aliases.update, on_missed=missed, progress=progress
    ):
        on_place(place)
        found.add(place)
    return found


async def erase(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    who: str,
    planned: Plan | None = None,
    folders: Iterable[str | os.PathLike[str]] = (),
    keep_logs: bool = False,
    leave: Iterable[str] = (),
    interval: float = 0.0,
    not_reached: Iterable[str] = (),
    progress: Callable[[int], None] = lambda keys: None,
    on_wait: Callable[[float], None] = lambda seconds: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.time,
) -> Receipt:
    """Erase a student, and keep what is older away from now on.

    Args:
        stores: the stores by name.
        ids: the student's.
        who: who asked for it, for the receipt.
        planned: what :func:`plan` found just before; it is searched for, if not given.
        folders: of study logs and failed events.
        keep_logs: whether those are left as they are.
        leave: the names of places (:attr:`.Place.name`) without a rule that may stay as they are.
        interval: seconds after which running servers have written what they keep: the longest ``flush_interval``; 0 if
            they keep nothing.
        not_reached: what was not searched, for the receipt; what :func:`.find` names comes to it.
        progress: called with how many keys and files were looked at since the last call.
        on_wait: called with how many seconds it is going to wait.
        sleep: waits for so many seconds.
        clock: returns the time in seconds since the epoch.

    Returns:
        What was erased, and what remains.

    Raises:
        Undecided: no rule is known for a place, and it is not to be left. Nothing was erased.
        UnknownStudent: nothing names the student.
        ValueError: ``folders``, ``leave`` or ``not_reached`` is a single one.
        StoreUnavailable, Overloaded, WriteUnclear, Conflict, EventFileError: it was interrupted; run it again.
    """
    searched = () if keep_logs else several(folders, 'folders')
    left = set(several(leave, 'leave'))
    missed = several(not_reached, 'not_reached')

    async def wait() -> None:
        on_wait(interval)
        await sleep(interval + FLUSH_TIME)

    found = planned or await plan(stores, ids, folders=searched, progress=progress)
    if found.is_empty and interval:
        await wait()
        found = await plan(stores, ids, folders=searched, progress=progress)
    if found.is_empty:
        await finish_interrupted(stores, ids, clock())
        raise UnknownStudent(f'Nothing names {ids.given[0]!r}.')
    if undecided := [place for place in found.undecided if place.name not in left and _is_searched(place, keep_logs)]:
        raise Undecided(undecided)
    receipt = Receipt(ids.given[0], list(ids.given[1:]), who, audit.iso_time(clock()), kept_logs=keep_logs)
    receipt.not_reached = [*missed, *found.not_reached]
    await _suppress(stores, ids, clock())
    for number in range(MAX_SEARCHES):
        if number and interval:
            await wait()
        erased, undecided = await _erase_once(stores, ids, searched, left, receipt, progress)
        receipt.remaining = [place.name for place in undecided]
        if not erased and (number or not interval):
            break
    else:
        receipt.remaining.append('what running servers write: end the student’s sessions, and run this again')
    await _suppress(stores, ids, clock())
    for store in stores.values():
        try:
            await store.scrub()
        except StoreUnavailable as error:
            receipt.remaining.append(str(error))
    receipt.finished = audit.iso_time(clock())
    return receipt


async def finish_interrupted(stores: Mapping[str, Store], ids: Ids, time: float) -> None:
    """Do what an erasure does at its end, if one was begun: one that was killed may have erased everything before it.

    Args:
        stores: the stores by name.
        ids: the student's, of whom nothing is left.
        time: now, in seconds since the epoch.

    Raises:
        StoreUnavailable, Overloaded, WriteUnclear, Conflict: it was interrupted; run it again.
    """
    records = [await suppression.read(store) for store in stores.values()]
    if any(record.erased(text) is not None for record in records for text in ids.given):
        await _suppress(stores, ids, time)
        for store in stores.values():
            await store.scrub()


async def _suppress(stores: Mapping[str, Store], ids: Ids, time: float) -> None:
    """Note the erasure in each store; all have the same hashes, so that a copy of one knows the other's."""
    both = suppression.Suppression()
    for store in stores.values():
        both = both.merged(await suppression.read(store))
    entries = both.with_erased(ids.given, time).only(ids.given)
    for store in stores.values():
        await suppression.change(store, entries.merged)


async def _erase_once(
    stores: Mapping[str, Store],
    ids: Ids,
    folders: Iterable[str | os.PathLike[str]],
    leave: set[str],
    receipt: Receipt,
    progress: Callable[[int], None],
) -> tuple[int, list[Place]]:
    """Search once and erase what is found; how much it was, and the places that no rule is known for."""
    erased, undecided, whole = 0, [], dict[str, list[Place]]()
    async for place in find(stores, ids, folders=folders, progress=progress):
        if place.undecided:
            if place.name not in leave:
                undecided.append(place)
            elif place.name not in receipt.left:
                receipt.left.append(place.name)
        if place.store is None:
            count = await asyncio.to_thread(event_files.erase, Path(place.location), ids)
            _note(receipt, place, count)
            erased += count
        elif place.whole:
            waiting = whole.setdefault(place.store, [])
            waiting.append(place)
            if len(waiting) >= KEYS_AT_ONCE:
                erased += await _remove(stores[place.store], whole.pop(place.store), receipt)
        elif len(place.undecided) < len(place.parts):
            erased += await _take_out(stores[place.store], place, ids, receipt)
    for name, places in whole.items():
        erased += await _remove(stores[name], places, receipt)
    return erased, undecided


async def _remove(store: Store, places: list[Place], receipt: Receipt) -> int:
    done = await asyncio.gather(*(store.remove(str(place.key)) for place in places))
    for place, was_there in zip(places, done, strict=True):
        _note(receipt, place, int(was_there))
    return sum(done)


async def _take_out(store: Store, place: Place, ids: Ids, receipt: Receipt) -> int:
    """Take the student's items out of a value that is shared with others."""
    name, key = str(place.store), str(place.key)
    taken: Counter[Count] = Counter()

    def change(value: JSON) -> Any:
        taken.clear()
        parts = [] if value is None else rules.parts_of_value(ids, name, key, value)
        taken.update(_count_of(place, part.rule) for part in parts if part.rule is not None)
        if value is None or Place('', tuple(parts) or place.parts).whole:
            return MISSING
        return rules.without(value, parts)

    await store.update(key, change)
    receipt.erased.update(taken)
    return taken.total()


def _note(receipt: Receipt, place: Place, count: int) -> None:
    if count:
        rule = next(part.rule for part in place.parts if part.rule is not None)
        receipt.erased[_count_of(place, rule)] += count


def _count_of(place: Place, rule: str) -> Count:
    return place.store or place.location, place.location, rule


def _is_searched(place: Place, keep_logs: bool) -> bool:
    return place.store is not None or not keep_logs
