"""What is counted of reducers: what was answered, what failed, what is pending, and what it took."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import InMemoryKVS, KVSRouter
from learning_observer_kvs.reducers.metrics import reducer_metrics
from learning_observer_kvs.reducers.tally import NOT_MEASURED
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.event_pipeline import event_pipeline
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer
from tests.support.watched import Watched
from tests.support.write_behind import NEVER, Away, Pair

ONE_OF = NOT_MEASURED + 1
BOB = {'auth': {'safe_user_id': 'bob'}}


@student_event_reducer(null_state={'n': 0}, module_override='m', qualname_override='count')
async def count(event: Any, state: Any) -> Any:
    if event == 'bad' or (isinstance(event, dict) and event.get('bad')):
        raise LookupError('bad')
    return {'n': state['n'] + 1}, False


@student_event_reducer(module_override='m', qualname_override='other')
async def other(event: Any, state: Any) -> Any:
    return event, event


@student_event_reducer(null_state=0, module_override='m', qualname_override='waits')
async def waits(event: Any, state: Any) -> Any:
    await asyncio.sleep(0)
    return state + 1, False


def of(store: Store, name: str = 'm.count') -> dict[str, Any]:
    found: dict[str, Any] = store.metrics()['reducers'][name]
    return found


async def send(reducer: Any, store: Store, *events: Any) -> None:
    """Send events one after the other, and leave alone what fails."""
    process = await reducer(BOB, router=KVSRouter(store))
    for event in events:
        try:
            await process(event)
        except (LookupError, StoreUnavailable):
            continue


@pytest.fixture(params=['stub', 'sqlite'])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    settings = {'stub': {'type': 'stub'}, 'sqlite': {'type': 'sqlite', 'path': str(tmp_path / 'k.sqlite3')}}
    async with KVSRouter.from_settings({'kvs': {'default': settings[request.param]}}) as router:
        yield router()


async def test_events_and_those_that_failed_are_counted_by_reducer_and_in_all(store: Store) -> None:
    await send(count, store, 1, 'bad', 2)
    await send(other, store, 1)
    assert (of(store)['events'], of(store)['failed_events'], of(store)['commits']) == (3, 1, 3)
    assert (of(store, 'm.other')['events'], of(store, 'm.other')['failed_events']) == (1, 0)
    metrics = store.metrics()
    assert (metrics['events'], metrics['failed_events']) == (4, 1)


async def test_events_that_waited_for_their_turn_and_were_committed_together_are_all_counted(store: Store) -> None:
    process = await count(BOB, router=KVSRouter(store))
    outcomes = await asyncio.gather(*(process('bad' if n % 5 == 0 else n) for n in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, LookupError) for outcome in outcomes) == 4
    assert (of(store)['events'], of(store)['failed_events']) == (20, 4)


async def test_a_pipeline_of_many_reducers_counts_each(store: Store) -> None:
    pipeline = await event_pipeline([count, other, waits], BOB, router=KVSRouter(store))
    for bad in (False, True):
        await pipeline.outcomes({'client': {'event': 'x'}, 'bad': bad})
    names = ('m.count', 'm.other', 'm.waits')
    assert [of(store, name)['events'] for name in names] == [2, 2, 2]
    assert [of(store, name)['failed_events'] for name in names] == [1, 0, 0]


async def test_one_of_so_many_calls_is_timed_and_one_of_so_many_commits_measured(store: Store) -> None:
    process = await waits(BOB, router=KVSRouter(store))
    for number in range(4 * ONE_OF):
        await process(number)
        await asyncio.sleep(0)  # a time slice each
    found = of(store, 'm.waits')
    assert found['timed_calls'] == 4
    assert 0 < found['timed_seconds'] < 1
    assert found['measured_commits'] == 4
    assert found['measured_bytes'] == 1 + 3 * 2  # 1, 17, 33, 49


async def test_the_passes_of_a_pipeline_are_timed_likewise_with_all_their_reducers(store: Store) -> None:
    pipeline = await event_pipeline([count, waits], BOB, router=KVSRouter(store))
    for number in range(2 * ONE_OF):
        await pipeline({'client': {'event': str(number)}})
    assert [of(store, name)['timed_calls'] for name in ('m.count', 'm.waits')] == [2, 2]


async def test_a_conflict_counts_the_event_once_and_the_conflict_too(watched: Watched) -> None:
    await send(count, watched, 1)

    def another_process_writes() -> None:
        watched.before = lambda: None
        watched.texts['Internal,m.count,STUDENT:bob'] = b'{"n":41}'

    watched.before = another_process_writes
    await send(count, watched, 2)
    assert await watched['Internal,m.count,STUDENT:bob'] == {'n': 42}
    assert (of(watched)['events'], of(watched)['conflicts'], of(watched)['failed_events']) == (2, 1, 0)


async def test_an_event_that_the_store_rejects_counts_as_failed() -> None:
    async with Away(retry_timeout=0) as store:
        store.away = StoreUnavailable('away')
        await send(count, store, 1)
        assert (of(store)['events'], of(store)['failed_events'], of(store)['commits']) == (1, 1, 0)


async def test_with_flush_interval_events_are_pending_until_they_are_written() -> None:
    async with InMemoryKVS(flush_interval=NEVER) as store:
        await send(count, store, 1, 'bad', 2)
        found = of(store)
        assert (found['events'], found['failed_events'], found['pending_events']) == (1, 1, 2)
        assert store.metrics()['pending_keys'] == 1
        assert store.metrics()['pending_bytes'] > 0
        await store.flush()
        found = of(store)
        assert (found['events'], found['failed_events'], found['pending_events']) == (3, 1, 0)
        assert (found['commits'], store.metrics()['pending_bytes']) == (1, 0)


async def test_what_another_process_erased_is_counted_as_failed_and_erased(delayed_pair: Pair) -> None:
    store, elsewhere = delayed_pair
    await send(count, store, 1)
    await store.flush()
    await send(count, store, 2, 3)
    await elsewhere.remove('Internal,m.count,STUDENT:bob')
    await store.flush()
    found = of(store)
    assert (found['events'], found['failed_events'], found['erased_events']) == (3, 2, 2)


async def test_what_could_not_be_saved_when_the_store_was_closed_is_counted_as_kept() -> None:
    store = Away(flush_interval=NEVER, retry_timeout=0)
    await send(count, store, 1, 2)
    store.away = StoreUnavailable('away')
    await store.close()
    found = of(store)
    assert (found['events'], found['failed_events'], found['kept_events']) == (2, 2, 2)


async def test_the_numbers_outlive_the_worker_of_an_event_loop(store: Store) -> None:
    await send(count, store, 1)
    await store.close()
    await send(count, store, 2)
    assert of(store)['events'] == 2


def test_threads_have_their_own_numbers_which_are_added_when_asked() -> None:
    store = InMemoryKVS()

    def run() -> None:
        asyncio.run(send(count, store, *range(500)))

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(run) for _ in range(2)))

    asyncio.run(both())
    assert of(store)['events'] == 1000


async def test_what_the_queue_of_writes_has_sent_is_counted(tmp_path: Path) -> None:
    settings = {'type': 'sqlite', 'path': str(tmp_path / 'k.sqlite3')}
    async with KVSRouter.from_settings({'kvs': {'default': settings}}) as router:
        await asyncio.gather(*(router().set(str(n), 'x') for n in range(10)))
        found = router().metrics()
        assert (found['writes'], found['written_bytes'], found['retries']) == (10, 10 * len('0"x"'), 0)
        assert found['write_batches'] == 1
        assert found['write_seconds'] > 0
        assert (found['waiting_writes'], found['waiting_bytes'], found['is_away']) == (0, 0, False)


async def test_a_store_in_memory_says_nothing_of_batches_that_it_does_not_have() -> None:
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        assert 'write_batches' not in router().metrics()
        assert reducer_metrics(router())['reducers'] == {}
