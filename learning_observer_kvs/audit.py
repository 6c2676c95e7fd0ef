"""Who saw, exported, erased, expired or lifted what: one JSON object a line, without any content.

The lines go to the logger ``learning_observer_kvs.audit`` at level INFO; the option ``privacy.audit`` of the settings
names a file for them.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

from learning_observer_kvs.private_files import PRIVATE, make_folders

log = logging.getLogger('learning_observer_kvs.audit')
"""The logger of the lines."""


def record(action: str, who: str, **what: Any) -> None:
    """Write a line.

    Args:
        action: ``seen``, ``found``, ``exported``, ``erased``, ``expired``, ``pseudonymized``, ``listed`` or ``lifted``;
            before it begins ``erasing``, ``expiring`` or ``lifting``.
        who: who did it: the user of a command, the address of a browser.
        what: what, where, how many; JSON values without content.
    """
    if log.isEnabledFor(logging.INFO):
        line = {'time': datetime.now(UTC).isoformat(), 'action': action, 'who': who, **what}
        log.info('%s', json.dumps(line, ensure_ascii=True))


def iso_time(seconds: float) -> str:
    """Return a time in ISO 8601, in UTC and whole seconds, as receipts and exports have it.

    Args:
        seconds: since 1970.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec='seconds')


def user() -> str:
    """Return the name of the user who runs this process; with ``sudo``, of the one who called it."""
    try:
        return os.environ.get('SUDO_USER') or getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return str(os.getuid())


class _PrivateFile(logging.FileHandler):
    """Appends to a file that is made for its owner alone.

    Attributes:
        users: how many blocks keep their lines in it.
        level_before: that of the logger, before the first of the files was opened.
    """

    users = 0
    level_before = logging.NOTSET

    def _open(self) -> TextIOWrapper:
        make_folders(os.path.dirname(self.baseFilename), PRIVATE)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.fdopen(os.open(self.baseFilename, flags, PRIVATE.file), 'a', encoding='utf-8')


def _files() -> list[_PrivateFile]:
    return [handler for handler in log.handlers if isinstance(handler, _PrivateFile)]


@contextmanager
def kept_in(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Append the lines that are written in the block to a file, too.

    Args:
        path: the file, made for its owner alone (0600) if it is not there; ``None`` for none.

    Raises:
        OSError: the file cannot be opened.
    """
    if path is None:
        yield
        return
    files = _files()
    handler = next((each for each in files if each.baseFilename == os.path.abspath(path)), None)
    if handler is None:
        handler = _PrivateFile(path)
        handler.level_before = files[0].level_before if files else log.level
        handler.setFormatter(logging.Formatter('%(message)s'))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    handler.users += 1
    try:
        yield
    finally:
        handler.users -= 1
        if not handler.users:  # two applications may name the same file
            log.removeHandler(handler)
            handler.close()
        if not _files():
            log.setLevel(handler.level_before)
