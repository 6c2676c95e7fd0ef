"""The table of a class: which cells it has, and what is in them."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs import queries
from learning_observer_kvs.errors import InvalidKey, InvalidValue, ScopeFieldError
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics import registry
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline, student_event_reducer
from tests.support.watched import Watched

DOCUMENTS = Scope([KeyField.STUDENT, EventField('doc_id')])
COUNT, WORDS = 'a.count', 'a.words'


@student_event_reducer(null_state={'n': 0}, module_override='a', qualname_override='count')
async def count(event: Any, state: Any) -> Any:
    return {'n': state['n'] + 1}, {'events': state['n'] + 1}


@kvs_pipeline(null_state=[], scope=DOCUMENTS, module_override='a', qualname_override='words')
async def words(event: Any, state: Any) -> Any:
    return [*state, event], {'last': event, 'deep': {'provenance': 1, 'all': [*state, event]}, 'provenance': 2}


@pytest.fixture
async def store() -> InMemoryKVS:
    store = InMemoryKVS()
    await store.multiset(
        {
            'Internal,a.count,STUDENT:bob': {'n': 2},
            'External,a.count,STUDENT:bob': {'events': 2},
            r'External,a.count,STUDENT:doe\2c jane': {'events': 5},
            'External,a.count,STUDENT:null': None,
            'External,a.words,EventField.doc_id:D1,STUDENT:bob': {'last': 'x', 'deep': {'all': ['x']}, 'provenance': 2},
            'External,a.words,EventField.doc_id:D2,STUDENT:bob': {'last': 'y', 'deep': {'all': ['y']}},
        }
    )
    return store


async def test_rows_and_cells_are_in_the_order_asked_with_key_and_whether_the_state_was_there(
    store: InMemoryKVS,
) -> None:
    rows = await queries.table(store, [words, count], ['eve', 'doe, jane', 'bob'], documents={'bob': 'D2', 'eve': 'D3'})
    assert [(row.student, row.document, list(row.cells)) for row in rows] == [
        ('eve', 'D3', [WORDS, COUNT]),
        ('doe, jane', None, [WORDS, COUNT]),
        ('bob', 'D2', [WORDS, COUNT]),
    ]
    assert rows[0].cells == {
        WORDS: (None, 'External,a.words,EventField.doc_id:D3,STUDENT:eve', False),
        COUNT: (None, 'External,a.count,STUDENT:eve', False),
    }
    assert rows[1].cells == {
        WORDS: (None, None, False),
        COUNT: ({'events': 5}, r'External,a.count,STUDENT:doe\2c jane', True),
    }
    assert rows[2].cells[WORDS].value['last'] == 'y'


async def test_a_student_has_a_row_for_each_document(store: InMemoryKVS) -> None:
    rows = await queries.table(store, [words, count], ['bob', 'eve'], documents={'bob': ['D2', 'D1'], 'eve': []})
    assert [(row.student, row.document) for row in rows] == [('bob', 'D2'), ('bob', 'D1'), ('eve', None)]
    first, second = rows[0].cells[COUNT], rows[1].cells[COUNT]
    assert first.value is not second.value
    assert first == second == ({'events': 2}, 'External,a.count,STUDENT:bob', True)
    one = await queries.table(store, [words], ['bob', 'eve'], documents='D1')
    assert [(row.student, row.document, row.cells[WORDS].found) for row in one] == [
        ('bob', 'D1', True),
        ('eve', 'D1', False),
    ]


async def test_a_missing_state_is_the_null_state_if_internal_and_none_if_external_and_never_shared(
    store: InMemoryKVS,
) -> None:
    rows = await queries.table(store, ['a.count'], ['x', 'y', 'bob'], state='internal')
    assert [row.cells[COUNT].value for row in rows] == [{'n': 0}, {'n': 0}, {'n': 2}]
    rows[0].cells[COUNT].value['n'] = 7
    assert rows[1].cells[COUNT].value == {'n': 0}
    rows = await queries.table(store, ['a.count'], ['x'])
    assert rows[0].cells[COUNT].value is None


@pytest.mark.parametrize('state', ['internal', 'external'])
async def test_a_missing_state_is_the_default_of_an_entry_as_servers_list_reducers(
    store: InMemoryKVS, state: str
) -> None:
    default = {'events': 0, 'more': []}
    entry = {'function': count, 'scope': [KeyField.STUDENT], 'default': default}
    rows = await queries.table(store, [entry], ['x', 'y'], state=state)
    assert [row.cells[COUNT].value for row in rows] == [default, default]
    rows[0].cells[COUNT].value['more'] = 7
    assert rows[1].cells[COUNT].value == default == {'events': 0, 'more': []}
    assert rows[0].cells[COUNT].found is False


async def test_a_stored_null_is_there(store: InMemoryKVS) -> None:
    [row] = await queries.table(store, [{'function': count, 'default': {'events': 0}}], ['null'])
    assert row.cells[COUNT] == (None, 'External,a.count,STUDENT:null', True)


async def test_fields_choose_of_each_state_and_a_path_to_nothing_is_an_error_in_its_place(store: InMemoryKVS) -> None:
    chosen = {'deep.all': 'all', 'last.x': 'none', '': 'whole'}
    [row] = await queries.table(store, [words], ['bob'], documents='D1', fields=chosen)
    value: Any = row.cells[WORDS].value
    assert value['all'] == ['x']
    assert value['whole']['last'] == 'x'
    assert "nothing at 'last.x'" in value['none']['error']
    [row] = await queries.table(store, [words], ['bob'], documents='D1', fields='All')
    assert row.cells[WORDS].value == {'last': 'x', 'deep': {'all': ['x']}}


async def test_all_of_a_state_without_entries_is_an_error(store: InMemoryKVS) -> None:
    await store.set('External,a.count,STUDENT:bob', [1])
    with pytest.raises(InvalidValue, match='list'):
        await queries.table(store, [count], ['bob'], fields=queries.SelectFields.All)


async def test_it_is_one_call_of_the_store_and_reads_no_key_twice() -> None:
    store = Watched()
    read: list[list[str]] = []
    original = store.read_bytes

    async def read_bytes(keys: Any) -> list[bytes | None]:
        read.append([*keys])
        return await original(keys)

    store.read_bytes = read_bytes  # type: ignore[method-assign]
    await queries.table(store, [count, words], ['bob', 'bob', 'eve'], documents={'bob': ['D1', 'D2']})
    [keys] = read
    assert len(keys) == len({*keys}) == 4


async def test_a_table_of_nothing_reads_nothing() -> None:
    store = Watched()
    assert await queries.table(store, [count], []) == []
    assert await queries.table(store, [], ['bob']) == [('bob', None, {})]
    assert store.reads == 0


@pytest.mark.parametrize(
    ('asked', 'error', 'message'),
    [
        ({'reducers': ['b.other']}, InvalidKey, r"'b.other' is not a reducer of this process\. There are: .*a\.count"),
        ({'reducers': [{'scope': []}]}, InvalidKey, "needs its 'function'"),
        ({'reducers': [words]}, ScopeFieldError, r'a\.words keeps its states by document: say which'),
        ({'reducers': [{'function': count, 'scope': [EventField('tab_id')]}]}, ScopeFieldError, 'EventField.tab_id'),
        ({'reducers': [{'function': count, 'scope': ['STUDENT']}]}, ScopeFieldError, "'STUDENT' is not a field"),
        ({'state': 'both'}, ValueError, "'external' or 'internal'"),
        ({'fields': 'Some'}, ValueError, "'All' or 'Missing'"),
        ({'students': 'bob'}, ValueError, 'students is a single value, of type str; it must be a list'),
        ({'students': b'bob'}, ValueError, 'of type bytes'),
        ({'students': 7}, ValueError, 'of type int'),
        ({'students': ['bob', {'user_id': 'bob'}]}, ValueError, 'A student is given as in keys, .* this one is a dict'),
        ({'students': [['bob']], 'documents': {'bob': 'D'}}, ValueError, 'this one is a list'),
        ({'reducers': 7}, ValueError, 'reducers is a single value, of type int'),
    ],
)
async def test_what_a_table_cannot_have_is_an_error_that_names_it(
    store: InMemoryKVS, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    asked = {'reducers': [count], 'students': ['bob'], **asked}
    with pytest.raises(error, match=message):
        await queries.table(store, asked.pop('reducers'), asked.pop('students'), **asked)


async def test_two_reducers_of_one_name_are_told_apart_by_their_functions(
    store: InMemoryKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    @kvs_pipeline(scope=DOCUMENTS, module_override='a', qualname_override='time')
    async def by_document(event: Any, state: Any) -> Any:
        return state, state

    @kvs_pipeline(module_override='a', qualname_override='time')
    async def by_student(event: Any, state: Any) -> Any:
        return state, state

    rows = await queries.table(store, [by_document], ['bob'], documents='D')
    assert rows[0].cells['a.time'].key == 'External,a.time,EventField.doc_id:D,STUDENT:bob'
    rows = await queries.table(store, [by_student], ['bob'])
    assert rows[0].cells['a.time'].key == 'External,a.time,STUDENT:bob'
    entries = [
        {'id': 'one', 'function': by_document, 'scope': DOCUMENTS, 'default': 1},
        {'id': 'two', 'function': by_student, 'scope': [KeyField.STUDENT], 'default': 2},
    ]
    monkeypatch.setattr(registry, '_LISTINGS', [lambda: entries])
    rows = await queries.table(store, ['two', 'one', by_document], ['bob'], documents='D')
    assert [(name, cell.value) for name, cell in rows[0].cells.items()] == [('two', 2), ('one', 1), ('a.time', 1)]
    with pytest.raises(ValueError, match=r'Two different reducers are called a\.time'):
        await queries.table(store, [by_document, by_student], ['bob'], documents='D')


@pytest.mark.parametrize('one', [count, 'a.count', {'function': count}])
async def test_one_reducer_may_be_given_alone(store: InMemoryKVS, one: Any) -> None:
    assert await queries.table(store, one, ['bob']) == await queries.table(store, [one], ['bob'])
