"""Numbers and times as the pages write them, short enough for a table; the exact ones are in titles and in the JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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


FILTERS: dict[str, Callable[..., Any]] = {
    'size': size,
    'rate': rate,
    'moment': moment,
    'short_moment': short_moment,
    'iso': iso,
    'thousands': '{:,}'.format,
}
