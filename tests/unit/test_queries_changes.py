"""The changes of reducers' states as dashboards want them, and a class that is watched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from learning_observer_kvs import queries
from learning_observer_kvs.queries.changes import StateChanges, path_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.change_feed import MAX_KEYS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import KeyStateType, kvs_pipeline, make_key
from learning_observer_kvs.testing.changes import SECONDS, nothing_left


@kvs_pipeline(null_state={'words': 0})
async def words(event: Any, state: Any) -> Any:
    return state, state


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def text(event: Any, state: Any) -> Any:
    return state, state


def words_of(student: object, state: KeyStateType = KeyStateType.EXTERNAL) -> str:
    return make_key(words, {KeyField.STUDENT: student}, state)


def text_of(student: str, document: str) -> str:
    return make_key(text, {KeyField.STUDENT: student, EventField('doc_id'): document}, KeyStateType.EXTERNAL)


class Counting(InMemoryKVS):
    """A store that counts how often it is read."""

    reads = 0

    async def read_bytes(self, keys: Any) -> Any:
        self.reads += 1
        return await super().read_bytes(keys)


@pytest.fixture
async def store() -> AsyncIterator[Counting]:
    async with Counting() as store:
        yield store


async def following(changes: StateChanges) -> queries.StateChange:
    async with asyncio.timeout(SECONDS):
        return await anext(changes)


async def test_a_change_has_the_reducer_its_fields_and_the_path_of_the_runtime(store: Store) -> None:
    async with queries.changes(store, text) as changes:
        await store.set(text_of('bob', '1AbC'), {'text': 'Hi'})
        change = await following(changes)
        assert (change.kind, change.key) == ('changed', text_of('bob', '1AbC'))
        assert change.reducer == f'{__name__}.text'
        assert change.fields == {'STUDENT': 'bob', 'EventField.doc_id': '1AbC'}
        assert (change.student, change.document) == ('bob', '1AbC')
        assert change.path == 'students.bob.documents.1AbC'
        assert await change.value() == {'text': 'Hi'}


@pytest.mark.parametrize(
    ('fields', 'path'),
    [
        ({'STUDENT': 'bob'}, 'students.bob'),
        ({'EventField.tab_id': 't', 'EventField.doc_id': 'D', 'STUDENT': 'b'}, 'students.b.documents.D.tab_ids.t'),
        ({'CLASS': '7b'}, 'classes.7b'),
        ({}, ''),
    ],
)
def test_the_path_has_what_the_server_knows_first_and_then_the_fields_of_the_event(
    fields: dict[str, str], path: str
) -> None:
    assert path_of(fields) == path


async def test_only_the_states_of_these_reducers_and_students_are_given(store: Store) -> None:
    long = 'x' * 2_000_000
    async with (
        queries.changes(store, [words, text], ['bob', 7, long]) as some,
        queries.changes(store, f'{__name__}.words', state='internal') as internal,
    ):
        for student in ('ann', 'bob', 7, long):
            await store.set(words_of(student), 1)
        await store.set(f'{words_of("bob")}2', 1)
        await store.set(text_of('bob', 'D'), 1)
        await store.set(f'External,{__name__}.words2,STUDENT:bob', 1)
        await store.set(words_of('bob', KeyStateType.INTERNAL), 1)
        keys = [change.key for change in await some.together()]
        assert keys == [words_of('bob'), words_of(7), words_of(long), text_of('bob', 'D')]
        assert [change.key for change in await internal.together()] == [words_of('bob', KeyStateType.INTERNAL)]


async def test_a_resync_is_passed_on(store: Store) -> None:
    async with queries.changes(store, words, ['bob']) as changes:
        store.announce(list(map(str, range(MAX_KEYS + 1))))
        change = await following(changes)
        assert (change.kind, change.key, change.path, change.student) == ('resync', '', '', None)
        with pytest.raises(ValueError, match='read again'):
            await change.value()


async def test_what_is_asked_wrongly_is_an_error_at_once(store: Store) -> None:
    with pytest.raises(ValueError, match="must be 'external' or 'internal'"):
        queries.changes(store, words, state='both')
    with pytest.raises(ValueError, match='There is no prefix'):
        queries.changes(store, [])
    with pytest.raises(ValueError, match='students is a single value, of type str'):
        queries.changes(store, words, 'bob')
    with pytest.raises(ValueError, match=r'A student is given as in keys, .* this one is a dict'):
        queries.changes(store, words, [{'user_id': 'bob'}])
    for students in ('bob', [{'user_id': 'bob'}]):
        with pytest.raises(ValueError, match=r'single value|this one is a dict'):
            await anext(queries.watch(store, words, students))


async def next_rows(watching: Any) -> dict[Any, Any]:
    """The next rows: the value of each first cell, by student."""
    async with asyncio.timeout(SECONDS):
        rows = await anext(watching)
    return {row.student: next(iter(row.cells.values())).value for row in rows}


async def test_a_watched_class_is_a_table_and_then_the_rows_that_change(store: Counting) -> None:
    await store.set(words_of('ann'), {'words': 1})
    async with aclosing(queries.watch(store, [words], ['bob', 'ann'])) as watching:
        assert await next_rows(watching) == {'bob': None, 'ann': {'words': 1}}
        await store.set(words_of('bob'), {'words': 2})
        await store.set(words_of('cleo'), {'words': 3})
        assert await next_rows(watching) == {'bob': {'words': 2}}
        await store.multiset({words_of('ann'): {'words': 4}, words_of('bob'): {'words': 5}})
        await store.set(words_of('bob'), {'words': 6})
        reads = store.reads
        assert await next_rows(watching) == {'bob': {'words': 6}, 'ann': {'words': 4}}
        assert store.reads == reads + 1
        await store.remove(words_of('ann'))
        assert await next_rows(watching) == {'ann': None}
    assert await nothing_left(store)


async def test_a_row_that_is_written_as_it_was_does_not_come_again(store: Counting) -> None:
    async with aclosing(queries.watch(store, [words], ['bob', 'ann'])) as watching:
        await next_rows(watching)
        await store.set(words_of('bob'), 1)
        assert await next_rows(watching) == {'bob': 1}
        await store.set(words_of('bob'), 1)
        await store.set(words_of('ann'), 2)
        assert await next_rows(watching) == {'ann': 2}


@pytest.mark.parametrize('fields', [{'nope': 'x'}, {'a': 'a', 'b.c': 'x'}, {'': 'whole'}, 'All', None])
async def test_whatever_is_chosen_of_it_a_row_that_is_written_as_it_was_does_not_come_again(
    store: Counting, fields: Any
) -> None:
    async with aclosing(queries.watch(store, [words], ['bob', 'ann'], fields=fields)) as watching:
        await next_rows(watching)
        await store.set(words_of('bob'), {'a': 1})
        assert {*await next_rows(watching)} == {'bob'}
        await store.set(words_of('bob'), {'a': 1})
        await store.set(words_of('ann'), {'a': 2})
        assert {*await next_rows(watching)} == {'ann'}


async def test_a_row_of_which_nothing_that_was_chosen_has_changed_does_not_come_again(store: Counting) -> None:
    async with aclosing(queries.watch(store, [words], ['bob', 'ann'], fields={'a': 'a'})) as watching:
        await next_rows(watching)
        for state in ({'a': 1}, {'a': 1, 'b': 2}):
            await store.set(words_of('bob'), state)
            await store.set(words_of('ann'), state)
            if 'b' not in state:
                assert await next_rows(watching) == {'bob': {'a': 1}, 'ann': {'a': 1}}
        await store.set(words_of('ann'), {'a': 3})
        assert await next_rows(watching) == {'ann': {'a': 3}}


async def test_a_student_who_is_asked_for_twice_has_two_rows_each_time(store: Counting) -> None:
    async with aclosing(queries.watch(store, [words], ['bob', 'bob'])) as watching:
        assert len(await anext(watching)) == 2
        await store.set(words_of('bob'), 1)
        assert [row.student for row in await anext(watching)] == ['bob', 'bob']


async def test_what_json_does_not_have_and_another_program_wrote_is_watched_too(store: Counting) -> None:
    async with aclosing(queries.watch(store, [words], ['bob'])) as watching:
        await next_rows(watching)
        for text in (b'[NaN]', b'[NaN,1]'):
            await store.commit_bytes({words_of('bob'): text}, {})
            store.announce([words_of('bob')])
            assert str(await next_rows(watching)) == str({'bob': json.loads(text)})


async def test_after_a_resync_the_whole_class_is_read_and_what_has_changed_comes(store: Counting) -> None:
    async with aclosing(queries.watch(store, [words], ['bob', 'ann'])) as watching:
        await next_rows(watching)
        listeners = dict(store.listeners)
        store.listeners.clear()
        await store.set(words_of('ann'), 1)  # which is not announced
        store.listeners.update(listeners)
        store.announce(list(map(str, range(MAX_KEYS + 1))))
        assert await next_rows(watching) == {'ann': 1}


async def test_watching_by_documents_gives_a_row_for_each(store: Counting) -> None:
    documents = {'bob': ['A', 'B'], 'ann': 'C'}
    async with aclosing(queries.watch(store, [text], ['bob', 'ann'], documents=documents)) as watching:
        async with asyncio.timeout(SECONDS):
            rows = await anext(watching)
            assert [(row.student, row.document) for row in rows] == [('bob', 'A'), ('bob', 'B'), ('ann', 'C')]
            await store.set(text_of('bob', 'B'), 1)
            rows = await anext(watching)
            assert [(row.student, row.document) for row in rows] == [('bob', 'B')]


async def test_as_long_as_nothing_changes_nothing_is_read(store: Counting) -> None:
    async with aclosing(queries.watch(store, [words], ['bob'])) as watching:
        await next_rows(watching)
        reads = store.reads
        waiting = asyncio.ensure_future(anext(watching))
        await store.set(words_of('ann'), 1)
        await store.set('another key', 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store.reads == reads
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_watching_ends_when_the_store_is_closed(store: Counting) -> None:
    seen = 0
    async for rows in queries.watch(store, [words], ['bob']):
        seen += len(rows)
        await store.close()
    assert seen == 1
