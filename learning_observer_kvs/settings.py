"""The settings: ``creds.yaml`` or a mapping, each value with the place it was written at.

settings.load_settings('creds.yaml')       # or a mapping
settings.settings['kvs']['default']['type']
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from learning_observer_kvs.config import pmss_source, yaml_source
from learning_observer_kvs.config.files import read_text, unreadable
from learning_observer_kvs.config.pmss_source import PmssSettings
from learning_observer_kvs.config.redaction import Text, Unset, masked
from learning_observer_kvs.config.yaml_source import Path
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.problems import Problem

Source = str | os.PathLike[str] | Mapping[str, Any] | PmssSettings | Sequence[Any]
"""Where settings come from: the path of a YAML or ``.pmss`` file, a mapping, a settings object of PMSS, or several of
these, the first of which wins."""

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
        self.locations: dict[Path, str] = {}
        self.problems: list[Problem] = []

    def __repr__(self) -> str:
        return repr(masked(dict(self)))

    def location(self, *path: Hashable) -> str:
        """Where an entry stands, as ``creds.yaml:57``; for what is not written, the line of the block it belongs in."""
        while path and path not in self.locations:
            path = path[:-1]
        return self.locations[path] if path else self.source or 'settings'

    def take(self, other: Settings) -> None:
        """Become the same as another, in place."""
        self.clear()
        self.update(other)
        self.source, self.locations, self.problems = other.source, other.locations, other.problems


settings = Settings()
"""The program's settings; :func:`load_settings` fills them in place."""


def load_settings(source: Source) -> Settings:
    """Fill the program's settings.

    Args:
        source: the path of a YAML file, or the settings as a mapping; a ``.pmss`` file or a settings object of PMSS; or
            several of these, where the first that has a value wins: ``['local.pmss', 'creds.yaml']``. In our blocks
            ``${NAME}`` stands for a variable of the environment, and ``$${`` for ``${`` itself.

    Returns:
        The same object as :data:`settings`.

    Raises:
        StartupCheck: a file cannot be read; the settings are as they were.
    """
    settings.take(read_settings(source))
    return settings


def read_settings(source: Source, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of one's own; arguments and errors as for :func:`load_settings`."""
    if isinstance(source, Settings):
        copy = Settings()
        copy.take(source)
        return copy
    layers = list(_layers(source))
    found = layers[0] if len(layers) == 1 else _merged(layers)
    for block in BLOCKS:
        if block in found:
            found[block] = _filled(found[block], (block,), found, environment)
    return found


def _layers(source: Source) -> Iterator[Settings]:
    if isinstance(source, Mapping):
        yield Settings(_plain(source))
    elif isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        yield _of_pmss(pmss_source.read_file(name)) if name.endswith('.pmss') else _read_yaml(name)
    elif isinstance(source, Sequence):
        for inner in source:
            yield from _layers(inner)
    elif not hasattr(source, 'ruleset'):
        raise TypeError(
            f'Settings are a path, a mapping, a PMSS settings object or several; not {type(source).__name__}.'
        )
    else:
        for layer in pmss_source.read_object(source):
            yield _read_yaml(layer) if isinstance(layer, str) else _of_pmss(layer)


def _of_pmss(layer: pmss_source.Layer) -> Settings:
    found = Settings(layer.data)
    found.source, found.locations = layer.name, layer.locations
    return found


def _merged(layers: Sequence[Settings]) -> Settings:
    """One of several; the first that has a value wins, and what that hides is noted among the problems."""
    found = Settings()
    found.source = ', '.join(layer.source or 'settings' for layer in layers) or None
    for layer in layers:
        found.problems += layer.problems
        _name_pairs(layer)
        _lay_under(found, found, layer, layer, ())
    return found


def _lay_under(found: Settings, over: dict[Any, Any], layer: Settings, under: Mapping[Any, Any], at: Path) -> None:
    for key, value in under.items():
        path = (*at, key)
        if key not in over:
            over[key] = value
            found.locations.setdefault(path, layer.location(*path))
            found.locations |= {
                inner: location for inner, location in layer.locations.items() if inner[: len(path)] == path
            }
        elif isinstance(over[key], dict) and isinstance(value, dict):
            _lay_under(found, over[key], layer, value, path)
        elif path[0] in (*BLOCKS, 'config'):
            message = f'is not used, because {found.location(*path)} comes first'
            hint = 'Take one of the two out, or put the files in the order that is meant.'
            found.problems.append(Problem('KVS.W006', layer.location(*path), '.'.join(map(str, path)), message, hint))


def _name_pairs(layer: Settings) -> None:
    """Make a mapping of an array of ``[name, options]`` pairs, if it is one, so that others can be laid under it."""
    entries = store_entries(layer)
    names = {entry.name: index for index, entry in enumerate(entries) if isinstance(entry.name, str)}
    if not isinstance(layer.get('kvs'), list) or len(names) < len(entries):
        return
    layer['kvs'] = {entry.name: entry.options for entry in entries}
    for name, index in names.items():
        for path in [path for path in layer.locations if path[:3] == ('kvs', index, 1)]:
            layer.locations['kvs', name, *path[3:]] = layer.locations.pop(path)


def _read_yaml(name: str) -> Settings:
    try:
        document = yaml_source.Document(read_text(name))
    except RecursionError:
        raise unreadable(name, 'is nested too deep to be settings', 'Look for open brackets.') from None
    except yaml.YAMLError as error:
        raise _no_yaml(name, error) from None
    if not isinstance(document.data, dict):
        kind = 'empty' if document.data is None else f'a {type(document.data).__name__}'
        raise unreadable(name, f'is {kind}', 'Settings are a mapping that begins with a block such as "kvs:".')
    found = Settings(document.data)
    found.source = name
    found.locations = {path: f'{name}:{line}' for path, line in document.lines.items()}
    found.problems = [
        Problem(
            'KVS.E013',
            found.location(*path),
            '.'.join(map(str, path)),
            f'is written twice, on lines {first} and {second}',
            'Take one of the two out.',
        )
        for path, first, second in document.duplicates
        if path[0] in BLOCKS
    ]
    return found


def _no_yaml(name: str, error: yaml.YAMLError) -> StartupCheck:
    if not isinstance(error, yaml.MarkedYAMLError):
        return unreadable(name, f'is not YAML: {str(error).splitlines()[0]}', 'Take out what is no text.')
    mark = error.problem_mark or error.context_mark
    location = f'{name}:{mark.line + 1}:{mark.column + 1}' if mark else name
    message = error.problem or error.context or 'it cannot be parsed'
    hint = 'Look at the indentation and at open quotes and brackets, here or on the lines above.'
    if re.search(r'alias|anchor|tag', message):  # it would go on with the value, which may be a password
        message = 'a value begins with !, & or *, which mean something else there'
        hint = 'Put it in quotes if it is text.'
    return unreadable(location, f'is not YAML: {message}', hint)


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
        hint = 'Set it before the start, or write the value itself; $${ stands for ${.'
        message = f'takes the variable {name!r} of the environment, which is not set'
        found.problems.append(Problem('KVS.E016', found.location(*path), '.'.join(map(str, path)), message, hint))
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
