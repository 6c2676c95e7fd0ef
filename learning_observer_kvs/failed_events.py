"""Events that were accepted and whose outcome could not be stored, kept in files until ``lo-kvs replay`` reads them.

A folder has a file for each process and day, with one JSON object a line: the event, the reducer that it failed at,
the keys of that reducer's states, and the error. A reducer that processed the event has no line.

A line is written in one step and whole. It is handed to the operating system before :func:`record` returns, so it
survives the end of the process. It is not forced to the disk: a machine that loses its power may lose the last
seconds, and a server whose events all fail is not slowed down by its disk as well.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, EventFileError, InvalidValue, WriteUnclear
from learning_observer_kvs.private_files import PRIVATE, make_folders, open_or_make

DEFAULT_FOLDER = 'failed-events'
"""Where a store's failed events are kept unless its option ``failed_events`` names another folder, relative to the
working directory."""

PATTERN = 'failed-events-*.jsonl'
"""The names of the files in a folder."""


@dataclass(frozen=True, kw_only=True)
class FailedEvent:
    """A line of a file of failed events.

    Args:
        location: the line's file and number, as ``path:3``.
        id: the line's own name, which no other line has.
        time: when it was recorded, in ISO 8601.
        reducer: the fully qualified name of the reducer, as it is in keys.
        keys: the keys of the reducer's states, the internal one first.
        error: the error's class and message.
        is_unclear: whether the event may have been applied all the same (``WriteUnclear``).
        event: the event, as the reducer was given it.
    """

    location: str
    id: str
    time: str
    reducer: str
    keys: tuple[str, ...]
    error: str
    is_unclear: bool
    event: Any


def record(
    event: Any,
    error: BaseException,
    *,
    reducer: str,
    keys: Sequence[str],
    folder: str | os.PathLike[str],
    at: datetime | None = None,
) -> Path:
    """Append an event to this process's file of today. It writes in the event loop, because failures are rare.

    The folder is made if it is missing, for the owner alone (0700, the files 0600). Its size has no bound but the disk.

    Args:
        event: the event, as the reducer was given it. One that JSON cannot hold is kept as text, for people.
        error: why it could not be stored.
        reducer: the fully qualified name of the reducer, as it is in keys.
        keys: the keys of its states, the internal one first. A line without cannot be replayed until they
            are added.
        folder: the folder, such as a store's ``failed_events``.
        at: the time; now, if not given.

    Returns:
        The path of the file.

    Raises:
        OSError: the line cannot be written, and the file is as it was. Log the event: it is kept nowhere else.
    """
    at = at or datetime.now(UTC)
    line: dict[str, Any] = {
        'id': uuid.uuid4().hex,
        'time': at.isoformat(),
        'reducer': reducer,
        'keys': list(keys),
        'error': f'{type(error).__name__}: {error}',
        'unclear': isinstance(error, WriteUnclear),
    }
    make_folders(os.fspath(folder), PRIVATE)
    path = Path(folder) / f'failed-events-{at.date()}-{os.getpid()}.jsonl'
    _append(path, _encode(line, event) + b'\n')
    return path


def _encode(line: Mapping[str, Any], event: Any) -> bytes:
    try:
        return json_codec.encode({**line, 'event': event})
    except InvalidValue:
        return json_codec.encode({**line, 'not_json': repr(event)})


def _append(path: Path, line: bytes) -> None:
    descriptor = open_or_make(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # of threads, and of containers that number their processes alike
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, 'it is not a regular file', str(path))  # a FIFO loses what nothing reads
        size = found.st_size
        if size and os.pread(descriptor, 1, size - 1) != b'\n':
            line = b'\n' + line  # the machine stopped within the last line
        try:
            written = os.write(descriptor, line)
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def find(folder: Path) -> list[Path]:
    """Find the files of a folder, also in folders below it.

    Args:
        folder: the folder; there need not be one.

    Returns:
        The files, the oldest day first. What has such a name and is not a regular file is not one of them.

    Raises:
        EventFileError: a folder cannot be read.
    """
    names = [
        os.path.join(above, name)
        for above, _, names in os.walk(folder, onerror=raise_unreadable)
        for name in fnmatch.filter(names, PATTERN)
    ]
    return sorted(map(Path, filter(os.path.isfile, names)), key=lambda path: (path.name, path))


def raise_unreadable(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, unless the folder has gone meanwhile.

    Args:
        error: what listing it raised.

    Raises:
        EventFileError: the folder cannot be read.
    """
    if not isinstance(error, FileNotFoundError):
        raise EventFileError(f'{error.filename} cannot be read: {error.strerror}.')


def read(path: Path) -> Iterator[FailedEvent | EventFileError]:
    """Read a file of failed events, one line at a time.

    Args:
        path: the file.

    Yields:
        The events in the order in which they were recorded, and an error in place of each line that cannot be
        replayed, with file, line and reason.

    Raises:
        EventFileError: the file cannot be read.
    """
    try:
        with path.open('rb') as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse(f'{path}:{number}', line)
    except OSError as error:
        raise EventFileError(f'{path} cannot be read: {error}.') from None


def _parse(location: str, line: bytes) -> FailedEvent | EventFileError:
    if not line.endswith(b'\n'):
        return EventFileError(f'{location}  the line is incomplete. If it is just being written, run this again.')
    try:
        found = json_codec.decode(line)
    except CorruptValue as error:
        return EventFileError(f'{location}  the line {error}. Correct or remove it.')
    if isinstance(found, dict) and isinstance(found.get('not_json'), str):
        return EventFileError(
            f'{location}  the event of {found.get("reducer")} is not JSON, so it was kept as text and cannot be '
            'replayed.'
        )
    if not isinstance(found, dict) or not _is_valid(found):
        return EventFileError(
            f'{location}  the line is not a failed event: it needs "id", "time", "reducer", "error" (text), "keys" '
            '(a list of text), "unclear" (true or false) and "event".'
        )
    return FailedEvent(
        location=location,
        id=found['id'],
        time=found['time'],
        reducer=found['reducer'],
        keys=tuple(found['keys']),
        error=found['error'],
        is_unclear=found['unclear'],
        event=found['event'],
    )


def _is_valid(found: Mapping[str, Any]) -> bool:
    keys = found.get('keys')
    return (
        all(isinstance(found.get(name), str) for name in ('id', 'time', 'reducer', 'error'))
        and isinstance(keys, list)
        and bool(keys)
        and all(isinstance(key, str) for key in keys)
        and isinstance(found.get('unclear'), bool)
        and 'event' in found
    )
