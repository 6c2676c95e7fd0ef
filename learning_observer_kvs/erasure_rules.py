"""By which rule a key, or a part of its value, is erased.

The rules know what Learning Observer keeps: states of reducers, memoized results, rosters, mappings of addresses to
ids, what signed-in users may read. What none of them knows is left to a person.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from learning_observer_kvs.identifiers import (
    ABOUT_SAME,
    LISTS_OF_PEOPLE,
    REDUCER_KEYS,
    IdMatcher,
    Path,
    display_path,
    is_id_field,
    parsed_text,
    related_ids,
)
from learning_observer_kvs.json_codec import JSON

Rule: TypeAlias = Literal[
    'state', 'memoized result', 'mapping', 'sign-in', 'roster entry', 'mapping entry', 'event', 'error file'
]
"""How a place is erased: the whole key, the item of a list or object, the line of a file, the whole file."""

WHOLE: tuple[Rule, ...] = ('state', 'memoized result', 'mapping', 'sign-in', 'error file')
"""The rules that remove a whole key or file."""


@dataclass(frozen=True)
class Part:
    """A part of a place.

    Attributes:
        path: the place in the value; of a file the number of the line, from 1. Empty for the key or file itself.
        rule: how it is erased; ``None`` if no rule is known, so that a person has to decide.
    """

    path: Path
    rule: Rule | None

    def __str__(self) -> str:
        return display_path(self.path)


MEMOIZATION = 'memoization'
"""The name of the store whose entries can all be computed again."""

_MAPPINGS = ('email-studentID-mapping',)
_SIGN_INS = ('google_stored_auth',)
_THINGS = frozenset(('courses', 'classes', 'sections', 'groups', 'documents', 'docs', 'assignments', 'activities'))
_CALL = re.compile(r'\["([A-Za-z_][\w.]*\.\w+)"')


def parts_of_key(ids: IdMatcher, store: str, key: str) -> list[Part]:
    """Judge a key by itself, before its value is read.

    Args:
        ids: the student's.
        store: the name of the store.
        key: the key.

    Returns:
        One part if the key names the student; else none.
    """
    if not ids.may_be_in(key.encode()):
        return []
    if ids.is_student_of(key):
        return [Part((), 'state')]
    if not ids.are_in_key(key):
        return []
    if key.startswith((*REDUCER_KEYS, *_MAPPINGS)):  # an address that maps to another id may be shared
        return [Part((), None)]
    return [Part((), _rule_of_key(store, key))]


def parts_of_value(ids: IdMatcher, store: str, key: str, value: JSON) -> list[Part]:
    """Judge the value of a key that names the student, or does not.

    Args:
        ids: the student's.
        store: the name of the store.
        key: the key.
        value: its value.

    Returns:
        The parts of it that name the student; one alone if the whole key is to be removed.
    """
    named = parts_of_key(ids, store, key)
    if named and named[0].rule is not None:
        return named
    found = list(ids.in_value(value))
    if not found:
        return named
    if key.startswith(REDUCER_KEYS):  # of another student, or of a class: what its reducer means is not known
        return named + [Part(path, None) for path, _ in _sorted(found)]
    if (rule := _rule_of_key(store, key)) is not None:
        return [Part((), rule)]
    parts: dict[Path, Part] = {}
    for path, form in _sorted(found):
        target, part_rule = _target(path, form)
        if part_rule == 'roster entry' and (_is_of_another(ids, value, path) or _is_thing(value, path, target)):
            target, part_rule = path, None
        parts[target] = Part(target, part_rule)
    removed = [part.path for part in parts.values() if part.rule is not None]
    return named + [
        part
        for part in parts.values()
        if not any(part.path[: len(path)] == path and part.path != path for path in removed)
    ]


def without(value: JSON, parts: Iterable[Part]) -> JSON:
    """Take parts out of a value.

    Args:
        value: any JSON value; it stays as it is.
        parts: its parts; those without a rule stay.

    Returns:
        The value without the parts that have a rule.
    """
    value = copy.deepcopy(value)
    paths = [part.path for part in parts if part.rule is not None and part.path]
    for path in sorted(paths, key=_order, reverse=True):  # the last first, so that numbers in lists stay right
        item = value
        for step in path[:-1]:
            item = item[step]
        del item[path[-1]]
    return value


def aliases_in(ids: IdMatcher, key: str, value: JSON) -> set[str]:
    """Return what else a mapping or a roster calls the student.

    Args:
        ids: the ids that are known.
        key: the key.
        value: its value.

    Returns:
        Addresses and other ids, in no order.
    """
    if key.startswith(REDUCER_KEYS):
        return set()
    found: set[str] = set()
    for path, _ in ids.in_value(value):
        found.update(related_ids(value, path))
    if key.startswith(_MAPPINGS):
        _, colon, address = key.partition(':')
        whole = value if isinstance(value, str) else None
        if colon and (found or (whole is not None and whole in ids)):
            found.add(address)
        if address in ids and whole is not None:
            found.add(whole)
    return {text for text in found if text.strip() and text not in ids}


def key_without_content(store: str, key: str) -> str:
    """Return a key as it is shown where no content may be: that of a memoized result has what the call was given.

    Args:
        store: the name of the store.
        key: the key, or how it begins.

    Returns:
        Of a memoized result the function and the number of characters; any other key as it is.
    """
    if not key or (store != MEMOIZATION and key[0] not in '{["'):
        return key
    called = _CALL.match(key)
    return f'{called[1] if called else "a memoized result"} ({len(key):,} characters)'


def _rule_of_key(store: str, key: str) -> Rule | None:
    """How a key is erased that is not of a reducer, if as a whole."""
    if store == MEMOIZATION or parsed_text(key) is not None:
        return 'memoized result'
    if key.startswith(tuple(f'{name}:' for name in _MAPPINGS)):
        return 'mapping'
    if key.startswith(_SIGN_INS):
        return 'sign-in'
    return None


def _target(path: Path, form: str) -> tuple[Path, Rule | None]:
    """What is taken out for an id at a place, and by which rule."""
    if form == 'name':
        return path, 'mapping entry'
    if form == 'value' and path and isinstance(path[-1], int):
        return path, 'roster entry'  # a list of ids
    if form in ('value', 'number') and is_id_field(path):
        items = [number for number, step in enumerate(path) if isinstance(step, int)]
        if items and all(step in ABOUT_SAME for step in path[items[-1] + 1 : -1]):
            return path[: items[-1] + 1], 'roster entry'
    return path, None


def _is_of_another(ids: IdMatcher, value: JSON, path: Path) -> bool:
    """Whether the entry around an address has an id, and it is that of another: those of a family share addresses."""
    others = [text for text in related_ids(value, path) if '@' not in text]
    return bool(others) and not any(text in ids for text in others)


def _is_thing(value: JSON, path: Path, target: Path) -> bool:
    """Whether the id of an item may be that of a course or a document: numbers of these are also those of students."""
    if path[len(target) :] != ('id',):
        return False
    if len(target) > 1 and target[-2] in _THINGS:
        return True
    item: Any = value
    for step in target:
        item = item[step]
    return any(isinstance(item.get(name), list) for name in LISTS_OF_PEOPLE)


def _sorted(found: Iterable[tuple[Path, str]]) -> list[tuple[Path, str]]:
    return sorted(found, key=lambda occurrence: _order(occurrence[0]))


def _order(path: Path) -> list[tuple[bool, int, str]]:
    return [(isinstance(step, str), step if isinstance(step, int) else 0, str(step)) for step in path]
