"""Writes that are withdrawn, tried once or come after closing, while others are held up."""

from __future__ import annotations

import asyncio

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.deadline import ONE_TRY
from learning_observer_kvs.stores.types import Outcome
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.support.scripted_backend import ScriptedBackend


async def test_when_all_that_was_tried_again_has_given_up_the_next_request_is_tried_though_its_deadline_is_over() -> (
    None
):
    backend = ScriptedBackend()
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
    backend = ScriptedBackend()
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
    backend = ScriptedBackend()
    for number, failing in enumerate('abc'):
        backend.submit(failing, seconds=15)
        backend.submit(f'{failing}2', seconds=15)
        await asyncio.sleep(0)
        backend.fail(number, failing)
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 3)
    with pytest.raises(Overloaded, match='3 writes'):
        backend.submit('d', seconds=15)


async def test_what_is_submitted_after_closing_is_written_and_waits_for_nothing_from_before() -> None:
    backend = ScriptedBackend()
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
    backend = ScriptedBackend()
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
