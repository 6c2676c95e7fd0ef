"""Arguments that take several values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar('T')


def several(values: Iterable[T], name: str) -> list[T]:
    """Return the values of an argument that takes several: a single text would be taken for its characters.

    Args:
        values: what a caller gave.
        name: what the argument is called.

    Raises:
        ValueError: it is a text, or another single value.
    """
    if isinstance(values, (str, bytes, bytearray, os.PathLike)) or not isinstance(values, Iterable):
        raise ValueError(
            f'{name} is a single value, of type {type(values).__name__}; it must be a list, or another collection, '
            'also of one.'
        )
    return list(values)
