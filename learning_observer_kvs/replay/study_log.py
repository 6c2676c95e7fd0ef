"""Study logs: the recorded events of a writing session. Each line is an event as JSON, a tab, and a timestamp."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, EventFileError
from learning_observer_kvs.replay.events import is_event, metadata_of

SUFFIXES = ('.study.log', '.study.log.gz')

MAX_ERRORS = 10
"""How many lines of a file are reported; one that is not a study log has nothing but such lines."""


class LoggedEvent(NamedTuple):
    """An event of a study log, and the number of its line, from 1."""

    line_number: int
    event: dict[str, Any]


def read(path: Path) -> Iterator[LoggedEvent]:
    """Read the events of a file, one at a time.

    Args:
        path: a study log; compressed with gzip if its name ends in ``.gz``.

    Yields:
        The events in order.

    Raises:
        EventFileError: the file cannot be read, or a line is not an event; the message has its number.
    """
    for number, line in _lines(path):
        yield LoggedEvent(number, _event(path, number, line))


class Checked(NamedTuple):
    """What :func:`check` found.

    Attributes:
        lines: how many lines are not blank.
        errors: a message for each of those that are not an event, of the first :data:`MAX_ERRORS`; or one, if the file
            cannot be read.
        error_count: how many there are.
    """

    lines: int
    errors: list[str]
    error_count: int


def check(path: Path) -> Checked:
    """Read a whole file to find out whether every line is an event, of a student who is named or of none.

    Args:
        path: a study log.

    Returns:
        How many lines there are, and what is wrong with them.
    """
    lines, errors, error_count = 0, [], 0
    try:
        for number, line in _lines(path):
            lines += 1
            try:
                metadata_of(_event(path, number, line), f'{path}:{number}')
            except EventFileError as error:
                error_count += 1
                if error_count <= MAX_ERRORS:
                    errors.append(str(error))
    except EventFileError as error:
        return Checked(lines, [*errors, str(error)], error_count + 1)
    return Checked(lines, errors, error_count)


def count(path: Path) -> int:
    """Count the lines of a file that should be events, much faster than by reading them.

    Args:
        path: a study log.

    Returns:
        How many lines are not blank.

    Raises:
        EventFileError: the file cannot be read.
    """
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise EventFileError(f'{path} cannot be read: {error}.') from None


def format_line(event: Any, timestamp: str) -> bytes:
    """Format an event as a line of a study log.

    Args:
        event: any JSON value; an event has an object ``client``.
        timestamp: when it happened, in any format without tabs.

    Returns:
        The line, with its newline.

    Raises:
        InvalidValue: the event is not a JSON value.
    """
    return json_codec.encode(event) + b'\t' + timestamp.encode() + b'\n'


def _event(path: Path, number: int, line: bytes) -> dict[str, Any]:
    text, _, _ = line.rpartition(b'\t')
    try:
        event = json_codec.decode(text or line)
    except CorruptValue as error:
        raise EventFileError(f'{path}:{number}  the line {error}. Correct or remove it.') from None
    if not is_event(event):
        raise EventFileError(
            f'{path}:{number}  the line is not an event: an event is an object with an object "client".'
        )
    return event
