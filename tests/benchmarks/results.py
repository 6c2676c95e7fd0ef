"""What was measured, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.contender import Promise
from tests.benchmarks.interval import median_interval

Say = Callable[[str], None]
"""Gets a line of progress, for people who wait."""

Figures = dict[tuple[str, ...], float]
"""Figures by what they are of."""


@dataclass(frozen=True)
class Rates:
    """Events per second of one contender in one cell of a table.

    Attributes:
        contender: its name.
        rates: one for each repeat.
    """

    contender: str
    rates: list[float]

    @property
    def median(self) -> float:
        """What the tables show."""
        return statistics.median(self.rates)


@dataclass
class Table:
    """One table of the report.

    Attributes:
        title: its heading.
        text: a sentence on what was measured.
        columns: the headings of its columns.
        rows: text cells.
        data: the figures behind it.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)

    def add(self, cells: Sequence[str], **data: Any) -> None:
        """Add a row, and its data: floats are figures, texts and integers say what they are of."""
        self.rows.append(cells)
        self.data.append(data)

    def markdown(self) -> str:
        """Return it for docs/reference/performance.md."""
        lines = [f'### {self.title}', '', self.text, '']
        rows = (self.columns, ['---'] * len(self.columns), *self.rows)
        lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
        return '\n'.join(lines) + '\n'


def ratios(
    title: str,
    text: str,
    base: str,
    promises: dict[str, Promise],
    columns: dict[str, list[Rates]],
    *,
    paired: bool = False,
) -> Table:
    """Return a table of rates, each with its ratio to the base of the same column, where that was measured.

    Args:
        title: its heading.
        text: what was measured.
        base: the contender that is 1.
        promises: of each contender, in the order of the rows.
        columns: the rates in each column.
        paired: whether the repeats of a column are pairs; the ratio is then the median of theirs, with its interval.
    """
    table = Table(
        title, text, ['events/s (ratio)', *columns, 'pair at once', 'no update lost between', 'acknowledged is']
    )
    cells: dict[tuple[str, str], str] = {}
    for label, column in columns.items():
        rates = {found.contender: found for found in column}
        for name, found in rates.items():
            row: dict[str, Any] = {'column': label, 'events_per_second': found.median, **asdict(found)}
            cells[name, label] = number(found.median)
            if base in rates:
                row |= _ratio(found, rates[base], paired=paired and name != base)
                between = ', {} – {}'.format(*map(number, row['interval'])) if 'interval' in row else ''
                cells[name, label] += f' ({number(row["ratio"])} ×{between})'
            table.data.append(row)
    for name, promise in promises.items():
        words = ['yes' if promise.pair else 'no', promise.updates, promise.kept]
        if name.startswith('limit'):
            words = [''] * 3
        table.rows.append([name, *(cells.get((name, label), '') for label in columns), *words])
    return table


def _ratio(found: Rates, base: Rates, *, paired: bool) -> dict[str, Any]:
    if not paired:
        return {'ratio': found.median / base.median}
    pairs = [mine / its for mine, its in zip(found.rates, base.rates, strict=True)]
    return {'ratio': statistics.median(pairs), 'interval': median_interval(pairs), 'pairs': pairs}


def number(value: float) -> str:
    """Return two or three digits, which is what such figures are worth."""
    if value >= 1_000_000:
        return f'{value / 1_000_000:.2f} M'
    if value >= 10_000:
        return f'{value / 1000:.0f} k'
    if value >= 1000:
        return f'{value / 1000:.1f} k'
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def markdown(machine: dict[str, str], tables: Sequence[Table]) -> str:
    """Return the machine as a list, then the tables."""
    lines = [f'- {word}: {what}' for word, what in machine.items()]
    return '\n'.join(lines) + '\n\n' + '\n'.join(table.markdown() for table in tables)


def put_in_page(path: Path, section: str, text: str) -> None:
    """Replace what is between the two comments that name a section of a page."""
    begin, end = f'<!-- {section} -->\n', f'<!-- end of {section} -->'
    page = path.read_text()
    before, found, rest = page.partition(begin)
    _, found_too, after = rest.partition(end)
    if not (found and found_too):
        raise ValueError(f'{path} has no section for {section}: it needs {begin.strip()} and {end}.')
    path.write_text(f'{before}{begin}\n{text}\n{end}{after}')


def write_json(path: Path, machine: dict[str, str], tables: Sequence[Table]) -> None:
    """Write everything that was measured, each repeat too."""
    found = {
        'machine': machine,
        'tables': [{'title': table.title, 'columns': list(table.columns), 'rows': table.data} for table in tables],
    }
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + '\n')


def read_figures(path: Path) -> Figures:
    """Return the figures of such a file, by title, texts of the row, and name of the figure."""
    found: Figures = {}
    for table in json.loads(path.read_text())['tables']:
        for row in table['rows']:
            of = [str(value) for value in row.values() if isinstance(value, (str, int))]
            for name, value in row.items():
                if isinstance(value, float):
                    found[table['title'], *of, name] = value
    return found
