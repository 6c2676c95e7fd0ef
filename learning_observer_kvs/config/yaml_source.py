"""YAML as plain data, with the line each entry stands on and every duplicate key found."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

Path = tuple[Hashable, ...]


class _Loader(yaml.SafeLoader):
    """Says where a value stands that looks like a date or a number and is none, such as ``2026-13-45``."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError:
            problem = 'this looks like a date or a number and is none; put it in quotes if it is text'
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


class Document:
    """What a YAML text holds.

    Attributes:
        data: the plain value.
        lines: the line (from 1) of each entry, by its path: ``('kvs', 'default', 'type')``.
        duplicates: paths of keys written twice in one mapping, with both lines.
    """

    def __init__(self, text: str) -> None:
        """Read a text.

        Raises:
            yaml.YAMLError: it is not YAML.
        """
        self.lines: dict[Path, int] = {}
        self.duplicates: list[tuple[Path, int, int]] = []
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                # Before it is constructed: that merges what "<<" refers to into the nodes themselves.
                self._note(loader, node, (), ())
            self.data: Any = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()

    def _note(self, loader: _Loader, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> None:
        if node in above:  # an alias of what it stands in
            return
        above = (*above, node)
        if isinstance(node, yaml.MappingNode):
            first: dict[Path, int] = {}
            for key_node, value_node in node.value:
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == 'tag:yaml.org,2002:merge':
                    continue
                inner = (*path, loader.construct_object(key_node))
                line = key_node.start_mark.line + 1
                if inner in first:
                    self.duplicates.append((inner, first[inner], line))
                    for stale in [known for known in self.lines if known[: len(inner)] == inner]:
                        del self.lines[stale]  # the last one holds
                first.setdefault(inner, line)
                self.lines[inner] = line
                self._note(loader, value_node, inner, above)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
                self._note(loader, item, (*path, index), above)
