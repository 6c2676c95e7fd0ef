"""``flush_interval`` where the backend is away, answers oddly, or a bound is reached."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from learning_observer_kvs.errors import Conflict, Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of, write_behind
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Away, Pair, event, first_only


async def test_an_event_that_cannot_be_reduced_onto_what_another_wrote_is_logged(
    delayed_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = delayed_pair

    await worker_of(store).process(INTERNAL, EXTERNAL, first_only, b'{"seen":[]}')
    await event(2, other)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2]}
    assert 'left out' in caplog.text


async def test_a_key_with_very_many_events_is_flushed_early(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = delayed_pair
    monkeypatch.setattr(write_behind, 'MAX_EVENTS_OF_KEY', 10)
    for number in range(25):
        await event(number, store)
    assert len((await other[INTERNAL])['seen']) >= 10
    await store.flush()
    assert await other[INTERNAL] == {'seen': list(range(25))}


async def test_while_the_backend_is_away_events_are_kept_and_at_the_bound_rejected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 20)
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    for number in range(20):
        await event(number, store)
    with pytest.raises(Overloaded, match='gone fishing'):
        await event(99, store)
    assert caplog.text.count('cannot be written: gone fishing') == 1
    with pytest.raises(StoreUnavailable):
        await store.flush()
    assert await store[EXTERNAL] == {'count': 20}
    store.away = None
    await store.flush()
    assert store._texts[EXTERNAL] == b'{"count":20}'
    assert await event(20, store) == {'count': 21}
    assert caplog.text.count('cannot be written') == 1


async def test_at_the_bound_of_a_backend_that_answers_events_only_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 20)
    store = InMemoryKVS(flush_interval=NEVER)
    await asyncio.gather(*(event(number, store) for number in range(200)))
    assert await store[EXTERNAL] == {'count': 200}


async def test_a_flush_that_was_written_though_its_answer_was_lost_is_not_written_twice() -> None:
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = WriteUnclear('no answer')
    with pytest.raises(WriteUnclear):
        await store.flush()
    store.away = None
    await store.flush()
    assert await store[INTERNAL] == {'seen': [1]}


async def test_a_write_after_a_flush_that_failed_goes_on_where_another_process_wrote_in_between() -> None:
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = StoreUnavailable('gone fishing')
    with pytest.raises(StoreUnavailable):
        await store.flush()
    store.away = None
    store._texts[INTERNAL] = b'{"seen":[7]}'
    await store.set(EXTERNAL, 'mine')
    assert store._texts == {INTERNAL: b'{"seen":[7,1]}', EXTERNAL: b'"mine"'}


async def test_an_event_that_changes_nothing_of_a_cached_state_needs_no_backend() -> None:
    store = Away(flush_interval=NEVER)

    async def decline(state: Any) -> Any:
        return False, False

    await event(1, store)
    await store.flush()
    store.away = StoreUnavailable('gone fishing')
    assert await worker_of(store).process(INTERNAL, EXTERNAL, decline) is False
    store.away = None
    await store.flush()


async def test_events_whose_state_cannot_be_read_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Away(flush_interval=NEVER)

    async def down(keys: Any) -> Any:
        await asyncio.sleep(0)
        raise StoreUnavailable('gone fishing')

    monkeypatch.setattr(store, 'read_bytes', down)
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(*(event(number, store) for number in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ['gone fishing'] * 3
    assert store.busy_keys() == 0


async def test_closing_a_store_whose_backend_is_away_counts_what_was_not_saved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.01)
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    for number in range(3):
        await event(number, store)
    with caplog.at_level(logging.ERROR):
        await store.close()
    assert '3 events not saved' in caplog.text


async def test_no_event_is_accepted_while_the_store_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    await event(1, store)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match='being closed'):
        await event(2, store)
    store.away = None
    await closing
    assert store._texts[EXTERNAL] == b'{"count":1}'


async def test_an_event_that_joined_an_unclear_flush_does_not_bring_it_in_twice() -> None:
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = WriteUnclear('no answer')
    with pytest.raises(WriteUnclear):
        await store.flush()
    await event(2, store)
    store.away = None
    await store.flush()
    assert await store[INTERNAL] == {'seen': [1, 2]}
    assert store._texts[INTERNAL] == b'{"seen":[1,2]}'
    assert store._texts[EXTERNAL] == b'{"count":2}'


async def test_an_event_that_was_accepted_is_not_rejected_because_its_flush_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_behind, 'MAX_EVENTS_OF_KEY', 3)
    store = Away(flush_interval=NEVER)
    store.away = StoreUnavailable('gone fishing')
    assert [await event(number, store) for number in range(3)] == [{'count': 1}, {'count': 2}, {'count': 3}]
    store.away = None
    await store.flush()
    assert await store[INTERNAL] == {'seen': [0, 1, 2]}


async def test_those_who_wait_for_capacity_share_one_flush(delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 20)
    store, _ = delayed_pair
    flushes = []
    submit = store.submit

    def counting(writes: Any, *rest: Any) -> None:
        flushes.append(sorted(writes))
        submit(writes, *rest)

    monkeypatch.setattr(worker_of(store), '_submit', counting)

    async def count(state: Any) -> Any:
        return (state or 0) + 1, (state or 0) + 1

    async def one(key: int) -> Any:
        return await worker_of(store).process(f'Internal,{key}', f'External,{key}', count)

    assert await asyncio.gather(*(one(number % 20) for number in range(20))) == [1] * 20
    assert await asyncio.gather(*(one(number % 20) for number in range(20))) == [2] * 20
    assert len(flushes) <= 2 * 20


async def test_a_flush_that_loses_against_others_too_often_keeps_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.batch_worker.MAX_TRIES', 3)
    store = Away(flush_interval=NEVER)
    await event(1, store)
    store.away = False
    async with asyncio.timeout(20):
        with pytest.raises(Conflict, match='after 3 tries'):
            await store.flush()
        store.away = None
        await store.flush()
    assert store._texts[INTERNAL] == b'{"seen":[1]}'


async def test_an_event_left_out_is_logged_also_when_its_flush_fails_at_first(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = delayed_pair

    await worker_of(store).process(INTERNAL, EXTERNAL, first_only, b'{"seen":[]}')
    await event(1, store)
    await event(2, other)
    submit = store.submit
    rejected = []

    def refuse_the_second(writes: Any, expected: Any, on_done: Any, *rest: Any) -> None:
        rejected.append(expected)
        if len(rejected) == 2:
            on_done(StoreUnavailable('gone fishing'))
        else:
            submit(writes, expected, on_done, *rest)

    monkeypatch.setattr(worker_of(store), '_submit', refuse_the_second)
    with pytest.raises(StoreUnavailable):
        await store.flush()
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2, 1]}
    assert 'left out' in caplog.text


async def test_a_closed_store_tries_no_more(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr('learning_observer_kvs.stores.base.CLOSE_TIMEOUT', 0.01)
    store = Away(flush_interval=0.01)
    store.away = StoreUnavailable('gone fishing')
    await event(1, store)
    worker = worker_of(store)
    assert isinstance(worker, write_behind.WriteBehindWorker)
    await store.close()
    assert '1 events not saved' in caplog.text
    assert worker._timer is None or worker._timer.cancelled()
