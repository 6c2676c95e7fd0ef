"""Events that were acknowledged and could not come into a state: kept in a file, counted and logged."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.failed_events import FailedEvent
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Away, Pair


def worker_on(store: Store) -> WriteBehindWorker:
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    return worker


def kept(folder: Path) -> list[FailedEvent]:
    """The failed events below a folder."""
    found: list[FailedEvent] = []
    for path in failed_events.find(folder):
        for line in failed_events.read(path):
            assert isinstance(line, FailedEvent)
            found.append(line)
    return found


async def append(event: Any, state: Any) -> Any:
    """A reducer that accepts any event, except where ``first`` comes behind another one."""
    if event == 'first' and state:
        raise LookupError('too late')
    if event == 'odd' and state:
        return {'set': {1}}, None
    if event == 'no pair' and state:
        return state
    if event == 'cancelled' and state:
        raise asyncio.CancelledError
    return [*state, event], len(state)


def send(store: Store, event: Any, external_key: str = EXTERNAL) -> Any:
    return worker_of(store).process(INTERNAL, external_key, functools.partial(append, event), b'[]')


@pytest.mark.parametrize(
    ('event', 'error'),
    [
        ('first', 'LookupError: too late'),
        ('odd', 'InvalidValue: '),
        ('no pair', 'ReducerError: '),
        ('cancelled', 'CancelledError: '),
    ],
)
async def test_an_event_that_cannot_be_reduced_again_is_kept_and_the_others_are_written(
    delayed_pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture, event: str, error: str
) -> None:
    store, other = delayed_pair
    for each in (event, 'two', 'three'):
        await send(store, each)
    await send(other, 'of another process')
    await store.flush()
    assert await other[INTERNAL] == ['of another process', 'two', 'three']
    [line] = kept(tmp_path)
    assert (line.event, line.reducer, line.keys, line.is_unclear) == (event, 'm.r', (INTERNAL, EXTERNAL), False)
    assert line.error.startswith(error)
    assert worker_on(store).left_out.kept == 1
    assert 'left out, and kept in' in caplog.text
    await store.flush()
    assert len(kept(tmp_path)) == 1


async def test_it_is_kept_with_the_name_of_its_reducer_and_where_the_store_says(tmp_path: Path) -> None:
    @student_event_reducer(null_state=[], module_override='essays', qualname_override='first')
    async def reducer(event: Any, state: Any) -> Any:
        return await append(event, state)

    settings = {'type': 'sqlite', 'path': str(tmp_path / 's'), 'failed_events': str(tmp_path / 'there')}
    async with (
        KVSRouter.from_settings({'kvs': {'default': settings | {'flush_interval': NEVER}}}) as router,
        KVSRouter.from_settings({'kvs': {'default': settings}}) as other,
    ):
        bob = {'auth': {'safe_user_id': 'bob'}}
        await (await reducer(bob, router=router))('first')
        await (await reducer(bob, router=other))('second')
        await router().flush()
    [line] = kept(tmp_path / 'there')
    assert (line.event, line.reducer) == ('first', 'essays.first')
    assert line.keys == ('Internal,essays.first,STUDENT:bob', 'External,essays.first,STUDENT:bob')


async def test_an_event_that_cannot_be_kept_either_is_in_the_log(
    delayed_pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = delayed_pair
    (tmp_path / 'failed-events').write_text('not a folder')
    await send(store, 'first')
    await send(other, 'of another process')
    await store.flush()
    assert "It was 'first'." in caplog.text
    assert worker_on(store).left_out.kept == 0
    assert await other[INTERNAL] == ['of another process']


# Where an answer was lost


async def lose_the_answer(store: Away) -> None:
    store.away = WriteUnclear('no answer')
    with pytest.raises(WriteUnclear):
        await store.flush()
    store.away = None


@pytest.mark.parametrize('applied', [True, False], ids=['applied', 'not applied'])
async def test_events_that_may_have_been_written_before_another_process_wrote_are_kept_and_not_reduced_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, applied: bool
) -> None:
    store = Away(flush_interval=NEVER)
    await send(store, 'one')
    await send(store, 'two')
    await lose_the_answer(store)
    store._texts[INTERNAL] = b'["one","two","of another"]' if applied else b'["of another"]'
    await send(store, 'three')
    await store.flush()
    assert store._texts[INTERNAL] == (b'["one","two","of another","three"]' if applied else b'["of another","three"]')
    assert [(line.event, line.is_unclear) for line in kept(tmp_path)] == [('one', True), ('two', True)]
    assert 'may or may not have been written' in caplog.text
    assert worker_on(store).left_out.kept == 2
    assert store.busy_keys() == 0


async def test_where_all_events_are_in_doubt_nothing_is_written_and_the_next_event_sees_what_is_there(
    tmp_path: Path,
) -> None:
    store = Away(flush_interval=NEVER)
    await send(store, 'one')
    await lose_the_answer(store)
    store._texts |= {INTERNAL: b'["one","two"]', EXTERNAL: b'1'}
    await store.flush()
    assert store._texts == {INTERNAL: b'["one","two"]', EXTERNAL: b'1'}
    assert await send(store, 'three') == 2
    await store.flush()
    assert store._texts[INTERNAL] == b'["one","two","three"]'
    assert len(kept(tmp_path)) == 1


async def test_an_event_left_out_of_a_flush_whose_answer_was_lost_is_kept_once_that_is_found(tmp_path: Path) -> None:
    store = Away(flush_interval=NEVER)
    await send(store, 'first')
    await send(store, 'two')
    store._texts[INTERNAL] = b'["of another"]'
    submit, sent = store.submit, []

    def lose_the_second(writes: Any, expected: Any, on_done: Any, *rest: Any) -> None:
        sent.append(writes)
        if len(sent) == 2:
            store.away = WriteUnclear('no answer')
        submit(writes, expected, on_done, *rest)
        store.away = None

    worker_on(store)._submit = lose_the_second
    with pytest.raises(WriteUnclear):
        await store.flush()
    assert store._texts[INTERNAL] == b'["of another","two"]'
    await send(store, 'three')
    await store.flush()
    assert store._texts[INTERNAL] == b'["of another","two","three"]'
    assert [(line.event, line.error) for line in kept(tmp_path)] == [('first', 'LookupError: too late')]


# When the store is closed


@pytest.mark.parametrize(
    'error', [StoreUnavailable('gone fishing'), WriteUnclear('no answer')], ids=['away', 'unclear']
)
async def test_what_cannot_be_saved_when_the_store_is_closed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.01)
    store = Away(flush_interval=NEVER)
    store.away = error
    for number in range(3):
        await send(store, number)
    closes = [asyncio.ensure_future(store.close()) for _ in range(2)]
    await asyncio.gather(*closes)
    is_unclear = isinstance(error, WriteUnclear)
    assert [(line.event, line.is_unclear) for line in kept(tmp_path)] == [(number, is_unclear) for number in range(3)]
    assert '3 events kept in' in caplog.text


async def test_a_flush_that_is_under_way_when_the_store_is_closed_is_unclear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.01)
    store = Away(flush_interval=NEVER)
    await send(store, 'one')
    answers = []
    monkeypatch.setattr(worker_of(store), '_submit', lambda writes, expected, on_done, *rest: answers.append(on_done))
    await store.close()
    assert [(line.event, line.is_unclear) for line in kept(tmp_path)] == [('one', True)]
    answers[0](True)
    assert store.busy_keys() == 0


# Keys of any name


async def test_a_key_of_any_name_that_is_written_when_events_are_reduced_again_belongs_to_its_reducer() -> None:
    store = Away(flush_interval=NEVER)

    async def result_of_old_states(state: Any) -> Any:
        return (state or 0) + 1, bool(state) and state

    worker = worker_on(store)
    await worker.process('state', 'result', result_of_old_states)
    store._texts['state'] = b'50'
    store.away = False
    flushed = asyncio.ensure_future(store.flush())
    await asyncio.sleep(0)
    store.away = None
    submit = store.submit

    def fail_once(writes: Any, expected: Any, on_done: Any, *rest: Any) -> None:
        worker._submit = submit
        on_done(StoreUnavailable('gone fishing'))

    worker._submit = fail_once
    with pytest.raises(StoreUnavailable):
        await flushed
    assert await store['result'] == 50
    assert worker.queue_of('result') == 'state'
    await store.set('result', 'mine')
    await store.flush()
    assert store._texts == {'state': b'51', 'result': b'"mine"'}
    assert worker._pending.owners == {}
