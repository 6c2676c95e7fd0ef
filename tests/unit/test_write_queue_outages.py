"""Writes of a backend that is away, or busy with a batch: each is tried again, or answered, until its own deadline."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.write_queue import WATCH_SECONDS
from tests.support.scripted_backend import ScriptedBackend


async def keep_away(backend: ScriptedBackend, end: float) -> None:
    """Have every try fail until a time."""
    while backend.now < end:
        if backend.queue._in_flight:
            backend.fail(len(backend.batches) - 1)
        await backend.pass_time(0.01)


def texts(backend: ScriptedBackend) -> dict[str, str]:
    return {name: str(outcome) for name, outcome in backend.outcomes.items()}


async def test_what_could_not_be_written_is_tried_again_in_order_and_what_comes_meanwhile_after_it() -> None:
    backend = ScriptedBackend(max_requests=2)
    for name in 'abc':
        backend.submit(name, seconds=15)
    await asyncio.sleep(0)
    backend.fail(0)
    backend.submit('d', seconds=15)
    await asyncio.sleep(0)
    assert backend.names() == [['a', 'b']]
    await backend.pass_time(0.1)
    assert backend.names() == [['a', 'b'], ['a', 'b']]
    backend.fail(1)
    await backend.pass_time(1)
    for number in (2, 3):
        for request in backend.batches[number][0]:
            request.result = True
        backend.finish(number)
    assert backend.names() == [['a', 'b']] * 3 + [['c', 'd']]
    assert backend.outcomes == dict.fromkeys('abcd', True)


async def test_batches_their_time_and_what_is_tried_again_are_counted() -> None:
    backend = ScriptedBackend()
    backend.submit('a', size=5, seconds=15)
    backend.submit('b', size=7, seconds=15)
    await asyncio.sleep(0)
    await backend.pass_time(0.5)
    backend.fail(0, 'b')
    assert backend.queue.backlog() == (1, 7)
    assert not backend.queue.is_away()
    backend.submit('c', size=2, seconds=15)
    await backend.pass_time(0.1)
    backend.fail(1)
    counts = backend.counts
    assert counts.batches == len(backend.batches)
    assert counts.writes == sum(len(batch) for batch, _ in backend.batches)
    assert counts.bytes == sum(request.size for batch, _ in backend.batches for request in batch)
    assert counts.retries == 1 + len(backend.batches[1][0])
    assert counts.seconds >= 0.5
    assert backend.queue.is_away()


async def test_the_pauses_between_tries_grow_to_a_second_and_begin_anew_after_a_success() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    tried: list[float] = []
    while backend.now < 1010:
        backend.fail(len(backend.batches) - 1)
        tried.append(backend.now)
        while len(tried) == len(backend.batches):
            await backend.pass_time(0.01)
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert pauses[0] < 0.1
    assert max(pauses) < 1.1
    assert len(tried) < 20
    backend.finish(len(backend.batches) - 1)
    backend.submit('b', seconds=15)
    await asyncio.sleep(0)
    backend.fail(len(backend.batches) - 1)
    await backend.pass_time(0.1)
    assert backend.names()[-2:] == [['b'], ['b']]


async def test_each_request_is_answered_at_its_own_deadline_whether_it_was_tried_or_waits_behind() -> None:
    backend = ScriptedBackend(max_requests=1)
    backend.submit('a', seconds=5)
    backend.submit('b', seconds=3)
    await asyncio.sleep(0)
    backend.fail(0)
    backend.submit('c', seconds=8)
    answered: dict[str, float] = {}
    failed = 1
    while backend.now < 1010:
        await backend.pass_time(0.1)
        if failed < len(backend.batches):
            backend.fail(failed)
            failed += 1
        for name in backend.outcomes:
            answered.setdefault(name, backend.now)
    assert answered == pytest.approx({'b': 1003, 'a': 1005, 'c': 1008}, abs=1.1)
    for outcome in backend.outcomes.values():
        assert isinstance(outcome, StoreUnavailable)
        assert re.fullmatch(r'away( It has been so for \d+ s\.)?', str(outcome))


async def test_a_request_whose_deadline_is_over_is_tried_once_and_not_while_the_backend_is_known_to_be_away() -> None:
    backend = ScriptedBackend()
    backend.submit('a')
    await asyncio.sleep(0)
    backend.fail(0)
    assert isinstance(backend.outcomes['a'], StoreUnavailable)
    backend.submit('b')
    backend.submit('c', seconds=5)
    await asyncio.sleep(0)
    assert backend.names() == [['a'], ['b', 'c']]
    backend.fail(1)
    assert isinstance(backend.outcomes['b'], StoreUnavailable)
    with pytest.raises(StoreUnavailable, match='away') as failure:
        backend.submit('d')
    assert failure.value.retry
    await backend.pass_time(0.1)
    backend.finish(2)
    backend.submit('e')
    await asyncio.sleep(0)
    assert backend.names()[2:] == [['c'], ['e']]


async def test_requests_that_fail_among_others_are_tried_again_and_hold_none_of_them_up() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    backend.submit('b', seconds=15)
    await asyncio.sleep(0)
    backend.fail(0, 'a')
    assert set(backend.outcomes) == {'b'}
    backend.submit('c', seconds=15)
    await asyncio.sleep(0)
    assert backend.names() == [['a', 'b'], ['c']]
    backend.finish(1)
    await backend.pass_time(0.1)
    backend.finish(2)
    assert backend.names()[2:] == [['a']]
    assert set(backend.outcomes) == {'a', 'b', 'c'}


async def test_what_waits_behind_a_batch_that_is_held_up_is_answered_at_its_deadline() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.submit('b', seconds=2)
    backend.submit('c', seconds=30)
    backend.submit('d')
    await backend.pass_time(4)
    assert isinstance(late := backend.outcomes['b'], StoreUnavailable)
    assert late.retry
    assert re.search(r'busy with the writes before for \d s\. Nothing was written', str(backend.outcomes['b']))
    backend.finish(0)
    assert backend.names() == [['a'], ['c', 'd']]


async def test_closing_cuts_waiting_short_and_says_why_the_backend_is_away() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.fail(0)
    backend.submit('b', seconds=15)
    await backend.queue.drain()
    backend.queue.close('It was closed.')
    assert [str(outcome) for outcome in backend.outcomes.values()] == ['away It was closed.'] * 2
    await backend.pass_time(20)
    assert backend.names() == [['a']]


async def test_a_batch_that_fails_after_closing_is_answered() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.queue.close('It was closed.')
    backend.fail(0)
    assert isinstance(backend.outcomes['a'], StoreUnavailable)


async def test_a_request_that_was_answered_early_is_answered_once_and_not_tried_again() -> None:
    backend = ScriptedBackend()
    request = backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    request.answer_early(early := WriteUnclear('lost'))
    backend.fail(0)
    await backend.pass_time(5)
    assert backend.outcomes == {'a': early}
    assert backend.names() == [['a']]


async def test_what_is_to_be_tried_again_counts_among_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 2)
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.fail(0)
    backend.submit('b', seconds=15)
    with pytest.raises(Overloaded, match=r'^2 writes'):
        backend.submit('c', seconds=15)


async def test_the_bytes_of_what_is_to_be_tried_again_count_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED_BYTES', 20)
    backend = ScriptedBackend(max_requests=1)
    backend.submit('a', 15, seconds=15)
    await asyncio.sleep(0)
    backend.fail(0)
    backend.submit('b', 2, seconds=2)
    with pytest.raises(Overloaded):
        backend.submit('c', 10, seconds=15)
    await backend.pass_time(0.1)
    await backend.pass_time(4)
    assert set(backend.outcomes) == {'b'}
    backend.finish(1)
    assert backend.queue._bytes == 0


async def test_draining_waits_for_a_request_that_failed_among_others_and_not_for_a_backend_that_is_away() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=15)
    backend.submit('b', seconds=15)
    await asyncio.sleep(0)
    backend.fail(0, 'a')
    drained: asyncio.Task[Any] = asyncio.ensure_future(backend.queue.drain())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not drained.done()
    await backend.pass_time(0.1)
    assert not drained.done()
    assert backend.names() == [['a', 'b'], ['a']]
    backend.fail(1)
    async with asyncio.timeout(12):
        await drained
    assert set(backend.outcomes) == {'b'}


async def test_one_batch_is_in_flight_also_when_some_are_tried_again_as_others_come() -> None:
    backend = ScriptedBackend(max_requests=2)
    backend.submit('a', seconds=15)
    backend.submit('b', seconds=15)
    await asyncio.sleep(0)
    backend.fail(0, 'a')
    backend.submit('c', seconds=15)
    backend.submit('d', seconds=15)
    [try_again] = [call for when, _, call in backend.timers if when < backend.now + WATCH_SECONDS]
    try_again()
    for _ in range(3):
        await asyncio.sleep(0)
    assert backend.names() == [['a', 'b'], ['a', 'c']]
    backend.finish(1)
    assert backend.names()[2:] == [['d']]


async def test_a_request_that_fails_among_others_after_its_deadline_is_told_why_and_for_how_long() -> None:
    backend = ScriptedBackend()
    for name in 'ab':
        backend.submit(name, seconds=3)
    await asyncio.sleep(0)
    backend.fail(0, 'a')
    backend.submit('c', seconds=15)
    await asyncio.sleep(0)
    backend.finish(1)
    await backend.pass_time(0.1)
    backend.submit('d', seconds=15)
    await backend.pass_time(4.9)
    assert backend.names()[2:] == [['a']]
    backend.fail(2)
    assert texts(backend)['a'] == 'away It has been so for 5 s.'


async def test_a_request_that_failed_for_less_than_a_second_is_told_why_alone() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=0.3)
    await asyncio.sleep(0)
    backend.fail(0)
    await backend.pass_time(0.6)
    backend.fail(1)
    assert texts(backend) == {'a': 'away'}


async def test_after_the_last_request_was_given_up_the_next_one_is_tried() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=1)
    await asyncio.sleep(0)
    backend.fail(0)
    await backend.pass_time(0.1)
    await backend.pass_time(2)
    backend.fail(1)
    assert texts(backend) == {'a': 'away It has been so for 2 s.'}
    backend.submit('b')
    await asyncio.sleep(0)
    assert backend.names() == [['a'], ['a'], ['b']]


async def test_a_request_that_was_never_tried_is_told_how_long_the_backend_has_been_away() -> None:
    backend = ScriptedBackend(max_requests=1)
    backend.submit('a', seconds=30)
    backend.submit('b', seconds=3)
    await asyncio.sleep(0)
    await keep_away(backend, 1003.02)
    assert texts(backend) == {'b': 'away It has been so for 3 s.'}


async def test_a_request_that_was_answered_at_its_deadline_is_not_tried_again() -> None:
    backend = ScriptedBackend()
    backend.submit('a', seconds=1.2)
    await asyncio.sleep(0)
    await keep_away(backend, 1001.22)
    tried = len(backend.batches)
    assert texts(backend) == {'a': 'away It has been so for 1 s.'}
    assert backend.queue._bytes == 0
    await backend.pass_time(5)
    assert len(backend.batches) == tried


async def test_a_queue_that_was_idle_still_answers_those_behind_a_batch_that_is_held_up_at_their_deadline() -> None:
    backend = ScriptedBackend()
    backend.submit('a')
    await asyncio.sleep(0)
    backend.finish(0)
    await backend.pass_time(5)
    assert backend.timers == []
    backend.submit('b')
    await asyncio.sleep(0)
    await backend.pass_time(2.05)
    backend.submit('c', seconds=0.3)
    backend.submit('d', seconds=1.3)
    for name, when in (('c', 0.95), ('d', 0.36)):
        assert name not in backend.outcomes
        await backend.pass_time(when)
        assert name in backend.outcomes
    assert len(backend.timers) == 1


async def test_a_deadline_that_ends_while_batches_go_on_is_no_error() -> None:
    backend = ScriptedBackend()
    backend.submit('a')
    await asyncio.sleep(0)
    await backend.pass_time(0.9)
    backend.submit('b')
    backend.finish(0)
    backend.submit('c', seconds=0.05)
    await backend.pass_time(0.5)
    assert set(backend.outcomes) == {'a'}
    backend.finish(1)
    backend.finish(2)
    assert backend.outcomes == dict.fromkeys('abc', False)
