"""What errors of SQLite and of the system advise, and whether waiting may help."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from learning_observer_kvs.stores.sqlite.errors import of_sqlite, of_system


@pytest.mark.parametrize(
    ('code', 'hint'),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, 'Free some space'),
        (sqlite3.SQLITE_IOERR_READ, 'The disk reports an error'),
        (sqlite3.SQLITE_READONLY_DIRECTORY, 'Make the file and its folder writable'),
        (sqlite3.SQLITE_MISMATCH, 'Look at the file and its disk.'),
    ],
)
def test_an_error_of_sqlite_has_the_hint_of_its_extended_code_or_else_of_its_kind(
    tmp_path: Path, code: int, hint: str
) -> None:
    error = sqlite3.OperationalError('it failed')
    error.sqlite_errorcode = code
    assert f'{tmp_path / "state"} cannot be used: it failed. {hint}' in str(of_sqlite(tmp_path / 'state', error))


@pytest.mark.parametrize(
    ('number', 'retry', 'hint'),
    [
        (errno.EMFILE, True, 'raise the limit of open files.'),
        (errno.ENFILE, True, 'raise the limit of open files.'),
        (errno.ENOSPC, True, 'Free some space on the disk.'),
        (errno.EACCES, False, 'Choose another path.'),
    ],
)
def test_an_error_of_the_system_has_a_hint_and_waiting_helps_where_something_can_be_freed(
    number: int, retry: bool, hint: str
) -> None:
    error = of_system(Path('state'), OSError(number, 'it failed'))
    assert (error.retry, str(error).endswith(hint)) == (retry, True)
    assert str(error).startswith('state cannot be used: it failed. ')


def test_an_error_of_the_system_without_a_number_is_final() -> None:
    error = of_system(Path('state'), OSError())
    assert not error.retry
    assert str(error).endswith('Choose another path.')
