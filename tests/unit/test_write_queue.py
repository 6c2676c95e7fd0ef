"""Writes that wait travel together, in order and within bounds, and each caller gets its own outcome."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.types import Outcome
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteBatch, WriteQueue, WriteRequest


class Backend:
    """What carries batches out when a test says so, in a time that passes when it says so.

    Attributes:
        batches: those that have begun, each with what is called when it is done.
    """

    def __init__(self, max_requests: int = 100, max_bytes: int = 1000) -> None:
        self.batches: list[tuple[WriteBatch, OnBatchDone]] = []
        self.now = 1000.0
        self.timers: list[tuple[float, asyncio.Handle]] = []
        asyncio.get_running_loop().call_later = self._call_later  # type: ignore[method-assign, assignment]
        self.queue = WriteQueue(self._begin, lambda: 'a test', max_requests, max_bytes, lambda: self.now)
        self.outcomes: dict[str, Outcome] = {}

    def _begin(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
        self.batches.append((batch, on_batch_done))

    def submit(self, name: str, size: int = 2, seconds: float | None = None) -> WriteRequest:
        """Submit a request of that many bytes, its key counted; ``seconds`` are until its deadline."""
        assert name not in self.outcomes
        deadline = ONE_TRY if seconds is None else self.now + seconds
        on_done = lambda outcome: self.outcomes.__setitem__(name, outcome)  # noqa: E731
        request = WriteRequest({name: b'x' * (size - len(name))}, {}, on_done, (), deadline)
        self.queue.add(request)
        return request

    def fail(self, number: int, *names: str) -> None:
        """Finish a batch whose requests, or those named, find the backend away."""
        batch, on_batch_done = self.batches[number]
        for request in batch:
            request.result = not (away := not names or next(iter(request.writes)) in names)
            request.error = StoreUnavailable('away', retry=True) if away else None
        on_batch_done(batch)

    async def pass_time(self, seconds: float) -> None:
        """Let the clock go on, and the timers of the queue run that are due then."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end and not timer[1].cancelled()]:
            self.now, handle = first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            handle._run()
            await asyncio.sleep(0)
        self.now = end

    def _call_later(self, seconds: float, callback: Callable[..., Any], *arguments: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, asyncio.get_running_loop())
        self.timers.append((self.now + seconds, handle))
        return handle

    def names(self) -> list[list[str]]:
        return [[next(iter(request.writes)) for request in batch] for batch, _ in self.batches]

    def finish(self, number: int) -> None:
        batch, on_batch_done = self.batches[number]
        on_batch_done(batch)


async def test_what_is_submitted_in_one_tick_is_one_batch_and_what_comes_meanwhile_the_next() -> None:
    backend = Backend()
    backend.submit('a').result = True
    backend.submit('b')
    assert backend.names() == []
    await asyncio.sleep(0)
    backend.submit('c')
    await asyncio.sleep(0)
    assert backend.names() == [['a', 'b']]
    backend.finish(0)
    assert backend.names() == [['a', 'b'], ['c']]
    assert backend.outcomes == {'a': True, 'b': False}


async def test_a_batch_has_no_more_requests_and_bytes_than_allowed_and_keeps_the_order() -> None:
    backend = Backend(max_requests=3, max_bytes=10)
    for name, size in [('a', 2), ('b', 2), ('c', 2), ('d', 6), ('e', 4), ('f', 2), ('g', 50), ('h', 2)]:
        backend.submit(name, size)
    await asyncio.sleep(0)
    for number in range(4):
        backend.finish(number)
    assert backend.names() == [['a', 'b', 'c'], ['d', 'e'], ['f'], ['g'], ['h']]


async def test_an_error_of_one_request_is_its_own() -> None:
    backend = Backend()
    backend.submit('a').error = error = StoreUnavailable('no')
    backend.submit('b').result = True
    await asyncio.sleep(0)
    backend.finish(0)
    assert backend.outcomes == {'a': error, 'b': True}


async def test_a_batch_that_cannot_begin_fails_its_requests_and_the_next_is_written() -> None:
    class Refusing(Backend):
        def _begin(self, batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
            if next(iter(batch[0].writes)) == 'a':
                raise RuntimeError('no thread')
            super()._begin(batch, on_batch_done)

    backend = Refusing(max_requests=1)
    backend.submit('a')
    backend.submit('b')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert repr(backend.outcomes['a']) == "RuntimeError('no thread')"
    assert backend.names() == [['b']]


async def test_writes_beyond_the_bound_are_rejected_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 2)
    backend = Backend()
    backend.submit('a')
    backend.submit('b')
    with pytest.raises(Overloaded, match=r'2 writes, of .* MB, wait for a test .*Retry later'):
        backend.submit('c')
    await asyncio.sleep(0)
    backend.submit('d')
    backend.finish(0)
    backend.finish(1)
    assert set(backend.outcomes) == {'a', 'b', 'd'}


async def test_the_bytes_of_what_waits_are_bounded_with_the_keys_and_a_single_write_may_have_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_queue, 'MAX_QUEUED_BYTES', 20)
    backend = Backend()
    backend.submit('a', 100)
    with pytest.raises(Overloaded):
        backend.submit('b')
    await asyncio.sleep(0)
    backend.submit('c', 10)
    with pytest.raises(Overloaded, match=r'1 writes, of 0\.0 MB'):
        backend.queue.add(WriteRequest({'a long key that is removed': None}, {}, lambda outcome: None))
    backend.submit('d', 10)
    backend.finish(0)
    backend.submit('e', 20)
    backend.fail(1)
    assert backend.names() == [['a'], ['c', 'd'], ['e']]


async def test_closing_gives_those_that_wait_an_error_and_those_in_flight_go_on() -> None:
    backend = Backend()
    backend.submit('a')
    await asyncio.sleep(0)
    backend.submit('b')
    backend.queue.close('It was closed.')
    backend.finish(0)
    assert repr(backend.outcomes) == "{'b': StoreUnavailable('It was closed.'), 'a': False}"
    assert backend.names() == [['a']]


# While the backend is away


async def test_what_could_not_be_written_is_tried_again_in_order_and_what_comes_meanwhile_after_it() -> None:
    backend = Backend(max_requests=2)
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


async def test_the_pauses_between_tries_grow_to_a_second_and_begin_anew_after_a_success() -> None:
    backend = Backend()
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
    backend = Backend(max_requests=1)
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
    backend = Backend()
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
    with pytest.raises(StoreUnavailable, match='away'):
        backend.submit('d')
    await backend.pass_time(0.1)
    backend.finish(2)
    backend.submit('e')
    await asyncio.sleep(0)
    assert backend.names()[2:] == [['c'], ['e']]


async def test_requests_that_fail_among_others_are_tried_again_and_hold_none_of_them_up() -> None:
    backend = Backend()
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
    backend = Backend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.submit('b', seconds=2)
    backend.submit('c', seconds=30)
    await backend.pass_time(4)
    assert re.search(r'busy with the writes before for \d s\. Nothing was written', str(backend.outcomes['b']))
    backend.finish(0)
    assert backend.names() == [['a'], ['c']]


async def test_closing_cuts_waiting_short_and_says_why_the_backend_is_away() -> None:
    backend = Backend()
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
    backend = Backend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.queue.close('It was closed.')
    backend.fail(0)
    assert isinstance(backend.outcomes['a'], StoreUnavailable)


async def test_a_request_that_was_answered_early_is_answered_once_and_not_tried_again() -> None:
    backend = Backend()
    request = backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    request.answer_early(early := WriteUnclear('lost'))
    backend.fail(0)
    await backend.pass_time(5)
    assert backend.outcomes == {'a': early}
    assert backend.names() == [['a']]


async def test_draining_ends_when_nothing_waits_and_nothing_is_in_flight() -> None:
    backend = Backend(max_requests=1)
    await backend.queue.drain()
    backend.submit('a')
    backend.submit('b')
    drained: asyncio.Task[Any] = asyncio.ensure_future(backend.queue.drain())
    await asyncio.sleep(0)
    backend.finish(0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not drained.done()
    backend.finish(1)
    await drained


async def test_when_all_that_was_tried_again_has_given_up_the_next_request_is_tried_though_its_deadline_is_over() -> (
    None
):
    backend = Backend()
    backend.submit('a', seconds=1.5)
    await asyncio.sleep(0)
    tries = 0
    for _ in range(300):
        if len(backend.batches) > tries:
            backend.fail(tries)
            tries += 1
        await backend.pass_time(0.01)
    assert 'a' in backend.outcomes  # the watch answered it, between two tries
    backend.submit('b')
    await asyncio.sleep(0)
    assert backend.names()[tries:] == [['b']]


@pytest.mark.parametrize('when', ['in flight', 'between two tries'])
async def test_a_write_whose_caller_was_cancelled_is_not_tried_again_past_what_that_caller_wrote_next(
    when: str,
) -> None:
    backend = Backend()
    request = backend.submit('a', seconds=15)
    backend.submit('z', seconds=15)
    await asyncio.sleep(0)
    if when == 'in flight':
        request.withdraw()
    backend.fail(0, 'a')
    request.withdraw()
    newer: list[Outcome] = []
    backend.queue.add(WriteRequest({'a': b'newer'}, {}, newer.append, (), backend.now + 15))
    await asyncio.sleep(0)
    backend.finish(1)
    await backend.pass_time(5)
    assert newer == [False]
    assert backend.names() == [['a', 'z'], ['a']]
    assert [request.writes for request in backend.batches[1][0]] == [{'a': b'newer'}]


async def test_those_that_fail_among_others_count_among_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    for number, failing in enumerate('abc'):
        backend.submit(failing, seconds=15)
        backend.submit(f'{failing}2', seconds=15)
        await asyncio.sleep(0)
        backend.fail(number, failing)
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 3)
    with pytest.raises(Overloaded, match='3 writes'):
        backend.submit('d', seconds=15)


async def test_what_is_submitted_after_closing_is_written_and_waits_for_nothing_from_before() -> None:
    backend = Backend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    backend.queue.close('It was closed.')
    backend.submit('b', seconds=15)
    await asyncio.sleep(0)
    assert backend.names() == [['a'], ['b']]
    backend.finish(0)
    assert set(backend.outcomes) == {'a'}
    backend.fail(1)
    await backend.pass_time(0.1)
    assert backend.names()[2:] == [['b']]
    backend.finish(2)
    assert set(backend.outcomes) == {'a', 'b'}


async def test_a_request_that_is_tried_once_is_not_kept_waiting_behind_a_batch_that_is_held_up() -> None:
    backend = Backend()
    backend.submit('a', seconds=15)
    await asyncio.sleep(0)
    outcomes: list[Outcome] = []
    backend.queue.submit({'b': b''}, {}, outcomes.append, (), ONE_TRY, backend.now + 2)
    await backend.pass_time(1.5)
    assert outcomes == []
    await backend.pass_time(2)
    [outcome] = outcomes
    assert isinstance(outcome, StoreUnavailable)
    backend.finish(0)
    assert backend.names() == [['a']]
