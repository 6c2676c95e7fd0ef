"""The settings: ``creds.yaml`` or a mapping, each value with the place it was written at.

settings.load_settings('creds.yaml')       # or a mapping
settings.settings['kvs']['default']['type']
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from learning_observer_kvs import yaml_places
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.masking import Text, Unset, masked
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.yaml_places import Path

Source = str | os.PathLike[str] | Mapping[str, Any]

BLOCKS = ('kvs', 'redis_connection', 'kvs_debug')
"""The blocks that are ours; the rest of the settings is the server's."""


class Settings(dict[str, Any]):
    """Nested plain settings that know where each was written.

    Attributes:
        source: the file they were read from, as its reader named it; ``None`` for a mapping.
        places: where each entry stands, by its path: ``{('kvs', 'default', 'type'): 'creds.yaml:57'}``.
        problems: what was found wrong while they were read.
    """

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data or {})
        self.source: str | None = None
        self.places: dict[Path, str] = {}
        self.problems: list[Problem] = []

    def __repr__(self) -> str:
        return repr(masked(dict(self)))

    def place(self, *path: Hashable) -> str:
        """Where an entry stands, as ``creds.yaml:57``; for what is not written, the line of the block it belongs in."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path] if path else self.source or 'settings'

    def take(self, other: Settings) -> None:
        """Become the same as another, in place."""
        self.clear()
        self.update(other)
        self.source, self.places, self.problems = other.source, other.places, other.problems


settings = Settings()
"""The program's settings; :func:`load_settings` fills them in place."""


def load_settings(source: Source) -> Settings:
    """Fill the program's settings from a file or a mapping.

    Args:
        source: the path of a YAML file, or the settings as a mapping. In our blocks ``${NAME}`` stands for a variable
            of the environment, and ``$${`` for ``${`` itself.

    Returns:
        The same object as :data:`settings`.

    Raises:
        StartupCheck: the file cannot be read or is not YAML; the settings are as they were.
    """
    settings.take(read_settings(source))
    return settings


def read_settings(source: Source, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of one's own from a file or a mapping; arguments and errors as for :func:`load_settings`."""
    if isinstance(source, Settings):
        copy = Settings()
        copy.take(source)
        return copy
    found = Settings(_plain(source)) if isinstance(source, Mapping) else _read_yaml(os.fspath(source))
    for block in BLOCKS:
        if block in found:
            found[block] = _filled(found[block], (block,), found, environment)
    return found


def _read_yaml(name: str) -> Settings:
    try:
        document = yaml_places.Document(FilePath(name).read_bytes().decode('utf-8-sig'))
    except FileNotFoundError:
        raise _unreadable(name, 'is not there', 'Create it, or give the path of your settings.') from None
    except UnicodeDecodeError as error:
        raise _unreadable(name, f'is not UTF-8 at byte {error.start}', 'Save the file as UTF-8.') from None
    except OSError as error:
        raise _unreadable(name, f'cannot be read: {error.strerror}', 'Give the path of a readable file.') from None
    except RecursionError:
        raise _unreadable(name, 'is nested too deep to be settings', 'Look for open brackets.') from None
    except yaml.YAMLError as error:
        raise _no_yaml(name, error) from None
    if not isinstance(document.data, dict):
        kind = 'empty' if document.data is None else f'a {type(document.data).__name__}'
        raise _unreadable(name, f'is {kind}', 'Settings are a mapping that begins with a block such as "kvs:".')
    found = Settings(document.data)
    found.source = name
    found.places = {path: f'{name}:{line}' for path, line in document.lines.items()}
    found.problems = [
        Problem(
            'KVS.E013',
            found.place(*path),
            '.'.join(map(str, path)),
            f'is written twice, on lines {first} and {second}',
            'Take one of the two out.',
        )
        for path, first, second in document.duplicates
        if path[0] in BLOCKS
    ]
    return found


def _unreadable(place: str, fault: str, cure: str) -> StartupCheck:
    problem = Problem('KVS.E000', place, 'the file', fault, cure)
    return StartupCheck(str(problem), problems=[problem])


def _no_yaml(name: str, error: yaml.YAMLError) -> StartupCheck:
    if not isinstance(error, yaml.MarkedYAMLError):
        return _unreadable(name, f'is not YAML: {str(error).splitlines()[0]}', 'Take out what is no text.')
    mark = error.problem_mark or error.context_mark
    place = f'{name}:{mark.line + 1}:{mark.column + 1}' if mark else name
    cure = 'Look at the indentation and at open quotes and brackets, here or on the lines above.'
    return _unreadable(place, f'is not YAML: {error.problem or error.context}', cure)


def _plain(value: Any) -> Any:
    """A copy of nested mappings and lists; other objects stay as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


_VARIABLE = re.compile(r'(\$?)\$\{([^}]*)\}')


def _filled(value: Any, path: Path, found: Settings, environment: Mapping[str, str]) -> Any:
    """The same with every ``${NAME}`` replaced; what cannot be is noted among the problems."""
    if isinstance(value, dict):
        return {key: _filled(item, (*path, key), found, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, (*path, index), found, environment) for index, item in enumerate(value)]
    if not isinstance(value, str) or '${' not in value:
        return value
    missing = []

    def replace(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        if name not in environment:
            missing.append(name)
        return environment.get(name, '')

    text = _VARIABLE.sub(replace, value)
    for name in missing:
        cure = 'Set it before the start, or write the value itself; $${ stands for ${.'
        fault = f'takes the variable {name!r} of the environment, which is not set'
        found.problems.append(Problem('KVS.E016', found.place(*path), '.'.join(map(str, path)), fault, cure))
    return Unset.of(text, value) if missing else Text.of(text, value)


class StoreEntry(NamedTuple):
    """One store as the settings write it: the path of its block is for :meth:`Settings.place`."""

    name: Any
    options: Any
    path: Path


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
