"""Which keys a list shows: what they begin with, of which reducer and state, with which field, with which text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

from learning_observer_kvs.debug.parameters import BadParameters
from learning_observer_kvs.identifiers import escape
from learning_observer_kvs.queries.kept import Matches, every_key
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stream_analytics.keys import parse_key

STATES = ('Internal', 'External', 'Other')
"""What ``state`` may be; ``Other`` are keys that are not of a reducer's state."""

INSIDE = ('keys', 'values')
"""Where ``text`` is looked for; in values, too, or not."""


class KeyFilter(NamedTuple):
    """A filter; what is empty filters nothing.

    Attributes:
        prefix: what keys begin with.
        reducer: the reducer's name in keys.
        state: one of ``STATES``.
        field: the name of a field of a scope that keys have.
        text: what is in keys, in small or capital letters.
        inside: ``values``: keys whose values have the text are shown, too.
    """

    prefix: str = ''
    reducer: str = ''
    state: str = ''
    field: str = ''
    text: str = ''
    inside: str = ''

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Return the filter that a request asks for.

        Args:
            query: its parameters.

        Raises:
            BadParameters: ``state`` or ``inside`` is another word, or it is longer than any key.
        """
        for name, words in (('state', STATES), ('inside', INSIDE)):
            if query.get(name) and query[name] not in words:
                raise BadParameters(f'{name} is {query[name][:100]!r}; give one of: {", ".join(words)}.')
        found = cls(*(query.get(name, '') for name in cls._fields))
        if sum(map(len, found)) > MAX_KEY_BYTES:
            raise BadParameters(
                f'No key has over {MAX_KEY_BYTES:,} bytes, and this filter has more. Give a shorter one.'
            )
        return found._replace(inside='values' if found.looks_inside else '')

    @property
    def looks_inside(self) -> bool:
        """Whether values are read to find the text."""
        return self.inside == 'values' and bool(self.text)

    def query(self) -> dict[str, str]:
        """Return the parameters that ask for it."""
        return {name: value for name, value in self._asdict().items() if value}

    def begins(self, store: Store) -> list[str]:
        """Return what the keys begin with, a scan for each; none if no key can be shown.

        Args:
            store: the store. One that goes through all keys for each prefix has one.
        """
        states = [self.state] if self.state in ('Internal', 'External') else ['External', 'Internal']
        begin = [f'{state},{escape(self.reducer)}' for state in states]
        if self.state == 'Other' or not (self.reducer or self.state) or (len(begin) > 1 and not store.IS_ORDERED):
            begin = ['']
        return [max(each, self.prefix, key=len) for each in begin if _fit(each, self.prefix)]

    def matches(self) -> Matches:
        """Return whether keys match; where values are read, whatever their text is."""
        checks: list[Matches] = []
        if self.text and not self.looks_inside:
            checks.append(has_text(self.text))
        if self.state or self.reducer or self.field:
            checks.append(self._is_of)
        if not checks:
            return every_key
        return checks[0] if len(checks) == 1 else lambda key: all(check(key) for check in checks)

    def _is_of(self, key: str) -> bool:
        parsed = parse_key(key)
        if parsed is None:
            return not self.reducer and not self.field and self.state in ('', 'Other')
        return (
            self.reducer in ('', parsed.source)
            and self.state in ('', parsed.state_type.name.capitalize())
            and (not self.field or self.field in parsed.fields)
        )


def has_text(text: str) -> Matches:
    """Return whether keys have a text in them, in small or capital letters, also where it is written escaped.

    Args:
        text: the text.
    """
    parts = tuple({text.lower(), escape(text).lower()})

    if len(parts) == 1:
        [part] = parts
        return lambda key: part in key.lower()
    return lambda key: any(part in key.lower() for part in parts)


def _fit(one: str, other: str) -> bool:
    """Whether a text can begin with both."""
    return one.startswith(other) or other.startswith(one)
