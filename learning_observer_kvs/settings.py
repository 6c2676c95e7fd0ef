"""The settings: ``creds.yaml`` or a mapping, each value with the place it was written at.

settings.load_settings('creds.yaml')       # or a mapping
settings.settings['kvs']['default']['type']
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from learning_observer_kvs import yaml_places
from learning_observer_kvs.errors import StartupCheck

Source = str | os.PathLike[str] | Mapping[str, Any]


class Settings(dict[str, Any]):
    """Nested plain settings that know where each was written.

    Attributes:
        source: the file they were read from, as its reader named it; ``None`` for a mapping.
        duplicates: keys written twice in one mapping of the file: ``(path, first line, second line)``.
    """

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data or {})
        self.source: str | None = None
        self.lines: dict[yaml_places.Path, int] = {}
        self.duplicates: list[tuple[yaml_places.Path, int, int]] = []

    def place(self, *path: str | int) -> str:
        """Where an entry stands, as ``creds.yaml:57``; for what is not written, the line of the block it belongs in."""
        if self.source is None:
            return 'settings'
        while path and path not in self.lines:
            path = path[:-1]
        return f'{self.source}:{self.lines[path]}' if path else self.source

    def take(self, other: Settings) -> None:
        """Become the same as another, in place."""
        self.clear()
        self.update(other)
        self.source, self.lines, self.duplicates = other.source, other.lines, other.duplicates


settings = Settings()
"""The program's settings; :func:`load_settings` fills them in place."""


def load_settings(source: Source) -> Settings:
    """Fill the program's settings from a file or a mapping.

    Args:
        source: the path of a YAML file, or the settings as a mapping.

    Returns:
        The same object as :data:`settings`.

    Raises:
        StartupCheck: the file cannot be read or is not YAML; the settings are as they were.
    """
    settings.take(read_settings(source))
    return settings


def read_settings(source: Source) -> Settings:
    """Settings of one's own from a file or a mapping; arguments and errors as for :func:`load_settings`."""
    if isinstance(source, Settings):
        copy = Settings()
        copy.take(source)
        return copy
    if isinstance(source, Mapping):
        return Settings(_plain(source))
    name = os.fspath(source)
    try:
        document = yaml_places.Document(Path(name).read_bytes().decode('utf-8-sig'))
    except FileNotFoundError:
        raise StartupCheck(f'{name}: there is no such file. Create it, or give the path of your settings.') from None
    except UnicodeDecodeError as error:
        raise StartupCheck(f'{name}: byte {error.start} is not UTF-8. Save the file as UTF-8.') from None
    except OSError as error:
        raise StartupCheck(f'{name} cannot be read: {error.strerror}. Give the path of a readable file.') from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f'{name}:{mark.line + 1}:{mark.column + 1}' if mark else name
        raise StartupCheck(
            f'{place}  this is not YAML: {error.problem or error.context}. '
            'Look at the indentation and at open quotes and brackets, here or on the lines above.'
        ) from None
    except yaml.YAMLError as error:
        raise StartupCheck(f'{name}: this is not YAML: {str(error).splitlines()[0]}.') from None
    if not isinstance(document.data, dict):
        kind = 'empty' if document.data is None else f'a {type(document.data).__name__}'
        raise StartupCheck(f'{name} is {kind}; settings are a mapping that begins with a block such as "kvs:".')
    found = Settings(document.data)
    found.source, found.lines, found.duplicates = name, document.lines, document.duplicates
    return found


def _plain(value: Any) -> Any:
    """A copy of nested mappings and lists; other objects stay as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class StoreEntry(NamedTuple):
    """One store as the settings write it: the path of its block is for :meth:`Settings.place`."""

    name: Any
    options: Any
    path: yaml_places.Path


def store_entries(configuration: Settings) -> list[StoreEntry]:
    """The stores of the ``kvs`` block, which is a mapping or an array of ``[name, options]`` pairs.

    Entries may have any shape here, names and options too; the checks say what is wrong with them. A block of
    another shape has none.
    """
    block = configuration.get('kvs')
    if isinstance(block, Mapping):
        return [StoreEntry(name, options, ('kvs', name)) for name, options in block.items()]
    if isinstance(block, (list, tuple)):
        return [
            StoreEntry(item[0], item[1], ('kvs', index, 1))
            if isinstance(item, (list, tuple)) and len(item) == 2
            else StoreEntry(None, item, ('kvs', index))
            for index, item in enumerate(block)
        ]
    return []


def run_mode(configuration: Settings) -> str | None:
    """``dev``, ``deploy`` or ``interactive``, as ``config.run_mode`` says; ``None`` if it does not."""
    block = configuration.get('config')
    mode = block.get('run_mode') if isinstance(block, Mapping) else None
    return mode if isinstance(mode, str) else None


_SECRET = re.compile(r'password|passwd|secret|token|credential|api_?key', re.IGNORECASE)
_IN_URL = re.compile(r'(?<=://)([^/@\s]*):([^/@\s]*)@')


def shown(name: object, value: object) -> str:
    """A setting's value as messages show it: quoted, cut where it is long, and never a secret."""
    if isinstance(name, str) and _SECRET.search(name):
        return '(hidden)'
    if value is None or isinstance(value, bool):
        return {None: 'null', True: 'true', False: 'false'}[value]
    text = _IN_URL.sub(r'\1:(hidden)@', repr(value))
    return text if len(text) <= 100 else text[:100] + '…'
