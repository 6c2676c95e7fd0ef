"""The changes of reducers' states, as dashboards want them: by student, with the path of the runtime's updates."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from learning_observer_kvs.identifiers import escape, unescape
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.queries.asked import check_value, reducer_list, student_list
from learning_observer_kvs.queries.described import ReducerLike, reducer_name
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.queries.table import state_type_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.changes import Change
from learning_observer_kvs.stream_analytics.fields import KeyField
from learning_observer_kvs.stream_analytics.keys import parse_key, written_values

STUDENT = KeyField.STUDENT.name

_PLURALS = {'CLASS': 'classes', DOCUMENT.name: 'documents'}


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of a reducer's state, or a ``resync``.

    Attributes:
        kind: ``changed``: the state was written, was removed, or has expired. ``resync``: changes may have been missed;
            read again whatever is of interest.
        key: the key of the state; empty with ``resync``, like all that follows.
        reducer: the reducer's name in keys.
        fields: the values that the state is kept by, such as ``{'EventField.doc_id': '1AbC', 'STUDENT': 'bob'}``.
        path: where the runtime's updates put it: ``students.bob.documents.1AbC``.
    """

    kind: Literal['changed', 'resync']
    key: str = ''
    reducer: str = ''
    fields: dict[str, str] = field(default_factory=dict)
    path: str = ''
    _change: Change | None = field(default=None, repr=False, compare=False)

    @property
    def student(self) -> str | None:
        """The student; ``None`` where the reducer does not keep its states by student."""
        return self.fields.get(STUDENT)

    @property
    def document(self) -> str | None:
        """The document; ``None`` where the reducer does not keep its states by document."""
        return self.fields.get(DOCUMENT.name)

    async def value(self) -> JSON:
        """Return the state as it is now, which may be newer than this change.

        Returns:
            The state; ``None`` when missing.

        Raises:
            ValueError: this is a ``resync``.
            CorruptValue, StoreUnavailable, Overloaded: as for ``await store[key]``.
        """
        if self._change is None:
            raise ValueError('A resync has no key and no value: read again whatever is of interest.')
        return await self._change.value()


class StateChanges:
    """An asynchronous iterator over the changes of reducers' states; see :func:`changes`.

    Args:
        store: where the states are.
        prefixes: what their keys begin with, each with one of them.
        reducers: the names of the reducers in keys.
        students: the students who are of interest, as in keys; ``None``: all.
    """

    def __init__(
        self, store: Store, prefixes: Collection[str], reducers: set[str], students: Iterable[object] | None
    ) -> None:
        self._changes = store.changes(prefixes)
        self._reducers = reducers
        self._students: set[str] | None = None
        if students is not None:
            self._students = set().union(*map(as_in_keys, students))

    async def __aenter__(self) -> Self:
        """Begin: whatever changes from now on is given.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        await self._changes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StateChange:
        """Return the next change. Cancelled, it can be called again, and nothing is missed.

        Raises:
            StoreUnavailable: the changes cannot be seen.
        """
        while (found := self._state_change(await anext(self._changes))) is None:
            pass
        return found

    async def together(self) -> list[StateChange]:
        """Return all changes that wait, at least one.

        Raises:
            StopAsyncIteration: the store was closed.
            StoreUnavailable: the changes cannot be seen.
        """
        while True:
            states = [self._state_change(change) for change in await self._changes.together()]
            if found := [state for state in states if state is not None]:
                return found

    async def aclose(self) -> None:
        """End: every task and connection that this iterator alone has needed is gone when this returns."""
        await self._changes.aclose()

    def _state_change(self, change: Change) -> StateChange | None:
        """A change as dashboards want it; ``None`` if it is not of interest."""
        if change.kind == 'resync':
            return StateChange('resync')
        parsed = parse_key(change.key)
        if parsed is None or parsed.source not in self._reducers:
            return None
        if self._students is not None and parsed.fields.get(STUDENT) not in self._students:
            return None
        return StateChange('changed', change.key, parsed.source, parsed.fields, path_of(parsed.fields), change)


def changes(
    store: Store,
    reducers: ReducerLike | Iterable[ReducerLike],
    students: Iterable[object] | None = None,
    *,
    state: str = 'external',
) -> StateChanges:
    """Return an asynchronous iterator over the changes of one reducer's states, or of several, from now on.

        async for change in queries.changes(store, count_words, students):
            print(change.path, await change.value())

    It begins and ends as ``store.changes()`` does.

    Args:
        store: where the states are.
        reducers: the function, its entry in a listing, or its name in keys, also of one that this process does not
            have; or several of these.
        students: only states of these; ``None``: of all.
        state: ``'external'`` or ``'internal'``.

    Returns:
        An iterator over :class:`StateChange`.

    Raises:
        InvalidKey: an entry without a function.
        ValueError: the state is something else, there is no reducer, or ``students`` is a single one.
    """
    names = set(map(reducer_name, reducer_list(reducers)))
    of_interest = None if students is None else student_list(students)
    kind = state_type_of(state).name.capitalize()
    return StateChanges(store, [f'{kind},{escape(name)}' for name in names], names, of_interest)


def as_in_keys(student: object) -> set[str]:
    """Return what the fields of a key may have for a student.

    Args:
        student: the student, as a query is given it.

    Raises:
        ValueError: no key can have it.
    """
    return {unescape(text) for text in written_values(check_value(student, 'A student'))}


def path_of(fields: dict[str, str]) -> str:
    """Return where the runtime's updates put a state.

    Args:
        fields: the values that the state is kept by, by the names of the fields in keys.

    Returns:
        Such as ``students.bob.documents.1AbC``: first what the server knows of itself, then the fields of the event.
    """
    ordered = sorted(fields, key=lambda name: (name.startswith('EventField.'), name))
    return '.'.join(f'{_plural(name)}.{fields[name]}' for name in ordered)


def _plural(name: str) -> str:
    return _PLURALS.get(name) or f'{name.removeprefix("EventField.").lower()}s'
