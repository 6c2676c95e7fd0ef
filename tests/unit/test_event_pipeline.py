"""An event through all reducers whose scope it has: which it reaches, what comes back, what is raised."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics.event_pipeline import event_fields, event_pipeline
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    Scope,
    kvs_pipeline,
    student_event_reducer,
)

BOB = {'auth': {'safe_user_id': 'bob'}}


@student_event_reducer(null_state=0)
async def count(event: Any, state: Any) -> Any:
    return state + 1, state + 1


@kvs_pipeline(null_state=0, scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def count_by_document(event: Any, state: Any) -> Any:
    return state + 1, f'{event["client"]["doc_id"]}: {state + 1}'


@student_event_reducer()
async def fail(event: Any, state: Any) -> Any:
    raise LookupError('broken')


@kvs_pipeline(null_state=0, scope=Scope([EventField('doc_id')]))
async def count_writers(event: Any, state: Any) -> Any:
    return state + 1, state + 1


@pytest.fixture
async def router() -> AsyncIterator[KVSRouter]:
    async with KVSRouter(InMemoryKVS()) as router:
        yield router


def keystroke(**client: Any) -> dict[str, Any]:
    return {'client': {'event': 'keystroke', **client}}


async def test_the_results_are_those_of_the_reducers_in_order(router: KVSRouter) -> None:
    process = await event_pipeline([count, count_by_document, count_writers], BOB, router=router)
    assert await process(keystroke(doc_id='a')) == [1, 'a: 1', 1]
    assert await process(keystroke(doc_id='b')) == [2, 'b: 1', 1]
    assert await process(keystroke(doc_id='a')) == [3, 'a: 2', 2]


async def test_the_states_are_those_of_single_awaits(router: KVSRouter) -> None:
    reducers = [count, count_by_document, count_writers]
    events = [keystroke(doc_id=name) for name in 'abcab']
    process = await event_pipeline(reducers, BOB, router=router)
    for event in events:
        await process(event)
    async with KVSRouter(InMemoryKVS()) as other:
        for reducer in reducers:
            process_event = await reducer(BOB, router=other)
            for event in events:
                await process_event(event, event_fields(event))
        assert await router().dump() == await other().dump()


async def test_an_event_without_a_field_of_the_scope_does_not_reach_the_reducer_and_is_counted(
    router: KVSRouter,
) -> None:
    process = await event_pipeline([count, count_by_document], BOB, router=router)
    assert await process(keystroke()) == [1]
    assert process.skipped == 1
    assert not await router().keys('Internal,' + __name__ + '.count_by_document')


@pytest.mark.parametrize('metadata', [None, {}, {'auth': {'safe_user_id': ''}}])
async def test_an_event_without_a_student_reaches_only_reducers_that_need_none(
    router: KVSRouter, metadata: Any
) -> None:
    process = await event_pipeline([count, count_writers], metadata, router=router)
    assert await process(keystroke(doc_id='a')) == [1]
    assert process.skipped == 1
    assert {key.split(',')[1] for key in await router().keys()} == {f'{__name__}.count_writers'}


async def test_the_end_of_a_connection_reaches_no_reducer(router: KVSRouter) -> None:
    process = await event_pipeline([count, count_writers], BOB, router=router)
    assert await process({'client': {'event': 'terminate', 'doc_id': 'a'}}) == []
    assert process.skipped == 2


@pytest.mark.parametrize(
    'metadata',
    [None, {}, {'auth': {'safe_user_id': ''}}, {'auth': {'safe_user_id': None}}, {'auth': {'safe_user_id': '[guest]'}}],
)
async def test_where_no_student_is_named_only_reducers_without_a_student_are_reached(
    router: KVSRouter, metadata: Any
) -> None:
    process = await event_pipeline([count, count_by_document, count_writers], metadata, router=router)
    assert await process(keystroke(doc_id='a')) == [1]
    assert process.skipped == 2


async def test_a_reducer_alone_keeps_the_state_of_a_guest_and_of_none(router: KVSRouter) -> None:
    for metadata in (None, {'auth': {'safe_user_id': None}}):
        await (await count(metadata, router=router))(keystroke())
    keys = {
        f'{state},{__name__}.count,STUDENT:{student}'
        for state in ('Internal', 'External')
        for student in ('[guest]', 'None')
    }
    assert set(await router().keys()) == keys


async def test_outcomes_of_a_store_that_takes_no_event_name_the_keys_of_the_reducers_that_it_reaches(
    router: KVSRouter,
) -> None:
    process = await event_pipeline([count, count_by_document, count_writers], BOB, router=router)
    await process(keystroke())
    await worker_of(router()).close(1.0)
    [outcome] = await process.outcomes(keystroke())
    assert isinstance(outcome.error, StoreUnavailable)
    assert outcome.reducer_name == f'{__name__}.count'
    assert outcome.keys == tuple(f'{state},{__name__}.count,STUDENT:bob' for state in ('Internal', 'External'))
    with pytest.raises(ExceptionGroup) as raised:
        await process(keystroke())
    assert [type(error) for error in raised.value.exceptions] == [StoreUnavailable]


async def test_a_group_of_errors_names_the_reducers_that_failed_and_the_others_are_committed(
    router: KVSRouter,
) -> None:
    process = await event_pipeline([count, fail, count_by_document], BOB, router=router)
    with pytest.raises(ExceptionGroup, match=rf'1 of 3 reducers failed: {__name__}\.fail') as raised:
        await process(keystroke(doc_id='a'))
    [error] = raised.value.exceptions
    assert isinstance(error, LookupError)
    assert error.__notes__ == [f'Reducer: {__name__}.fail']
    assert await router()[f'External,{__name__}.count,STUDENT:bob'] == 1
    assert await router()[f'External,{__name__}.count_by_document,EventField.doc_id:a,STUDENT:bob'] == 'a: 1'


async def test_a_field_that_makes_no_key_fails_the_reducers_that_need_it_and_no_later_event(
    router: KVSRouter,
) -> None:
    process = await event_pipeline([count_by_document, count], BOB, router=router)
    assert await process(keystroke(doc_id='a')) == ['a: 1', 1]
    bad, good = await process.outcomes(keystroke(doc_id=10**5000))
    assert isinstance(bad.error, ValueError)
    assert bad.keys == ()
    assert good.result == 2
    assert await process(keystroke(doc_id='a')) == ['a: 2', 3]


async def test_results_are_a_sequence(router: KVSRouter) -> None:
    process = await event_pipeline([count, count_by_document, count_writers], BOB, router=router)
    results = await process(keystroke(doc_id='a'))
    assert (len(results), results[0], results[-1], list(results[1:])) == (3, 1, 1, ['a: 1', 1])
    assert results != [1]
    assert repr(results) == "[1, 'a: 1', 1]"


async def test_outcomes_give_result_or_error_of_each_reducer(router: KVSRouter) -> None:
    process = await event_pipeline([count, fail], BOB, router=router)
    first, second = await process.outcomes(keystroke())
    assert (first.reducer_name, first.result, first.error) == (f'{__name__}.count', 1, None)
    assert (second.reducer_name, second.result) == (f'{__name__}.fail', False)
    assert isinstance(second.error, LookupError)


def test_the_document_of_an_event_may_be_its_object() -> None:
    assert event_fields({'client': {'event': 'x', 'object': {'id': 'doc'}}})['doc_id'] == 'doc'
    assert event_fields({'client': {'doc_id': 'a', 'object': {'id': 'doc'}}})['doc_id'] == 'a'
    assert event_fields({}) == {}
