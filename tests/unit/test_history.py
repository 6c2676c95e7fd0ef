"""The checker of recorded histories finds each kind of violation."""

from __future__ import annotations

import math

import pytest

from tests.support.history import Outcome, Read, Write, violations

OK, FAILED, UNCLEAR = Outcome.OK, Outcome.FAILED, Outcome.UNCLEAR
A = Write('a', None, 0, 10, OK)
B = Write('b', 'a', 20, 30, OK)
C = Write('c', 'b', 25, 40, OK)


def test_a_chain_in_the_order_of_the_clock_is_right() -> None:
    reads = [Read(None, 0, 5), Read('a', 5, 8), Read('a', 12, 22), Read('b', 28, 29), Read('c', 50, 60)]
    assert violations([C, A, B], reads, 'c') == []
    assert violations([], [Read(None, 0, 1)], None) == []


@pytest.mark.parametrize(
    ('writes', 'reads', 'final', 'violation'),
    [
        ([A, B, Write('c', 'a', 25, 40, OK)], [], 'c', 'lost'),
        ([A, B], [], 'a', 'the chain ends with b, the key holds a'),
        ([A, Write('c', 'b', 25, 40, OK)], [], 'c', 'the chain ends with a'),
        ([A, B, Write('x', 'b', 31, 32, FAILED)], [], 'x', 'x was rejected, and is there'),
        ([A, Write('x', 'a', 11, 12, FAILED), Write('c', 'x', 25, 40, OK)], [], 'c', 'x was rejected, and is there'),
        ([A, Write('b', 'a', -20, -10, OK)], [], 'b', 'b had ended before a began'),
        ([A, B], [Read('a', 31, 32)], 'b', 'a was read after b had replaced it'),
        ([A, B], [Read(None, 11, 12)], 'b', 'None was read after a had replaced it'),
        ([A, B], [Read('b', 11, 12)], 'b', 'b was read before it was written'),
        ([A, B], [Read('z', 11, 12)], 'b', 'z was read, and is in no chain'),
        ([A, B, Write('x', 'b', 31, 32, FAILED)], [], 'b', 'x was rejected, though b was there all the time'),
        ([A, B, Write('x', None, 31, 32, OK)], [], 'b', 'lost'),
    ],
)
def test_what_contradicts_linearizability_is_found(
    writes: list[Write], reads: list[Read], final: str | None, violation: str
) -> None:
    assert violation in '; '.join(violations(writes, reads, final))


def test_a_write_whose_writer_was_killed_counts_only_if_it_was_seen() -> None:
    killed = Write('k', 'a', 12, math.inf, UNCLEAR)
    assert violations([A, killed], [], 'a') == []
    assert violations([A, killed], [], 'k') == []
    assert violations([A, killed, Write('c', 'k', 25, 40, OK)], [], 'c') == []
    assert violations([A, killed, B], [], 'b') == []
    assert 'lost' in violations([A, killed, B], [Read('k', 15, 16)], 'b')[0]


def test_writes_of_a_killed_one_that_replaced_each_other_count_together() -> None:
    first, second = Write('k', 'a', 12, math.inf, UNCLEAR), Write('l', 'k', 14, math.inf, UNCLEAR)
    assert violations([A, first, second], [], 'l') == []


def test_a_rejection_while_another_writer_wrote_is_right() -> None:
    assert violations([A, B, Write('x', 'a', 15, 25, FAILED)], [], 'b') == []
