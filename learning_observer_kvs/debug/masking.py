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


class Mask:
    """Masks values by their names: those of keys, and of fields inside values.

    A name is masked if one of its segments is a word of the list: ``auth`` is meant by ``google_stored_auth``,
    ``authHeaders`` and ``AUTH``, not by ``author``. The plural of a word is meant, too.

    Args:
        words: the words; a text has commas between them.
    """

    def __init__(self, words: str | Iterable[str] = MASKED) -> None:
        words = words.split(',') if isinstance(words, str) else list(words)
        joined = {_joined(_SEGMENT, word) for word in words} | {_joined(_SEGMENT_IN_ANY_CASE, word) for word in words}
        self._words = tuple(f'{word[:-1]}{end}' for word in sorted(joined) for end in ('_', 's_'))
        self._hides_field = functools.lru_cache(10_000)(self.hides)  # fields repeat

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
            is_hidden = is_hidden or self.hides(view['raw'])
            return {**view, 'raw': REDACTED if is_hidden else view['raw'], 'masked': is_hidden}
        if is_hidden:
            return {**view, 'value': None if view['value'] is None else REDACTED, 'masked': view['value'] is not None}
        holder = [view['value']]
        is_masked = self._mask(holder)
        return {**view, 'value': holder[0], 'masked': is_masked}

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
                if (named and self._hides_field(name)) or (isinstance(item, str) and self._is_inside(item)):
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
            return _BEGINS_LIKE_JSON.match(text) is not None and self.hides(text)


def _joined(segment: re.Pattern[str], name: str) -> str:
    """The segments of a name in lower case, each between ``_``."""
    return f'_{"_".join(segment.findall(name))}_'.lower()
