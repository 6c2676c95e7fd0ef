"""Copying one store into another: in bounded memory, verified, and safe to run again.

report = await copy(router.files(), router.redis())
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue
from learning_observer_kvs.stores.base import MISSING, Store
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.store import RedisKVS

PAGE = 200
"""How many keys are under way at a time; their values must fit in memory."""

TOLD = 20
"""How many single keys a report names."""


@dataclass
class Report:
    """What a copy did.

    Attributes:
        copied: keys that were written.
        there: keys that the target held already, with the same value.
        differing: keys that the target holds with another value, and that were left as they are.
        failed: keys whose value could not be read or is no JSON value any more.
        named: what was wrong with the first of these, a line each.
        source_count, target_count: how many keys the source has in the end, and how many of them the target has.
        source_digest, target_digest: of these keys with their values, in no order; the same if all are the same.
    """

    copied: int = 0
    there: int = 0
    differing: int = 0
    failed: int = 0
    named: list[str] = field(default_factory=list)
    source_count: int = 0
    target_count: int = 0
    source_digest: str = ''
    target_digest: str = ''

    @property
    def verified(self) -> bool:
        """Whether every key of the source is in the target with its value."""
        same_count = self.source_count == self.target_count
        return same_count and self.source_digest == self.target_digest and not self.failed

    def name(self, text: str) -> None:
        """Note what was wrong with a key, if there is room."""
        if len(self.named) < TOLD:
            self.named.append(text)


async def copy(
    source: Store,
    target: Store,
    *,
    prefix: str = '',
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda keys: None,
) -> Report:
    """Copy every key of a store into another, then read both again and compare.

    It may be interrupted at any time and run again: what is there already is not written again. Nothing is removed.

    Args:
        source, target: the stores.
        prefix: only keys that begin with it.
        overwrite: whether a value that the target holds is replaced where it differs; by default it is left, because
            it may be newer, and reported.
        progress: called with a number of keys that are done; twice for each key, once copied and once compared.

    Raises:
        StoreUnavailable: one of the stores; run it again.
    """
    report = Report()
    async for keys in _pages(source, target, prefix):
        wanted = await _texts(source, keys, report)
        present = await _texts(target, list(wanted))
        report.there += sum(present.get(key) == text for key, text in wanted.items())
        await _add(target, {key: text for key, text in wanted.items() if key not in present}, report)
        await _replace(
            target, {key: text for key, text in wanted.items() if present.get(key, text) != text}, overwrite, report
        )
        progress(len(keys))
    await _compare(source, target, prefix, report, progress)
    return report


async def count(source: Store, target: Store, prefix: str = '') -> int:
    """How many keys :func:`copy` would go through; Redis may show one twice while others write."""
    return sum([len(keys) async for keys in _pages(source, target, prefix)])


async def _pages(source: Store, target: Store, prefix: str) -> AsyncIterator[list[str]]:
    theirs = _prefix_within(source, target)
    cursor: str | None = None
    while True:
        page = await source.scan(prefix, cursor, PAGE)
        keys = [key for key in dict.fromkeys(page.keys) if theirs is None or not key.startswith(theirs)]
        for start in range(0, len(keys), PAGE):
            yield keys[start : start + PAGE]
        cursor = page.cursor
        if cursor is None:
            return


def _prefix_within(source: Store, target: Store) -> str | None:
    """What the target's keys begin with where the source sees them among its own: they are not to be copied."""
    if not isinstance(source, RedisKVS) or not isinstance(target, RedisKVS):
        return None
    if source.connection.address() != target.connection.address() or not target.prefix.startswith(source.prefix):
        return None
    return target.prefix[len(source.prefix) :] or None


async def _texts(store: Store, keys: list[str], report: Report | None = None) -> dict[str, bytes]:
    """The JSON texts, all written alike, of the keys that are there.

    Where a value cannot be read it is reported and left out; without a report it is a text that equals no other.
    """
    found: dict[str, bytes] = {}
    for key, text in zip(keys, await _stored(store, keys), strict=True):
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
                report.name(str(error))
    return found


async def _stored(store: Store, keys: list[str]) -> list[bytes | CorruptValue | None]:
    """What is stored, or what is wrong with it."""
    try:
        return [*await store.read_bytes(keys)] if keys else []
    except CorruptValue as error:
        return [error] if len(keys) == 1 else [text for key in keys for text in await _stored(store, [key])]


async def _add(target: Store, texts: Mapping[str, bytes], report: Report) -> None:
    """Write keys one by one, since a cluster has them in different places; at once, so that they share the way."""
    added = await asyncio.gather(
        *(target.compare_and_set(key, MISSING, json_codec.decode(text)) for key, text in texts.items())
    )
    report.copied += sum(added)
    left = {key: text for (key, text), done in zip(texts.items(), added, strict=True) if not done}
    await _replace(target, left, False, report)


async def _replace(target: Store, texts: Mapping[str, bytes], overwrite: bool, report: Report) -> None:
    if overwrite:
        await asyncio.gather(*(target.set(key, json_codec.decode(text)) for key, text in texts.items()))
        report.copied += len(texts)
    else:
        report.differing += len(texts)
        for key in texts:
            report.name(f'{display_key(key)} is in {target.name!r} with another value, and was left.')


async def _compare(source: Store, target: Store, prefix: str, report: Report, progress: Callable[[int], None]) -> None:
    """Read everything again, from both."""
    source_sum = target_sum = 0
    async for keys in _pages(source, target, prefix):
        wanted = await _texts(source, keys, Report())
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
    """A sum of digests: it does not depend on the order, and no entry can hide behind another."""
    return (total % (1 << 256)).to_bytes(32, 'big').hex()
