"""Which keys are kept for students and by reducers: what they begin with, and what is in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import NamedTuple

from learning_observer_kvs.identifiers import escape
from learning_observer_kvs.queries.asked import check_value, reducer_list, student_list
from learning_observer_kvs.queries.described import ReducerLike, reducer_name
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.keys import parse_key, replayed_key, state_key, written_values

Matches = Callable[[str], bool]

STUDENT = KeyField.STUDENT.name


class Kept(NamedTuple):
    """What is kept for students or by reducers: where its keys are, and which they are.

    Attributes:
        prefixes: what its keys begin with.
        matches: whether a key is one of them.
    """

    prefixes: tuple[str, ...]
    matches: Matches

    async def pages(
        self, store: Store, progress: Callable[[int], None] = lambda keys: None
    ) -> AsyncGenerator[list[str], None]:
        """Find its keys.

        Args:
            store: the store.
            progress: called with how many keys have been looked at since the last call.

        Yields:
            Pages of keys, which may be empty; on Redis a key may come twice.
        """
        for prefix in self.prefixes:
            async for page in store.pages(prefix):
                yield [key for key in dict.fromkeys(page) if self.matches(key)]
                progress(len(page))


def kept(
    *,
    students: Iterable[object] = (),
    reducers: ReducerLike | Iterable[ReducerLike] = (),
    state_type: KeyStateType | None = None,
) -> Kept:
    """Return what is kept for students, by reducers, or for the students by the reducers.

    Args:
        students: the students, as in keys; none: all.
        reducers: functions, entries of a listing, or names, also of reducers that this process does not have; none:
            all.
        state_type: which state; ``None``: both, and the notes on events that were replayed to them.

    Raises:
        InvalidKey: an entry without a function.
        ValueError: ``students`` is a single one, or holds what no key can have.
    """
    names = {reducer_name(reducer) for reducer in reducer_list(reducers)}
    of_students = [has(STUDENT, student) for student in student_list(students)]
    types = list(KeyStateType) if state_type is None else [state_type]
    begin = [prefix for name in (sorted(names) if names else [None]) for prefix in prefixes(name, types)]
    if state_type is None and not names:
        begin = ['']  # one scan of all keys, where Redis goes through all for each prefix
    elif state_type is None:
        begin += [replayed_key(prefix) for prefix in begin if prefix.startswith('Internal')]
    begin = [prefix for prefix in begin if not any(prefix.startswith(each) for each in begin if each != prefix)]

    def matches(key: str) -> bool:
        if of_students and not any(has_student(key) for has_student in of_students):
            return False
        parsed = parse_key(state_key(key))
        return parsed is not None and (not names or parsed.source in names)

    return Kept(tuple(begin), matches)


def prefixes(reducer: str | None, types: Iterable[KeyStateType] = KeyStateType) -> list[str]:
    """Return what the keys of states begin with; those of other reducers may begin so too.

    Args:
        reducer: the reducer's name in keys; ``None``: of all.
        types: which states.
    """
    name = '' if reducer is None else escape(reducer)
    return [f'{state_type.name.capitalize()},{name}' for state_type in types]


def has(field: str, value: object) -> Matches:
    """Return whether keys have a value of a field; one that is not a reducer's may seem to.

    Args:
        field: the field's name in keys.
        value: the value.

    Raises:
        ValueError: no key can have it.
    """
    parts = [f',{field}:{text},' for text in written_values(check_value(value, f'A {field}'))]
    if len(parts) == 1:
        [part] = parts
        return lambda key: part in f'{key},'
    return lambda key: any(part in f'{key},' for part in parts)


def every_key(key: str) -> bool:
    """Return ``True``.

    Args:
        key: any key.
    """
    return True
