"""How a store type says which settings it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal['path', 'text', 'text or null', 'boolean', 'seconds', 'count', 'index', 'port', 'addresses', 'choice']


@dataclass(frozen=True)
class Option:
    """One setting of a store type.

    Args:
        name: its word in the configuration; also the keyword argument of the store's constructor.
        kind: what values it takes: ``path`` and ``text`` (not empty), ``boolean``, ``seconds`` (a positive finite
            number), ``count`` (a whole number above 0), ``index`` (0 or above), ``port``, ``addresses`` (a list of
            ``host:port``, or one text with commas between), ``choice`` (one of ``choices``).
        required: whether a configuration without it is an error.
        default: what holds when it is not given.
        choices: the words a ``choice`` takes.
        doc: one sentence for people.
    """

    name: str
    kind: Kind
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    doc: str = ''
