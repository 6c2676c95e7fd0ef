"""What is in a store: students, documents, reducers, and the states of each, found by keys alone.

Each call goes through the keys of the store a page at a time: those of one reducer by their prefix, others by a scan of
all reducer keys. No value is read. Other keys than those of reducers are passed over. What is remembered is each name
that was given, never all keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import NamedTuple

from learning_observer_kvs.queries.described import ReducerLike, reducer_name
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.keys import (
    ReducerKey,
    escape,
    parse_key,
    replayed_key,
    state_key,
    written_values,
)

Matches = Callable[[str], bool]

STUDENT = KeyField.STUDENT.name

NO_VALUE = 'None'
"""What keys have for a document where the event had none."""


class State(NamedTuple):
    """Where the two states of a reducer are, of which one may be missing.

    Attributes:
        reducer: the reducer's name in keys.
        fields: the values that the states are kept by, such as ``{'EventField.doc_id': '1AbC', 'STUDENT': 'bob'}``.
        internal: the key of the internal state.
        external: the key of the external state.
    """

    reducer: str
    fields: dict[str, str]
    internal: str
    external: str

    @property
    def student(self) -> str | None:
        """The student; ``None`` where the reducer does not keep its states by student."""
        return self.fields.get(STUDENT)

    @property
    def document(self) -> str | None:
        """The document; ``None`` where the reducer does not keep its states by document."""
        return self.fields.get(DOCUMENT.name)


async def students(store: Store, reducer: ReducerLike | None = None) -> AsyncGenerator[str, None]:
    """Find all students who have a state.

    Args:
        store: the store.
        reducer: the reducer whose states count, by prefix; ``None``: all, by a scan.

    Yields:
        Each student once, in no order.

    Raises:
        InvalidKey: an entry without a function.
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    async for student in _values(store, STUDENT, _any, None if reducer is None else reducer_name(reducer)):
        yield student


async def documents(store: Store, student: object) -> AsyncGenerator[str, None]:
    """Find all documents of a student, by a scan.

    Args:
        store: the store.
        student: the student, as in keys.

    Yields:
        Each document once, in no order.

    Raises:
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    async for document in _values(store, DOCUMENT.name, _has(STUDENT, student)):
        if document != NO_VALUE:
            yield document


async def students_of(store: Store, document: object) -> AsyncGenerator[str, None]:
    """Find all students who have a state of a document, by a scan.

    Args:
        store: the store.
        document: the document, as in keys.

    Yields:
        Each student once, in no order.

    Raises:
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    async for student in _values(store, STUDENT, _has(DOCUMENT.name, document)):
        yield student


async def reducers(store: Store) -> AsyncGenerator[str, None]:
    """Find all reducers that have a state, by a scan; also those that this process does not have.

    Args:
        store: the store.

    Yields:
        Each reducer's name in keys once, in no order.

    Raises:
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    given: set[str] = set()
    async for page in _state_keys(store, None):
        for key in page:
            source = key.split(',', 2)[1]
            if source not in given and (parsed := parse_key(key)) is not None:
                given.add(source)
                yield parsed.source


async def states_of(store: Store, student: object) -> AsyncGenerator[State, None]:
    """Find all states of a student, by a scan.

    Args:
        store: the store.
        student: the student, as in keys.

    Yields:
        The two states of a reducer as one, in no order. On Redis one may come twice if keys are added meanwhile.

    Raises:
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    async for state in _states(store, _has(STUDENT, student), None):
        yield state


async def states_by(store: Store, reducer: ReducerLike) -> AsyncGenerator[State, None]:
    """Find all states of a reducer, by prefix.

    Args:
        store: the store.
        reducer: the function, its entry in a listing, or its name; also of one that this process does not have.

    Yields:
        The two states of a student, or of another value of the scope, as one, in no order. On Redis one may come twice
        if keys are added meanwhile.

    Raises:
        InvalidKey: an entry without a function.
        StoreUnavailable, Overloaded: the backend does not answer, or has too much to do.
    """
    async for state in _states(store, _any, reducer_name(reducer)):
        yield state


class Kept(NamedTuple):
    """What is kept for a student or for a reducer: where its keys are, and which they are.

    Attributes:
        prefixes: what its keys begin with.
        matches: whether a key is one of them.
    """

    prefixes: tuple[str, ...]
    matches: Matches

    async def pages(
        self, store: Store, progress: Callable[[int], None] = lambda keys: None
    ) -> AsyncGenerator[list[str], None]:
        """Find its keys: those of both states, and of the notes on events that were replayed to them.

        Args:
            store: the store.
            progress: called with how many keys have been looked at since the last call.

        Yields:
            Pages of keys, which may be empty.
        """
        for prefix in self.prefixes:
            async for page in store.pages(prefix):
                yield [key for key in dict.fromkeys(page) if self.matches(key)]
                progress(len(page))


def kept_for_student(student: object) -> Kept:
    """Return what is kept for a student.

    Args:
        student: the student, as in keys.
    """
    has_student = _has(STUDENT, student)
    return Kept(('',), lambda key: has_student(key) and parse_key(state_key(key)) is not None)


def kept_by_reducer(reducer: ReducerLike) -> Kept:
    """Return what is kept by a reducer.

    Args:
        reducer: the function, its entry in a listing, or its name; also of one that this process does not have.

    Raises:
        InvalidKey: an entry without a function.
    """
    name = reducer_name(reducer)
    prefixes = (*_prefixes(name), replayed_key(_prefixes(name)[0]))
    return Kept(prefixes, lambda key: (parsed := parse_key(state_key(key))) is not None and parsed.source == name)


def _prefixes(reducer: str | None) -> tuple[str, str]:
    """What the internal and the external keys begin with, of one reducer or of all."""
    name = '' if reducer is None else escape(reducer)
    internal, external = (f'{state_type.name.capitalize()},{name}' for state_type in KeyStateType)
    return internal, external


async def _state_keys(store: Store, reducer: str | None) -> AsyncGenerator[list[str], None]:
    """Pages of keys that look like those of reducers, or of one; first those of internal states."""
    for prefix in _prefixes(reducer):
        async for page in store.pages(prefix):
            keys: Iterable[str] = dict.fromkeys(page)
            if reducer is not None:
                keys = (key for key in keys if key == prefix or key.startswith(f'{prefix},'))
            yield list(keys)
            await asyncio.sleep(0)  # not every backend waits for a page


async def _values(store: Store, field: str, matches: Matches, reducer: str | None = None) -> AsyncGenerator[str, None]:
    """Each value that a field has in the keys that match, once."""
    given: set[str] = set()
    begin = f',{field}:'
    async for page in _state_keys(store, reducer):
        for key in page:
            _, is_there, rest = key.partition(begin)
            text = rest.partition(',')[0]
            if not is_there or text in given or not matches(key):
                continue
            parsed = parse_key(key)
            if parsed is not None:
                given.add(text)
                yield parsed.fields[field]


async def _states(store: Store, matches: Matches, reducer: str | None) -> AsyncGenerator[State, None]:
    async for page in _state_keys(store, reducer):
        found = [(key, parsed) for key in page if matches(key) and (parsed := parse_key(key)) is not None]
        states = [_state(key, parsed) for key, parsed in found]
        # Nearly all internal states are there, and were given; to remember them would take room for all keys.
        external = [
            state
            for state, (_, parsed) in zip(states, found, strict=True)
            if parsed.state_type is KeyStateType.EXTERNAL
        ]
        described = await asyncio.gather(*(store.describe(state.internal) for state in external))
        given = {state.internal for state, there in zip(external, described, strict=True) if there is not None}
        for state in states:
            if state.internal not in given:
                yield state


def _state(key: str, parsed: ReducerKey) -> State:
    rest = key.partition(',')[2]
    return State(parsed.source, parsed.fields, f'Internal,{rest}', f'External,{rest}')


def _any(key: str) -> bool:
    return True


def _has(field: str, value: object) -> Matches:
    """Whether a key has a value of a field; one that is not a reducer's may seem to."""
    parts = [f',{field}:{text},' for text in written_values(value)]
    if len(parts) == 1:
        [part] = parts
        return lambda key: part in f'{key},'
    return lambda key: any(part in f'{key},' for part in parts)
