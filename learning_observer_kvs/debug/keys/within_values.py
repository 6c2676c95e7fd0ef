"""Looking for a text inside values: as the pages show them, so that what is masked is not found either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.units import after, before
from learning_observer_kvs.errors import CorruptValue

LONGEST_VALUE = 1 << 20
"""The longest text in bytes that is looked into: a search goes through many."""

AROUND = 20
"""How many characters before the text are shown of a value."""

PREVIEW_CHARACTERS = 200
"""How much of a value a list shows."""


class Needle:
    """A text that is looked for in JSON, in small or capital letters.

    Args:
        text: the text, as people read it.
    """

    def __init__(self, text: str) -> None:
        escaped = json_codec.encode(text).decode('utf-8', 'replace')[1:-1]
        self._texts = tuple({text.lower(), escaped.lower()})
        self._bytes = tuple(each.encode() for each in self._texts) if text.isascii() else None

    def may_be_in(self, raw: bytes) -> bool:
        """Return whether a stored text may have it; cheap, for most have not.

        Args:
            raw: the stored text.
        """
        if self._bytes is not None:
            lower = raw.lower()
            return any(each in lower for each in self._bytes) or b'\\u00' in lower
        lower_text = raw.decode('utf-8', 'replace').lower()
        return any(each in lower_text for each in self._texts) or '\\u' in lower_text

    def find(self, text: str) -> int:
        """Return where it is in JSON text, -1 if it is not.

        Args:
            text: the JSON text.
        """
        lower = text.lower()
        return max(lower.find(each) for each in self._texts)


def preview(text: str, at: int = 0) -> str:
    """Return a part of a text for a list.

    Args:
        text: the text.
        at: what is to be seen.
    """
    return before(text, at, AROUND) + after(text, at, PREVIEW_CHARACTERS - min(at, AROUND))


class Shown(NamedTuple):
    """A value as the pages show it.

    Attributes:
        text: its JSON on one line, masked; ``None`` where it is not JSON.
        is_masked: whether anything in it is.
    """

    text: str | None
    is_masked: bool


def shown(mask: Mask, key: str, raw: bytes) -> Shown:
    """Return a stored text as the pages show it.

    Args:
        mask: what is not shown.
        key: the key.
        raw: the stored text.
    """
    try:
        view = mask.applied_to({'key': key, 'value': json_codec.decode(raw)})
    except CorruptValue:
        return Shown(None, False)
    return Shown(as_json(view['value']).decode('utf-8', 'replace'), view['masked'])


def look(mask: Mask, needle: Needle, texts: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """Return which values have a text, with the part of each that has it. To be called in a thread or another process.

    Args:
        mask: what is not shown.
        needle: the text.
        texts: keys with their stored texts.
    """
    found = {}
    for key, raw in texts:
        if needle.may_be_in(raw):
            text, _ = shown(mask, key, raw)
            if text is not None and (at := needle.find(text)) >= 0:
                found[key] = preview(text, at)
    return found
