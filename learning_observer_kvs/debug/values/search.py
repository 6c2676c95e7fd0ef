"""Finding a text inside one value: in the names of its fields, and in its texts, numbers and truth values."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.paths import Path, Step
from learning_observer_kvs.debug.units import after, before
from learning_observer_kvs.debug.values.nodes import Node

MAX_MATCHES = 200
"""How many matches a page has."""

SEARCH_SECONDS = 2.0
"""How long a value is searched."""

SEARCHED_BYTES = 1 << 18
"""How many bytes of a text are searched in one call: other threads wait for it."""

OTHERWISE = (rb'\u00', rb'\u0130', rb'\u212a', '\u0130'.encode(), '\u212a'.encode())
"""How ASCII characters may be written, too: escaped, or as a capital whose small letter is ASCII."""

LONGEST = max(map(len, OTHERWISE))

PATH_CHARACTERS = 2000
"""How many characters the names in the path of a match have together."""

FOUND_CHARACTERS = 200
"""How many characters are shown of what was found."""

AROUND = 40
"""How many characters are shown on each side of a match."""


class Match(NamedTuple):
    """A part of a value that has the text.

    Attributes:
        path: where it is; of a long path those steps that have ``PATH_CHARACTERS`` together.
        before: what it has before the text, at most ``AROUND`` characters, and an ellipsis where there is more.
        text: the text, as it stands there, at most ``FOUND_CHARACTERS`` of it.
        after: what comes after it, likewise.
        times: how often the part has the text.
        in_name: whether it is the name of the field that has the text.
    """

    path: Path
    before: str
    text: str
    after: str
    times: int
    in_name: bool


def matches(root: Node, wanted: str, mask: Mask) -> tuple[list[Match], bool]:
    """Search a value, in small and capital letters.

    Args:
        root: the value.
        wanted: what is searched for.
        mask: what is not searched, as it is not shown.

    Returns:
        The first ``MAX_MATCHES``, in the order of the value, and whether all of it was searched.

    Raises:
        CorruptValue: the text is not JSON.
    """
    found: list[Match] = []
    if root.is_hidden:
        return found, True
    ends = time.monotonic() + SEARCH_SECONDS
    as_stored = _as_stored(wanted)
    for path, name, value in _scalars(root.text, mask, as_stored):
        for part, in_name in ((name, True), (value, False)):
            if part is not None and (at := (lower := part.lower()).find(wanted.lower())) >= 0:
                end = at + len(wanted)
                shown = part[at : min(end, at + FOUND_CHARACTERS)]
                around = before(part, at, AROUND), shown, after(part, end, AROUND)
                found.append(Match(_beginning(path), *around, lower.count(wanted.lower()), in_name))
        if len(found) >= MAX_MATCHES or time.monotonic() > ends:
            return found[:MAX_MATCHES], False
    return found, True


def _beginning(path: Path) -> Path:
    characters = 0
    for number, step in enumerate(path):
        characters += len(step) if isinstance(step, str) else 0
        if characters > PATH_CHARACTERS:
            return path[:number]
    return path


def _as_stored(wanted: str) -> bytes | None:
    """What a JSON text has in it, in small letters, if it has a text; ``None`` where that may be written otherwise."""
    is_plain = wanted.isascii() and wanted.isprintable() and not set(wanted) & set('"/\\')
    return wanted.lower().encode() if is_plain else None


def _may_have(text: bytes, as_stored: bytes | None) -> bool:
    if as_stored is None:
        return True
    for start in range(0, len(text), SEARCHED_BYTES):
        piece = text[start : start + SEARCHED_BYTES + len(as_stored) + LONGEST].lower()
        if any(part in piece for part in (as_stored, *OTHERWISE)):
            return True
    return False


def _scalars(text: bytes, mask: Mask, as_stored: bytes | None) -> Iterator[tuple[Path, str | None, str | None]]:
    """Each node with its path, its name, and its text; what is masked only with its name."""
    waiting: list[Iterator[tuple[Path, str | None, bytes]]] = [iter([((), None, text)])]
    while waiting:
        following = next(waiting[-1], None)
        if following is None:
            waiting.pop()
            continue
        path, name, item = following
        item = item.strip()
        if item[:1] in (b'{', b'['):
            yield path, name, None
            if not mask.hides_item(name, ()) and _may_have(item, as_stored):
                waiting.append(_items(path, item))
            continue
        value: Any = json_codec.decode(item)
        if value is not None and mask.hides_item(name, value):
            yield path, name, None
        else:
            yield path, name, value if isinstance(value, str) else item.decode()


def _items(path: Path, text: bytes) -> Iterator[tuple[Path, str | None, bytes]]:
    items = json_codec.items(text)
    if isinstance(items, dict):
        return (((*path, name), name, bytes(item)) for name, item in items.items())
    return (((*path, position), None, bytes(item)) for position, item in enumerate(items))


def as_json(match: Match) -> dict[str, Any]:
    """Return a match as JSON.

    Args:
        match: the match.
    """
    path: list[Step] = list(match.path)
    return {**match._asdict(), 'path': path}
