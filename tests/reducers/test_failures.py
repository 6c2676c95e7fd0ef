"""Commits and reads that fail, and bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from learning_observer_kvs.errors import (
    Conflict,
    Overloaded,
    StoreUnavailable,
    WriteUnclear,
)
from tests.support.watched import (
    EXTERNAL,
    INTERNAL,
    Watched,
    count,
    count_slowly,
    process,
    until,
)


@pytest.mark.parametrize('error', [StoreUnavailable('down'), WriteUnclear('lost'), OSError('fault')])
async def test_a_commit_that_fails_fails_its_events_and_the_next_is_reduced_on_what_is_there(
    watched: Watched, error: Exception
) -> None:
    def fail() -> None:
        watched.after = lambda: None
        raise error

    seen = []

    async def see(state: Any) -> Any:
        seen.append(state)
        return await count_slowly(state)

    await process(watched, count)
    watched.gate.clear()
    watched.after = fail
    events = [process(watched, count), process(watched, see)]
    await until(lambda: len(watched.commits) == 2)
    watched.gate.set()
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert outcomes[0] is error
    assert outcomes[1] == 3  # the write had been carried out, as an unclear one may
    assert seen == [2]
    assert watched.texts[INTERNAL] == b'3'
    assert watched.busy_keys() == 0


async def test_a_state_that_cannot_be_read_fails_the_events_and_not_those_after_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(keys: Sequence[str]) -> list[bytes | None]:
        await asyncio.sleep(0)
        raise StoreUnavailable('down')

    with monkeypatch.context() as patch:
        patch.setattr(watched, 'read_bytes', down)
        outcomes = await asyncio.gather(*(process(watched, count) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert await process(watched, count) == 1


async def test_it_gives_up_with_conflict_after_a_bounded_number_of_tries(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ('reducers.batch_worker', 'stores.base', 'stores.backend'):
        monkeypatch.setattr(f'learning_observer_kvs.{module}.MAX_TRIES', 5)
    numbers = iter(range(100, 200))

    def another_writes() -> None:
        watched.texts[INTERNAL] = b'%d' % next(numbers)

    watched.before = another_writes
    with pytest.raises(Conflict, match=r'Internal,r.*after 5 tries'):
        await process(watched, count)
    with pytest.raises(Conflict, match=r'Internal,r.*after 5 tries'):
        await watched.update(INTERNAL, lambda value: 'new')
    assert len(watched.commits) == 10
    assert EXTERNAL not in watched.texts
    assert watched.busy_keys() == 0


async def test_more_events_than_may_wait_are_rejected_and_the_others_are_not(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('learning_observer_kvs.reducers.event_queues.MAX_QUEUED_EVENTS', 3)
    watched.gate.clear()
    events = [process(watched, count)]
    await until(lambda: len(watched.commits) == 1)
    events += [process(watched, count) for _ in range(5)]
    await asyncio.sleep(0)
    watched.gate.set()
    outcomes = await asyncio.gather(*events, return_exceptions=True)
    assert outcomes[:4] == [1, 2, 3, 4]
    assert [type(outcome) for outcome in outcomes[4:]] == [Overloaded, Overloaded]
