"""Where a part of a value is: as requests have it, as people write it, and in the links of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug.parameters import BadParameters, json_in

Step = str | int
Path = tuple[Step, ...]
"""Where a part is: the names of fields and the positions in lists that lead to it."""

MAX_STEPS = 1000

MAX_LINKED = 2000
"""How many characters the path of a part has to which a page links: it may link to hundreds."""


class Place(NamedTuple):
    """Where a template is inside a value, for the links to what is not sent.

    Attributes:
        store: the store's name.
        key: the key.
        path: the path of the part.
        is_compared: whether the part is compared with the other state of the reducer.
    """

    store: str
    key: str
    path: Sequence[Step]
    is_compared: bool

    @property
    def is_linked(self) -> bool:
        """Whether a page links to the part."""
        return sum(len(str(step)) for step in self.path) <= MAX_LINKED

    def inside(self, step: Step) -> Place:
        """Return the place of an item.

        Args:
            step: its name or position.
        """
        return self._replace(path=[*self.path, step])

    def query(self, start: int) -> dict[str, Any]:
        """Return the query of the page of this part.

        Args:
            start: the first item or character that it is to have.
        """
        beside = '1' if self.is_compared else None
        return {'key': self.key, 'path': path_text(self.path), 'start': start or None, 'beside': beside}


def path_in(text: str) -> Path:
    """Return the path that a request asks for.

    Args:
        text: a JSON list; ``''`` is the value itself.

    Raises:
        BadParameters: it is something else.
    """
    steps = json_in(text) if text else []
    if (
        not isinstance(steps, list)
        or len(steps) > MAX_STEPS
        or not all(isinstance(step, str) or (type(step) is int and step >= 0) for step in steps)
    ):
        raise BadParameters('path is not one; give a JSON list of names and positions, such as ["documents", 0].')
    return tuple(steps)


def path_text(path: Sequence[Step]) -> str:
    """Return a path as a request has it.

    Args:
        path: the path.
    """
    return json_codec.encode(list(path)).decode()


def shown(path: Sequence[Step]) -> str:
    """Return a path as people write it: ``$.documents["1 A"][0]``.

    Args:
        path: the path.
    """
    parts = ['$']
    for step in path:
        if isinstance(step, int):
            parts.append(f'[{step}]')
        elif step.isidentifier():
            parts.append(f'.{step}')
        else:
            parts.append(f'[{json_codec.encode(step).decode()}]')
    return ''.join(parts)
