"""Settings from YAML: plain data, with the line of each setting and every duplicate key found."""

from __future__ import annotations

import re
from typing import Any

import yaml

from learning_observer_kvs.config.source import BLOCKS, Layer, SettingPath, dotted, location_in, read_text, unreadable
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.problems import Problem


def read_file(name: str) -> Layer:
    """Read the settings of a YAML file.

    Args:
        name: its path.

    Returns:
        The settings with their lines; keys written twice in a block of this package are problems ``KVS.E013``.

    Raises:
        StartupCheck: it cannot be read, is not YAML or not a mapping.
    """
    try:
        document = Document(read_text(name))
    except RecursionError:
        raise unreadable(name, 'is nested too deep to be settings', 'Look for open brackets.') from None
    except AliasError as error:
        hint = 'Write out what it stands for.'
        raise unreadable(f'{name}:{error.line}', f'has an alias {error}', hint) from None
    except yaml.YAMLError as error:
        raise _not_yaml(name, error) from None
    if not isinstance(document.data, dict):
        kind = 'empty' if document.data is None else f'a {type(document.data).__name__}'
        raise unreadable(name, f'is {kind}', 'Settings are a mapping that begins with a block such as "kvs:".')
    locations = {path: f'{name}:{line}' for path, line in document.lines.items()}
    problems = []
    for path, first, second in document.duplicates:
        if path[0] in BLOCKS:
            location, message = location_in(locations, path, name), f'is written twice, on lines {first} and {second}'
            problems.append(Problem('KVS.E013', location, dotted(path), message, 'Remove one.'))
    return Layer(document.data, name, locations, problems)


MAX_VALUES = 200_000
"""How many values a file may hold, aliases replaced: a few lines of aliases of aliases stand for billions."""


class AliasError(Exception):
    """An alias stands for too much. The text is the rest of a sentence that begins "it has an alias".

    Args:
        message: the text.
        line: the line of what it stands for.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class Document:
    """What a YAML text holds.

    Attributes:
        data: the plain value.
        lines: the line (from 1) of each entry, by its path: ``('kvs', 'default', 'type')``.
        duplicates: paths of keys written twice in one mapping, with both lines.
    """

    def __init__(self, text: str) -> None:
        """Read a text.

        Args:
            text: one YAML document.

        Raises:
            yaml.YAMLError: it is not YAML.
            AliasError: an alias stands for what contains it, or for too many values.
        """
        self.lines: dict[SettingPath, int] = {}
        self.duplicates: list[tuple[SettingPath, int, int]] = []
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _count(node, {}, set())
                # Before it is constructed: that merges what "<<" refers to into the nodes themselves.
                self._record(loader, node, (), self.lines)
            self.data: Any = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()

    def _record(self, loader: _Loader, node: yaml.Node, path: SettingPath, lines: dict[SettingPath, int]) -> None:
        if isinstance(node, yaml.MappingNode):
            entries = [
                ((*path, loader.construct_object(key_node)), key_node.start_mark.line + 1, value_node)
                for key_node, value_node in node.value
                if isinstance(key_node, yaml.ScalarNode) and key_node.tag != 'tag:yaml.org,2002:merge'
            ]
            last = {inner: value_node for inner, _, value_node in entries}
            first: dict[SettingPath, int] = {}
            for inner, line, value_node in entries:
                if inner in first:
                    self.duplicates.append((inner, first[inner], line))
                first.setdefault(inner, line)
                lines[inner] = line
                # YAML takes the last one; those before it are looked at for keys written twice alone.
                self._record(loader, value_node, inner, lines if value_node is last[inner] else {})
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[(*path, index)] = item.start_mark.line + 1
                self._record(loader, item, (*path, index), lines)


def _count(node: yaml.Node, counts: dict[yaml.Node, int], ancestors: set[yaml.Node]) -> int:
    """Return how many values a node holds, aliases replaced.

    Args:
        node: the node.
        counts: those that are known; filled.
        ancestors: the nodes that it is in.

    Raises:
        AliasError: it contains itself, or holds too many.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    line = node.start_mark.line + 1
    if node in ancestors:
        raise AliasError('of a value that contains it', line)
    if node not in counts:
        ancestors.add(node)
        inner = (each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,)))
        counts[node] = 1 + sum(_count(each, counts, ancestors) for each in inner)
        ancestors.discard(node)
        if counts[node] > MAX_VALUES:
            raise AliasError(f'of aliases, which stand for more than {MAX_VALUES:,} values', line)
    return counts[node]


class _Loader(yaml.SafeLoader):
    """Gives the location of a value that looks like a date or a number and is not one, such as ``2026-13-45``."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError:
            message = 'this looks like a date or a number and is not one; put it in quotes if it is text'
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark) from None


def _not_yaml(name: str, error: yaml.YAMLError) -> StartupCheck:
    if not isinstance(error, yaml.MarkedYAMLError):
        return unreadable(name, f'is not YAML: {str(error).splitlines()[0]}', 'Remove what is not text.')
    mark = error.problem_mark or error.context_mark
    location = f'{name}:{mark.line + 1}:{mark.column + 1}' if mark else name
    message = error.problem or error.context or 'it cannot be parsed'
    hint = 'Look at the indentation and at open quotes and brackets, here or on the lines above.'
    if re.search(r'alias|anchor|tag', message):  # the message would go on with the value, which may be a password
        message = 'a value begins with !, & or *, which have a meaning of their own in YAML'
        hint = 'Put it in quotes if it is text.'
    return unreadable(location, f'is not YAML: {message}', hint)
