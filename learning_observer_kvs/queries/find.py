"""What is in a store: students, documents, reducers, and the states of each, found by keys alone.

Each call goes through the keys of the store a page at a time: those of one reducer by their prefix, others by a scan of
all reducer keys. No value is read. Other keys than those of reducers are passed over. What is remembered is each name
that was given, never all keys.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import NamedTuple

from learning_observer_kvs.queries.described import ReducerLike, reducer_name
from learning_observer_kvs.queries.kept import STUDENT, Matches, every_key, has, prefixes
from learning_observer_kvs.queries.scope import DOCUMENT
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyStateType
from learning_observer_kvs.stream_analytics.keys import ReducerKey, both_state_keys, parse_key

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
    async for student in _values(store, STUDENT, every_key, None if reducer is None else reducer_name(reducer)):
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
    async for document in _values(store, DOCUMENT.name, has(STUDENT, student)):
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
    async for student in _values(store, STUDENT, has(DOCUMENT.name, document)):
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
    async for state in _states(store, has(STUDENT, student), None):
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
    async for state in _states(store, every_key, reducer_name(reducer)):
        yield state


async def _state_keys(store: Store, reducer: str | None) -> AsyncGenerator[list[str], None]:
    """Pages of keys that look like those of reducers, or of one; first those of internal states."""
    for prefix in prefixes(reducer):
        async for page in store.pages(prefix):
            keys: Iterable[str] = dict.fromkeys(page)
            if reducer is not None:
                keys = (key for key in keys if key == prefix or key.startswith(f'{prefix},'))
            yield list(keys)


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
        states = [state_at(key, parsed) for key, parsed in found]
        # Nearly all internal states are there, and were given; to remember them would be to remember all keys.
        external = [
            state
            for state, (_, parsed) in zip(states, found, strict=True)
            if parsed.state_type is KeyStateType.EXTERNAL
        ]
        described = await store.describe_all([state.internal for state in external])
        given = {state.internal for state, there in zip(external, described, strict=True) if there is not None}
        for state in states:
            if state.internal not in given:
                yield state


def state_at(key: str, parsed: ReducerKey) -> State:
    """Return the state that a key is of.

    Args:
        key: the key of the internal or of the external state.
        parsed: its parts.
    """
    return State(parsed.source, parsed.fields, *both_state_keys(key))
