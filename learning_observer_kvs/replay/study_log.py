"""Study logs: what a server recorded of a writing session, one event a line as JSON, a tab, and a timestamp."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, StudyLogError

SUFFIXES = ('.study.log', '.study.log.gz')


class Line(NamedTuple):
    """One event, and the line (from 1) it stands on."""

    number: int
    event: dict[str, Any]


def find(paths: Iterable[Path]) -> list[Path]:
    """The study logs among files and, sorted, below folders.

    Raises:
        StudyLogError: a path is not there, or there is no study log at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(inner for inner in path.rglob('*') if inner.name.endswith(SUFFIXES))
        elif path.exists():
            found.append(path)
        else:
            raise StudyLogError(f'{path}: there is no such file or folder.')
    if not found:
        raise StudyLogError(f'No study log was found: their names end in {" or ".join(SUFFIXES)}.')
    return found


def read(path: Path) -> Iterator[Line]:
    """The events of a file, in order.

    Raises:
        StudyLogError: a line that is no event, with its number; a file that cannot be read.
    """
    for number, line in _lines(path):
        yield Line(number, _event(path, number, line))


def count(path: Path) -> int:
    """How many lines of a file are to be events: much faster than reading them.

    Raises:
        StudyLogError: a file that cannot be read.
    """
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise StudyLogError(f'{path} cannot be read: {error}.') from None


def line(event: Any, timestamp: str) -> bytes:
    """An event as a line of a study log, with its end."""
    return json_codec.encode(event) + b'\t' + timestamp.encode() + b'\n'


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    text, _, _ = line.rpartition(b'\t')
    try:
        event = json_codec.decode(text or line)
    except CorruptValue as error:
        raise StudyLogError(f'{path}:{number}  the line {error}. Mend it or take it out.') from None
    if not isinstance(event, dict) or not isinstance(event.get('client'), dict):
        raise StudyLogError(f'{path}:{number}  the line is no event: it is no object with a "client".')
    return event
