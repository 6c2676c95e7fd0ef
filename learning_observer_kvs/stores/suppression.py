"""Which erased students a store does not take back: their older states and events are left out.

The record has no id in it but a keyed hash of each, with a random key beside it, and the time of the erasure. It tells
whether a given id was erased: a reader of the store who tries all ids of a school learns which of them were.
"""

from __future__ import annotations

import functools
import hashlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.erasure_rules import WHOLE, parts_of_value, without
from learning_observer_kvs.errors import Conflict, CorruptValue, DumpFileError
from learning_observer_kvs.identifiers import IdMatcher, canonical, stand_ins
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.dump import DumpFile
from learning_observer_kvs.stores.hidden import HiddenRecords
from learning_observer_kvs.stores.pacing import MAX_TRIES, pause
from learning_observer_kvs.stores.types import MISSING

RECORD = 'suppressed'
"""The name of the hidden record."""

MAX_CACHED = 1000
"""Characters of a text up to which it is remembered whether that is an erased id."""

KEY_BYTES = 16
HASH_BYTES = 16


class Entry(NamedTuple):
    """An erased id.

    Attributes:
        key: the key of its hash, as hex digits.
        hash: its hash, as hex digits.
        erased: when it was erased, in seconds since the epoch.
    """

    key: str
    hash: str
    erased: float


class Suppression:
    """The erased ids of a store.

    Args:
        entries: the time of the erasure by hash, by the key of the hash.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self._entries = {key: dict(hashes) for key, hashes in (entries or {}).items() if hashes}
        self._keys = {key: bytes.fromhex(key) for key in self._entries}

    def __bool__(self) -> bool:
        """Return whether there is an entry."""
        return bool(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries, the oldest first."""
        found = [Entry(key, text, time) for key, hashes in self._entries.items() for text, time in hashes.items()]
        return iter(sorted(found, key=lambda entry: entry.erased))

    def erased(self, text: str) -> float | None:
        """Return when an id was erased.

        Args:
            text: any string, in any form of an id.

        Returns:
            Seconds since the epoch; ``None`` if it was not.
        """
        if not self._entries:
            return None
        plain = canonical(text)
        times = [self._entries[key].get(_hash(plain, secret)) for key, secret in self._keys.items()]
        return max((time for time in times if time is not None), default=None)

    def keeps_out(self, texts: Iterable[str], time: float | None) -> bool:
        """Return whether what bears one of some ids is older than its erasure.

        Args:
            texts: strings, such as what an event calls its student.
            time: when it was made, in seconds since the epoch; ``None`` if that is not known, and it counts as older.
        """
        if not self._entries:
            return False
        return any(
            (erased := self.erased(text)) is not None and (time is None or time <= erased) for text in set(texts)
        )

    def with_erased(self, ids: Iterable[str], time: float) -> Suppression:
        """Return the same with more ids.

        Args:
            ids: what was erased.
            time: when, in seconds since the epoch.
        """
        key = next(iter(self._entries), None) or secrets.token_hex(KEY_BYTES)
        secret = bytes.fromhex(key)
        return self.merged(
            Suppression({key: {_hash(plain, secret): time for text in ids for plain in _plain_forms(text)}})
        )

    def merged(self, other: Suppression) -> Suppression:
        """Return the entries of both; of one that both have, the later time.

        Args:
            other: of another store, for example.
        """
        entries = {key: dict(hashes) for key, hashes in self._entries.items()}
        for key, text, time in other:
            hashes = entries.setdefault(key, {})
            hashes[text] = max(time, hashes.get(text, time))
        return Suppression(entries)

    def without(self, hashes: Iterable[str]) -> Suppression:
        """Return the same without some entries.

        Args:
            hashes: the hashes of the entries.
        """
        dropped = set(hashes)
        return Suppression(
            {
                key: {text: time for text, time in found.items() if text not in dropped}
                for key, found in self._entries.items()
            }
        )

    def hashes_of(self, text: str) -> list[str]:
        """Return the hashes of the entries of an id.

        Args:
            text: the id.
        """
        hashes = [(key, _hash(plain, secret)) for key, secret in self._keys.items() for plain in _plain_forms(text)]
        return [found for key, found in hashes if found in self._entries[key]]

    def only(self, ids: Iterable[str]) -> Suppression:
        """Return the entries of some ids alone.

        Args:
            ids: the ids.
        """
        wanted = {text for each in ids for text in self.hashes_of(each)}
        return self.without({text for _, text, _ in self} - wanted)

    def newer_than(self, other: Suppression) -> Suppression:
        """Return the entries that another store does not have, or has with an earlier time.

        Args:
            other: of a store whose data is younger than its own entries.
        """
        theirs = {(key, text): time for key, text, time in other}
        return Suppression(
            {
                key: {text: time for text, time in hashes.items() if theirs.get((key, text), -1.0) < time}
                for key, hashes in self._entries.items()
            }
        )

    def as_json(self) -> JSON:
        """Return the record as a JSON value; ``None`` if there is no entry."""
        return self._entries or None

    def encode(self) -> bytes | None:
        """Return the record; ``None`` if there is no entry."""
        return json_codec.encode(self._entries) if self._entries else None


class Admission(NamedTuple):
    """What of an entry a store takes.

    Attributes:
        value: the value, without what names erased students; ``MISSING`` if the key is left out.
        is_doubtful: whether it names an erased student at a place for which no rule is known.
    """

    value: JSON
    is_doubtful: bool


class _ErasedIds(IdMatcher):
    """Recognizes the erased ids of a store."""

    def __init__(self, suppression: Suppression) -> None:
        self._suppression = suppression
        self._is_erased = functools.lru_cache(100_000)(self._look)

    def __contains__(self, text: object) -> bool:
        if not isinstance(text, str) or not text:
            return False
        return self._is_erased(text) if len(text) <= MAX_CACHED else self._look(text)

    def _look(self, text: str) -> bool:
        return self._suppression.erased(text) is not None


class Admissions:
    """Judges entries that are loaded or copied into a store.

    Args:
        suppression: its erased ids.
        name: its name.
    """

    def __init__(self, suppression: Suppression, name: str) -> None:
        self._ids = _ErasedIds(suppression)
        self._name = name

    def admit(self, key: str, value: JSON) -> Admission:
        """Judge an entry; it is as old as the erasure, or older.

        Args:
            key: its key.
            value: its value.
        """
        parts = parts_of_value(self._ids, self._name, key, value)
        if parts and parts[0].rule in WHOLE:
            return Admission(MISSING, False)
        return Admission(without(value, parts) if parts else value, any(part.rule is None for part in parts))

    def is_of_erased(self, key: str) -> bool:
        """Return whether a key is that of a state of an erased student.

        Args:
            key: the key.
        """
        return self._ids.is_student_of(key)

    async def states(self, pages: AsyncIterator[list[str]]) -> list[str]:
        """Return which keys are those of states of erased students.

        Args:
            pages: keys.
        """
        return list({key: None async for page in pages for key in page if self.is_of_erased(key)})


async def read(store: HiddenRecords) -> Suppression:
    """Return the erased ids of a store.

    Args:
        store: the store.

    Raises:
        CorruptValue: the record is damaged.
        StoreUnavailable, Overloaded: the store cannot be used.
    """
    return _parse(store, await store.read_hidden(RECORD))


def read_dump(file: DumpFile) -> Suppression:
    """Return the erased ids of the store that a dump is of.

    Args:
        file: the dump.

    Raises:
        DumpFileError: the record in it is damaged.
    """
    try:
        found = Suppression(file.suppressed)
        if all(len(key) == 2 * KEY_BYTES and 0 <= erased < math.inf for key, _, erased in found):
            return found
    except (ValueError, TypeError, AttributeError):
        pass
    raise DumpFileError(
        f'{file.name}: its record of erased students, the entry "", is damaged. Nothing was loaded. Without that entry '
        'all data of erased students is left out.'
    )


async def take_over(store: HiddenRecords, theirs: Suppression) -> tuple[Suppression, Suppression]:
    """Note the erased ids of another store, or of its dump, in a store that takes its entries.

    Args:
        store: the store.
        theirs: the ids of the other one.

    Returns:
        The ids whose data there is older than the erasure, as the other one does not know of it; and those that are new
        to this one.

    Raises:
        CorruptValue, Conflict, StoreUnavailable, Overloaded, WriteUnclear: as for :func:`change`.
    """
    ours = await read(store)
    new = theirs.newer_than(ours)
    if new:
        await change(store, theirs.merged)
    return ours.newer_than(theirs), new


async def change(store: HiddenRecords, changed: Callable[[Suppression], Suppression]) -> Suppression:
    """Change the erased ids of a store; others may do so at the same time.

    Args:
        store: the store.
        changed: returns what they are to be; may be called several times.

    Returns:
        What they are now.

    Raises:
        CorruptValue: the record is damaged.
        Conflict: others kept changing it.
        StoreUnavailable, Overloaded, WriteUnclear: the store cannot be used.
    """
    for attempt in range(MAX_TRIES):
        text = await store.read_hidden(RECORD)
        new = changed(_parse(store, text))
        wanted = new.encode()
        if wanted == text or await store.commit_hidden(RECORD, wanted, text):
            return new
        await pause(attempt)
    raise Conflict(f'{store.location()}: others kept writing its record of erased students.')


def _parse(store: HiddenRecords, text: bytes | None) -> Suppression:
    if text is None:
        return Suppression()
    try:
        return Suppression(json_codec.decode(text))
    except (CorruptValue, ValueError, TypeError, AttributeError):
        raise CorruptValue(
            f'{store.location()}: its record of erased students is damaged. Restore the store, or erase them again.'
        ) from None


def _plain_forms(text: str) -> set[str]:
    """What is hashed of an id: also what stands for it in keys."""
    return {canonical(text), *stand_ins(text)}


def _hash(plain: str, secret: bytes) -> str:
    return hashlib.blake2b(plain.encode('utf-8', 'surrogatepass'), key=secret, digest_size=HASH_BYTES).hexdigest()
