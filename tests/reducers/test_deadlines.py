"""What events hand to the store with their reads and commits: until when to try, and whose TTL begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from time import monotonic
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import serving, worker_of
from learning_observer_kvs.reducers import worker as worker_module
from tests.support.watched import EXTERNAL, INTERNAL, Texts, Watched, count, process, until

HOUR = 3600.0


class Recording(Watched):
    """A store that notes what it is given with reads and commits; one that is away is waited for an hour.

    Attributes:
        reads_until: the deadlines of reads.
        commits_until: those of commits: until when they are tried, and until when they are settled.
        refreshed: the keys whose TTL begins anew, by commit.
        answers: if it is a list, what is to be called with the outcome of each commit, which is not carried out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.retry_timeout = HOUR
        self.reads_until: list[float] = []
        self.commits_until: list[tuple[Any, Any]] = []
        self.refreshed: list[set[str]] = []
        self.answers: list[Any] | None = None

    async def read_until(self, deadline: float, keys: Sequence[str]) -> list[bytes | None]:
        self.reads_until.append(deadline)
        return await super().read_until(deadline, keys)

    def submit(
        self,
        writes: Texts,
        expected: Texts,
        on_done: Any,
        refresh: Collection[str] = (),
        deadline: float | None = None,
        resend_until: float | None = None,
    ) -> None:
        self.commits_until.append((deadline, resend_until))
        self.refreshed.append(set(refresh))
        if self.answers is None:
            super().submit(writes, expected, on_done, refresh, deadline, resend_until)
        else:
            self.answers.append(on_done)


@pytest.fixture
async def recording() -> AsyncIterator[Recording]:
    async with Recording() as store:
        yield store


def send_until(store: Recording, deadline: float | None) -> asyncio.Future[Any]:
    return asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, count, deadline=deadline))


async def test_an_event_has_until_the_timeout_of_its_store_to_be_read_and_written(recording: Recording) -> None:
    in_an_hour = pytest.approx(monotonic() + HOUR, abs=60)
    await process(recording, count)
    await process(recording, count)  # its state is cached
    await asyncio.gather(*(process(recording, count) for _ in range(3)))  # two of them wait behind the first
    assert recording.reads_until == [in_an_hour]
    assert recording.commits_until == [(in_an_hour, in_an_hour)] * 4


async def test_a_deadline_that_is_given_is_that_of_the_read_and_of_the_commit(recording: Recording) -> None:
    for deadline in (5e9, 6e9):
        await send_until(recording, deadline)
    assert (recording.reads_until, recording.commits_until) == ([5e9], [(5e9, 5e9), (6e9, 6e9)])


async def test_a_commit_of_several_events_is_tried_until_the_first_deadline_and_settled_until_the_last(
    recording: Recording,
) -> None:
    await asyncio.gather(*(send_until(recording, deadline) for deadline in (5e9, 6e9, 7e9, 8e9)))
    assert recording.commits_until == [(5e9, 5e9), (6e9, 8e9)]


async def test_an_event_that_comes_when_reducers_have_run_long_enough_keeps_its_deadline(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process(recording, count)
    monkeypatch.setattr(serving, 'TIME_SLICE', -1.0)
    worker = worker_of(recording)
    recording.commits_until.clear()
    other = worker.process('Internal,a', 'External,a', count, deadline=4e9)
    await asyncio.gather(other, send_until(recording, 5e9))
    assert sorted(recording.commits_until) == [(4e9, 4e9), (5e9, 5e9)]


async def test_the_deadline_begins_before_the_wait_for_capacity(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(recording)
    worker._is_full = True

    async def wait_for_capacity() -> None:
        worker._is_full = False

    monkeypatch.setattr(worker, '_wait_for_capacity', wait_for_capacity)
    await send_until(recording, 5e9)
    assert recording.commits_until == [(5e9, 5e9)]


async def count_event(event: Any, state: Any) -> Any:
    return await count(state)


async def count_event_again(event: Any, state: Any) -> Any:
    return await count(state)


@pytest.mark.parametrize(('long', 'hours'), [(-1.0, 1), (HOUR, 9)], ids=['waited long', 'did not wait'])
async def test_the_reducers_of_an_event_share_the_deadline_of_the_first_if_it_waited_long(
    long: float, hours: int, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, 'LONG', long)
    event = {'n': 1}
    await worker_of(recording).process(INTERNAL, EXTERNAL, partial(count_event, event))
    recording.retry_timeout = 9 * HOUR
    await worker_of(recording).process(INTERNAL, EXTERNAL, partial(count_event_again, event))
    first, second = recording.commits_until
    assert first[0] == pytest.approx(monotonic() + HOUR, abs=60)
    assert second[0] == pytest.approx(monotonic() + hours * HOUR, abs=60)
    assert (first == second) == (hours == 1)


async def test_after_a_reducer_that_waited_in_vain_the_next_one_of_the_event_has_no_longer(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, 'LONG', -1.0)
    event = {'n': 1}

    def fail() -> None:
        raise StoreUnavailable('away')

    recording.before = fail
    with pytest.raises(StoreUnavailable):
        await worker_of(recording).process(INTERNAL, EXTERNAL, partial(count_event, event))
    recording.retry_timeout = 9 * HOUR
    with pytest.raises(StoreUnavailable):
        await worker_of(recording).process(INTERNAL, EXTERNAL, partial(count_event_again, event))
    assert recording.commits_until[0] == recording.commits_until[1]


async def keep_internal(state: Any) -> Any:
    return False, 1


async def keep_external(state: Any) -> Any:
    return 2, False


async def keep_both(state: Any) -> Any:
    return False, False


@pytest.mark.parametrize(
    ('step', 'refreshed'),
    [(keep_internal, {INTERNAL}), (keep_external, {EXTERNAL}), (count, set()), (keep_both, set())],
)
async def test_a_state_that_is_not_written_with_the_other_gets_its_ttl(
    recording: Recording, step: Any, refreshed: set[str]
) -> None:
    await process(recording, count)
    recording.has_ttl = True
    await process(recording, step)
    assert recording.refreshed[1:] == [refreshed]


async def test_without_a_ttl_nothing_is_refreshed(recording: Recording) -> None:
    await process(recording, count)
    await process(recording, keep_external)
    assert recording.refreshed == [set(), set()]


@pytest.mark.parametrize('error', [StoreUnavailable('away', retry=True), WriteUnclear('The reply was lost.')])
async def test_what_befell_a_commit_is_known_at_once_while_the_store_is_closed(
    recording: Recording, error: Exception
) -> None:
    answers: list[Any] = []
    recording.answers = answers
    events = [process(recording, count) for _ in range(3)]  # those behind the first would wait for the backend
    await until(lambda: len(answers) == 1)
    closing = asyncio.ensure_future(recording.close())
    await asyncio.sleep(0)
    async with asyncio.timeout(12):
        for number in range(2):
            await until(lambda: len(answers) > number)  # noqa: B023
            answers[number](error)
        outcomes = await asyncio.gather(*events, return_exceptions=True)
        await closing
    assert [type(outcome) for outcome in outcomes] == [type(error)] * 3
    assert [str(outcome) for outcome in outcomes] == [str(error)] * 3
