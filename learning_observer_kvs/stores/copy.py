"""Copying one store into another: in bounded memory, verified, and safe to repeat.

report = await copy(router.files(), router.redis())
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue
from learning_observer_kvs.identifiers import student_of
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores import dump, suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.reads import texts_or_errors
from learning_observer_kvs.stores.redis.store import RedisKVS
from learning_observer_kvs.stores.types import MISSING

KEYS_AT_ONCE = 200
"""How many keys are copied at a time; their values must fit in memory."""

MAX_MESSAGES = 20
"""How many messages about single keys a report keeps."""


@dataclass
class CopyReport:
    """The result of a copy.

    Attributes:
        copied: how many keys were written.
        present: how many keys the target had already, with the same value.
        differing: how many keys the target has with another value, and were left as they are.
        erased: how many keys were left out because they are of erased students, and older than the erasure.
        doubtful: how many keys name an erased student at a place for which no rule is known, and were copied; or are of
            a student who was erased in the source, and were in the target before.
        failed: how many keys were not copied, because what is stored under them is not valid JSON.
        unrecognized: files of the source that look like those of keys and are not, and were not copied; not all of
            them, if there are many.
        messages: what was wrong with the first ``MAX_MESSAGES`` of the last two, a line each.
        source_count: how many keys the source has in the end.
        target_count: how many of these keys the target has.
        source_digest: a SHA-256 digest of these keys with their values, whatever their order.
        target_digest: the same of the target; the two are equal if all keys and values are.
    """

    copied: int = 0
    present: int = 0
    differing: int = 0
    erased: int = 0
    doubtful: int = 0
    failed: int = 0
    unrecognized: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    source_count: int = 0
    target_count: int = 0
    source_digest: str = ''
    target_digest: str = ''

    @property
    def verified(self) -> bool:
        """Whether the target has every key of the source, with the same value."""
        same_count = self.source_count == self.target_count
        same = same_count and self.source_digest == self.target_digest
        return same and not self.failed and not self.unrecognized

    def add_message(self, text: str) -> None:
        """Keep a message about a key, unless there are enough.

        Args:
            text: what is wrong with the key, with its name.
        """
        if len(self.messages) < MAX_MESSAGES:
            self.messages.append(text)


async def copy(
    source: Store,
    target: Store,
    *,
    prefix: str = '',
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda keys: None,
) -> CopyReport:
    """Copy every key of a store into another, then read both again and compare.

    It may be interrupted at any time and run again: a key that was copied is not written again. Nothing is removed.

    Args:
        source: the store that is read.
        target: the store that is written to.
        prefix: only keys that begin with it.
        overwrite: whether a value of the target that differs is replaced; by default it is left, because it may be
            newer, and reported.
        progress: called with how many keys were done since the last call; each key counts twice, once when it is
            copied and once when it is compared.

    Returns:
        How many keys were copied, and whether the two stores now agree.

    Raises:
        StoreUnavailable: one of the stores cannot be used; run it again.
        WriteUnclear: a write to the target may or may not have been applied; run it again.
        Overloaded: a queue of the target is full; run it again later.
    """
    report = CopyReport()
    admitting = await _admitting(source, await suppression.read(source), target, report)
    async for keys in _pages(source, target, prefix):
        wanted = await _texts(source, keys, report)
        if admitting is not None:
            wanted = await admitting.admitted(wanted, report)
        await _write(target, wanted, overwrite, report)
        progress(len(keys))
    await _compare(source, target, prefix, report, progress, admitting)
    report.unrecognized = await source.unrecognized()
    return report


async def load(
    target: Store,
    filename: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    name: str | None = None,
    progress: Callable[[int], None] = lambda keys: None,
) -> CopyReport:
    """Store the entries of a file that ``dump`` wrote, and leave what is there.

    It may be interrupted at any time and run again: an entry that was stored is not written again.

    Args:
        target: the store that is written to.
        filename: the file.
        overwrite: whether a value of the target that differs is replaced; by default it is left, because it may be
            newer, and reported.
        name: what messages call the file; by default its path.
        progress: called with how many entries were done since the last call.

    Returns:
        How many entries were written; without counts of a source, and without digests.

    Raises:
        DumpFileError: the file is not a dump; it is read through before anything is stored.
        StoreUnavailable, WriteUnclear, Overloaded: run it again.
    """
    report = CopyReport()
    file = await dump.opened(filename, name)
    admitting = await _admitting(None, suppression.read_dump(file), target, report)

    async def store(entries: Mapping[str, JSON]) -> None:
        wanted = {key: target.encode(key, value) for key, value in entries.items()}
        if admitting is not None:
            wanted = await admitting.admitted(wanted, report)
        await _write(target, wanted, overwrite, report)
        progress(len(entries))

    await file.read(store)
    return report


class _Admitting:
    """Leaves out what is of students whom the target has erased, unless it is known to be newer."""

    def __init__(self, source: Store | None, target: Store, suppressed: suppression.Suppression) -> None:
        self._source, self._target, self._suppressed = source, target, suppressed
        self._admissions = suppression.Admissions(suppressed, target.name)

    async def admitted(self, texts: Mapping[str, bytes], report: CopyReport) -> dict[str, bytes]:
        """What the target takes of some entries."""
        admitted: dict[str, bytes] = {}
        for key, text in texts.items():
            if not text or await self._is_newer(key):
                admitted[key] = text
                continue
            value, is_doubtful = self._admissions.admit(key, json_codec.decode(text))
            if value is MISSING:
                report.erased += 1
                continue
            admitted[key] = self._target.encode(key, value)
            if is_doubtful:
                report.doubtful += 1
                report.add_message(f'{display_key(key)} names an erased student where no rule is known; look at it.')
        return admitted

    async def _is_newer(self, key: str) -> bool:
        """Whether a key is that of a state which was written after the erasure of its student."""
        student = student_of(key)
        if student is None or self._source is None or not self._admissions.is_of_erased(key):
            return False
        found = await self._source.describe(key)
        return (
            found is not None and found.written is not None and not self._suppressed.keeps_out([student], found.written)
        )


async def _admitting(
    source: Store | None, theirs: suppression.Suppression, target: Store, report: CopyReport
) -> _Admitting | None:
    """What the target does not take of a source, or of its dump; who was erased there is noted in the target."""
    suppressed, new = await suppression.take_over(target, theirs)
    if new:  # what the target has from before is passed on as newer from now on
        for key in await suppression.Admissions(new, target.name).states(target.pages()):
            report.doubtful += 1
            report.add_message(
                f'{display_key(key)} is in {target.name!r} and of a student who was erased where the copy comes from; '
                'if it is older, erase the student here, too.'
            )
    return _Admitting(source, target, suppressed) if suppressed else None


async def count(source: Store, target: Store, prefix: str = '') -> int:
    """Count the keys that :func:`copy` would copy or compare.

    Args:
        source: the store that is read.
        target: the store that is written to.
        prefix: only keys that begin with it.

    Returns:
        The number of keys; Redis may give a key twice while others write.

    Raises:
        StoreUnavailable: the source cannot be used.
    """
    return sum([len(keys) async for keys in _pages(source, target, prefix)])


async def _pages(source: Store, target: Store, prefix: str) -> AsyncIterator[list[str]]:
    theirs = _prefix_within(source, target)
    async for page in source.pages(prefix, KEYS_AT_ONCE):
        keys = [key for key in dict.fromkeys(page) if theirs is None or not key.startswith(theirs)]
        for start in range(0, len(keys), KEYS_AT_ONCE):
            yield keys[start : start + KEYS_AT_ONCE]


def _prefix_within(source: Store, target: Store) -> str | None:
    """The prefix of the target's keys within the source, if the source contains them: they must not be copied."""
    if not isinstance(source, RedisKVS) or not isinstance(target, RedisKVS):
        return None
    if source.connection.address() != target.connection.address() or not target.prefix.startswith(source.prefix):
        return None
    return target.prefix[len(source.prefix) :] or None


async def _texts(store: Store, keys: list[str], report: CopyReport | None = None) -> dict[str, bytes]:
    """The JSON texts of the keys that exist, each encoded again so that equal values have equal texts.

    A value that is not JSON is reported and left out; without a report it is an empty text, which equals no other.
    """
    found: dict[str, bytes] = {}
    for key, text in zip(keys, await texts_or_errors(store, keys), strict=True):
        try:
            if isinstance(text, CorruptValue):
                raise text
            if text is not None:
                found[key] = store.encode(key, store.decode(key, text))
        except (CorruptValue, InvalidValue) as error:
            if report is None:
                found[key] = b''
            else:
                report.failed += 1
                report.add_message(str(error))
    return found


async def _write(target: Store, wanted: Mapping[str, bytes], overwrite: bool, report: CopyReport) -> None:
    """Write the texts that the target does not have; replace those that differ, or report them."""
    present = await _texts(target, list(wanted))
    report.present += sum(present.get(key) == text for key, text in wanted.items())
    await _add(target, {key: text for key, text in wanted.items() if key not in present}, report)
    differing = {key: text for key, text in wanted.items() if present.get(key, text) != text}
    await _replace(target, differing, overwrite, report)


async def _add(target: Store, texts: Mapping[str, bytes], report: CopyReport) -> None:
    """Write each key by itself, since a cluster has them in different slots; concurrently, so that batches form."""
    added = await asyncio.gather(
        *(target.compare_and_set(key, MISSING, json_codec.decode(text)) for key, text in texts.items())
    )
    report.copied += sum(added)
    left = {key: text for (key, text), done in zip(texts.items(), added, strict=True) if not done}
    await _replace(target, left, False, report)


async def _replace(target: Store, texts: Mapping[str, bytes], overwrite: bool, report: CopyReport) -> None:
    if overwrite:
        await asyncio.gather(*(target.set(key, json_codec.decode(text)) for key, text in texts.items()))
        report.copied += len(texts)
    else:
        report.differing += len(texts)
        for key in texts:
            report.add_message(f'{display_key(key)} has another value in {target.name!r}; it was left as it is.')


async def _compare(
    source: Store,
    target: Store,
    prefix: str,
    report: CopyReport,
    progress: Callable[[int], None],
    admitting: _Admitting | None,
) -> None:
    """Read both stores again, and fill in the report's counts and digests."""
    source_sum = target_sum = 0
    async for keys in _pages(source, target, prefix):
        wanted = await _texts(source, keys, CopyReport())
        if admitting is not None:
            wanted = await admitting.admitted(wanted, CopyReport())
        present = await _texts(target, list(wanted))
        report.source_count += len(wanted)
        report.target_count += len(present)
        source_sum += sum(_digest(key, text) for key, text in wanted.items())
        target_sum += sum(_digest(key, text) for key, text in present.items())
        progress(len(keys))
    report.source_digest, report.target_digest = _hex(source_sum), _hex(target_sum)


def _digest(key: str, text: bytes) -> int:
    name = key.encode()
    entry = len(name).to_bytes(4, 'big') + name + text
    return int.from_bytes(hashlib.sha256(entry).digest(), 'big')


def _hex(total: int) -> str:
    """A sum of digests as hex digits: it does not depend on the order, and equal entries do not cancel out."""
    return (total % (1 << 256)).to_bytes(32, 'big').hex()
