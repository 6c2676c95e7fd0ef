"""Exclusive access past a worker: what is pending is written first, and what is cached is forgotten afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest

from learning_observer_kvs.errors import Conflict, StoreUnavailable
from learning_observer_kvs.reducers import exclusive_access
from learning_observer_kvs.reducers.exclusive_access import ExclusiveAccess, FlushedAccess
from learning_observer_kvs.stores.key_locks import Hold, KeyLocks


class Worker:
    """A worker that notes what it is asked for, and whether the key was held then.

    Args:
        answers: what each flush of held keys comes to; at the end that it was written.
    """

    def __init__(self, *answers: bool | Exception) -> None:
        self.locks = KeyLocks()
        self.asked: list[tuple[str, bool]] = []
        self.answers = list(answers)
        self.failure: Exception | None = None

    def note(self, what: str) -> None:
        self.asked.append((what, bool(self.locks.held)))

    def hold(self, keys: Collection[str] | None) -> Hold:
        return self.locks.hold(keys)

    def forget(self, keys: Collection[str] | None) -> None:
        self.note(f'forget {keys}')

    async def flush_held(self, keys: Collection[str] | None) -> bool:
        self.note(f'flush held {keys}')
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def resume_flushes(self, keys: Collection[str] | None) -> None:
        self.note(f'resume {keys}')

    async def flush(self) -> None:
        self.note('flush')
        if self.failure is not None:
            raise self.failure


async def test_what_is_cached_is_forgotten_before_the_keys_are_free_also_after_a_failure() -> None:
    worker = Worker()
    async with ExclusiveAccess(worker, ['a']) as hold:
        assert worker.locks.held == {'a': hold.holder}
        assert worker.asked == []
    with pytest.raises(LookupError):
        async with ExclusiveAccess(worker, None):
            raise LookupError
    assert worker.asked == [("forget ['a']", True), ('forget None', True)]
    assert worker.locks.held == {}


async def test_the_block_begins_when_what_is_pending_is_written() -> None:
    worker = Worker()
    async with FlushedAccess(worker, ['a']) as hold:
        assert worker.locks.held == {'a': hold.holder}
        assert worker.asked == [("flush held ['a']", True)]
    assert worker.asked[1:] == [("forget ['a']", True)]
    assert worker.locks.held == {}


async def test_events_that_must_be_reduced_again_are_so_while_the_keys_are_free() -> None:
    worker = Worker(False, False)
    async with FlushedAccess(worker, ['a']) as hold:
        assert worker.locks.held == {'a': hold.holder}
        assert not hold.holder.has_ended
    again = [("flush held ['a']", True), ("resume ['a']", False), ('flush', False)]
    assert worker.asked == [*again, *again, ("flush held ['a']", True), ("forget ['a']", True)]
    assert worker.locks.held == {}


async def test_it_gives_up_after_a_bounded_number_of_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive_access, 'MAX_TRIES', 3)
    worker = Worker(*[False] * 10)
    with pytest.raises(Conflict, match='gave up after 3 tries'):
        await FlushedAccess(worker, None).__aenter__()
    assert len(worker.answers) == 7
    assert worker.locks.held == {}
    assert worker.locks.barrier is None


@pytest.mark.parametrize('held', [True, False], ids=['while held', 'while free'])
async def test_a_flush_that_fails_leaves_nothing_held(held: bool) -> None:
    error = StoreUnavailable('away')
    worker = Worker(error if held else False)
    worker.failure = error
    with pytest.raises(StoreUnavailable):
        await FlushedAccess(worker, ['a']).__aenter__()
    assert worker.asked[:2] == [("flush held ['a']", True), ("resume ['a']", False)]
    assert worker.asked[2:] == ([] if held else [('flush', False)])
    assert worker.locks.held == {}


async def test_a_wait_that_is_cancelled_begins_the_flushes_that_were_asked_for_meanwhile() -> None:
    worker = Worker()
    async with worker.locks.hold(['a']):
        entering = asyncio.ensure_future(FlushedAccess(worker, ['a', 'b']).__aenter__())
        for _ in range(5):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled()
        assert list(worker.locks.held) == ['a']
    assert worker.asked == [("resume ['a', 'b']", True)]
    assert worker.locks.held == {}
