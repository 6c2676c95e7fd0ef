"""``flush_interval``: what a flush comes to when another process wrote, or when its answer was lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of, write_behind
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from tests.support.watched import count, decline
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Away, event, first_only


@pytest.fixture
async def store() -> Away:
    store = Away(flush_interval=NEVER)
    worker_of(store)
    return store


def worker_on(store: Away) -> WriteBehindWorker:
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    return worker


def nothing_is_left(store: Away) -> bool:
    worker = worker_on(store)
    states = worker._pending
    return not (states or states.texts or states.events or states.bytes or worker._busy or worker._queued)


async def lose_the_answer(store: Away) -> None:
    """A flush that is written, but whose answer is lost."""
    store.away = WriteUnclear('no answer')
    with pytest.raises(WriteUnclear):
        await store.flush()
    store.away = None


async def lose_the_write(store: Away) -> None:
    """A flush that is lost with its answer: neither the write nor the answer arrives."""
    before = dict(store._texts)
    await lose_the_answer(store)
    store._texts = before


async def test_what_another_process_wrote_is_reduced_onto(store: Away) -> None:
    seen: list[int] = []
    for number in (1, 2):
        await event(number, store, seen)
    store._texts[INTERNAL] = b'{"seen":[50]}'
    await store.flush()
    assert seen == [1, 2, 1, 2]
    assert store._texts == {INTERNAL: b'{"seen":[50,1,2]}', EXTERNAL: b'{"count":3}'}
    assert nothing_is_left(store)
    assert await event(3, store) == {'count': 4}


async def test_an_event_that_was_lost_with_its_answer_is_written_again(store: Away) -> None:
    await event(1, store)
    await lose_the_write(store)
    assert store._texts == {}
    await store.flush()
    assert store._texts[INTERNAL] == b'{"seen":[1]}'
    assert nothing_is_left(store)


async def test_of_several_lost_answers_the_last_that_arrived_counts(store: Away) -> None:
    await event(1, store)
    await lose_the_answer(store)
    await event(2, store)
    await lose_the_write(store)
    await event(3, store)
    await store.flush()
    assert store._texts == {INTERNAL: b'{"seen":[1,2,3]}', EXTERNAL: b'{"count":3}'}
    assert nothing_is_left(store)


@pytest.mark.parametrize('error', [StoreUnavailable('gone fishing'), WriteUnclear('gone fishing')])
async def test_a_lost_answer_that_cannot_be_looked_up_stays_unclear(
    store: Away, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def down(keys: Any) -> Any:
        raise error

    await event(1, store)
    await lose_the_answer(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, 'read_bytes', down)
        with pytest.raises(WriteUnclear, match='gone fishing'):
            await store.flush()
    assert worker_on(store)._pending.events == 1
    await store.flush()
    assert store._texts[INTERNAL] == b'{"seen":[1]}'
    assert nothing_is_left(store)


async def test_an_event_that_is_left_out_is_logged_with_its_key_and_error(
    store: Away, caplog: pytest.LogCaptureFixture
) -> None:
    await worker_of(store).process(INTERNAL, EXTERNAL, first_only, b'{"seen":[]}')
    await event(1, store)
    store._texts[INTERNAL] = b'{"seen":[50]}'
    await store.flush()
    assert store._texts[INTERNAL] == b'{"seen":[50,1]}'
    [record] = [record for record in caplog.records if 'left out' in record.message]
    assert INTERNAL in record.message
    assert record.exc_info is not None
    assert 'too late' in str(record.exc_info[1])
    assert nothing_is_left(store)


async def test_an_event_whose_caller_got_an_error_is_not_reduced_onto_what_another_wrote(
    store: Away, caplog: pytest.LogCaptureFixture
) -> None:
    await event(1, store)
    with pytest.raises(LookupError):
        await worker_of(store).process(INTERNAL, EXTERNAL, first_only, b'{"seen":[]}')
    assert worker_on(store)._pending.events == 1
    assert store._texts == {}
    store._texts[INTERNAL] = b'{"seen":[]}'
    await store.flush()
    assert store._texts[INTERNAL] == b'{"seen":[1]}'
    assert 'left out' not in caplog.text


async def test_at_its_bound_of_events_a_key_is_flushed_but_not_while_the_backend_fails(
    store: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, 'MAX_EVENTS_OF_KEY', 3)
    await event(1, store)
    await event(2, store)
    assert store._texts == {}
    await event(3, store)
    assert store._texts[INTERNAL] == b'{"seen":[1,2,3]}'
    assert nothing_is_left(store)
    calls = []
    submit = store.submit

    def counting(writes: Any, *rest: Any) -> None:
        calls.append(sorted(writes))
        submit(writes, *rest)

    monkeypatch.setattr(worker_of(store), '_submit', counting)
    store.away = StoreUnavailable('gone fishing')
    for number in range(4, 10):
        await event(number, store)
    assert len(calls) == 1
    store.away = None
    await store.flush()
    assert len(calls) == 2
    assert store._texts[EXTERNAL] == b'{"count":9}'


async def test_a_full_worker_accepts_events_again_after_a_flush(store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', 2)
    store.away = StoreUnavailable('gone fishing')
    await event(1, store)
    await event(2, store)
    for _ in range(2):
        with pytest.raises(Overloaded, match=r'2 events wait to be written to .*gone fishing.*retry later'):
            await event(3, store)
    assert worker_on(store)._pending.events == 2
    store.away = None
    await store.flush()
    assert not worker_on(store)._is_full
    assert worker_on(store)._capacity is None
    assert await event(3, store) == {'count': 3}


async def test_an_event_that_changed_nothing_is_not_pending(store: Away) -> None:
    store._texts[INTERNAL] = b'{"seen":[]}'
    assert await worker_of(store).process(INTERNAL, EXTERNAL, decline) is False
    assert nothing_is_left(store)
    assert worker_on(store)._timer is None


async def test_of_events_that_were_reduced_together_those_that_succeeded_are_pending(store: Away) -> None:
    async def fail(state: Any) -> Any:
        await asyncio.sleep(0)
        raise LookupError

    calls = [fail, fail, count, fail, count]
    outcomes = await asyncio.gather(
        *(worker_of(store).process(INTERNAL, EXTERNAL, call) for call in calls), return_exceptions=True
    )
    assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
        LookupError,
        LookupError,
        1,
        LookupError,
        2,
    ]
    assert store._texts == {}
    assert worker_on(store)._pending.events == 2
    await store.flush()
    assert store._texts == {INTERNAL: b'2', EXTERNAL: b'2'}
    assert nothing_is_left(store)


@pytest.mark.parametrize('bound', ['events', 'bytes', 'closing'])
async def test_it_stays_full_until_it_is_below_its_bounds(
    store: Away, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    worker = worker_on(store)
    await event(1, store)
    await event(2, store)
    events, size = worker._pending.events, worker._pending.bytes
    for name in 'ab':
        await worker.process(f'Internal,{name}', f'External,{name}', count)
    worker._is_full = True
    if bound == 'events':
        monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_EVENTS', events)
    elif bound == 'bytes':
        monkeypatch.setattr('learning_observer_kvs.reducers.pending.MAX_BYTES', size)
    else:
        worker._is_closing = True
    for name in 'ab':
        await store.set(f'Internal,{name}', 5)
        assert worker._is_full
    worker._is_closing = False
    await store.set(INTERNAL, 5)
    assert not worker._is_full
    assert nothing_is_left(store)
