"""What a process keeps of a student whom another process erases: older events are left out, newer ones count."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.reducers import erased_students, worker_of
from learning_observer_kvs.reducers.write_behind import WriteBehindWorker
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.base import Store
from tests.support.write_behind import EXTERNAL, INTERNAL, NEVER, Pair, event

BOB = Ids(['bob'])


async def at(number: int, store: Store) -> Any:
    """An event that says when the server received it."""

    async def step(content: Any, state: Any) -> Any:
        state['seen'].append(number)
        return state, {'count': len(state['seen'])}

    call = functools.partial(step, {'server': {'time': time.time()}})
    return await worker_of(store).process(INTERNAL, EXTERNAL, call, b'{"seen":[]}')


def left_out(store: Store) -> int:
    worker = worker_of(store)
    assert isinstance(worker, WriteBehindWorker)
    return worker.left_out.erased


async def test_an_event_after_the_erasure_counts_although_the_process_has_the_old_state_cached(
    delayed_pair: Pair,
) -> None:
    store, other = delayed_pair
    for number in range(3):
        await event(number, store)
    await store.flush()
    await erase({'default': other}, BOB, who='a test')
    await event(7, store)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [7]}
    assert await store[INTERNAL] == {'seen': [7]}
    assert left_out(store) == 0


async def test_of_events_before_and_after_the_erasure_the_newer_ones_count(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    await event(1, store)
    await store.flush()
    await at(2, store)
    await erase({'default': other}, BOB, who='a test')
    await at(3, store)
    await at(4, store)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [3, 4]}
    assert left_out(store) == 1
    assert store.busy_keys() == 0
    await event(5, store)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [3, 4, 5]}


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass for what judges the age of events."""

    class Clock:
        time = staticmethod(lambda: real.time() + seconds)

    real: Any = time
    monkeypatch.setattr(erased_students, 'time', Clock)


async def test_a_flush_of_a_new_key_that_comes_too_late_for_the_erasure_does_not_bring_it_back(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = delayed_pair
    await event(1, store)
    await event(2, store)
    await suppression.change(other, lambda found: found.with_erased(['bob'], time.time()))
    later(monkeypatch, NEVER + 2)
    await store.flush()
    assert await other.keys() == []
    assert left_out(store) == 2
    assert await store[INTERNAL] is None
    assert store.busy_keys() == 0


async def test_a_late_flush_of_a_new_key_writes_what_came_after_the_erasure(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = delayed_pair
    await at(1, store)
    await suppression.change(other, lambda found: found.with_erased(['bob'], time.time()))
    await at(2, store)
    later(monkeypatch, NEVER + 2)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [2]}
    assert left_out(store) == 1


async def test_events_that_do_not_say_when_they_came_are_left_out_where_some_came_before(delayed_pair: Pair) -> None:
    store, other = delayed_pair
    await event(1, store)
    await store.flush()
    await event(2, store)
    await erase({'default': other}, BOB, who='a test')
    await event(3, store)
    await store.flush()
    assert await other.keys() == []
    assert left_out(store) == 2


async def test_a_late_flush_of_others_is_written_as_it_is(delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = delayed_pair
    await event(1, store)
    await suppression.change(other, lambda found: found.with_erased(['eve'], time.time()))
    later(monkeypatch, NEVER + 2)
    await store.flush()
    assert await other[INTERNAL] == {'seen': [1]}


async def test_what_cannot_be_judged_yet_is_kept(delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = delayed_pair
    await event(1, store)
    later(monkeypatch, NEVER + 2)
    with monkeypatch.context() as patch:

        async def away(name: str) -> bytes:
            raise StoreUnavailable('away', retry=True)

        patch.setattr(store, 'read_hidden', away)
        with pytest.raises(StoreUnavailable):
            await store.flush()
    await store.flush()
    assert await other[INTERNAL] == {'seen': [1]}


async def test_a_flush_in_time_does_not_look_for_erased_students(
    delayed_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = delayed_pair

    async def unexpected(name: str) -> bytes:
        raise AssertionError

    monkeypatch.setattr(store, 'read_hidden', unexpected)
    for number in range(3):
        await event(number, store)
        await store.flush()
    assert await other[INTERNAL] == {'seen': [0, 1, 2]}
