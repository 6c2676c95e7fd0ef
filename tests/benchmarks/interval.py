"""The interval of a median, without any assumption on how the values are distributed."""

from __future__ import annotations

import math
from collections.abc import Sequence

MIN_PAIRS = 6
"""The least number of values whose median has an interval of 95 %: that from the smallest to the largest."""

UNCERTAINTY = 0.05


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return what the median of the distribution lies between, with a probability of at least 95 %.

    Each value is below it with probability one half, so the number of those below is binomial; the interval goes from
    the r-th smallest to the r-th largest value, with the largest r for which fewer than r below are unlikely enough.

    Args:
        values: measured independently, ``MIN_PAIRS`` or more.

    Raises:
        ValueError: there are fewer.
    """
    count = len(values)
    if count < MIN_PAIRS:
        raise ValueError(f'{count} values have no interval of 95 %; it takes {MIN_PAIRS}.')
    rank, fewer = 0, 0.0
    while (fewer := fewer + math.comb(count, rank) / 2**count) <= UNCERTAINTY / 2:
        rank += 1
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]
