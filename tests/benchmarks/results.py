"""What was measured, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.contender import Promise

Say = Callable[[str], None]
"""Takes a line of progress, for people who wait."""


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
        """A row, and what it says in numbers."""
        self.rows.append(cells)
        self.data.append(data)

    def markdown(self) -> str:
        """For docs/reference/performance.md."""
        lines = [f'### {self.title}', '', self.text, '']
        rows = (self.columns, ['---'] * len(self.columns), *self.rows)
        lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
        return '\n'.join(lines) + '\n'


def ratios(title: str, text: str, base: str, promises: dict[str, Promise], columns: dict[str, list[Rates]]) -> Table:
    """A table of rates, each with its ratio to the base of the same column.

    Args:
        base: the contender that is 1.
        promises: of each contender, in the order of the rows.
        columns: the rates in each column.
    """
    table = Table(
        title, text, ['events/s (ratio)', *columns, 'pair at once', 'no update lost between', 'acknowledged is']
    )
    medians = {label: {found.contender: found.median for found in cells} for label, cells in columns.items()}
    for name, promise in promises.items():
        cells = [
            _rate(medians[label][name], medians[label][base]) if name in medians[label] else '' for label in columns
        ]
        if name.startswith('limit'):
            words = ['', '', '']
        else:
            words = [
                'yes' if promise.pair else 'no',
                promise.updates,
                promise.kept,
            ]
        table.rows.append([name, *cells, *words])
    for label, found in columns.items():
        table.data += [
            {'column': label, 'ratio': rates.median / medians[label][base], 'median': rates.median, **asdict(rates)}
            for rates in found
        ]
    return table


def _rate(rate: float, base: float) -> str:
    return f'{number(rate)} ({number(rate / base)} ×)'


def number(value: float) -> str:
    """Two or three digits, which is what such figures are worth."""
    if value >= 1_000_000:
        return f'{value / 1_000_000:.2f} M'
    if value >= 10_000:
        return f'{value / 1000:.0f} k'
    if value >= 1000:
        return f'{value / 1000:.1f} k'
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def markdown(machine: dict[str, str], tables: Sequence[Table]) -> str:
    """The machine as a list, then the tables."""
    lines = [f'- {word}: {what}' for word, what in machine.items()]
    return '\n'.join(lines) + '\n\n' + '\n'.join(table.markdown() for table in tables)


def put_in_page(path: Path, section: str, text: str) -> None:
    """Replace what stands between the two comments that name a section of a page."""
    begin, end = f'<!-- {section} -->\n', f'<!-- end of {section} -->'
    page = path.read_text()
    before, found, rest = page.partition(begin)
    _, found_too, after = rest.partition(end)
    if not (found and found_too):
        raise ValueError(f'{path} has no place for figures: it needs {begin.strip()} and {end}.')
    path.write_text(f'{before}{begin}\n{text}\n{end}{after}')


def write_json(path: Path, machine: dict[str, str], tables: Sequence[Table]) -> None:
    """Everything that was measured, each repeat too."""
    found = {
        'machine': machine,
        'tables': [{'title': table.title, 'columns': list(table.columns), 'rows': table.data} for table in tables],
    }
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + '\n')
