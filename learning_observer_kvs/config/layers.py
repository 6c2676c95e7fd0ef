"""Settings made of layers: files, mappings and rulesets, merged, with the source location of each setting."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from learning_observer_kvs.config import pmss_source, yaml_source
from learning_observer_kvs.config.pmss_source import PmssSettings
from learning_observer_kvs.config.raw_text import RawText, UnsetVariable
from learning_observer_kvs.config.redaction import redacted
from learning_observer_kvs.config.source import BLOCKS, Layer, SettingPath, dotted, location_in, unreadable
from learning_observer_kvs.problems import Problem

Source = str | os.PathLike[str] | Mapping[str, Any] | PmssSettings | Sequence[Any]
"""Where settings come from: the path of a YAML or ``.pmss`` file, a mapping, a settings object of PMSS, or several of
these, the first of which wins."""


class Settings(dict[str, Any]):
    """Nested plain settings that know where each was written.

    Attributes:
        source: the file they were read from, as its reader named it; ``None`` for a mapping.
        locations: where each setting is written, by its path: ``{('kvs', 'default', 'type'): 'creds.yaml:57'}``.
        problems: what was found wrong while they were read.
    """

    def __init__(self, layer: Layer | None = None) -> None:
        """Start with the settings of a layer.

        Args:
            layer: one layer; without it there are no settings.
        """
        super().__init__(layer.data if layer else {})
        self.source: str | None = layer.name if layer else None
        self.locations: dict[SettingPath, str] = dict(layer.locations) if layer else {}
        self.problems: list[Problem] = list(layer.problems) if layer else []

    def __repr__(self) -> str:
        """Return the settings without secrets."""
        return repr(redacted(dict(self)))

    def location(self, *path: Hashable) -> str:
        """Return the source location of a setting.

        Args:
            path: the keys that lead to it; it need not be written.

        Returns:
            Its file and line as ``creds.yaml:57``; of a setting that is not written those of the block it belongs in.
        """
        return location_in(self.locations, path, self.source)

    def replace_with(self, other: Settings) -> None:
        """Become a copy of other settings, in place.

        Args:
            other: the settings to copy.
        """
        self.clear()
        self.update(other)
        self.source, self.locations, self.problems = other.source, dict(other.locations), list(other.problems)


def read_settings(source: Source, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read settings, without changing those of the program.

    Args:
        source: the path of a YAML file, or the settings as a mapping; a ``.pmss`` file or a settings object of PMSS; or
            several of these, where the first that has a value wins: ``['local.pmss', 'creds.yaml']``.
        environment: the variables that ``${NAME}`` in the blocks of this package stands for; ``${NAME:-text}`` is the
            text where the variable is not set or empty, and ``$${`` is ``${`` itself.

    Returns:
        The settings. Problems that leave them readable are in their ``problems``.

    Raises:
        StartupCheck: a file cannot be read.
    """
    if isinstance(source, Settings):
        copy = Settings()
        copy.replace_with(source)
        return copy
    try:
        layers = list(_layers(source))
    except RecursionError:
        raise unreadable(
            'settings', 'is a mapping that contains itself, or is nested too deep', 'Write it out.'
        ) from None
    settings = Settings(layers[0]) if len(layers) == 1 else _merged(layers)
    for block in BLOCKS:
        if block in settings:
            settings[block] = _with_variables(settings[block], (block,), settings, environment)
    return settings


def run_mode(settings: Mapping[str, Any]) -> str | None:
    """Return the run mode of the server.

    Args:
        settings: all settings.

    Returns:
        ``dev``, ``deploy`` or ``interactive``, as ``config.run_mode`` says; ``None`` if it does not.
    """
    mode = option_in(settings, 'config', 'run_mode')
    return mode if isinstance(mode, str) else None


def option_in(settings: Mapping[str, Any], block: str, option: str) -> Any:
    """Return the value of an option of a block, as it is written.

    Args:
        settings: all settings, checked or not.
        block: the name of the block.
        option: the name of the option.

    Returns:
        The value; ``None`` if the option is not written, or the block is not a mapping.
    """
    options = settings.get(block)
    return options.get(option) if isinstance(options, Mapping) else None


def _layers(source: Source) -> Iterator[Layer]:
    if isinstance(source, Mapping):
        yield Layer(_copied(source))
    elif isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        yield pmss_source.read_file(name) if name.endswith('.pmss') else yaml_source.read_file(name)
    elif isinstance(source, Sequence):
        for inner in source:
            yield from _layers(inner)
    elif not hasattr(source, 'ruleset'):
        raise TypeError(
            f'Settings are a path, a mapping, a PMSS settings object or several; not {type(source).__name__}.'
        )
    else:
        for layer in pmss_source.read_object(source):
            yield yaml_source.read_file(layer) if isinstance(layer, str) else layer


def _copied(value: Any) -> Any:
    """Return a copy of nested mappings and lists; other objects are kept."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


# Merging


def _merged(layers: Sequence[Layer]) -> Settings:
    """Return the settings of several layers; the first that has a value wins, and each hidden value is a problem."""
    settings = Settings()
    settings.source = ', '.join(layer.name or 'settings' for layer in layers) or None
    for layer in layers:
        settings.problems += layer.problems
        layer = _with_pairs_as_mapping(layer)
        _lay_under(settings, settings, layer, layer.data, ())
    return settings


def _lay_under(
    settings: Settings, upper: dict[Any, Any], layer: Layer, lower: Mapping[Any, Any], path: SettingPath
) -> None:
    """Add those values of a layer that the layers before it do not have."""
    for key, value in lower.items():
        inner = (*path, key)
        location = location_in(layer.locations, inner, layer.name)
        if key not in upper:
            # A copy, because a YAML alias is the same object in several places.
            upper[key] = _copied(value) if inner[0] in BLOCKS else value
            settings.locations.setdefault(inner, location)
            settings.locations |= {
                below: location for below, location in layer.locations.items() if below[: len(inner)] == inner
            }
        elif isinstance(upper[key], dict) and isinstance(value, dict):
            _lay_under(settings, upper[key], layer, value, inner)
        elif inner[0] in (*BLOCKS, 'config'):
            message = f'is not used, because {settings.location(*inner)} comes first'
            hint = 'Remove one of the two, or give the files in the intended order.'
            settings.problems.append(Problem('KVS.W006', location, dotted(inner), message, hint))


def _with_pairs_as_mapping(layer: Layer) -> Layer:
    """Return a layer whose ``kvs`` block is a mapping if it was a valid array of ``[name, options]`` pairs."""
    pairs = layer.data.get('kvs')
    if not isinstance(pairs, list):
        return layer
    names: dict[Hashable, str] = {
        index: pair[0]
        for index, pair in enumerate(pairs)
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
    }
    if len(set(names.values())) < len(pairs):
        return layer  # the checks say what is wrong
    locations = {
        ('kvs', names[path[1]], *path[3:]) if path[:1] == ('kvs',) and path[2:3] == (1,) else path: location
        for path, location in layer.locations.items()
    }
    return Layer({**layer.data, 'kvs': dict(pairs)}, layer.name, locations, layer.problems)


# Environment variables

_VARIABLE = re.compile(r'(\$?)\$\{([^}]*)\}')
_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')


def _with_variables(value: Any, path: SettingPath, settings: Settings, environment: Mapping[str, str]) -> Any:
    """Return a value with every ``${NAME}`` replaced; each variable that is not set is a problem."""
    if isinstance(value, dict):
        return {key: _with_variables(item, (*path, key), settings, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_variables(item, (*path, index), settings, environment) for index, item in enumerate(value)]
    if not isinstance(value, str) or '${' not in value:
        return value
    missing = []

    def replace(match: re.Match[str]) -> str:
        escaped, written = match.groups()
        if escaped:
            return match[0][1:]
        name, has_default, default = written.partition(':-')
        if has_default and _NAME.fullmatch(name):
            return environment.get(name) or default
        if written not in environment:
            missing.append(written)
        return environment.get(written, '')

    text = _VARIABLE.sub(replace, value)
    for name in missing:
        message = f'uses the environment variable {name!r}, which is not set'
        hint = 'Set it before the start, or give it a default: ${NAME:-text}; $${ stands for ${.'
        if not _NAME.fullmatch(name):
            message = f'has {name!r} between ${{ and }}, which is not the name of an environment variable'
            hint = 'Write ${NAME}, or ${NAME:-text} for a text where it is not set; $${ stands for ${.'
        settings.problems.append(Problem('KVS.E016', settings.location(*path), dotted(path), message, hint))
    return UnsetVariable.of(text, value) if missing else RawText.of(text, value)
