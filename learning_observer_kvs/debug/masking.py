"""What the pages do not show: values whose name says that they let others in, such as OAuth headers.

Dumps, copies and exports are whole: credentials that were masked in a dump would be destroyed when it is loaded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.config.layers import option_in
from learning_observer_kvs.config.redaction import REDACTED
from learning_observer_kvs.config.rows import MASKED
from learning_observer_kvs.errors import CorruptValue

_SEGMENT = re.compile(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_A-Za-z0-9]+')
_SEGMENT_IN_ANY_CASE = re.compile(r'[^\W_0-9]+|[0-9]+')

_AROUND_JSON = ' \t\r\n\v\f\xa0\ufeff\0'
_BEGINS_LIKE_JSON = re.compile(r""""?\s*(\{\s*(\\*["']|\w+\s*:)|\[\s*(\\*["']|[\[{]))""")
"""What a sentence in brackets does not begin like."""

_ESCAPE = re.compile(r'\\+u00([2-7][0-9A-Fa-f])')
"""How JSON may write an ASCII letter, also inside of texts that are JSON."""

SEARCHED_BYTES = 1 << 18
"""How many bytes of a text are searched in one call: other threads wait for it."""

LONGEST_WORD = 1 << 10
"""How long a word may be for which texts are searched."""


class Mask:
    """Masks values by their names: those of keys, and of fields inside values.

    A name is masked if one of its segments is a word of the list: ``auth`` is meant by ``google_stored_auth``,
    ``authHeaders`` and ``AUTH``, not by ``author``. The plural of a word is meant, too.

    Args:
        words: the words; a text has commas between them.
    """

    def __init__(self, words: str | Iterable[str] = MASKED) -> None:
        words = words.split(',') if isinstance(words, str) else list(words)
        self._given = tuple(words)
        joined = {_joined(_SEGMENT, word) for word in words} | {_joined(_SEGMENT_IN_ANY_CASE, word) for word in words}
        self._words = tuple(f'{word[:-1]}{end}' for word in sorted(joined) for end in ('_', 's_'))
        self._needles = _needles(joined)
        self._hides_field = functools.lru_cache(10_000)(self.hides)  # fields repeat

    def __reduce__(self) -> tuple[Any, ...]:
        return _mask_of, (self._given,)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Mask:
        """Return the mask that the settings ask for.

        Args:
            settings: all settings, checked; ``kvs_debug.masked`` lists the words.
        """
        words = option_in(settings, 'kvs_debug', 'masked')
        return cls(MASKED if words is None else words)

    def hides(self, name: str) -> bool:
        """Return whether what a name stands for is masked.

        Args:
            name: a key or the name of a field.
        """
        if len(name) > LONGEST_WORD and not self.may_hide(name.encode('utf-8', 'surrogatepass')):
            return False  # at once: a key may have 1 MB
        segments = _joined(_SEGMENT, name) + _joined(_SEGMENT_IN_ANY_CASE, name)
        return any(word in segments for word in self._words)

    def applied_to(self, view: dict[str, Any]) -> dict[str, Any]:
        """Mask the view of a value.

        Args:
            view: its ``key``; its ``value``, which is changed in place; ``raw``, where the value is not JSON.

        Returns:
            The view, with ``masked`` added: whether anything is masked.
        """
        is_hidden = self.hides(view['key'])
        if view.get('raw'):
            without_zeros = view['raw'].replace('\0', '')  # of UTF-16
            is_hidden = is_hidden or self._is_named_in(view['raw']) or self._is_named_in(without_zeros)
            return {**view, 'raw': REDACTED if is_hidden else view['raw'], 'masked': is_hidden}
        if is_hidden:
            return {**view, 'value': None if view['value'] is None else REDACTED, 'masked': view['value'] is not None}
        holder = [view['value']]
        is_masked = self._mask(holder)
        return {**view, 'value': holder[0], 'masked': is_masked}

    def may_hide(self, text: bytes) -> bool:
        """Return whether anything in a JSON text may be masked; if not, nothing of it has to be looked at.

        Args:
            text: the text; or any name.
        """
        for start in range(0, len(text), SEARCHED_BYTES):
            piece = text[start : start + SEARCHED_BYTES + LONGEST_WORD].lower()
            if any(needle in piece for needle in self._needles):
                return True
        return False

    def inside(self, value: Any) -> Any:
        """Mask what is inside a value.

        Args:
            value: a value that is not masked itself; it is changed in place.

        Returns:
            The value.
        """
        holder = [value]
        self._mask(holder)
        return holder[0]

    def hides_item(self, name: str | None, item: Any) -> bool:
        """Return whether an item of an object or a list is masked; what is inside of it is not looked at.

        Args:
            name: the name of the field; ``None`` in a list.
            item: its value, not ``None``; of an object or a list anything that is not a text.
        """
        return (name is not None and self._hides_field(name)) or (isinstance(item, str) and self._is_inside(item))

    def _mask(self, outermost: list[Any]) -> bool:
        """Mask fields in place, however deep they are; whether there were any."""
        is_masked = False
        pending: list[Any] = [outermost]
        while pending:
            container = pending.pop()
            named = isinstance(container, dict)
            for name, item in list(container.items()) if named else enumerate(container):
                if item is None:
                    continue
                if self.hides_item(str(name) if named else None, item):
                    container[name] = REDACTED
                    is_masked = True
                elif isinstance(item, (dict, list)):
                    pending.append(item)
        return is_masked

    def _is_inside(self, text: str) -> bool:
        """Whether a text is itself JSON with masked fields, or the text of such JSON."""
        text = text.strip(_AROUND_JSON)
        if text[:1] not in ('{', '[', '"'):
            return False
        try:
            return self._mask([json_codec.decode(text)])
        except CorruptValue:  # cut off, several lines of it, or the notation of another language
            return _BEGINS_LIKE_JSON.match(text) is not None and self._is_named_in(text)

    def _is_named_in(self, text: str) -> bool:
        """Whether a text that cannot be decoded has a word in it, as it is, or written with escapes."""
        return self.hides(text) or self.hides(_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text))


@functools.lru_cache(4)
def _mask_of(words: tuple[str, ...]) -> Mask:
    """A mask as it arrives in a helper process: for each call the same one."""
    return Mask(words)


def _joined(segment: re.Pattern[str], name: str) -> str:
    """The segments of a name in lower case, each between ``_``."""
    found = segment.finditer(name)  # a match in each call: in one for all of a long name other threads would wait
    segments = segment.findall(name) if len(name) <= LONGEST_WORD else [match[0] for match in found]
    return f'_{"_".join(segments)}_'.lower()


def _needles(joined: Iterable[str]) -> tuple[bytes, ...]:
    """What is in a JSON text, in small letters, if anything in it is masked: one of these, at least.

    It is the first segment of a word. Letters of it may be escaped, and a Kelvin sign is a capital K.
    """
    firsts = {word[1:].partition('_')[0] for word in joined}
    if not all(first and first.isascii() and len(first) <= LONGEST_WORD for first in firsts):
        return (b'',)  # capital letters of other alphabets are not those of bytes
    escaped = [rb'\u00%d' % row for row in range(2, 8)]
    return (*(first.encode() for first in sorted(firsts)), *escaped, rb'\u212a', '\u212a'.encode())
