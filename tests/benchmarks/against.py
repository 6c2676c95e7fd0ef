"""Another checkout of the package against this one: the same cases with each, in pairs, each in another process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.interval import median_interval
from tests.benchmarks.machine import ROOT, commit
from tests.benchmarks.results import Figures, Say, Table, number, read_figures
from tests.benchmarks.side import START


class Failed(Exception):
    """A process that measured a case failed; the message is the last line that it printed."""


class Pair(NamedTuple):
    """The figures of a case with each of the two checkouts.

    Attributes:
        there: with the other one.
        here: with this one.
    """

    there: Figures
    here: Figures


def against(checkout: Path, cases: Sequence[str], pairs: int, options: Sequence[str], say: Say) -> Iterator[Table]:
    """Measure cases with the package of another checkout and with that of this one, in pairs.

    A process measures a case once with one of them. The two take turns, and every other pair goes backwards.

    Args:
        checkout: the other checkout.
        cases: their names.
        pairs: how many pairs there are.
        options: arguments of the processes, beside the case.
        say: gets lines of progress, also on what is left out because the other checkout does not know it.

    Yields:
        The tables of each case that both know: the medians, and the median of the pairs' ratios with its interval.

    Raises:
        Failed: a case failed with this checkout, or it failed with the other one after it had succeeded.
    """
    for case in cases:
        say(f'{case}: pair 1 of {pairs}')
        try:
            there = _measured(checkout, case, options)
        except Failed as error:
            say(f'Left out: {case}, in which the other checkout fails: {error}')
            continue
        found = [Pair(there, _measured(ROOT, case, options))]
        for turn in range(1, pairs):
            say(f'{case}: pair {turn + 1} of {pairs}')
            if turn % 2:
                here = _measured(ROOT, case, options)
                found.append(Pair(_measured(checkout, case, options), here))
            else:
                there = _measured(checkout, case, options)
                found.append(Pair(there, _measured(ROOT, case, options)))
        yield from _tables(case, checkout, found, say)


def _measured(checkout: Path, case: str, options: Sequence[str]) -> Figures:
    """Return the figures of a case of this checkout with the package of another."""
    with tempfile.TemporaryDirectory(prefix='kvs-benchmark-') as directory:
        file = Path(directory) / 'figures.json'
        command = [sys.executable, '-P', '-c', START, str(ROOT), case, '--ours', '--json', str(file), *options]
        environment = os.environ | {'PYTHONPATH': str(checkout)}
        ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise Failed((ended.stderr.strip() or f'exit code {ended.returncode}').splitlines()[-1])
        return read_figures(file)


def _tables(case: str, checkout: Path, pairs: Sequence[Pair], say: Say) -> list[Table]:
    """Return a table for each one that both measured."""
    there, here = commit(checkout), commit(ROOT)
    found: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for of in pairs[0].here:
        if of not in pairs[0].there:
            say(f'Left out: {", ".join(of)}, which the other checkout does not know.')
        elif any(pair.there[of] == 0 for pair in pairs):
            say(f'Left out: {", ".join(of)}, which was 0.')
        else:
            found[of[0]].append(of)
    tables = []
    for title, rows in found.items():
        table = Table(
            title,
            f'Here is {here}, there is {there}; {len(pairs)} pairs. The ratio is here to there: the median of the '
            'pairs, and what it lies between with a probability of 95 %.',
            ['', 'there', 'here', 'ratio', 'between'],
        )
        for of in rows:
            old, new = [pair.there[of] for pair in pairs], [pair.here[of] for pair in pairs]
            ratios = [mine / its for mine, its in zip(new, old, strict=True)]
            low, high = median_interval(ratios)
            medians = statistics.median(old), statistics.median(new), statistics.median(ratios)
            table.add(
                [', '.join(of[1:]), *map(number, medians[:2]), f'{medians[2]:.3f}', f'{low:.3f} – {high:.3f}'],
                case=case,
                of=list(of),
                there=old,
                here=new,
                ratio=medians[2],
                interval=[low, high],
            )
        tables.append(table)
    return tables
