"""The decorators: names, scopes, types. How events are processed is tested by the store contract."""

from __future__ import annotations

import asyncio
import collections
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from learning_observer_kvs.errors import InvalidValue, KVSNotConfigured, ReducerError
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    KeyStateType,
    Pipeline,
    ProcessEvent,
    Scope,
    ScopeFieldError,
    kvs_pipeline,
    make_key,
    make_key_from_json,
    student_event_reducer,
)

BOB = {'auth': {'safe_user_id': 'bob', 'user_id': 'b'}}


@pytest.fixture(autouse=True)
def store() -> Store:
    KVS.add_item('default', InMemoryKVS())
    return KVS()


@student_event_reducer(null_state={'count': 0})
async def count(event: Any, state: Any) -> Any:
    state['count'] += 1
    return state, {'events': state['count']}


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def last_event(event: Any, state: Any) -> Any:
    return event, event


async def test_state_is_kept_by_student_under_the_reducers_name(store: Store) -> None:
    process_event = await count(BOB)
    await process_event({})
    assert await process_event({}) == {'events': 2}
    assert await store.dump() == {
        f'Internal,{__name__}.count,STUDENT:bob': {'count': 2},
        f'External,{__name__}.count,STUDENT:bob': {'events': 2},
    }


async def test_without_metadata_the_student_is_a_guest(store: Store) -> None:
    await (await count(None))({})
    await (await count())({})
    await (await count({'source': 'x'}))({})
    assert await store[make_key(count, {KeyField.STUDENT: '[guest]'}, KeyStateType.INTERNAL)] == {'count': 3}


async def test_event_fields_are_part_of_the_key(store: Store) -> None:
    process_event = await last_event(BOB)
    await process_event(1, {'doc_id': 'D', 'other': 'x'})
    await process_event(2)
    await process_event(3, {'doc_id': 'D,STUDENT:victim'})
    assert await store.dump(prefix='Internal') == {
        f'Internal,{__name__}.last_event,EventField.doc_id:D,STUDENT:bob': 1,
        f'Internal,{__name__}.last_event,EventField.doc_id:None,STUDENT:bob': 2,
        rf'Internal,{__name__}.last_event,EventField.doc_id:D\2cSTUDENT:victim,STUDENT:bob': 3,
    }


async def test_two_sockets_of_one_student_keep_every_event(store: Store) -> None:
    async def socket() -> None:
        process_event = await count(BOB)
        for _ in range(100):
            await process_event({})

    await asyncio.gather(socket(), socket())
    assert await store[make_key(count, {KeyField.STUDENT: 'bob'}, KeyStateType.INTERNAL)] == {'count': 200}


async def test_a_reducer_gets_its_state_as_json_gives_it_back() -> None:
    seen = []

    @student_event_reducer(null_state=collections.Counter())
    async def reducer(event: Any, state: Any) -> Any:
        seen.append(state)
        return {1: (1, 2), 'tally': collections.Counter('aa')}, None

    process_event = await reducer(BOB)
    await process_event({})
    await process_event({})
    assert seen == [{}, {'1': [1, 2], 'tally': {'a': 2}}]


async def test_each_new_key_gets_its_own_copy_of_the_null_state() -> None:
    @student_event_reducer(null_state={'seen': []})
    async def reducer(event: Any, state: Any) -> Any:
        state['seen'].append(event)
        return state, state

    for student in ('ann', 'bob'):
        assert await (await reducer({'auth': {'safe_user_id': student}}))(student) == {'seen': [student]}


async def test_returning_something_other_than_a_pair_is_a_reducer_error(store: Store) -> None:
    @student_event_reducer()
    async def reducer(event: Any, state: Any) -> Any:
        return {'just': 'one'}

    with pytest.raises(ReducerError, match=r'reducer,STUDENT:bob.*\(internal_state, external_state\)'):
        await (await reducer(BOB))({})
    assert await store.keys() == []


async def test_a_reducer_that_is_not_a_coroutine_function_is_a_reducer_error(store: Store) -> None:
    @student_event_reducer()
    def reducer(event: Any, state: Any) -> Any:
        return state, state

    with pytest.raises(ReducerError, match=r'reducer,STUDENT:bob.*async def'):
        await (await reducer(BOB))({})
    assert await store.keys() == []


async def test_names_can_be_overridden_for_notebooks() -> None:
    @kvs_pipeline(module_override='notebook', qualname_override='mine')
    async def reducer(event: Any, state: Any) -> Any:
        return event, event

    assert make_key(reducer, {KeyField.STUDENT: 'bob'}, KeyStateType.INTERNAL) == 'Internal,notebook.mine,STUDENT:bob'


def test_a_browser_may_name_any_decorated_reducer() -> None:
    key = make_key_from_json({'source': f'{__name__}.count', 'KeyField.STUDENT': 'bob'})
    assert key == f'Internal,{__name__}.count,STUDENT:bob'


async def test_a_connection_may_use_another_router(store: Store) -> None:
    mine = InMemoryKVS()
    await (await count(BOB, router=KVSRouter(default=mine)))({})
    assert await store.keys() == []
    assert len(await mine.keys()) == 2


async def test_the_decorators_keep_types() -> None:
    assert_type(count, Pipeline)
    assert_type(last_event, Pipeline)
    assert_type(await count(BOB), ProcessEvent)
    assert count.__qualname__ == 'count'
    if TYPE_CHECKING:
        # Mypy reports an unused "ignore" if one of these calls were accepted.
        await count('bob')  # type: ignore[arg-type]
        await count(BOB, KVS)  # type: ignore[call-arg]
        await (await count(BOB))({}, doc_id='d')  # type: ignore[call-arg]
        student_event_reducer({}, 'notebook')  # type: ignore[call-arg]
        student_event_reducer(scope=Scope())  # type: ignore[call-arg]


def test_student_event_reducer_takes_names_by_keyword_only() -> None:
    @student_event_reducer(0, module_override='notebook', qualname_override='cell')
    async def reducer(event: Any, state: Any) -> Any:
        return event, event

    assert make_key(reducer, {KeyField.STUDENT: 'bob'}, KeyStateType.INTERNAL) == 'Internal,notebook.cell,STUDENT:bob'
    with pytest.raises(TypeError):
        student_event_reducer(0, 'notebook')  # type: ignore[call-arg]


def test_wrong_arguments_of_a_decorator_are_errors_at_import() -> None:
    with pytest.raises(ScopeFieldError, match='CLASS'):
        kvs_pipeline(scope=Scope([KeyField.CLASS]))
    with pytest.raises(InvalidValue, match=r"value\['a'\]"):
        kvs_pipeline(null_state={'a': {1}})


async def test_an_error_says_that_the_store_is_not_configured_yet() -> None:
    KVS.remove_item('default')
    with pytest.raises(KVSNotConfigured, match='start-up checks'):
        await count(BOB)


async def test_a_scope_without_the_student_needs_no_student_in_the_metadata() -> None:
    @kvs_pipeline(scope=Scope([EventField('doc_id')]), null_state=0)
    async def count(event: Any, state: Any) -> Any:
        return state + 1, state + 1

    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        process_event = await count({'auth': {}}, router=router)
        assert await process_event({}, {'doc_id': 'd'}) == 1
