"""Reading the files that settings are in."""

from __future__ import annotations

from pathlib import Path

from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.problems import Problem


def read_text(name: str) -> str:
    """The text of a file.

    Raises:
        StartupCheck: it cannot be read.
    """
    try:
        return Path(name).read_bytes().decode('utf-8-sig')
    except FileNotFoundError:
        raise unreadable(name, 'is not there', 'Create it, or give the path of your settings.') from None
    except UnicodeDecodeError as error:
        raise unreadable(name, f'is not UTF-8 at byte {error.start}', 'Save the file as UTF-8.') from None
    except OSError as error:
        raise unreadable(name, f'cannot be read: {error.strerror}', 'Give the path of a readable file.') from None


def unreadable(location: str, message: str, hint: str) -> StartupCheck:
    """The error for a file that is no settings."""
    problem = Problem('KVS.E000', location, 'the file', message, hint)
    return StartupCheck(str(problem), problems=[problem])
