"""What the readers of settings share: the blocks that are read, one layer of settings, and reading a file."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from learning_observer_kvs.config.redaction import without_credentials
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.problems import Problem

BLOCKS = ('kvs', 'redis_connection', 'kvs_debug', 'privacy', 'retention')
"""The blocks of this package; the rest of the settings is the server's."""

SettingPath = tuple[Hashable, ...]
"""The keys that lead to a setting: ``('kvs', 'default', 'type')``; of an array, indexes."""


class Layer(NamedTuple):
    """The settings of one file, mapping or ruleset.

    Args:
        data: nested dictionaries and lists.
        name: the file, as messages name it; ``None`` for a mapping.
        locations: where each setting is written: ``{('kvs', 'default', 'type'): 'creds.yaml:57'}``.
        problems: what was found wrong while they were read.
    """

    data: dict[Any, Any]
    name: str | None = None
    locations: Mapping[SettingPath, str] = {}
    problems: Sequence[Problem] = ()


def location_in(locations: Mapping[SettingPath, str], path: SettingPath, name: str | None) -> str:
    """Return the source location of a setting.

    Args:
        locations: those that are known.
        path: of the setting, which need not be written.
        name: the source as a whole.

    Returns:
        The location of the setting as ``creds.yaml:57``, else that of the innermost block around it, else the name.
    """
    while path and path not in locations:
        path = path[:-1]
    return locations[path] if path else name or 'settings'


def dotted(path: Iterable[object]) -> str:
    """Return a path as messages write it.

    Args:
        path: such as ``('kvs', 'default', 'type')``; names that look like a URL with a password are redacted.

    Returns:
        ``kvs.default.type``.
    """
    return '.'.join(without_credentials(str(part)) for part in path)


def read_text(name: str) -> str:
    """Read a file of settings.

    Args:
        name: its path.

    Returns:
        Its text, without a byte order mark.

    Raises:
        StartupCheck: it cannot be read, or is not UTF-8.
    """
    try:
        return Path(name).read_bytes().decode('utf-8-sig')
    except FileNotFoundError:
        raise unreadable(name, 'does not exist', 'Create it, or give the path of your settings.') from None
    except UnicodeDecodeError as error:
        raise unreadable(name, f'is not UTF-8 at byte {error.start}', 'Save the file as UTF-8.') from None
    except OSError as error:
        raise unreadable(
            name, f'cannot be read: {error.strerror or error}', 'Give the path of a readable file.'
        ) from None


def unreadable(location: str, message: str, hint: str) -> StartupCheck:
    """Return the error for a file that cannot be used as settings.

    Args:
        location: the file, with line and column where they are known.
        message: what is wrong, as the rest of a sentence that begins with "the file".
        hint: what to do, as a sentence.

    Returns:
        The error, to be raised, with one problem ``KVS.E000``.
    """
    problem = Problem('KVS.E000', location, 'the file', message, hint)
    return StartupCheck(str(problem), problems=[problem])
