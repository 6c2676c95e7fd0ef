"""Numbers and times as the pages write them, short enough for a table; the exact ones are in titles and in the JSON."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

MAX_STEPS = 20
"""How many steps of a path of prefixes are shown."""

_WORD = re.compile(r'(?<![^\s",:{}\[\]])[^\s",:{}\[\]]')
"""Where a word begins, also in JSON."""

_GAP = re.compile(r'(?<=\S)\s')
"""Where one ends."""

UNITS = ('B', 'kB', 'MB', 'GB', 'TB')


def size(count: float) -> str:
    """Return a number of bytes with three digits.

    Args:
        count: how many.

    >>> size(17), size(1234), size(2_700_000)
    ('17 B', '1.23 kB', '2.70 MB')
    """
    unit = 0
    while count >= 999.5 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 0 if unit == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f'{count:,.{digits}f} {UNITS[unit]}'


def rate(number: float) -> str:
    """Return a number that was measured, with two digits or more.

    Args:
        number: the number.

    >>> rate(0), rate(0.034), rate(3.21), rate(1234.5)
    ('0', '0.034', '3.2', '1,234')
    """
    return f'{number:,.0f}' if number >= 100 else f'{number:.2g}'


def moment(at: float) -> str:
    """Return a time with its date and zone.

    Args:
        at: seconds since 1970.
    """
    return time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(at))


def short_moment(at: float) -> str:
    """Return a time: of today the hour, of other days the date.

    Args:
        at: seconds since 1970.
    """
    then, now = time.localtime(at), time.localtime()
    return time.strftime('%H:%M:%S' if then[:3] == now[:3] else '%Y-%m-%d', then)


def iso(at: float) -> str:
    """Return a time as ``<time datetime>`` has it.

    Args:
        at: seconds since 1970.
    """
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at))


def before(text: str, at: int, most: int) -> str:
    """Return what a text has before a position, from the beginning of a word, with an ellipsis where there is more.

    Args:
        text: the text.
        at: the position.
        most: how many characters are wanted; where no word begins in the first half of them, it is cut within one.

    >>> before('The zebra sleeps.', 10, 7), before('The zebra', 4, 20), before('x' * 30, 20, 4)
    ('…zebra ', 'The ', '…xxxx')
    """
    start = max(0, at - most)
    if start == 0:
        return text[:at]
    begins = _WORD.search(text, start, start + most // 2 + 1)
    return '…' + text[begins.start() if begins else start : at]


def after(text: str, at: int, most: int) -> str:
    """Return what a text has after a position, up to the end of a word likewise.

    Args:
        text: the text.
        at: the position.
        most: how many characters are wanted; where no word ends in the second half of them, it is cut within one.

    >>> after('The zebra sleeps.', 3, 9), after('The zebra', 3, 20), after('x' * 30, 3, 4)
    (' zebra…', ' zebra', 'xxxx…')
    """
    end = at + most
    if end >= len(text):
        return text[at:]
    gaps = [gap.start() for gap in _GAP.finditer(text, at + most // 2, end + 1)]
    return text[at : gaps[-1] if gaps else end] + '…'


def split_at(text: str, needle: str) -> list[tuple[str, bool]]:
    """Return a text in parts: those that are a needle, in small or capital letters, and those between.

    Args:
        text: the text.
        needle: what is marked; ``''`` for nothing.

    Returns:
        The parts in order, each with whether it is the needle.

    >>> split_at('an Ann', 'ann')
    [('an ', False), ('Ann', True)]
    """
    if not needle:
        return [(text, False)]
    parts = re.split(f'({re.escape(needle)})', text, flags=re.IGNORECASE)
    return [(part, number % 2 == 1) for number, part in enumerate(parts) if part]


def prefixes_above(prefix: str, delimiter: str) -> list[dict[str, str]]:
    """Return the steps of a path of prefixes.

    Args:
        prefix: the last one.
        delimiter: what ends each.

    >>> prefixes_above('user:1:', ':')
    [{'text': 'user:', 'prefix': 'user:'}, {'text': '1:', 'prefix': 'user:1:'}]
    """
    steps: list[dict[str, str]] = []
    before = ''
    while before != prefix and len(steps) < MAX_STEPS:
        head, is_there, _ = prefix[len(before) :].partition(delimiter)
        steps.append({'text': head + is_there, 'prefix': before + head + is_there})
        before = steps[-1]['prefix']
    return steps


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted name, where no other name has the same; else the whole name.

    Args:
        names: such as ``module.function``.

    >>> short_names(['a.words', 'b.words', 'b.time'])
    {'a.words': 'a.words', 'b.words': 'b.words', 'b.time': 'time'}
    """
    last = {name: name.rpartition('.')[2] for name in names}
    often = Counter(last.values())
    return {name: short if often[short] == 1 and short else name for name, short in last.items()}


FILTERS: dict[str, Callable[..., Any]] = {
    'size': size,
    'rate': rate,
    'moment': moment,
    'short_moment': short_moment,
    'iso': iso,
    'thousands': '{:,}'.format,
    'short_names': short_names,
    'prefixes_above': prefixes_above,
}
