"""What a request asks for of the keys of a store, and the parameters of the pages around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug import parameters
from learning_observer_kvs.debug.keys.filter import KeyFilter
from learning_observer_kvs.debug.keys.listing import SORTS, KeyList
from learning_observer_kvs.debug.keys.prefixes import DELIMITER, MAX_DELIMITER
from learning_observer_kvs.debug.parameters import BadParameters

MAX_BACK = 10
"""To how many pages before it a page links, one after the other."""

MAX_BACK_CHARACTERS = 1500


Start = tuple[int, str | None]
"""Where a page begins: how many keys came before, and the cursor."""


class Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        filter: which keys.
        sort: one of ``SORTS``.
        delimiter: what ends a prefix in the tree.
        limit: how many keys at most.
        cursor: where the page begins; ``None`` at the first key.
        at: how many keys the pages before it had.
        back: ``at`` and cursor of the pages before it, the latest last.
        step: where the page began, and its limit, if a script asks for the rest of it; ``None`` for a page.
    """

    filter: KeyFilter
    sort: str
    delimiter: str
    limit: int
    cursor: str | None
    at: int
    back: tuple[Start, ...]
    step: tuple[int, str | None, int] | None

    @classmethod
    def by(cls, query: Mapping[str, str]) -> Wanted:
        """Read the parameters of a request.

        Args:
            query: the parameters.

        Raises:
            BadParameters: one cannot be read.
        """
        sort = query.get('sort') or 'key'
        if sort not in SORTS:
            raise BadParameters(f'sort is {sort[:100]!r}; give one of: {", ".join(SORTS)}.')
        wanted = KeyFilter.of(query)
        if sort != 'key' and wanted.looks_inside:
            raise BadParameters(f'sort is {sort!r}, and keys are shown as their values are read. Sort by key.')
        return cls(
            wanted,
            sort,
            (query.get('delimiter') or DELIMITER)[:MAX_DELIMITER],
            parameters.limit_in(query),
            query.get('cursor') or None,
            _at_in(query),
            _back_in(query),
            _step_in(query),
        )

    def query(self, **changed: object) -> dict[str, object]:
        """Return the parameters of a page that is like this one, from the first key.

        Args:
            changed: what is other there; what is empty is left out.
        """
        query: dict[str, object] = dict(self.filter.query())
        query |= {name: value for name, value in self._standard().items() if value is not None}
        query |= changed
        return {name: value for name, value in query.items() if value not in ('', None)}

    def _standard(self) -> dict[str, object]:
        limit = self.limit if self.step is None else self.step[2]
        return {
            'sort': None if self.sort == 'key' else self.sort,
            'delimiter': None if self.delimiter == DELIMITER else self.delimiter,
            'limit': None if limit == parameters.DEFAULT_LIMIT else limit,
        }

    def following(self, found: KeyList) -> dict[str, object] | None:
        """Return the parameters of the next page; ``None`` at the end.

        Args:
            found: this page.
        """
        if found.next_cursor is None:
            return None
        began = (self.at, self.cursor) if self.step is None else self.step[:2]
        back = [*self.back, began][-MAX_BACK:]
        while len(text := json_codec.encode(back).decode()) > MAX_BACK_CHARACTERS:
            del back[0]
        return self.query(cursor=found.next_cursor, at=self.at + len(found.rows), back=text if back else None)

    def before(self) -> dict[str, object] | None:
        """Return the parameters of the page before; of the first where that is not known; ``None`` on the first."""
        if (self.cursor if self.step is None else self.step[1]) is None:
            return None
        if not self.back:
            return self.query()
        at, cursor = self.back[-1]
        back = json_codec.encode(self.back[:-1]).decode() if len(self.back) > 1 else None
        return self.query(cursor=cursor, at=at or None, back=back)

    def rest(self, found: KeyList) -> dict[str, object] | None:
        """Return the parameters of what a script asks for to fill up this page; ``None`` if it is full.

        Args:
            found: what the page has.
        """
        left = self.limit - len(found.rows)
        if found.next_cursor is None or left <= 0:
            return None
        step = json_codec.encode(self.step or (self.at, self.cursor, self.limit)).decode()
        back = json_codec.encode(self.back).decode() if self.back else None
        at = self.at + len(found.rows)
        return self.query(cursor=found.next_cursor, at=at or None, limit=left, back=back, step=step)


def _at_in(query: Mapping[str, str]) -> int:
    text = query.get('at') or '0'
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadParameters(f'at is {text[:100]!r}; give how many keys came before.')
    return int(text)


def _back_in(query: Mapping[str, str]) -> tuple[Start, ...]:
    pages: list[Start] = []
    for page in _list_in(query, 'back'):
        match page:
            case [int(at), None | str() as cursor] if len(pages) < MAX_BACK:
                pages.append((at, cursor))
            case _:
                raise BadParameters('back cannot be read; leave it out.')
    return tuple(pages)


def _step_in(query: Mapping[str, str]) -> tuple[int, str | None, int] | None:
    match _list_in(query, 'step'):
        case []:
            return None
        case [int(at), None | str() as cursor, int(limit)]:
            return at, cursor, limit
    raise BadParameters('step cannot be read; leave it out.')


def _list_in(query: Mapping[str, str], name: str) -> list[Any]:
    if not (text := query.get(name)):
        return []
    value = parameters.json_in(text)
    if not isinstance(value, list):
        raise BadParameters(f'{name} cannot be read; leave it out.')
    return value
