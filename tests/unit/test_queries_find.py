"""What queries find by keys alone: escapes, pairs, what looks like a reducer's key, and what is remembered."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from learning_observer_kvs import queries
from learning_observer_kvs.queries.find import State
from learning_observer_kvs.queries.kept import kept
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.keys import make_key

T = TypeVar('T')
DOCUMENT = EventField('doc_id')


async def listed(found: AsyncIterator[T]) -> list[T]:
    return [each async for each in found]


async def kept_for(store: Store, student: str) -> list[str]:
    return [key for page in await listed(kept(students=[student]).pages(store)) for key in page]


async def filled(*keys: str) -> InMemoryKVS:
    store = InMemoryKVS()
    await store.multiset(dict.fromkeys(keys, 1))
    return store


def pair(rest: str) -> list[str]:
    return [f'Internal,{rest}', f'External,{rest}']


AWKWARD = [
    'ls-Jos%C3%A9',
    'doe, jane',
    'back\\slash',
    'a:b',
    'STUDENT:bob',
    ',STUDENT:bob',
    'é',
    '',
    '\\2c',
    'None',
    'b*b',
]


@pytest.mark.parametrize('student', AWKWARD)
async def test_every_student_and_document_is_found_as_it_was_given(student: str) -> None:
    keys = [
        make_key('a.r', {KeyField.STUDENT: student, DOCUMENT: document}, state_type)
        for state_type in KeyStateType
        for document in ('D', 'doc, 2')
    ]
    store = await filled(*keys, *pair('a.r,EventField.doc_id:other,STUDENT:bob'))
    assert sorted(await listed(queries.students(store))) == sorted({student, 'bob'})
    assert sorted(await listed(queries.documents(store, student))) == ['D', 'doc, 2']
    assert sorted(await listed(queries.students_of(store, 'doc, 2'))) == [student]
    states = await listed(queries.states_of(store, student))
    assert {(state.student, state.document) for state in states} == {(student, 'D'), (student, 'doc, 2')}
    assert len(states) == 2
    assert {key for state in states for key in (state.internal, state.external)} == set(keys)
    assert sorted(found := await kept_for(store, student)) == sorted(keys)
    assert [await store.remove(key) for key in found] == [True] * 4
    assert await listed(queries.students(store)) == ['bob']


async def test_a_student_whose_text_is_in_a_key_as_a_digest_is_found() -> None:
    student = 's' * (MAX_KEY_BYTES + 1)
    key = make_key('a.r', {KeyField.STUDENT: student}, KeyStateType.INTERNAL)
    assert len(key) < 1000
    store = await filled(key, *pair('a.r,STUDENT:bob'))
    assert [state.internal for state in await listed(queries.states_of(store, student))] == [key]
    assert await kept_for(store, student) == [key]


async def test_both_states_of_a_pair_are_one_find_and_one_that_is_alone_is_found_too() -> None:
    store = await filled(*pair('a.r,STUDENT:both'), 'Internal,a.r,STUDENT:in', 'External,a.r,STUDENT:out')
    states = await listed(queries.states_by(store, 'a.r'))
    assert sorted(state.student or '' for state in states) == ['both', 'in', 'out']
    assert State('a.r', {'STUDENT': 'out'}, 'Internal,a.r,STUDENT:out', 'External,a.r,STUDENT:out') in states
    assert await listed(queries.states_of(store, 'out')) == [states[[state.student for state in states].index('out')]]


async def test_what_is_not_a_reducers_key_is_passed_over() -> None:
    others = [
        'Internal', 'Internal,', 'External,,STUDENT:x', 'Internal,a.r,nothing,STUDENT:x', 'other,a.r,STUDENT:x', 'x',
        '{"function": "a.r", "student": ",STUDENT:x,"}', 'Replayed,a.r,STUDENT:x', 'internal,a.r,STUDENT:x',
    ]  # fmt: skip
    store = await filled(*others, *pair('a.r,STUDENT:bob'))
    assert await listed(queries.students(store)) == ['bob']
    assert await listed(queries.students(store, 'a.r')) == ['bob']
    assert await listed(queries.reducers(store)) == ['a.r']
    assert await listed(queries.states_of(store, 'x')) == []
    assert len(await listed(queries.states_by(store, 'a.r'))) == 1


async def test_a_field_that_only_looks_like_the_one_that_is_asked_for_is_not_it() -> None:
    store = await filled(
        *pair('a.r,EventField.STUDENT:bob'), *pair('a.r,EventField.x:,STUDENT:eve'), *pair('a.r,STUDENT:bobby')
    )
    assert await listed(queries.states_of(store, 'bob')) == []
    assert sorted(await listed(queries.students(store))) == ['bobby', 'eve']


async def test_reducers_whose_names_begin_alike_are_told_apart() -> None:
    store = await filled(
        *pair('a.r,STUDENT:bob'), *pair('a.r2,STUDENT:eve'), *pair('a.r'), *pair('a.r\\2c x,STUDENT:eva')
    )
    assert sorted(await listed(queries.reducers(store))) == ['a.r', 'a.r, x', 'a.r2']
    assert await listed(queries.students(store, 'a.r')) == ['bob']
    assert await listed(queries.students(store, 'a.r, x')) == ['eva']
    assert [state.fields for state in await listed(queries.states_by(store, 'a.r'))] == [{}, {'STUDENT': 'bob'}]
    assert await queries.remove_states(store, 'a.r') == (4, True)
    assert sorted(await listed(queries.reducers(store))) == ['a.r, x', 'a.r2']


async def test_a_document_that_the_event_did_not_have_is_no_document_but_a_state() -> None:
    store = await filled(*pair('a.r,EventField.doc_id:None,STUDENT:bob'))
    assert await listed(queries.documents(store, 'bob')) == []
    assert len(await listed(queries.states_of(store, 'bob'))) == 1


async def test_the_notes_on_replayed_events_go_with_the_states() -> None:
    notes = ['Replayed,a.r,STUDENT:bob', 'Replayed,a.q,STUDENT:bob', 'Replayed,a.r,STUDENT:eve']
    store = await filled(*pair('a.r,STUDENT:bob'), *notes)
    assert await queries.remove_states(store, 'a.r') == (4, True)
    assert await store.keys() == ['Replayed,a.q,STUDENT:bob']
    assert await kept_for(store, 'bob') == ['Replayed,a.q,STUDENT:bob']


class Endless(Store):
    """A store of so many keys that they are not kept anywhere, each of which a scan may give twice."""

    TYPE: ClassVar[str] = 'endless'
    KEYS = 8400
    PAGE = 50

    def location(self) -> str:
        return 'a test'

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        return [b'1' for _ in keys]

    async def commit_bytes(self, writes: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> bool:
        return True

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        state_type = prefix.partition(',')[0]
        start, limit = int(cursor or 0), min(limit, self.PAGE)
        keys = [
            f'{state_type},a.r{number % 3},EventField.doc_id:a-rather-long-document-{number},STUDENT:ls-{number % 100}'
            for number in range(start, min(start + limit, self.KEYS))
        ]
        end = start + limit >= self.KEYS
        return [key for key in keys if key.startswith(prefix)], None if end else str(start + limit)


@pytest.mark.parametrize(
    ('find', 'wanted'),
    [
        (lambda store: queries.students(store), 100),
        (lambda store: queries.students(store, 'a.r1'), 100),
        (lambda store: queries.reducers(store), 3),
        (lambda store: queries.states_by(store, 'a.r1'), Endless.KEYS // 3),
        (lambda store: queries.documents(store, 'ls-7'), Endless.KEYS // 100),
        (lambda store: queries.states_of(store, 'ls-7'), Endless.KEYS // 100),
    ],
)
async def test_finding_remembers_the_names_that_it_gave_and_not_the_keys(find: Any, wanted: int) -> None:
    store, found = Endless(), 0
    tracemalloc.start()
    try:
        async for _ in find(store):
            found += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == wanted
    assert peak < 1_000_000  # all keys are 2.2 MB; a tool that watches the run has its own


async def test_other_work_goes_on_while_a_store_in_memory_is_searched() -> None:
    store, passes = await filled(*(f'Internal,a.r,STUDENT:{number}' for number in range(20_000))), 0
    search = asyncio.ensure_future(listed(queries.students(store)))
    while not search.done():
        await asyncio.sleep(0)
        passes += 1
    assert passes > 10
