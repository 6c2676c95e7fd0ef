"""Checks recorded histories of one key for linearizability.

Every value written is unique and names the value it replaced, so the values of a key form a chain. The history is
right if the chain holds every write that was acknowledged, once, none that was rejected, and if its order does not
contradict the clock: what had ended before something else began comes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How an attempt ended, as far as the writer knows."""

    OK = 'ok'
    FAILED = 'the condition did not hold'
    UNAVAILABLE = 'the store could not be reached, nothing was written'
    UNCLEAR = 'unclear'


@dataclass(frozen=True)
class Write:
    """One attempt to replace a value.

    Args:
        new, old: the values, ``None`` for a missing key. ``old`` is what was expected.
        start, end: when it began and ended, in nanoseconds of one clock; an unclear one has no end.
    """

    new: str
    old: str | None
    start: int
    end: float
    outcome: Outcome


@dataclass(frozen=True)
class Read:
    """One value that was seen."""

    value: str | None
    start: int
    end: int


def violations(writes: Iterable[Write], reads: Sequence[Read], final: str | None) -> list[str]:
    """Find what contradicts linearizability in the history of one key that was missing at first.

    Args:
        writes: every attempt.
        reads: what was read, in any order.
        final: the value at the end.

    Returns:
        A sentence for each violation.
    """
    attempts = list(writes)
    seen = {read.value for read in reads} | {final} | {write.old for write in attempts if write.outcome is Outcome.OK}
    found = [f'{write.new} was rejected, and is there' for write in attempts if _rejected_yet_seen(write, seen)]
    applied = [write for write in attempts if write.outcome is Outcome.OK]
    # One whose writer was killed counts if its value was ever seen, and so do those it replaced.
    unclear = {write.new: write for write in attempts if write.outcome is Outcome.UNCLEAR}
    wanted = list(seen)
    while wanted:
        write = unclear.pop(wanted.pop() or '', None)
        if write is not None:
            applied.append(write)
            wanted.append(write.old)

    following: dict[str | None, Write] = {}
    for write in applied:
        if write.old in following:
            found.append(f'an update was lost: {following[write.old].new} and {write.new} both replaced {write.old}')
        following[write.old] = write
    chain: list[Write] = []
    value: str | None = None
    while (write := following.get(value)) is not None and len(chain) < len(applied):
        chain.append(write)
        value = write.new
    if value != final:
        found.append(f'the chain ends with {value}, the key holds {final}')
    if len(chain) != len(applied) and not found:
        found.append(f'{len(applied)} writes were acknowledged, the chain has {len(chain)}')
    return found or [
        *_against_the_clock(chain),
        *_stale_reads(chain, reads),
        *_rejected_without_cause(chain, (write for write in attempts if write.outcome is Outcome.FAILED)),
    ]


def _rejected_yet_seen(write: Write, seen: set[str | None]) -> bool:
    return write.outcome in (Outcome.FAILED, Outcome.UNAVAILABLE) and write.new in seen


def _against_the_clock(chain: list[Write]) -> Iterable[str]:
    latest = chain[0] if chain else None
    for write in chain:
        assert latest is not None
        if write.end < latest.start:
            yield f'{write.new} had ended before {latest.new} began, and comes after it'
        if write.start > latest.start:
            latest = write


def _stale_reads(chain: list[Write], reads: Iterable[Read]) -> Iterable[str]:
    position = {write.new: number for number, write in enumerate(chain)}
    for read in reads:
        number = -1 if read.value is None else position.get(read.value)
        if number is None:
            yield f'{read.value} was read, and is in no chain'
            continue
        if number >= 0 and chain[number].start > read.end:
            yield f'{read.value} was read before it was written'
        if number + 1 < len(chain) and chain[number + 1].end < read.start:
            yield f'{read.value} was read after {chain[number + 1].new} had replaced it'


def _rejected_without_cause(chain: list[Write], rejected: Iterable[Write]) -> Iterable[str]:
    position = {write.new: number for number, write in enumerate(chain)}
    for write in rejected:
        number = -1 if write.old is None else position.get(write.old)
        if number is None:
            continue  # what it expected never was there
        there_before = number < 0 or chain[number].end < write.start
        there_after = number + 1 == len(chain) or chain[number + 1].start > write.end
        if there_before and there_after:
            yield f'{write.new} was rejected, though {write.old} was there all the time'
