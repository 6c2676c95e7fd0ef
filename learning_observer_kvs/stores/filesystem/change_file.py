"""The log of what is changed in a directory, which its writers keep while a process reads it.

It is a file beside the lock, with a key in each line; where it is missing, writers look for it in vain and go on. Keys
are added before the change that concerns them is carried out, and are read while the lock is held: then the change is
carried out, too, be it by the next process after one that was killed.

A log of ``MAX_BYTES`` is moved aside, and a new one begins. Each reader has a file that says up to where it has read.
One that has not come to the log that is moved aside, be it slow or killed, loses that file, and has to begin anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import BinaryIO

from learning_observer_kvs.private_files import Access, create
from learning_observer_kvs.stores.change_feed import MAX_CHARACTERS
from learning_observer_kvs.stores.filesystem.descriptor import SAFELY

MAX_BYTES = 1 << 20
"""Bytes of a log from which the next write begins a new one."""

_HEADER = '{:020}'
"""What a log begins with: how many bytes there were in those before. Positions of readers count through all logs."""

_HEADER_BYTES = 20


class ChangeFile:
    """The log of one directory, and the files of its readers. Every method is called while the directory is locked.

    Args:
        folder: the absolute path of the folder of the lock.
        access: who may open new files.
    """

    def __init__(self, folder: str, access: Access) -> None:
        self._folder = folder
        self._access = access
        self._log = f'{folder}/changes'
        self._log_before = f'{folder}/changes-before'

    def append(self, keys: Iterable[str] | None) -> None:
        """Add keys that are about to be changed, if the log is kept.

        Args:
            keys: the keys; ``None``: every key may be among them.

        Raises:
            OSError: the log cannot be written.
        """
        try:
            log = _open(self._log, os.O_RDWR)
        except FileNotFoundError:
            return
        with log:
            if os.fstat(log.fileno()).st_size < MAX_BYTES:
                _append(log, keys)
                return
            start, size = _start(log), _size(log)
        if self._move_aside(start):
            self._begin(start + size)
            with _open(self._log, os.O_RDWR) as log:
                _append(log, keys)

    def register(self, reader: str) -> int:
        """Add a reader; from now on the log is kept.

        Args:
            reader: the name of the reader.

        Returns:
            The position where it begins.

        Raises:
            OSError: the log cannot be written.
        """
        if not os.path.lexists(self._log):
            self._begin(0)
        with _open(self._log) as log:
            position = _start(log) + _size(log)
        self.note(reader, position)
        return position

    def read(self, reader: str, position: int) -> tuple[int, int, Collection[str] | None] | None:
        """Read the keys behind a position.

        Args:
            reader: the name of the reader.
            position: where it is.

        Returns:
            The positions where it is now, and where the log begins; and the keys, or ``None`` if it is not known which
            they are, or they are too long together. ``None`` if the reader has to begin anew.

        Raises:
            OSError: the log cannot be read.
        """
        if not os.path.lexists(self._path_of(reader)):
            return None
        content = b''
        try:
            with _open(self._log) as log:
                start, size = _start(log), _size(log)
                if position < start:
                    with _open(self._log_before) as before:
                        if position < _start(before):
                            return None
                        content = _content(before, position)
                content += _content(log, max(position, start))
        except FileNotFoundError:
            return None
        return start + size, start, _keys(content) if len(content) <= MAX_CHARACTERS else None

    def note(self, reader: str, position: int) -> None:
        """Note up to where a reader has read.

        Args:
            reader: the name of the reader.
            position: where it is.

        Raises:
            OSError: its file cannot be written.
        """
        path = self._path_of(reader)
        with suppress(FileNotFoundError):
            os.unlink(path)
        with open(create(path, self._access), 'w') as file:
            file.write(str(position))

    def remove(self, reader: str) -> None:
        """Remove a reader, and with the last one the log.

        Args:
            reader: the name of the reader.

        Raises:
            OSError: they cannot be removed.
        """
        with suppress(FileNotFoundError):
            os.unlink(self._path_of(reader))
        self._end_if_unread()

    def forget(self) -> None:
        """Remove the log, and all readers, which have to begin anew.

        Raises:
            OSError: they cannot be removed.
        """
        for path in self._readers():
            os.unlink(path)
        self._end_if_unread()

    def _path_of(self, reader: str) -> str:
        return f'{self._folder}/reader-{reader}'

    def _readers(self) -> list[str]:
        with os.scandir(self._folder) as entries:
            return [entry.path for entry in entries if entry.name.startswith('reader-')]

    def _begin(self, start: int) -> None:
        """Begin a log; it has its header when it appears."""
        new = f'{self._log}-new'
        with suppress(FileNotFoundError):
            os.unlink(new)
        with open(create(new, self._access), 'wb') as log:
            log.write(_HEADER.format(start).encode())
        os.rename(new, self._log)

    def _move_aside(self, start: int) -> bool:
        """Move the log aside that begins there; whether a reader needs another one."""
        for path in self._readers():
            with open(path) as file:
                position = file.read()
            if not position or int(position) < start:
                os.unlink(path)
        if self._end_if_unread():
            return False
        os.rename(self._log, self._log_before)
        return True

    def _end_if_unread(self) -> bool:
        if self._readers():
            return False
        for path in (self._log, self._log_before):
            with suppress(FileNotFoundError):
                os.unlink(path)
        return True


def _open(path: str, flags: int = os.O_RDONLY) -> BinaryIO:
    return open(os.open(path, SAFELY | flags), 'r+b', buffering=0)


def _start(log: BinaryIO) -> int:
    """How many bytes there were in the logs before."""
    return int(os.pread(log.fileno(), _HEADER_BYTES, 0))


def _size(log: BinaryIO) -> int:
    return os.fstat(log.fileno()).st_size - _HEADER_BYTES


def _content(log: BinaryIO, position: int) -> bytes:
    log.seek(_HEADER_BYTES + position - _start(log))
    return log.read()


def _append(log: BinaryIO, keys: Iterable[str] | None) -> None:
    lines = [None] if keys is None else keys
    rest = memoryview(''.join(f'\n{json.dumps(key)}' for key in lines).encode())
    log.seek(0, os.SEEK_END)
    while rest:
        rest = rest[log.write(rest) :]


def _keys(content: bytes) -> Collection[str] | None:
    """Return the keys of some lines; ``None`` if one of them stands for every key."""
    keys: dict[str, None] = {}
    for line in content.split(b'\n'):
        try:
            key = json.loads(line)
        except ValueError:  # its writer was killed before it changed anything
            continue
        if key is None:
            return None
        keys[key] = None
    return keys
